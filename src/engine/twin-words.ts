/** 32-bit words in memory that threads share. */
export type Words = Int32Array<SharedArrayBuffer>

/** `length` zeros that threads share. */
export function sharedWords(length: number): Words {
  return new Int32Array(new SharedArrayBuffer(length * 4))
}

/**
 * Words that one thread changes while others read them. There are two copies: one that was published and is read, one
 * that is written. The first change after a `publish` takes the other copy and repeats on it what was changed since, so a
 * generation costs what it changes. By then nobody may read any more what was published the time before.
 */
export class TwinWords {
  /** The latest: written, or published and not written since. */
  #words: Words
  /** What was published before; `undefined` until there was a change after a publish. */
  #other: Words | undefined
  /** Offsets in which `#other` lags behind, some of them more than once. */
  #changes: number[] = []
  /** `#other` lags behind in so much that all of it is copied. */
  #isStale = true
  #isPublished = false

  constructor(length: number) {
    this.#words = sharedWords(length)
  }

  get length(): number {
    return this.#words.length
  }

  /** For reading, until the next change. */
  get latest(): Words {
    return this.#words
  }

  get(at: number): number {
    return this.#words[at]!
  }

  set(at: number, value: number): void {
    if (this.#words[at] === value) return
    if (this.#isPublished) this.#turn()
    this.#words[at] = value
    if (this.#isStale) return
    this.#changes.push(at)
    if (this.#changes.length > this.#words.length >>> 2) this.#isStale = true
  }

  setAll(at: number, values: ArrayLike<number>): void {
    for (let i = 0; i < values.length; i++) this.set(at + i, values[i]!)
  }

  /** Makes room for `length` words; new ones are 0. */
  ensure(length: number): void {
    if (length <= this.#words.length) return
    const former = this.#words
    this.#renew(Math.max(length, former.length * 2))
    this.#words.set(former)
  }

  /** Begins anew with `length` zeros; answers what there was, which is valid until the next change. */
  reset(length: number): Words {
    const former = this.#words
    this.#renew(length)
    return former
  }

  /** The words as they are now. They do not change before the first change after the next `publish`. */
  publish(): Words {
    this.#isPublished = true
    return this.#words
  }

  #turn(): void {
    const latest = this.#words
    let other = this.#other
    if (other?.length !== latest.length) {
      other = sharedWords(latest.length)
      this.#isStale = true
    }
    if (this.#isStale) other.set(latest)
    else for (const at of this.#changes) other[at] = latest[at]!
    this.#words = other
    this.#other = latest
    this.#changes = []
    this.#isStale = false
    this.#isPublished = false
  }

  #renew(length: number): void {
    if (this.#isPublished) this.#other = this.#words
    this.#words = sharedWords(length)
    this.#changes = []
    this.#isStale = true
    this.#isPublished = false
  }
}
