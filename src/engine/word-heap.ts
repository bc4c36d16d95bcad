import { TwinWords, type Words } from './twin-words.ts'

/** Lists of words of any length in shared memory. Offset 0 is never given out: it stands for no list. */
export class WordHeap {
  readonly #words = new TwinWords(1024)
  /** Offsets that are free again, by length. */
  readonly #free = new Map<number, number[]>()
  #end = 1

  /** Answers where the values are now. */
  store(values: readonly number[]): number {
    const at = this.#free.get(values.length)?.pop() ?? this.#append(values.length)
    this.#words.setAll(at, values)
    return at
  }

  /** Gives a list back that nobody refers to any more. 0 is no list. */
  free(at: number, length: number): void {
    if (at === 0) return
    const free = this.#free.get(length)
    if (free) free.push(at)
    else this.#free.set(length, [at])
  }

  get(at: number): number {
    return this.#words.get(at)
  }

  publish(): Words {
    return this.#words.publish()
  }

  #append(length: number): number {
    const at = this.#end
    this.#end += length
    this.#words.ensure(this.#end)
    return at
  }
}
