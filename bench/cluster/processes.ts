import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** A program that answers each line on its standard input with one on its standard output, or says lines by itself. */
export class Talker {
  readonly child: ChildProcess
  readonly #lines: string[] = []
  #wake: () => void = () => {}
  #hasEnded = false

  constructor(child: ChildProcess) {
    this.child = child
    createInterface({ input: child.stdout! }).on('line', (line) => {
      this.#lines.push(line)
      this.#wake()
    })
    child.once('close', () => {
      this.#hasEnded = true
      this.#wake()
    })
  }

  /** The next line. Throws where the program ends before it has said one. */
  async next(): Promise<string> {
    while (this.#lines.length === 0) {
      if (this.#hasEnded) throw new Error(`${this.child.spawnargs.join(' ')}: ended`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#lines.shift()!
  }

  /** What it has said since the last line that was taken. */
  takeAll(): string[] {
    return this.#lines.splice(0)
  }

  async ask(line: string): Promise<string> {
    this.child.stdin!.write(`${line}\n`)
    return await this.next()
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#hasEnded) return
    this.child.kill(signal)
    await once(this.child, 'close')
  }
}
