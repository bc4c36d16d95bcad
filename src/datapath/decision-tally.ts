import { type Decided, EXEMPT } from '../engine/engine.ts'

/** Decisions counted in shared memory: one writer, one float64 each. */
export type TallyWords = Float64Array<SharedArrayBuffer>

/** What a row of the tally stands for: nobody asked, nobody decided, nobody could; then the tiers and their policies. */
export const EXEMPT_ROW = 0
export const UNDECIDED_ROW = 1
export const UNASKED_ROW = 2
const FIRST_TIER_ROW = 3
/** A row's columns. */
export const TALLY_COLUMNS = 6
export const INGRESS_COLUMN = 2
export const ALLOWED_COLUMN = 1
/** Egress, then ingress: what would have been denied if it were enforced. */
export const AUDITED_COLUMN = 4

/** A tally of zeros. @param policyCounts see `Generation` */
export function createTally(policyCounts: readonly number[]): TallyWords {
  const rows = FIRST_TIER_ROW + policyCounts.reduce((sum, count) => sum + 1 + count, 0)
  return new Float64Array(new SharedArrayBuffer(rows * TALLY_COLUMNS * 8))
}

/** The row of each tier, for what none of its policies decided; those of its policies follow, in the order of their numbers. */
export function tierRows(policyCounts: readonly number[]): number[] {
  let row = FIRST_TIER_ROW
  return policyCounts.map((count) => {
    const own = row
    row += 1 + count
    return own
  })
}

/** Counts decisions by who made them. Allocates nothing. */
export class DecisionTally {
  readonly #words: TallyWords
  readonly #tiers: readonly number[]

  constructor(words: TallyWords, policyCounts: readonly number[]) {
    this.#words = words
    this.#tiers = tierRows(policyCounts)
  }

  /** @param decided `undefined` where the engine was not asked */
  note(decided: Decided | undefined, isAllowed: boolean): void {
    const row = decided === undefined ? UNASKED_ROW : this.#rowOf(decided)
    const column = (decided?.isIngress ? INGRESS_COLUMN : 0) + (isAllowed ? ALLOWED_COLUMN : 0)
    this.#words[row * TALLY_COLUMNS + column]!++
  }

  /** @param decided who would have denied it; `undefined` as above */
  noteAudited(decided: Decided | undefined): void {
    const row = decided === undefined ? UNASKED_ROW : this.#rowOf(decided)
    this.#words[row * TALLY_COLUMNS + AUDITED_COLUMN + (decided?.isIngress ? 1 : 0)]!++
  }

  /** Counts as allowed what nobody was asked about. */
  noteUnenforced(): void {
    this.#words[UNDECIDED_ROW * TALLY_COLUMNS + ALLOWED_COLUMN]!++
  }

  #rowOf({ tier, policy }: Decided): number {
    // NO_POLICY is -1: the tier's own row.
    if (tier >= 0) return this.#tiers[tier]! + 1 + policy
    return tier === EXEMPT ? EXEMPT_ROW : UNDECIDED_ROW
  }
}
