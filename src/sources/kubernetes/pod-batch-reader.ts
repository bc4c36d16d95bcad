import type { Address, Workload } from '../../engine/index.ts'
import type { Labels, NamedPort } from '../../engine/objects.ts'
import { NO_PORTS, type PodBatch, ROW, WORDS_PER_ADDRESS } from './pod-batch.ts'

/** Makes pods of a list's batches, which are read in their order. What pods of a list have alike is one object. */
export class PodBatchReader {
  readonly #texts: string[] = []
  readonly #labels: Labels[] = []
  readonly #ports: (readonly NamedPort[])[] = []

  /** Tells the plain pods of a batch, with their keys. */
  read({ texts, labels, ports, rows, keys }: PodBatch, take: (key: string, pod: Workload) => void): void {
    for (const text of texts) this.#texts.push(text)
    this.#readLabels(labels)
    for (const list of ports) this.#ports.push(list)
    let keyEnd = 0
    for (let at = 0; at < rows.length; at += ROW.length + rows[at + ROW.addresses]! * WORDS_PER_ADDRESS) {
      const keyStart = keyEnd
      keyEnd += rows[at + ROW.keyLength]!
      const name = keys.slice(keyEnd - rows[at + ROW.nameLength]!, keyEnd)
      take(keys.slice(keyStart, keyEnd), this.#readPod(name, rows, at))
    }
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
      this.#labels.push(labels)
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
