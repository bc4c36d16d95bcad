import type { NamedPort } from '../../engine/objects.ts'

/**
 * Pods of a list on their way from the thread that reads it: as few objects as can be, for each would be copied. What many
 * pods have alike is told once, and has the number of its place among all that the list's batches have told.
 */
export interface PodBatch {
  /** New texts: names of namespaces and nodes, keys and values of labels. */
  readonly texts: readonly string[]
  /** New sets of labels: for each how many labels it has, then the text of every key and value. */
  readonly labels: Int32Array<ArrayBuffer>
  /** New lists of ports. */
  readonly ports: readonly (readonly NamedPort[])[]
  /** For each plain pod `ROW` numbers, then the four words of each of its addresses. */
  readonly rows: Float64Array<ArrayBuffer>
  /** The keys of these pods (see `objectKey`), one after another: of one text, because each would be an object of its own. */
  readonly keys: string
  /** Pods that are not plain, as JSON has them. */
  readonly others: readonly unknown[]
}

/** What a pod's row begins with. */
export const ROW = {
  keyLength: 0,
  /** The key ends with the name. */
  nameLength: 1,
  namespace: 2,
  node: 3,
  labels: 4,
  /** `NO_PORTS` for a pod without any. */
  ports: 5,
  isRunning: 6,
  createdMs: 7,
  addresses: 8,
  length: 9,
} as const

export const NO_PORTS = -1
export const WORDS_PER_ADDRESS = 4
