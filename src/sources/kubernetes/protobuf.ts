import type { RecentTexts } from './json-scanner.ts'

/**
 * Which fields of a message are wanted, by their number, and as what: as JSON has them. Of `alike` ones, lists and
 * mappings that come again and again, one of each may be made.
 */
export type WantedMessage = readonly (WantedField | undefined)[]

type WantedField = { readonly name: string } & (
  | { readonly type: 'text' | 'boolean' | 'number' | 'time' | 'alike texts' }
  | { readonly type: 'message' | 'messages' | 'alike messages'; readonly of: WantedMessage }
)

/** The bytes are no such message. What is left out is looked at only as far as it takes to find its end. */
export class InvalidProtobuf extends Error {
  override readonly name = 'InvalidProtobuf'
}

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5
const MORE = 0x80
const FIRST_NON_ASCII = 0x80
const LONGEST_VARINT = 10
const KEY = 1
const VALUE = 2
const SECONDS = 1

/** The fields that are wanted of a message. */
export function message(fields: Readonly<Record<number, WantedField>>): WantedMessage {
  const byNumber: (WantedField | undefined)[] = []
  for (const [number, field] of Object.entries(fields)) byNumber[Number(number)] = field
  return Array.from(byNumber)
}

/**
 * Reads parts of messages in the encoding of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/) as the
 * API server's JSON would have them. Fields with a length are passed over without a look: of a pod's 3 KB that is most.
 */
export class ProtobufReader {
  /** The next byte that is looked at. */
  at: number
  readonly bytes: Buffer
  readonly #texts: RecentTexts

  /** @param texts gives strings that are the same as recent ones */
  constructor(bytes: Buffer, at: number, texts: RecentTexts) {
    this.bytes = bytes
    this.at = at
    this.#texts = texts
  }

  /** Reads the message that goes on to `end`. What is empty is left out. Throws InvalidProtobuf. */
  read(wanted: WantedMessage, end: number): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    while (this.at < end) {
      const start = this.at
      const tag = this.varint(end)
      const field = wanted[tag >>> 3]
      if (field) this.#readField(object, field, { tag, start, end })
      else this.skip(tag, end)
    }
    return object
  }

  /** Passes over a field whose tag was read. Throws InvalidProtobuf. */
  skip(tag: number, end: number): void {
    const type = tag & 7
    if (type === LENGTH) this.at = this.lengthEnd(end)
    else if (type === VARINT) this.varint(end)
    else if (type === FIXED64) this.at += 8
    else if (type === FIXED32) this.at += 4
    else this.#fail(`a field of type ${type}`)
    if (this.at > end) this.#fail('a field that goes on after its message')
  }

  /** Reads a length; answers where what has it ends. Throws InvalidProtobuf. */
  lengthEnd(end: number): number {
    const length = this.varint(end)
    const its = this.at + length
    if (its > end) this.#fail(`a length of ${length} where ${end - this.at} bytes are left`)
    return its
  }

  /** Exact up to 2^53. Throws InvalidProtobuf. */
  varint(end: number): number {
    const first = this.bytes[this.at]!
    if (first < MORE && this.at < end) {
      this.at++
      return first
    }
    let value = 0
    let factor = 1
    for (let i = 0; i < LONGEST_VARINT && this.at < end; i++) {
      const byte = this.bytes[this.at++]!
      if (byte < MORE) return value + byte * factor
      value += (byte - MORE) * factor
      factor *= MORE
    }
    return this.#fail('a number without an end')
  }

  #readField(
    object: Record<string, unknown>,
    field: WantedField,
    { tag, start, end }: { readonly tag: number; readonly start: number; readonly end: number },
  ): void {
    const { name } = field
    const isNumber = field.type === 'boolean' || field.type === 'number'
    if ((tag & 7) !== (isNumber ? VARINT : LENGTH)) this.#fail(`${name} of type ${tag & 7}`)
    switch (field.type) {
      case 'boolean':
        object[name] = this.varint(end) !== 0
        return
      case 'number':
        object[name] = this.varint(end)
        return
      case 'alike texts':
      case 'alike messages':
        object[name] = joined(object[name], this.#readAlike(field, { tag, start, end }))
        return
      case 'message':
        object[name] = this.read(field.of, this.lengthEnd(end))
        return
      case 'messages': {
        const item = this.read(field.of, this.lengthEnd(end))
        const former = object[name] as unknown[] | undefined
        if (former) former.push(item)
        else object[name] = [item]
        return
      }
    }
    const its = this.lengthEnd(end)
    if (this.at === its) return
    object[name] = field.type === 'text' ? this.#text(its) : this.#time(its)
  }

  /** All that follow each other; what comes again and again is not made again. */
  #readAlike(
    field: WantedField,
    { tag, start, end }: { readonly tag: number; readonly start: number; readonly end: number },
  ): unknown {
    const first = this.at
    let last = this.lengthEnd(end)
    this.at = last
    while (this.at < end && this.varint(end) === tag) {
      last = this.lengthEnd(end)
      this.at = last
    }
    this.at = last
    const key = this.bytes.toString('latin1', start, last)
    const known = this.#texts.valueOf(key, field)
    if (known !== undefined) return known
    this.at = first
    const value = 'of' in field ? this.#messages(field.of, last) : this.#mapping(last)
    this.at = last
    this.#texts.keep(key, field, value)
    return value
  }

  /** The first tag was read. */
  #messages(wanted: WantedMessage, end: number): unknown[] {
    const items: unknown[] = []
    for (;;) {
      items.push(this.read(wanted, this.lengthEnd(end)))
      if (this.at >= end) return items
      this.varint(end)
    }
  }

  #mapping(end: number): Record<string, string> {
    const entries: [string, string][] = []
    for (;;) {
      const its = this.lengthEnd(end)
      let key = ''
      let value = ''
      while (this.at < its) {
        const tag = this.varint(its)
        if (tag === ((KEY << 3) | LENGTH)) key = this.#text(this.lengthEnd(its))
        else if (tag === ((VALUE << 3) | LENGTH)) value = this.#text(this.lengthEnd(its))
        else this.skip(tag, its)
      }
      entries.push([key, value])
      if (this.at >= end) return Object.fromEntries(entries)
      this.varint(end)
    }
  }

  #text(end: number): string {
    const start = this.at
    const bytes = this.bytes
    this.at = end
    let hash = 0
    for (let at = start; at < end; at++) {
      const byte = bytes[at]!
      if (byte >= FIRST_NON_ASCII) return bytes.toString('utf8', start, end)
      hash = (Math.imul(hash, 31) + byte) | 0
    }
    return this.#texts.find(bytes, start, end, hash) ?? bytes.toString('latin1', start, end)
  }

  /** As JSON has it. */
  #time(end: number): string {
    let seconds = 0
    while (this.at < end) {
      const tag = this.varint(end)
      if (tag === SECONDS << 3) seconds = this.varint(end)
      else this.skip(tag, end)
    }
    const date = new Date(seconds * 1000)
    // Before 1970 numbers are beyond what a date can be: its reader says so.
    return Number.isNaN(date.getTime()) ? `${seconds} seconds` : date.toISOString()
  }

  #fail(what: string): never {
    throw new InvalidProtobuf(`byte ${this.at}: ${what}`)
  }
}

/** A field that is repeated may come in several places. */
function joined(former: unknown, value: unknown): unknown {
  if (former === undefined) return value
  return Array.isArray(former) ? [...former, ...(value as unknown[])] : { ...former, ...(value as object) }
}
