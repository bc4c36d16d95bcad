import { attempt, isSubdomain, ObjectReader } from '../../engine/object-reader.ts'
import type { NamedPort } from '../../engine/objects.ts'
import { readPodSpec } from '../../engine/workload.ts'
import { RecentTexts } from './json-scanner.ts'
import type { ListTaker } from './list.ts'
import { NO_PORTS, type PodBatch, ROW, WORDS_PER_ADDRESS } from './pod-batch.ts'
import { PodParts, readPodParts } from './pod-message.ts'
import { message, ProtobufReader } from './protobuf.ts'
import { RecentValues } from './recent-values.ts'
import { portMessages } from './wanted-pod.ts'

/** Who is told of what was read. */
export interface PodBatchTaker {
  /** A list begins; what was taken of a former one that did not end is no longer true. */
  begin(): void
  takeBatch(batch: PodBatch): void
}

/** So many pods at once; one that is cut off is told with the next. */
const BATCH_PODS = 500
const FIRST_KEY_BYTES = 32_768
const FIRST_ROW_NUMBERS = 16_384
/** The key of a pod is this, its namespace, a slash and its name. */
const KEY_HEAD = Buffer.from('Pod ')
const SLASH = 0x2f
const KEY = (1 << 3) | 2
const VALUE = (2 << 3) | 2
/** In place of the number of what is not what the API takes. */
const INVALID = -1
const DASH = 0x2d
const LONGEST_NAME = 253

const wantedPortsMessage = message({ 6: portMessages })

/** Makes batches of a list of pods. */
export class PodBatchWriter implements ListTaker {
  readonly #taker: PodBatchTaker
  readonly #parts = new PodParts()
  #told = new Told()
  #rows = new Int32Array(FIRST_ROW_NUMBERS)
  #rowsLength = 0
  #keys = Buffer.allocUnsafe(FIRST_KEY_BYTES)
  #keysLength = 0
  #pods = 0
  #others: unknown[] = []

  constructor(taker: PodBatchTaker) {
    this.#taker = taker
  }

  begin(): void {
    this.flush()
    // Whoever takes the list begins to count anew, too.
    this.#told = new Told()
    this.#taker.begin()
  }

  take(item: unknown): void {
    this.#others.push(item)
    this.#note()
  }

