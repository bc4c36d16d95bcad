import type { Labels, NamedPort } from '../../engine/objects.ts'
import { ListedPod } from './listed-pod.ts'
import { type PodBatch, ROW, WORDS_PER_ADDRESS } from './pod-batch.ts'

/** Makes pods of a list's batches, which are read in their order. What pods of a list have alike is one object. */
export class PodBatchReader {
  readonly #texts: string[] = []
  readonly #labels: Labels[] = []
  readonly #ports: (readonly NamedPort[])[] = []

  /** Tells the plain pods of a batch, with their keys. */
  read({ texts, labels, ports, rows, keys }: PodBatch, take: (key: string, pod: ListedPod) => void): void {
    for (const text of texts) this.#texts.push(text)
    this.#readLabels(labels)
    for (const list of ports) this.#ports.push(list)
    const batch = { rows, keys, texts: this.#texts, labels: this.#labels, ports: this.#ports }
    for (let at = 0; at < rows.length; at += ROW.length + rows[at + ROW.addresses]! * WORDS_PER_ADDRESS) {
      const keyStart = rows[at + ROW.keyStart]!
      take(keys.slice(keyStart, keyStart + rows[at + ROW.keyLength]!), new ListedPod(batch, at))
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
