/** Collects integers and turns them into an Int32Array that threads share. */
export class Int32List {
  #values: Int32Array<ArrayBuffer> = new Int32Array(64)
  #length = 0

  get length(): number {
    return this.#length
  }

  /** Appends the values; answers the index of the first. */
  push(...values: readonly number[]): number {
    const at = this.#length
    const needed = at + values.length
    if (needed > this.#values.length) {
      const grown = new Int32Array(Math.max(needed, this.#values.length * 2))
      grown.set(this.#values)
      this.#values = grown
    }
    this.#values.set(values, at)
    this.#length = needed
    return at
  }

  toShared(): Int32Array<SharedArrayBuffer> {
    const shared = sharedInt32(this.#length)
    shared.set(this.#values.subarray(0, this.#length))
    return shared
  }
}

/** `length` zeros that threads share. */
export function sharedInt32(length: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(length * 4))
}
