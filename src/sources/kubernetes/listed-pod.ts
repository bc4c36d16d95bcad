import type { Address, Workload } from '../../engine/index.ts'
import type { Labels, NamedPort, ObjectRef } from '../../engine/objects.ts'
import { NO_PORTS, ROW, WORDS_PER_ADDRESS } from './pod-batch.ts'

/** What pods of a batch are read from. */
export interface PodRows {
  readonly rows: Int32Array
  readonly keys: string
  /** By their numbers, what the list's batches have told. */
  readonly texts: readonly string[]
  readonly labels: readonly Labels[]
  readonly ports: readonly (readonly NamedPort[])[]
}

/**
 * A plain pod of a list. There may be a hundred thousand, of which most are asked for nothing but their labels and addresses, so
 * what each says stays where its batch has it until somebody asks.
 */
export class ListedPod implements Workload {
  readonly #batch: PodRows
  /** Where its row begins. */
  readonly #at: number

  constructor(batch: PodRows, at: number) {
    this.#batch = batch
    this.#at = at
  }

  get type(): 'Workload' {
    return 'Workload'
  }

  get ref(): ObjectRef {
    return { kind: 'Pod', namespace: this.namespace, name: this.name }
  }

  get isHost(): boolean {
    return false
  }

  get namespace(): string {
    return this.#batch.texts[this.#number(ROW.namespace)]!
  }

  get name(): string {
    const end = this.#number(ROW.keyStart) + this.#number(ROW.keyLength)
    return this.#batch.keys.slice(end - this.#number(ROW.nameLength), end)
  }

  get labels(): Labels {
    return this.#batch.labels[this.#number(ROW.labels)]!
  }

  get node(): string {
    return this.#batch.texts[this.#number(ROW.node)]!
  }

  get hostNetwork(): boolean {
    return false
  }

  get addresses(): readonly Address[] {
    const count = this.#number(ROW.addresses)
    if (count === 0) return none
    const { rows } = this.#batch
    const at = this.#at + ROW.length
    if (count === 1) return [readAddress(rows, at)]
    return Array.from({ length: count }, (_, i) => readAddress(rows, at + i * WORDS_PER_ADDRESS))
  }

  get ports(): readonly NamedPort[] {
    const number = this.#number(ROW.ports)
    return number === NO_PORTS ? none : this.#batch.ports[number]!
  }

  get forwards(): readonly never[] {
    return none
  }

  get phase(): 'Pending' | 'Running' {
    return this.#number(ROW.isRunning) === 1 ? 'Running' : 'Pending'
  }

  get createdMs(): number {
    return (this.#number(ROW.createdSeconds) >>> 0) * 1000
  }

  /** The pod as any other is. */
  toJSON(): Workload {
    const { type, ref, isHost, namespace, name, labels, node } = this
    const { hostNetwork, addresses, ports, forwards, phase, createdMs } = this
    return {
      type,
      ref,
      isHost,
      namespace,
      name,
      labels,
      node,
      hostNetwork,
      addresses,
      ports,
      forwards,
      phase,
      createdMs,
    }
  }

  #number(field: number): number {
    return this.#batch.rows[this.#at + field]!
  }
}

const none: readonly never[] = Object.freeze([])

function readAddress(rows: Int32Array, at: number): Address {
  return { w0: rows[at]!, w1: rows[at + 1]!, w2: rows[at + 2]!, w3: rows[at + 3]! }
}