  takeMessage(item: ProtobufReader, end: number): boolean {
    if (!readPodParts(item, end, this.#parts) || !this.#addPod(item.bytes, this.#parts)) return false
    this.#note()
    return true
  }

  /** Tells what was read since the last batch. */
  flush(): void {
    if (this.#pods === 0) return
    const batch: PodBatch = {
      ...this.#told.takeNew(),
      rows: this.#rows.slice(0, this.#rowsLength),
      keys: this.#keys.toString('latin1', 0, this.#keysLength),
      others: this.#others,
    }
    this.#rowsLength = 0
    this.#keysLength = 0
    this.#pods = 0
    this.#others = []
    this.#taker.takeBatch(batch)
  }

  #note(): void {
    this.#pods++
    if (this.#pods === BATCH_PODS) this.flush()
  }

  /** False for a pod that is not plain after all. */
  #addPod(bytes: Buffer, parts: PodParts): boolean {
    const { name, nameEnd, phase, phaseEnd, words } = parts
    const isRunning = isText(RUNNING, bytes, phase, phaseEnd)
    if (!isRunning && !isText(PENDING, bytes, phase, phaseEnd)) return false
    if (!isPlainName(bytes, name, nameEnd)) return false
    const told = this.#told
    const namespace = told.namespaces.of(bytes, parts.namespace, parts.namespaceEnd)
    const node = told.nodes.of(bytes, parts.node, parts.nodeEnd)
    const labels = told.labels.of(bytes, parts.labels, parts.labelsEnd)
    const ports = parts.portsEnd > 0 ? told.ports.of(bytes, parts.ports, parts.portsEnd) : NO_PORTS
    if (namespace === INVALID || labels === INVALID || (parts.portsEnd > 0 && ports === INVALID)) return false
    const keyStart = this.#keysLength
    const keyLength = this.#addKey(bytes, parts)
    if (this.#rowsLength + ROW.length + words.length > this.#rows.length) this.#rows = larger(this.#rows)
    const rows = this.#rows
    const at = this.#rowsLength
    rows[at + ROW.keyStart] = keyStart
    rows[at + ROW.keyLength] = keyLength
    rows[at + ROW.nameLength] = nameEnd - name
    rows[at + ROW.namespace] = namespace
    rows[at + ROW.node] = node
    rows[at + ROW.labels] = labels
    rows[at + ROW.ports] = ports
    rows[at + ROW.isRunning] = isRunning ? 1 : 0
    rows[at + ROW.createdSeconds] = parts.createdSeconds
    rows[at + ROW.addresses] = words.length / WORDS_PER_ADDRESS
    for (let i = 0; i < words.length; i++) rows[at + ROW.length + i] = words[i]!
    this.#rowsLength = at + ROW.length + words.length
    return true
  }

  /** Answers its length. */
  #addKey(bytes: Buffer, { name, nameEnd, namespace, namespaceEnd }: PodParts): number {
    const length = KEY_HEAD.length + namespaceEnd - namespace + 1 + nameEnd - name
    if (this.#keysLength + length > this.#keys.length) {
      this.#keys = Buffer.concat([this.#keys], this.#keys.length * 2)
    }
    let to = this.#keysLength
    for (let i = 0; i < KEY_HEAD.length; i++) this.#keys[to++] = KEY_HEAD[i]!
    for (let at = namespace; at < namespaceEnd; at++) this.#keys[to++] = bytes[at]!
    this.#keys[to++] = SLASH
    for (let at = name; at < nameEnd; at++) this.#keys[to++] = bytes[at]!
    this.#keysLength = to
    return length
  }
}

/** What many pods have alike, by its bytes: the numbers under which it was told, or INVALID for what is not what the API takes. */
class Told {
  readonly #recent = new RecentTexts()
  #newTexts: string[] = []
  #textCount = 0
  #newLabels: number[] = []
  #labelsCount = 0
  #newPorts: (readonly NamedPort[])[] = []
  #portsCount = 0
  readonly namespaces = this.#textsThat(isSubdomain)
  readonly nodes = this.#textsThat(() => true)
  readonly #labelKeys = this.#textsThat((key) => isRead(() => new ObjectReader(undefined).labelKey(key)))
  readonly #labelValues = this.#textsThat((value) => isRead(() => new ObjectReader(value).labelValue()))
  readonly labels = new RecentValues((bytes, start, end) => this.#addLabels(bytes, start, end))
  readonly ports = new RecentValues((bytes, start, end) => this.#addPorts(bytes, start, end))

  /** What has a number since the last call. */
  takeNew(): Pick<PodBatch, 'texts' | 'labels' | 'ports'> {
    const told = { texts: this.#newTexts, labels: Int32Array.from(this.#newLabels), ports: this.#newPorts }
    this.#newTexts = []
    this.#newLabels = []
    this.#newPorts = []
    return told
  }

  #textsThat(isValid: (text: string) => boolean): RecentValues<number> {
    return new RecentValues((bytes, start, end) => {
      const text = bytes.toString('utf8', start, end)
      return isValid(text) ? this.#addText(text) : INVALID
    })
  }

  #addText(text: string): number {
    this.#newTexts.push(text)
    return this.#textCount++
  }

  /** A mapping's entries, each a message behind a tag. A key that comes twice has its last value, as everywhere. */
  #addLabels(bytes: Buffer, start: number, end: number): number {
    const reader = new ProtobufReader(bytes, start, this.#recent)
    const numbers: number[] = []
    while (reader.at < end) {
      reader.varint(end)
      const its = reader.lengthEnd(end)
      let key = INVALID
      let value = this.#labelValues.of(bytes, its, its)
      while (reader.at < its) {
        const tag = reader.varint(its)
        if (tag !== KEY && tag !== VALUE) {
          reader.skip(tag, its)
          continue
        }
        const textEnd = reader.lengthEnd(its)
        if (tag === KEY) key = this.#labelKeys.of(bytes, reader.at, textEnd)
        else value = this.#labelValues.of(bytes, reader.at, textEnd)
        reader.at = textEnd
      }
      if (key === INVALID || value === INVALID) return INVALID
      numbers.push(key, value)
    }
    this.#newLabels.push(numbers.length / 2, ...numbers)
    return this.#labelsCount++
  }

  #addPorts(bytes: Buffer, start: number, end: number): number {
    const container = new ProtobufReader(bytes, start, this.#recent).read(wantedPortsMessage, end)
    const ports = attempt(() => readPodSpec(new ObjectReader({ containers: [container] })).ports)
    if (!ports) return INVALID
    this.#newPorts.push(ports)
    return this.#portsCount++
  }
}

const RUNNING = Buffer.from('Running')
const PENDING = Buffer.from('Pending')

function isText(text: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (end - start !== text.length) return false
  for (let i = 0; i < text.length; i++) if (bytes[start + i] !== text[i]) return false
  return true
}

function isRead(read: () => string): boolean {
  return attempt(read) !== undefined
}

/** A name without dots, as `isSubdomain` has it: nearly every pod's. */
function isPlainName(bytes: Buffer, start: number, end: number): boolean {
  if (end - start > LONGEST_NAME || bytes[start] === DASH || bytes[end - 1] === DASH) return false
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    const isPlain = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === DASH
    if (!isPlain) return false
  }
  return true
}

function larger(rows: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(rows.length * 2)
  copy.set(rows)
  return copy
}
