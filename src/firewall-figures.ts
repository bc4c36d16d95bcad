import {
  changeBounds,
  createHistogram,
  type HistogramReading,
  type HistogramWords,
  observe,
  readHistograms,
} from './datapath/histogram.ts'
import type { PacketThreads } from './datapath/threads.ts'
import { type DecisionCounts, DecisionTotals } from './decision-totals.ts'
import type { CompiledPolicy, PolicyKind } from './engine/index.ts'

/** What a running firewall has counted and timed. */
export interface FirewallFigures {
  readonly decisions: DecisionCounts
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
  readonly #decisions: DecisionTotals
  readonly #compile: HistogramWords = createHistogram(changeBounds)
  readonly #apply: HistogramWords = createHistogram(changeBounds)

  /** @param kinds in order of precedence */
  constructor(kinds: readonly PolicyKind[]) {
    this.#decisions = new DecisionTotals(kinds.map(({ name }) => name))
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
    this.#decisions.retire(threads.takeRetired(), former.policyNames, latest.policyNames)
  }

  /** All until now. @param compiled what the threads decide by */
  read(threads: PacketThreads, { policyNames }: CompiledPolicy): FirewallFigures {
    const { decision, wait } = threads.times()
    return {
      decisions: this.#decisions.read(threads.tallies(), policyNames),
      decisionSeconds: decision,
      waitSeconds: wait,
      compileSeconds: readHistograms([this.#compile], changeBounds),
      applySeconds: readHistograms([this.#apply], changeBounds),
    }
  }
}
