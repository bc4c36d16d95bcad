import { type ChildProcess, execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'

const source = fileURLToPath(new URL('./children/service-manager.c', import.meta.url))
const TIMEOUT_MS = 20_000 * slow

export interface ServiceOptions {
  /** Where it listens: a path, or an abstract name that begins with `@`. */
  readonly socket: string
  readonly command: readonly string[]
  /** Whether it keeps what it is given to keep. */
  readonly keeps: boolean
}

/** A service in the router of a network, under a program that is to it what systemd would be. */
export class ManagedService {
  readonly #child: ChildProcess
  readonly #close: () => Promise<void>
  readonly #lines: string[] = []
  readonly #watchers = new Set<() => void>()
  #stderr = ''

  /** Starts the manager, not the service. */
  static async create(network: Network, { socket, command, keeps }: ServiceOptions): Promise<ManagedService> {
    const folder = await mkdtemp(join(tmpdir(), 'knp-manager-'))
    const program = join(folder, 'service-manager')
    await promisify(execFile)('gcc', ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source])
    const env = { ...process.env, ...(!keeps && { KEEP_NOTHING: '1' }) }
    const argv = [program, socket, ...command]
    const child = network.spawn(network.router, argv, { stdio: ['pipe', 'pipe', 'pipe'], env })
    return new ManagedService(child, async () => {
      const ended = once(child, 'close')
      child.stdin!.end()
      await ended
      await rm(folder, { recursive: true })
    })
  }

  private constructor(child: ChildProcess, close: () => Promise<void>) {
    this.#child = child
    this.#close = close
    createInterface({ input: child.stdout! }).on('line', (line) => {
      this.#lines.push(line)
      for (const watcher of [...this.#watchers]) watcher()
    })
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
    })
  }

  /** What the manager and the service have printed so far. */
  get lines(): readonly string[] {
    return this.#lines
  }

  /** What the service has told the manager since a line, each with its lines joined by `|`. */
  told(sinceLine = 0): readonly string[] {
    return this.#lines.slice(sinceLine).flatMap((line) => /^notified (.*)/.exec(line)?.[1] ?? [])
  }

  get stderr(): string {
    return this.#stderr
  }

  /** Starts the service; resolves when it is ready, or has ended. */
  async start(): Promise<void> {
    await this.#ask('start', /^(notified READY=1|ended )/)
  }

  /** Sends the service a signal; resolves when it has ended, with its wait status. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number> {
    const line = await this.#ask(`kill ${signal === 'SIGKILL' ? 9 : 15}`, /^ended /)
    return Number(line.slice('ended '.length))
  }

  /** Closes what was kept, as systemd does when a service is stopped and not to start again. */
  async drop(): Promise<void> {
    await this.#ask('drop', /^dropped$/)
  }

  /** Ends both. */
  close(): Promise<void> {
    return this.#close()
  }

  #ask(word: string, answer: RegExp): Promise<string> {
    const since = this.#lines.length
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(look)
        reject(new Error(`${word}: no answer ${answer}: ${this.#lines.slice(since).join('; ')}; ${this.#stderr}`))
      }, TIMEOUT_MS)
      const look = () => {
        const line = this.#lines.slice(since).find((line) => answer.test(line))
        if (line === undefined) return
        clearTimeout(timer)
        this.#watchers.delete(look)
        resolve(line)
      }
      this.#watchers.add(look)
      this.#child.stdin!.write(`${word}\n`)
    })
  }
}
