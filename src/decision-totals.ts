import {
  ALLOWED_COLUMN,
  AUDITED_COLUMN,
  EXEMPT_ROW,
  INGRESS_COLUMN,
  TALLY_COLUMNS,
  type TallyWords,
  tierRows,
  UNASKED_ROW,
  UNDECIDED_ROW,
} from './datapath/decision-tally.ts'
import type { PolicyName, PolicyNames } from './engine/evaluator.ts'

/** How often something was decided, since the firewall's start. */
export interface DecisionCount {
  /** Whose policies decided: the source's or the destination's; `none` where no policies did. */
  readonly direction: 'egress' | 'ingress' | 'none'
  /** A tier's name; `Exempt`: no policy is asked; `Default`: none decided; `UnknownLocal`: nobody knew whom to ask for. */
  readonly tier: string
  /** `audit`: what passed and would have been denied if what is audited were enforced; among those allowed too. */
  readonly verdict: 'allow' | 'deny' | 'audit'
  readonly count: number
}

/** The same by policy. */
export interface PolicyCount extends DecisionCount {
  readonly policy: PolicyName
}

/** Decisions by who made them: all of them by tier, and those of the policies that there are by policy. */
export interface DecisionCounts {
  readonly tiers: readonly DecisionCount[]
  readonly policies: readonly PolicyCount[]
}

const specials = [
  [EXEMPT_ROW, 'Exempt'],
  [UNDECIDED_ROW, 'Default'],
  [UNASKED_ROW, 'UnknownLocal'],
] as const

/** One number a column of a tally. */
type Row = number[]

interface PolicyRow {
  readonly policy: PolicyName
  readonly tier: string
  readonly row: Row
}

/** What a set of tallies comes to. */
class Sums {
  readonly rows = new Map<string, Row>()
  readonly policies = new Map<string, PolicyRow>()

  add(words: TallyWords, tiers: readonly string[], names: readonly PolicyNames[]): void {
    for (const [row, tier] of specials) addRow(this.rowOf(tier), words, row)
    for (const [i, first] of tierRows(names.map(({ length }) => length)).entries()) {
      const tier = tiers[i]!
      const total = this.rowOf(tier)
      addRow(total, words, first)
      for (const [number, policy] of names[i]!.entries()) {
        addRow(total, words, first + 1 + number)
        if (policy) addRow(this.policyRowOf(tier, policy), words, first + 1 + number)
      }
    }
  }

  addAll({ rows, policies }: Sums): void {
    for (const [tier, row] of rows) addRow(this.rowOf(tier), row, 0)
    for (const { tier, policy, row } of policies.values()) addRow(this.policyRowOf(tier, policy), row, 0)
  }

  rowOf(tier: string): Row {
    return entry(this.rows, tier, emptyRow)
  }

  policyRowOf(tier: string, policy: PolicyName): Row {
    return entry(this.policies, keyOf(tier, policy), () => ({ tier, policy, row: emptyRow() })).row
  }
}

/**
 * Adds up what packet threads count over all generations. Their tallies tell policies by numbers, which another policy has once
 * the first is gone: what was counted until then is taken in by `retire`.
 */
export class DecisionTotals {
  readonly #tiers: readonly string[]
  readonly #past = new Sums()

  /** @param tiers their names, in the pipeline's order */
  constructor(tiers: readonly string[]) {
    this.#tiers = tiers
  }

  /**
   * Takes in tallies that nobody writes any more. What is known of policies that are gone goes with them; the tiers' totals stay.
   * @param names of the generation that the tallies were of
   * @param latest of the one in force
   */
  retire(tallies: readonly TallyWords[], names: readonly PolicyNames[], latest: readonly PolicyNames[]): void {
    if (tallies.length === 0) return
    for (const tally of tallies) this.#past.add(tally, this.#tiers, names)
    const known = new Set(
      latest.flatMap((each, i) => each.flatMap((name) => (name ? keyOf(this.#tiers[i]!, name) : []))),
    )
    for (const key of this.#past.policies.keys()) if (!known.has(key)) this.#past.policies.delete(key)
  }

  /** All until now. Of policies only what is above 0 is listed. @param tallies those in use @param names their generation's */
  read(tallies: readonly TallyWords[], names: readonly PolicyNames[]): DecisionCounts {
    const sums = new Sums()
    sums.addAll(this.#past)
    for (const tally of tallies) sums.add(tally, this.#tiers, names)
    return {
      tiers: [
        ...this.#tiers.flatMap((tier) => countsOf(tier, sums.rowOf(tier))),
        ...specials.flatMap(([, tier]) => undirected(tier, sums.rowOf(tier))),
      ],
      policies: [...sums.policies.values()].flatMap(({ tier, policy, row }) =>
        countsOf(tier, row).flatMap((counts) => (counts.count > 0 ? { ...counts, policy } : [])),
      ),
    }
  }
}

function countsOf(tier: string, row: Row): DecisionCount[] {
  return (['egress', 'ingress'] as const).flatMap((direction) =>
    (['allow', 'deny', 'audit'] as const).map((verdict) => ({
      direction,
      tier,
      verdict,
      count: row[columnOf(direction, verdict)]!,
    })),
  )
}

/** Where no policies decided it says nothing whose they were: the column is whichever was used last. */
function undirected(tier: string, row: Row): DecisionCount[] {
  return (['allow', 'deny', 'audit'] as const).flatMap((verdict) => {
    const count = row[columnOf('egress', verdict)]! + row[columnOf('ingress', verdict)]!
    const canBe = verdict === 'allow' || (verdict === 'deny' && tier === 'UnknownLocal')
    return canBe || count > 0 ? { direction: 'none', tier, verdict, count } : []
  })
}

function columnOf(direction: 'egress' | 'ingress', verdict: DecisionCount['verdict']): number {
  if (verdict === 'audit') return AUDITED_COLUMN + (direction === 'ingress' ? 1 : 0)
  return (direction === 'ingress' ? INGRESS_COLUMN : 0) + (verdict === 'allow' ? ALLOWED_COLUMN : 0)
}

function addRow(total: Row, words: ArrayLike<number>, row: number): void {
  for (let column = 0; column < TALLY_COLUMNS; column++) total[column]! += words[row * TALLY_COLUMNS + column]!
}

function emptyRow(): Row {
  return new Array<number>(TALLY_COLUMNS).fill(0)
}

function keyOf(tier: string, { kind, namespace = '', name }: PolicyName): string {
  return `${tier} ${kind} ${namespace}/${name}`
}

function entry<T>(map: Map<string, T>, key: string, make: () => T): T {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}
