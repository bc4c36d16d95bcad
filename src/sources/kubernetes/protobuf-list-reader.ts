import { RecentTexts } from './json-scanner.ts'
import type { ListPage, PageReader } from './list-reader.ts'
import { InvalidProtobuf, message, ProtobufReader } from './protobuf.ts'

/** What an API server is asked for, and says that it answers. */
export const PROTOBUF = 'application/vnd.kubernetes.protobuf'

/** Every object stands in an envelope (runtime.Unknown) behind this: https://kubernetes.io/docs/reference/using-api/api-concepts/ */
const MAGIC = Buffer.from('k8s\0')
const RAW = (2 << 3) | 2
const ENCODING = (3 << 3) | 2
const METADATA = (1 << 3) | 2
const ITEM = (2 << 3) | 2
/** The longest tag and length. */
const LONGEST_HEAD = 20

const wantedMetadata = message({
  2: { name: 'resourceVersion', type: 'text' },
  3: { name: 'continue', type: 'text' },
})

/** Takes a list in the API server's own encoding as it arrives, and hands on item by item: no list is ever held whole. */
export class ProtobufListReader implements PageReader {
  readonly #take: (item: ProtobufReader, end: number) => void
  readonly #texts: RecentTexts
  #chunks: Buffer[] = []
  #length = 0
  /** With fewer bytes it is not worth trying again. */
  #enough = MAGIC.length
  #place: 'before' | 'envelope' | 'list' = 'before'
  /** Of the list, which is one field of the envelope. */
  #left = 0
  #hasList = false
  #metadata: { resourceVersion?: unknown; continue?: unknown } = {}

  /**
   * @param take reads an item, which goes on to `end`
   * @param texts of the other pages of the list
   */
  constructor(take: (item: ProtobufReader, end: number) => void, texts = new RecentTexts()) {
    this.#take = take
    this.#texts = texts
  }

  /** Takes what has arrived. Throws InvalidProtobuf. */
  write(chunk: Buffer): void {
    let rest = chunk
    // Of an item that was cut only its own bytes are copied.
    while (this.#length > 0 && rest.length > 0) {
      const missing = Math.max(1, this.#enough - this.#length)
      this.#hold(rest.subarray(0, missing))
      rest = rest.subarray(missing)
      if (this.#length >= this.#enough) this.#read(false)
    }
    if (rest.length === 0) return
    this.#hold(rest)
    if (this.#length >= this.#enough) this.#read(false)
  }

  /** No more will come. Throws InvalidProtobuf where the list is not whole. */
  end(): ListPage {
    this.#read(true)
    const { resourceVersion } = this.#metadata
    if (!this.#hasList || this.#left > 0 || this.#length > 0) throw new InvalidProtobuf('the list ends before its end')
    if (typeof resourceVersion !== 'string') throw new InvalidProtobuf('the list has no metadata.resourceVersion')
    return { resourceVersion, next: this.next }
  }

  get next(): string | undefined {
    const { continue: next } = this.#metadata
    return typeof next === 'string' ? next : undefined
  }

  #hold(bytes: Buffer): void {
    this.#chunks.push(bytes)
    this.#length += bytes.length
  }

  #read(isLast: boolean): void {
    const [first = Buffer.alloc(0), ...others] = this.#chunks
    const bytes = others.length === 0 ? first : Buffer.concat(this.#chunks)
    const reader = new ProtobufReader(bytes, 0, this.#texts)
    let done = 0
    this.#enough = 0
    while (done < bytes.length && this.#step(reader, bytes, isLast)) done = reader.at
    this.#chunks = done < bytes.length ? [bytes.subarray(done)] : []
    this.#length = bytes.length - done
  }

  /** Reads what cannot be taken apart; false where bytes are missing, and `#enough` says how many there must be. */
  #step(reader: ProtobufReader, bytes: Buffer, isLast: boolean): boolean {
    const start = reader.at
    const rest = bytes.length - start
    if (this.#place === 'before') {
      if (rest < MAGIC.length) return this.#await(MAGIC.length)
      if (bytes.compare(MAGIC, 0, MAGIC.length, start, start + MAGIC.length) !== 0) {
        throw new InvalidProtobuf(`the answer is no ${PROTOBUF}`)
      }
      reader.at = start + MAGIC.length
      this.#place = 'envelope'
      return true
    }
    if (rest < LONGEST_HEAD && !isLast && !(this.#place === 'list' && rest >= this.#left)) {
      return this.#await(LONGEST_HEAD)
    }
    const tag = reader.varint(bytes.length)
    if (this.#place === 'envelope' && tag === RAW) {
      this.#left = reader.varint(bytes.length)
      this.#place = this.#left > 0 ? 'list' : 'envelope'
      this.#hasList = true
      return true
    }
    if ((tag & 7) !== 2) reader.skip(tag, bytes.length)
    else {
      const length = reader.varint(bytes.length)
      const end = reader.at + length
      if (end > bytes.length) return this.#await(end - start)
      this.#takeField(reader, tag, end)
      reader.at = end
    }
    if (this.#place === 'list') {
      this.#left -= reader.at - start
      if (this.#left < 0) throw new InvalidProtobuf('an item goes on after the list')
      if (this.#left === 0) this.#place = 'envelope'
    }
    return true
  }

  #await(enough: number): false {
    this.#enough = enough
    return false
  }

  #takeField(reader: ProtobufReader, tag: number, end: number): void {
    if (this.#place === 'list' && tag === ITEM) this.#take(reader, end)
    else if (this.#place === 'list' && tag === METADATA) this.#metadata = reader.read(wantedMetadata, end)
    else if (this.#place === 'envelope' && tag === ENCODING && end > reader.at) {
      throw new InvalidProtobuf('the list is encoded once more')
    }
  }
}
