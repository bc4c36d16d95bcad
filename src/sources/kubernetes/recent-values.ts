/** How many are kept; of what a list has more of, some are made again. */
const KEPT = 8192

interface Entry<T> {
  /** The bytes, one character each. */
  readonly key: string
  readonly value: T
}

/** What was made of bytes that come again and again: nothing is allocated for those, and they are read once. */
export class RecentValues<T> {
  readonly #entries: (Entry<T> | undefined)[] = new Array(KEPT).fill(undefined)
  readonly #make: (bytes: Buffer, start: number, end: number) => T
  /** What was asked for last: most come one after another. */
  #last: Buffer = Buffer.alloc(0)
  #lastStart = 0
  #lastEnd = -1
  #lastValue: T | undefined

  /** @param make what is not kept */
  constructor(make: (bytes: Buffer, start: number, end: number) => T) {
    this.#make = make
  }

  /** The value of these bytes. Throws what making it throws. */
  of(bytes: Buffer, start: number, end: number): T {
    const isLast =
      end - start === this.#lastEnd - this.#lastStart &&
      this.#last.compare(bytes, start, end, this.#lastStart, this.#lastEnd) === 0
    if (isLast) return this.#lastValue as T
    const value = this.#find(bytes, start, end)
    this.#last = bytes
    this.#lastStart = start
    this.#lastEnd = end
    this.#lastValue = value
    return value
  }

  #find(bytes: Buffer, start: number, end: number): T {
    let hash = 0
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0
    const place = (hash ^ (hash >>> 15)) & (KEPT - 1)
    const entry = this.#entries[place]
    if (entry !== undefined && isSame(entry.key, bytes, start, end)) return entry.value
    const value = this.#make(bytes, start, end)
    this.#entries[place] = { key: bytes.toString('latin1', start, end), value }
    return value
  }
}

function isSame(key: string, bytes: Buffer, start: number, end: number): boolean {
  const length = end - start
  if (key.length !== length) return false
  for (let i = 0; i < length; i++) if (key.charCodeAt(i) !== bytes[start + i]) return false
  return true
}
