import t from 'tap'
import { createHistogram, observe, packetBounds, readHistograms } from '../../src/datapath/histogram.ts'
import { createTimes, PacketTimes, type TimeWords } from '../../src/datapath/packet-times.ts'

const CAPACITY = 4

/** A thread whose clock is set by hand. */
class Thread {
  readonly words: TimeWords = createTimes()
  #nowMs = 1000
  readonly #times = new PacketTimes(this.words, CAPACITY, this.#nowMs)

  /** It waits for so long, or works on something else; then it receives so many packets and answers them after so long. */
  batch(beforeMs: number, count: number, tookMs: number): void {
    this.#nowMs += beforeMs
    this.#times.received(count, this.#nowMs)
    this.#nowMs += tookMs
    this.#times.answered(count, this.#nowMs)
  }
}

/** How often each bound was met, in ms. */
function bounds(words: TimeWords['wait']): Readonly<Record<string, number>> {
  const { counts } = readHistograms([words], packetBounds)
  return Object.fromEntries(
    counts.flatMap((count, i) =>
      count > 0 ? [[`${(packetBounds[i] ?? Number.POSITIVE_INFINITY) * 1000}`, count]] : [],
    ),
  )
}

t.test('packets that a thread waits for have not waited', async (t) => {
  const thread = new Thread()
  thread.batch(700, 1, 0.02)
  thread.batch(5, 2, 0.2)
  t.same(bounds(thread.words.wait), { '0.01': 3 })
  t.same(bounds(thread.words.decision), { '0.025': 1, '0.25': 2 })
})

t.test('packets that come while it is at work have waited since then at most', async (t) => {
  const thread = new Thread()
  thread.batch(700, 3, 0.6)
  thread.batch(0.01, 2, 4)
  t.same(bounds(thread.words.wait), { '0.01': 3, '1': 2 }, '0.61 ms')
  thread.batch(0.01, 1, 0.01)
  t.same(bounds(thread.words.wait), { '0.01': 3, '1': 2, '5': 1 }, '4.01 ms')
})

t.test('a full batch leaves others waiting: the next one may have waited for longer', async (t) => {
  const thread = new Thread()
  thread.batch(700, 1, 2)
  thread.batch(0.01, CAPACITY, 2)
  thread.batch(0.01, CAPACITY, 2)
  thread.batch(0.01, 1, 2)
  thread.batch(0.01, 1, 2)
  t.same(bounds(thread.words.wait), { '0.01': 1, '2.5': CAPACITY + 1, '5': CAPACITY, '10': 1 })
})

t.test('a histogram', async (t) => {
  const words = createHistogram([1, 2])
  observe(words, [1, 2], 1, 2)
  observe(words, [1, 2], 1.5, 1)
  observe(words, [1, 2], 7, 3)
  t.same(readHistograms([words], [1, 2]), { bounds: [1, 2], counts: [2, 1, 3], sum: 24.5 })
  t.same(readHistograms([words, words], [1, 2]).counts, [4, 2, 6])
})
