import { printable } from './output/printable.ts'

/** Where progress is shown: a stream, which is a terminal or not. */
export interface ProgressStream {
  readonly isTTY?: boolean
  write(text: string): unknown
}

/** Work that takes no longer than this shows no progress. */
const PATIENCE_MS = 1000
/** How often the line changes. */
const INTERVAL_MS = 100
const CLEAR_LINE = '\r\u001b[K'

/** One line on a terminal that says how far something is, from a second after it began; nothing where no terminal is. */
export class Progress {
  readonly #stream: ProgressStream
  readonly #now: () => number
  #nextMs: number
  #isShown = false

  /** @param now milliseconds of any clock that only goes forward */
  constructor(stream: ProgressStream, now: () => number = () => performance.now()) {
    this.#stream = stream
    this.#now = now
    this.#nextMs = now() + PATIENCE_MS
  }

  show(text: string): void {
    const now = this.#now()
    if (!this.#stream.isTTY || now < this.#nextMs) return
    this.#nextMs = now + INTERVAL_MS
    this.#isShown = true
    this.#stream.write(`${CLEAR_LINE}${printable(text)}`)
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#isShown) this.#stream.write(CLEAR_LINE)
    this.#isShown = false
  }
}
