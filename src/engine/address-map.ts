import { type Address, isIPv4 } from './address.ts'
import { TwinWords, type Words } from './twin-words.ts'

/**
 * Addresses with a number of 0 or more each, as open addressing over shared memory: a table of IPv4, whose slots have two
 * words (address, number plus one; 0: free), and one of IPv6, whose slots have five. At most half of the slots are taken.
 */
export interface AddressTables {
  readonly v4: Words
  readonly v6: Words
}

const V4_WORDS = 2
const V6_WORDS = 5
const FIRST_SLOTS = 8
export const NO_NUMBER = -1
/** The workload or identity of an address that no workload owns. */
export const OUTSIDE = NO_NUMBER

/** The address's number, or NO_NUMBER. */
export function lookupAddress({ v4, v6 }: AddressTables, address: Address): number {
  return isIPv4(address) ? lookup4(v4, address.w3) : lookup6(v6, address)
}

/** Some of the IPv4 addresses in it, at most so many: numbers of 32 bits, unsigned. */
export function someIPv4({ v4 }: AddressTables, most: number): number[] {
  const found: number[] = []
  for (let at = 0; at < v4.length && found.length < most; at += V4_WORDS) {
    if (v4[at + 1] !== 0) found.push(v4[at]! >>> 0)
  }
  return found
}

function lookup4(table: Words, word: number): number {
  const mask = table.length / V4_WORDS - 1
  for (let slot = hash4(word) & mask; ; slot = (slot + 1) & mask) {
    const number = table[slot * V4_WORDS + 1]!
    if (number === 0 || table[slot * V4_WORDS] === word) return number - 1
  }
}

function lookup6(table: Words, { w0, w1, w2, w3 }: Address): number {
  const mask = table.length / V6_WORDS - 1
  for (let slot = hash6(w0, w1, w2, w3) & mask; ; slot = (slot + 1) & mask) {
    const at = slot * V6_WORDS
    const number = table[at + 4]!
    if (number === 0) return NO_NUMBER
    if (table[at + 3] === w3 && table[at + 2] === w2 && table[at + 1] === w1 && table[at] === w0) return number - 1
  }
}

function hash4(word: number): number {
  const hash = Math.imul(word, 0x9e3779b1)
  return hash ^ (hash >>> 15)
}

function hash6(w0: number, w1: number, w2: number, w3: number): number {
  return hash4(w3 ^ Math.imul(w2 ^ Math.imul(w1 ^ Math.imul(w0, 0x9e3779b1), 0x9e3779b1), 0x9e3779b1))
}

/** Builds and changes such tables. */
export class AddressMap {
  readonly #v4 = new Slots(V4_WORDS)
  readonly #v6 = new Slots(V6_WORDS)

  get(address: Address): number {
    return this.#slotsOf(address).get(address)
  }

  set(address: Address, number: number): void {
    this.#slotsOf(address).set(address, number)
  }

  /** Gives the address this number where it has none; answers the number that it has, or NO_NUMBER. */
  claim(address: Address, number: number): number {
    return this.#slotsOf(address).claim(address, number)
  }

  delete(address: Address): void {
    this.#slotsOf(address).delete(address)
  }

  publish(): AddressTables {
    return { v4: this.#v4.words.publish(), v6: this.#v6.words.publish() }
  }

  #slotsOf(address: Address): Slots {
    return isIPv4(address) ? this.#v4 : this.#v6
  }
}

/** One table: slots of `width` words, the number plus one in the last of them. */
class Slots {
  readonly words: TwinWords
  readonly #width: number
  #taken = 0

  constructor(width: number) {
    this.#width = width
    this.words = new TwinWords(FIRST_SLOTS * width)
  }

  get(address: Address): number {
    return this.words.get(this.#find(address) * this.#width + this.#width - 1) - 1
  }

  set(address: Address, number: number): void {
    if (this.#taken * 2 >= this.#count) this.#grow()
    const slot = this.#find(address)
    if (!this.#isTaken(slot)) this.#taken++
    this.#write(slot, address, number + 1)
  }

  claim(address: Address, number: number): number {
    if (this.#taken * 2 >= this.#count) this.#grow()
    const slot = this.#find(address)
    const present = this.words.get(slot * this.#width + this.#width - 1) - 1
    if (present !== NO_NUMBER) return present
    this.#taken++
    this.#write(slot, address, number + 1)
    return NO_NUMBER
  }

  delete(address: Address): void {
    let gap = this.#find(address)
    if (!this.#isTaken(gap)) return
    this.#taken--
    // What was put behind its place because that was taken moves up, so that no search ends too soon.
    const mask = this.#count - 1
    for (let slot = (gap + 1) & mask; this.#isTaken(slot); slot = (slot + 1) & mask) {
      const home = this.#home(this.#read(slot))
      if (((slot - home) & mask) < ((slot - gap) & mask)) continue
      this.#write(gap, this.#read(slot), this.words.get(slot * this.#width + this.#width - 1))
      gap = slot
    }
    this.words.set(gap * this.#width + this.#width - 1, 0)
  }

  get #count(): number {
    return this.words.length / this.#width
  }

  #isTaken(slot: number): boolean {
    return this.words.get(slot * this.#width + this.#width - 1) !== 0
  }

  #home({ w0, w1, w2, w3 }: Address): number {
    return (this.#width === V4_WORDS ? hash4(w3) : hash6(w0, w1, w2, w3)) & (this.#count - 1)
  }

  #find(address: Address): number {
    const mask = this.#count - 1
    let slot = this.#home(address)
    while (this.#isTaken(slot) && !this.#holds(slot, address)) slot = (slot + 1) & mask
    return slot
  }

  #holds(slot: number, { w0, w1, w2, w3 }: Address): boolean {
    const at = slot * this.#width
    const { words } = this
    if (this.#width === V4_WORDS) return words.get(at) === w3
    return words.get(at) === w0 && words.get(at + 1) === w1 && words.get(at + 2) === w2 && words.get(at + 3) === w3
  }

  #read(slot: number): Address {
    return addressIn(this.words.latest, slot * this.#width, this.#width)
  }

  #write(slot: number, { w0, w1, w2, w3 }: Address, last: number): void {
    const at = slot * this.#width
    const { words } = this
    if (this.#width === V6_WORDS) {
      words.set(at, w0)
      words.set(at + 1, w1)
      words.set(at + 2, w2)
    }
    words.set(at + this.#width - 2, w3)
    words.set(at + this.#width - 1, last)
  }

  #grow(): void {
    const width = this.#width
    const former = this.words.reset(this.words.length * 2)
    for (let at = 0; at < former.length; at += width) {
      const last = former[at + width - 1]!
      if (last === 0) continue
      const address = addressIn(former, at, width)
      this.#write(this.#find(address), address, last)
    }
  }
}

/** The address of a slot that begins there; of one of IPv4 only its last word counts. */
function addressIn(words: Words, at: number, width: number): Address {
  if (width === V4_WORDS) return { w0: 0, w1: 0, w2: 0, w3: words[at]! }
  return { w0: words[at]!, w1: words[at + 1]!, w2: words[at + 2]!, w3: words[at + 3]! }
}
