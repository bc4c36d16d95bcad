import { fields, Incomplete, InvalidJson, JsonScanner, RecentTexts, type Wanted } from './json-scanner.ts'

/** What a page of a list says of the list. */
export interface ListPage {
  /** The version of the whole list: where a watch begins. */
  readonly resourceVersion: string
  /** Asks for the next page; `undefined` on the last. */
  readonly next: string | undefined
}

/** Takes a page of a list as it arrives. */
export interface PageReader {
  /** As in ListPage, once it has been read: API servers write it before the items. */
  readonly next: string | undefined
  /** Throws where what has arrived cannot be read. */
  write(chunk: Buffer): void
  /** No more will come. Throws where the list is not whole. */
  end(): ListPage
}

const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const COMMA = 0x2c
const COLON = 0x3a

const wantedMetadata = fields({ resourceVersion: 'all', continue: 'all' })

/** Takes a list of the Kubernetes API as it arrives, and hands on item by item: no list is ever held whole. */
export class ListReader implements PageReader {
  readonly #wanted: Wanted
  readonly #take: (item: unknown) => void
  readonly #texts: RecentTexts
  #rest: Buffer = Buffer.alloc(0)
  /** With fewer bytes it is not worth trying again: an item that is long would be looked at anew with every chunk. */
  #enough = 0
  #place: 'before' | 'fields' | 'items' | 'after' = 'before'
  #metadata: { resourceVersion?: unknown; continue?: unknown } = {}

  /**
   * @param wanted of each item
   * @param texts of the other pages of the list
   */
  constructor(wanted: Wanted, take: (item: unknown) => void, texts = new RecentTexts()) {
    this.#texts = texts
    this.#wanted = wanted
    this.#take = take
  }

  /** Takes what has arrived. Throws InvalidJson. */
  write(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    if (this.#rest.length >= this.#enough) this.#read()
  }

  /** No more will come. Throws InvalidJson where the list is not whole. */
  end(): ListPage {
    this.#read()
    const { resourceVersion } = this.#metadata
    if (this.#place !== 'after') throw new InvalidJson('the list ends before its end')
    if (typeof resourceVersion !== 'string' || resourceVersion === '') {
      throw new InvalidJson('the list has no metadata.resourceVersion')
    }
    return { resourceVersion, next: this.next }
  }

  get next(): string | undefined {
    const { continue: next } = this.#metadata
    return typeof next === 'string' && next !== '' ? next : undefined
  }

  #read(): void {
    const scanner = new JsonScanner(this.#rest, 0, this.#rest.length, this.#texts)
    let done = 0
    try {
      while (!scanner.isAtEnd) {
        this.#step(scanner)
        done = scanner.at
      }
      done = scanner.at
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error
    }
    this.#rest = this.#rest.subarray(done)
    this.#enough = this.#rest.length * 1.5
  }

  /** Reads what cannot be taken apart: if bytes are missing, it is read again as a whole. */
  #step(scanner: JsonScanner): void {
    switch (this.#place) {
      case 'before':
        if (!scanner.passes(OPEN_BRACE)) throw new InvalidJson('the answer is no list')
        this.#place = 'fields'
        return
      case 'fields':
        if (scanner.passes(CLOSE_BRACE)) this.#place = 'after'
        else if (!scanner.passes(COMMA)) this.#readField(scanner)
        return
      case 'items':
        if (scanner.passes(CLOSE_BRACKET)) this.#place = 'fields'
        else if (!scanner.passes(COMMA)) this.#take(scanner.read(this.#wanted))
        return
      case 'after':
        throw new InvalidJson('the answer goes on after the list')
    }
  }

  #readField(scanner: JsonScanner): void {
    const name = scanner.readString()
    if (!scanner.passes(COLON)) throw new InvalidJson(`field ${JSON.stringify(name)} has no value`)
    if (name === 'items' && scanner.passes(OPEN_BRACKET)) this.#place = 'items'
    else if (name === 'metadata') this.#metadata = (scanner.read(wantedMetadata) ?? {}) as object
    else scanner.skip()
  }
}
