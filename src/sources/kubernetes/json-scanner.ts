/**
 * Which parts of a JSON value are wanted: all of it; this much, where many are alike: then one of each may be made; some fields of a mapping, or parts of each item of a list. What is
 * neither mapping nor list where one is expected is wanted whole, so that its reader can name it.
 */
export type Wanted =
  | 'all'
  | { readonly alike: Wanted }
  | { readonly fields: readonly WantedField[] }
  | { readonly items: Wanted }

export interface WantedField {
  readonly name: string
  /** The name as it stands in JSON. */
  readonly bytes: Uint8Array
  readonly wanted: Wanted
}

/** How many texts that came lately are kept; many strings of a list are the same, and one of each is enough. */
const RECENT_TEXTS = 4096
const LONGEST_RECENT = 64

/** The bytes end before the value does. */
export class Incomplete extends Error {
  override readonly name = 'Incomplete'
}

/** The bytes are no JSON. What is left out is looked at only as far as it takes to find its end. */
export class InvalidJson extends Error {
  override readonly name = 'InvalidJson'
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const SPACE = 0x20
const FIRST_NON_ASCII = 0x80

/** One for all: bytes run out once for each part of an answer that arrives, and nobody reads its stack. */
const incomplete = new Incomplete('the bytes end within a value')

/**
 * Reads parts of JSON from bytes, as JSON.parse would have them, and passes over the rest without making anything of it:
 * an object of 4 KB of which ten fields are wanted costs little more than a look at its bytes.
 */
export class JsonScanner {
  /** The next byte that is looked at. */
  at: number
  readonly #bytes: Buffer
  readonly #end: number
  readonly #texts: RecentTexts | undefined

  /** @param texts gives strings that are the same as recent ones */
  constructor(bytes: Buffer, at = 0, end = bytes.length, texts?: RecentTexts) {
    this.#texts = texts
    this.#bytes = bytes
    this.at = at
    this.#end = end
  }

  /** Whether nothing but white space is left. */
  get isAtEnd(): boolean {
    while (this.at < this.#end && this.#bytes[this.at]! <= SPACE) this.at++
    return this.at === this.#end
  }

  /** Reads the value that comes next. Throws Incomplete, InvalidJson. */
  read(wanted: Wanted): unknown {
    const first = this.#next()
    if (wanted === 'all') return first === QUOTE ? this.readString() : this.#readAll()
    if ('alike' in wanted) return this.#readAlike(wanted.alike)
    if (first === OPEN_BRACE && 'fields' in wanted) return this.#readFields(wanted.fields)
    if (first === OPEN_BRACKET && 'items' in wanted) return this.#readItems(wanted.items)
    return this.#readAll()
  }

  /** Reads a string. Throws Incomplete, InvalidJson. */
  readString(): string {
    if (this.#next() !== QUOTE) this.#fail()
    const start = this.at + 1
    const bytes = this.#bytes
    let isAscii = true
    let hash = 0
    for (let at = start; at < this.#end; at++) {
      const byte = bytes[at]!
      if (byte === QUOTE) {
        this.at = at + 1
        if (!isAscii) return bytes.toString('utf8', start, at)
        return this.#texts?.find(bytes, start, at, hash) ?? bytes.toString('latin1', start, at)
      }
      if (byte === BACKSLASH) return this.#readAll() as string
      if (byte >= FIRST_NON_ASCII) isAscii = false
      hash = (Math.imul(hash, 31) + byte) | 0
    }
    throw incomplete
  }

  /** Whether this byte comes next; then it is passed. Throws Incomplete. */
  passes(byte: number): boolean {
    if (this.#next() !== byte) return false
    this.at++
    return true
  }

  /** Passes over the value that comes next. Throws Incomplete, InvalidJson. */
  skip(): void {
    const first = this.#next()
    const bytes = this.#bytes
    const end = this.#end
    let at = this.at
    if (first === OPEN_BRACE || first === OPEN_BRACKET) {
      let depth = 0
      for (; at < end; at++) {
        const byte = bytes[at]!
        if (byte === QUOTE) at = this.#endOfString(at)
        else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
        else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --depth === 0) {
          this.at = at + 1
          return
        }
      }
      throw incomplete
    }
    if (first === QUOTE) {
      this.at = this.#endOfString(at) + 1
      return
    }
    for (; at < end; at++) {
      const byte = bytes[at]!
      if (byte === COMMA || byte === CLOSE_BRACE || byte === CLOSE_BRACKET || byte <= SPACE) break
    }
    // A number that the bytes end with may go on.
    if (at === end) throw incomplete
    if (at === this.at) this.#fail()
    this.at = at
  }

  /** Where the string that begins at `at` has its closing quote. */
  #endOfString(at: number): number {
    const bytes = this.#bytes
    const end = this.#end
    for (let next = at + 1; next < end; next++) {
      const byte = bytes[next]!
      if (byte === QUOTE) return next
      if (byte === BACKSLASH) next++
    }
    throw incomplete
  }

  /** The first byte of what comes next, white space aside. */
  #next(): number {
    const bytes = this.#bytes
    let at = this.at
    while (at < this.#end && bytes[at]! <= SPACE) at++
    this.at = at
    if (at === this.#end) throw incomplete
    return bytes[at]!
  }

  #readAll(): unknown {
    const start = this.at
    this.skip()
    const text = this.#bytes.toString('utf8', start, this.at)
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw new InvalidJson(`byte ${start}: ${(cause as Error).message}`, { cause })
    }
  }

