import type { Counters } from './packet-loop.ts'

/** A thread at work counts at least once a second. */
const STALLED_LOOKS = 10

/**
 * Notices packet threads that stand still, by what they count. It counts looks and asks no clock: a process that was stopped
 * and continued, or a machine that slept, is no thread that stands still.
 */
export class StallWatch {
  readonly #seen = new Map<number, { sum: number; looks: number }>()

  /** One look at the thread of a queue. */
  note(queue: number, counters: Counters): void {
    const sum = counters.reduce((total, count) => total + count, 0)
    const seen = this.#seen.get(queue)
    if (seen?.sum === sum) seen.looks++
    else this.#seen.set(queue, { sum, looks: 0 })
  }

  /** Queues whose threads have counted nothing over the last ten looks. */
  stalled(): readonly number[] {
    return [...this.#seen].flatMap(([queue, { looks }]) => (looks >= STALLED_LOOKS ? [queue] : []))
  }
}
