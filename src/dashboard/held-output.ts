/** A stream whose writing can be put off. */
export type HoldableStream = Pick<NodeJS.WriteStream, 'write'>

/** How many pieces are kept: the latest of a long session. */
const MAX_HELD = 1000

/** Holds back what this process writes to a stream, while another one has the terminal that it leads to. */
export class HeldOutput {
  readonly #stream: HoldableStream
  readonly #write: HoldableStream['write']
  #held: string[] = []
  #leftOut = 0

  constructor(stream: HoldableStream) {
    this.#stream = stream
    this.#write = stream.write
    stream.write = (chunk: Uint8Array | string, ...rest: readonly unknown[]): boolean => {
      this.#hold(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString())
      const callback = rest.at(-1)
      if (typeof callback === 'function') callback()
      return true
    }
  }

  /** Writes it, and holds back nothing more. */
  release(): void {
    this.#stream.write = this.#write
    if (this.#leftOut > 0) this.#stream.write(`(${this.#leftOut} earlier lines are left out)\n`)
    for (const text of this.#held) this.#stream.write(text)
    this.#held = []
    this.#leftOut = 0
  }

  #hold(text: string): void {
    this.#held.push(text)
    if (this.#held.length <= MAX_HELD) return
    this.#held.shift()
    this.#leftOut++
  }
}
