import {
  changeBounds,
  createHistogram,
  type HistogramReading,
  type HistogramWords,
  observe,
  readHistograms,
} from './datapath/histogram.ts'
import type { LogState, PacketThreads } from './datapath/threads.ts'
import { type DecisionCounts, DecisionTotals } from './decision-totals.ts'
import type { CompiledPolicy, PolicyKind } from './engine/index.ts'

/** What a running firewall has counted and timed. */
export interface FirewallFigures {
  /** Of packets that packet threads were asked about, and of those that the kernel answered like one that they were. */
  readonly decisions: { readonly asked: DecisionCounts; readonly remembered: DecisionCounts }
  /** What is known of the latter. */
  readonly log: LogState
  /** From the receipt of a batch of packets to its answers; each packet counts. */
  readonly decisionSeconds: HistogramReading
  /** How long packets can have waited for their thread at most. */
  readonly waitSeconds: HistogramReading
  /** From changed objects to a generation. */
  readonly compileSeconds: HistogramReading
  /** The same until it is in force, in all packet threads and in the kernel. */
  readonly applySeconds: HistogramReading
}

const MS_PER_SECOND = 1000

/** Keeps what the main thread counts and times, and adds up what packet threads do. */
export class FigureKeeper {
  readonly #asked: DecisionTotals
  readonly #remembered: DecisionTotals
  readonly #compile: HistogramWords = createHistogram(changeBounds)
  readonly #apply: HistogramWords = createHistogram(changeBounds)

  /** @param kinds in order of precedence */
  constructor(kinds: readonly PolicyKind[]) {
    const names = kinds.map(({ name }) => name)
    this.#asked = new DecisionTotals(names)
    this.#remembered = new DecisionTotals(names)
  }

  /** A generation was compiled. */
  compiled(tookMs: number): void {
    observe(this.#compile, changeBounds, tookMs / MS_PER_SECOND, 1)
  }

  /** A change is in force. */
  applied(tookMs: number): void {
    observe(this.#apply, changeBounds, tookMs / MS_PER_SECOND, 1)
  }

  /** The threads decide by the latest generation, no more by the former one. */
  swapped(threads: PacketThreads, former: CompiledPolicy, latest: CompiledPolicy): void {
    const { asked, remembered } = threads.takeRetired()
    this.#asked.retire(asked, former.policyNames, latest.policyNames)
    this.#remembered.retire(remembered, former.policyNames, latest.policyNames)
  }

  /** All until now. @param compiled what the threads decide by */
  read(threads: PacketThreads, { policyNames }: CompiledPolicy): FirewallFigures {
    const { decision, wait } = threads.times()
    const { asked, remembered } = threads.tallies()
    return {
      decisions: {
        asked: this.#asked.read(asked, policyNames),
        remembered: this.#remembered.read(remembered, policyNames),
      },
      log: threads.log,
      decisionSeconds: decision,
      waitSeconds: wait,
      compileSeconds: readHistograms([this.#compile], changeBounds),
      applySeconds: readHistograms([this.#apply], changeBounds),
    }
  }
}
