import { createHistogram, type HistogramWords, observe, packetBounds } from './histogram.ts'

/** Where a packet thread writes how long packets take. */
export interface TimeWords {
  readonly decision: HistogramWords
  readonly wait: HistogramWords
}

export function createTimes(): TimeWords {
  return { decision: createHistogram(packetBounds), wait: createHistogram(packetBounds) }
}

/** A receive that does not wait takes this long at most, and so much more for each packet; in ms. */
const RECEIVE_MS = 0.05
const RECEIVE_PACKET_MS = 0.005
const MS_PER_SECOND = 1000

/**
 * Times batches of packets. How long a packet was decided is how long its batch was, from its receipt to its answers. How
 * long it had waited before nobody can tell, but not longer than since the queue was last found empty; and not at all where
 * the thread was waiting for it.
 */
export class PacketTimes {
  readonly #words: TimeWords
  readonly #capacity: number
  /** When the last batch was answered, and when the queue was last found to hold less than a batch. */
  #answeredMs: number
  #drainedMs: number
  #receivedMs: number

  /** @param capacity how many packets a batch has at most @param nowMs of a clock that goes forward only */
  constructor(words: TimeWords, capacity: number, nowMs: number) {
    this.#words = words
    this.#capacity = capacity
    this.#answeredMs = nowMs
    this.#drainedMs = nowMs
    this.#receivedMs = nowMs
  }

  /** A batch of one packet or more has been received. */
  received(count: number, nowMs: number): void {
    const wasIdle = nowMs - this.#answeredMs > RECEIVE_MS + count * RECEIVE_PACKET_MS
    const waitMs = wasIdle ? 0 : nowMs - this.#drainedMs
    observe(this.#words.wait, packetBounds, waitMs / MS_PER_SECOND, count)
    if (wasIdle || count < this.#capacity) this.#drainedMs = nowMs
    this.#receivedMs = nowMs
  }

  /** The batch has been answered. */
  answered(count: number, nowMs: number): void {
    observe(this.#words.decision, packetBounds, (nowMs - this.#receivedMs) / MS_PER_SECOND, count)
    this.#answeredMs = nowMs
  }
}
