import type { Address, Workload } from '../../engine/index.ts'
import type { Labels, NamedPort } from '../../engine/objects.ts'
import type { Interner } from './interner.ts'
import { NO_PORTS, type PodBatch, ROW, WORDS_PER_ADDRESS } from './pod-batch.ts'

/** Makes pods of a list's batches, which are read in their order. What pods have alike with others is shared with them. */
export class PodBatchReader {
  readonly #interner: Interner
  readonly #texts: string[] = []
  readonly #labels: Labels[] = []
  readonly #ports: (readonly NamedPort[])[] = []

  constructor(interner: Interner) {
    this.#interner = interner
  }

  /** The plain pods of a batch. */
  read({ texts, labels, ports, rows, names }: PodBatch): Workload[] {
    for (const text of texts) this.#texts.push(this.#interner.text(text))
    this.#readLabels(labels)
    for (const list of ports) this.#ports.push(this.#interner.ports(list))
    const bytes = Buffer.from(names.buffer, names.byteOffset, names.length)
    const pods: Workload[] = []
    let nameEnd = 0
    for (let at = 0; at < rows.length; at += ROW.length + rows[at + ROW.addresses]! * WORDS_PER_ADDRESS) {
      const nameStart = nameEnd
      nameEnd += rows[at + ROW.nameLength]!
      pods.push(this.#readPod(bytes.toString('latin1', nameStart, nameEnd), rows, at))
    }
    return pods
  }

  #readPod(name: string, rows: Float64Array, at: number): Workload {
    const namespace = this.#texts[rows[at + ROW.namespace]!]!
    const ports = rows[at + ROW.ports]!
    return {
      type: 'Workload',
      ref: { kind: 'Pod', namespace, name },
      isHost: false,
      namespace,
      name,
      labels: this.#labels[rows[at + ROW.labels]!]!,
      node: this.#texts[rows[at + ROW.node]!]!,
      hostNetwork: false,
      addresses: readAddresses(rows, at + ROW.length, rows[at + ROW.addresses]!),
      ports: ports === NO_PORTS ? none : this.#ports[ports]!,
      forwards: none,
      phase: rows[at + ROW.isRunning] === 1 ? 'Running' : 'Pending',
      createdMs: rows[at + ROW.createdMs]!,
    }
  }

  #readLabels(words: Int32Array): void {
    for (let at = 0; at < words.length; ) {
      const labels = new Map<string, string>()
      const end = at + 1 + 2 * words[at]!
      for (at++; at < end; at += 2) labels.set(this.#texts[words[at]!]!, this.#texts[words[at + 1]!]!)
      this.#labels.push(this.#interner.labelsOfShared(labels))
    }
  }
}

const none: readonly never[] = Object.freeze([])

function readAddresses(rows: Float64Array, at: number, count: number): readonly Address[] {
  if (count === 0) return none
  // As long as it must be: a list that grows has room for sixteen more, and there is one for each pod.
  if (count === 1) return [readAddress(rows, at)]
  return Array.from({ length: count }, (_, i) => readAddress(rows, at + i * WORDS_PER_ADDRESS))
}

function readAddress(rows: Float64Array, at: number): Address {
  return { w0: rows[at]! | 0, w1: rows[at + 1]! | 0, w2: rows[at + 2]! | 0, w3: rows[at + 3]! | 0 }
}
