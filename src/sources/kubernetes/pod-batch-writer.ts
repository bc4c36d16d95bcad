import type { Address } from '../../engine/address.ts'
import { attempt, isSubdomain, ObjectReader } from '../../engine/object-reader.ts'
import type { NamedPort } from '../../engine/objects.ts'
import { readPodSpec } from '../../engine/workload.ts'
import { RecentTexts } from './json-scanner.ts'
import type { ListTaker } from './list.ts'
import { NO_PORTS, type PodBatch } from './pod-batch.ts'
import { type PodParts, readPodParts } from './pod-message.ts'
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
const FIRST_NAME_BYTES = 16_384
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
  readonly #texts = new RecentTexts()
  #rows: number[] = []
  #names = Buffer.allocUnsafeSlow(FIRST_NAME_BYTES)
  #namesLength = 0
  #pods = 0
  #others: unknown[] = []
  #newTexts: string[] = []
  #textCount = 0
  #newLabels: number[] = []
  #labelsCount = 0
  #newPorts: (readonly NamedPort[])[] = []
  #portsCount = 0
  readonly #namespaces = this.#textsThat(isSubdomain)
  readonly #nodes = this.#textsThat(() => true)
  readonly #keys = this.#textsThat((key) => isRead(() => new ObjectReader(undefined).labelKey(key)))
  readonly #values = this.#textsThat((value) => isRead(() => new ObjectReader(value).labelValue()))
  readonly #labels = new RecentValues((bytes, start, end) => this.#addLabels(bytes, start, end))
  readonly #ports = new RecentValues((bytes, start, end) => this.#addPorts(bytes, start, end))

  constructor(taker: PodBatchTaker) {
    this.#taker = taker
  }

  begin(): void {
    this.flush()
    this.#taker.begin()
  }

  take(item: unknown): void {
    this.#others.push(item)
    this.#note()
  }

  takeMessage(item: ProtobufReader, end: number): boolean {
    const parts = readPodParts(item, end)
    if (!parts || !this.#addPod(item.bytes, parts)) return false
    this.#note()
    return true
  }

  /** Tells what was read since the last batch. */
  flush(): void {
    if (this.#pods === 0) return
    const batch: PodBatch = {
      texts: this.#newTexts,
      labels: Int32Array.from(this.#newLabels),
      ports: this.#newPorts,
      rows: Float64Array.from(this.#rows),
      names: this.#names.subarray(0, this.#namesLength),
      others: this.#others,
    }
    this.#newTexts = []
    this.#newLabels = []
    this.#newPorts = []
    this.#rows = []
    this.#others = []
    this.#names = Buffer.allocUnsafeSlow(this.#names.length)
    this.#namesLength = 0
    this.#pods = 0
    this.#taker.takeBatch(batch)
  }

  #note(): void {
    this.#pods++
    if (this.#pods === BATCH_PODS) this.flush()
  }

  /** False for a pod that is not plain after all. */
  #addPod(bytes: Buffer, parts: PodParts): boolean {
    const { name, nameEnd, phase, phaseEnd, addresses = none } = parts
    const isRunning = isText(RUNNING, bytes, phase, phaseEnd)
    if (!isRunning && !isText(PENDING, bytes, phase, phaseEnd)) return false
    if (!isPlainName(bytes, name, nameEnd)) return false
    const namespace = this.#namespaces.of(bytes, parts.namespace, parts.namespaceEnd)
    const node = this.#nodes.of(bytes, parts.node, parts.nodeEnd)
    const labels = this.#labels.of(bytes, parts.labels, parts.labelsEnd)
    const ports = parts.portsEnd > 0 ? this.#ports.of(bytes, parts.ports, parts.portsEnd) : NO_PORTS
    if (namespace === INVALID || labels === INVALID || (parts.portsEnd > 0 && ports === INVALID)) return false
    const { createdMs } = parts
    this.#addName(bytes, name, nameEnd)
    this.#rows.push(nameEnd - name, namespace, node, labels, ports, isRunning ? 1 : 0, createdMs, addresses.length)
    for (const { w0, w1, w2, w3 } of addresses) this.#rows.push(w0, w1, w2, w3)
    return true
  }

  #addName(bytes: Buffer, start: number, end: number): void {
    if (this.#namesLength + end - start > this.#names.length) {
      const larger = Buffer.allocUnsafeSlow(this.#names.length * 2)
      this.#names.copy(larger, 0, 0, this.#namesLength)
      this.#names = larger
    }
    for (let at = start; at < end; at++) this.#names[this.#namesLength++] = bytes[at]!
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
    const reader = new ProtobufReader(bytes, start, this.#texts)
    const numbers: number[] = []
    while (reader.at < end) {
      reader.varint(end)
      const its = reader.lengthEnd(end)
      let key = INVALID
      let value = this.#values.of(bytes, its, its)
      while (reader.at < its) {
        const tag = reader.varint(its)
        if (tag !== KEY && tag !== VALUE) {
          reader.skip(tag, its)
          continue
        }
        const textEnd = reader.lengthEnd(its)
        if (tag === KEY) key = this.#keys.of(bytes, reader.at, textEnd)
        else value = this.#values.of(bytes, reader.at, textEnd)
        reader.at = textEnd
      }
      if (key === INVALID || value === INVALID) return INVALID
      numbers.push(key, value)
    }
    this.#newLabels.push(numbers.length / 2, ...numbers)
    return this.#labelsCount++
  }

  #addPorts(bytes: Buffer, start: number, end: number): number {
    const container = new ProtobufReader(bytes, start, this.#texts).read(wantedPortsMessage, end)
    const ports = attempt(() => readPodSpec(new ObjectReader({ containers: [container] })).ports)
    if (!ports) return INVALID
    this.#newPorts.push(ports)
    return this.#portsCount++
  }
}

const none: readonly Address[] = []
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