  /** What comes again and again is not made again. */
  #readAlike(wanted: Wanted): unknown {
    const start = this.at
    this.skip()
    const text = this.#bytes.toString('utf8', start, this.at)
    const known = this.#texts?.valueOf(text, wanted)
    if (known !== undefined) return known
    this.at = start
    const value = this.read(wanted)
    this.#texts?.keep(text, wanted, value)
    return value
  }

  #readFields(fields: readonly WantedField[]): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    this.at++
    if (this.passes(CLOSE_BRACE)) return object
    do {
      const field = this.#readName(fields)
      if (!this.passes(COLON)) this.#fail()
      if (field === undefined) this.skip()
      else object[field.name] = this.read(field.wanted)
    } while (this.passes(COMMA))
    if (!this.passes(CLOSE_BRACE)) this.#fail()
    return object
  }

  /** Passes a field's name; answers which of the wanted ones it is. Most are none, and no string is made of them. */
  #readName(fields: readonly WantedField[]): WantedField | undefined {
    if (this.#next() !== QUOTE) this.#fail()
    const bytes = this.#bytes
    const start = this.at + 1
    let end = start
    for (; end < this.#end && bytes[end] !== QUOTE; end++) {
      if (bytes[end] !== BACKSLASH) continue
      const name = this.readString()
      return fields.find((field) => field.name === name)
    }
    if (end >= this.#end) throw incomplete
    this.at = end + 1
    for (const field of fields) if (isSame(field.bytes, bytes, start, end)) return field
    return undefined
  }

  #readItems(wanted: Wanted): unknown[] {
    const items: unknown[] = []
    this.at++
    if (this.passes(CLOSE_BRACKET)) return items
    do items.push(this.read(wanted))
    while (this.passes(COMMA))
    if (!this.passes(CLOSE_BRACKET)) this.#fail()
    return items
  }

  #fail(): never {
    throw new InvalidJson(`byte ${this.at}: unexpected ${JSON.stringify(String.fromCharCode(this.#bytes[this.at]!))}`)
  }
}

/** One string for each of the texts that come again and again: nothing is allocated for those. */
export class RecentTexts {
  /** By what is wanted of it, then by its bytes. */
  readonly #values = new Map<object | 'all', Map<string, unknown>>()
  readonly #texts: (string | undefined)[] = new Array(RECENT_TEXTS).fill(undefined)

  /** What was kept for the same bytes. */
  valueOf(text: string, wanted: object | 'all'): unknown {
    return this.#values.get(wanted)?.get(text)
  }

  keep(text: string, wanted: object | 'all', value: unknown): void {
    const known = this.#values.get(wanted) ?? new Map<string, unknown>()
    this.#values.set(wanted, known)
    if (known.size >= RECENT_TEXTS) known.clear()
    known.set(text, value)
  }

  /** The text of these bytes, all of them ASCII; `undefined` for a long one. */
  find(bytes: Buffer, start: number, end: number, hash: number): string | undefined {
    const length = end - start
    if (length > LONGEST_RECENT) return undefined
    const place = (hash ^ (hash >>> 15)) & (RECENT_TEXTS - 1)
    const known = this.#texts[place]
    if (known !== undefined && known.length === length) {
      let i = 0
      while (i < length && known.charCodeAt(i) === bytes[start + i]) i++
      if (i === length) return known
    }
    const text = bytes.toString('latin1', start, end)
    this.#texts[place] = text
    return text
  }
}

/** Reads a whole JSON text. Throws InvalidJson. */
export function readJson(bytes: Buffer, wanted: Wanted, at = 0, end = bytes.length): unknown {
  const scanner = new JsonScanner(bytes, at, end)
  try {
    const value = scanner.read(wanted)
    if (scanner.isAtEnd) return value
  } catch (error) {
    if (error instanceof Incomplete) throw new InvalidJson(error.message, { cause: error })
    throw error
  }
  throw new InvalidJson(`byte ${scanner.at}: the text goes on after its value`)
}

/** The fields of a mapping that are wanted, by name. */
export function fields(wanted: Readonly<Record<string, Wanted>>): { readonly fields: readonly WantedField[] } {
  return { fields: Object.entries(wanted).map(([name, wanted]) => ({ name, bytes: Buffer.from(name), wanted })) }
}

function isSame(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[start + i]) return false
  return true
}
