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
  readonly rows: Int32Array<ArrayBuffer>
  /** The keys of these pods (see `objectKey`), one after another: of one text, because each would be an object of its own. */
  readonly keys: string
  /** Pods that are not plain, as JSON has them. */
  readonly others: readonly unknown[]
}

/** What a pod's row begins with. */
export const ROW = {
  /** In the keys of the batch. */
  keyStart: 0,
  keyLength: 1,
  /** The key ends with the name. */
  nameLength: 2,
  namespace: 3,
  node: 4,
  labels: 5,
  /** `NO_PORTS` for a pod without any. */
  ports: 6,
  isRunning: 7,
  /** Since 1970, unsigned. */
  createdSeconds: 8,
  addresses: 9,
  length: 10,
} as const

export const NO_PORTS = -1
export const WORDS_PER_ADDRESS = 4
