/** A histogram in shared memory, one writer: the sum of what was observed, then a count for each bucket. */
export type HistogramWords = Float64Array<SharedArrayBuffer>

/** Upper bounds, in seconds, of times on the way of a packet. */
export const packetBounds = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1,
] as const

/** Upper bounds, in seconds, of how long changes take. */
export const changeBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

/** What a histogram held at one instant. */
export interface HistogramReading {
  readonly bounds: readonly number[]
  /** One more than there are bounds: what was above the last one. */
  readonly counts: readonly number[]
  readonly sum: number
}

/** An empty histogram. */
export function createHistogram(bounds: readonly number[]): HistogramWords {
  return new Float64Array(new SharedArrayBuffer((bounds.length + 2) * 8))
}

/** Takes in the same value `times` times. */
export function observe(words: HistogramWords, bounds: readonly number[], value: number, times: number): void {
  let bucket = 0
  while (bucket < bounds.length && value > bounds[bucket]!) bucket++
  words[0]! += value * times
  words[1 + bucket]! += times
}

/** Several histograms of the same bounds as one. */
export function readHistograms(all: readonly HistogramWords[], bounds: readonly number[]): HistogramReading {
  const sum = (at: number) => all.reduce((total, words) => total + words[at]!, 0)
  return { bounds, counts: Array.from({ length: bounds.length + 1 }, (_, i) => sum(1 + i)), sum: sum(0) }
}
