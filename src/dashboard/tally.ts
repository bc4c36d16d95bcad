import type { DeciderTotal } from '../decider-totals.ts'
import type { FlowEvent } from '../flows/event.ts'
import { policyName } from '../output/decision.ts'
import { decider, type ShownVerdict, shownVerdict, sourceText, targetText } from './text.ts'

/** How often something was decided. */
export interface Tally {
  readonly key: string
  /** What is counted, as people read it. */
  readonly name: string
  readonly counts: Readonly<Record<ShownVerdict, number>>
  /** The newest of them. */
  readonly last: FlowEvent
}

/** A row of a list; of who decided before anybody looked, nothing is known but how often. */
export type Row = Omit<Tally, 'last'> & Partial<Pick<Tally, 'last'>>

export type Tallies = ReadonlyMap<string, Tally>

/** How many are kept: of more than twice as many, those that count most. */
export const MAX_TALLIES = 500

/** With what was refused, or would be, by who was refused what. */
export function tallyPairs(tallies: Tallies, events: readonly FlowEvent[]): Tallies {
  return tally(tallies, events, (event) => {
    const verdict = shownVerdict(event)
    if (verdict === 'ALLOWED') return undefined
    const name = `${sourceText(event)} -> ${targetText(event)}`
    return { key: `${verdict} ${name}`, name }
  })
}

/** With what each policy decided; what no policy decides counts for its tier. */
export function tallyPolicies(tallies: Tallies, events: readonly FlowEvent[]): Tallies {
  return tally(tallies, events, (event) => {
    const name = deciderName(decider(event))
    return { key: name, name }
  })
}

/** A policy, or a tier in brackets. */
function deciderName({ tier, policy }: Pick<DeciderTotal, 'tier' | 'policy'>): string {
  return policy ? policyName(policy) : `(${tier})`
}

/** What the firewall counted of who decided, with the last decision of each that flows told of. */
export function countedRows(deciders: readonly DeciderTotal[], tallies: Tallies): readonly Row[] {
  const rows = deciders.map((total): Row => {
    const name = deciderName(total)
    const last = tallies.get(name)?.last
    const counts = { ALLOWED: total.allowed, DENIED: total.denied, AUDIT: total.audit }
    return { key: name, name, counts, ...(last && { last }) }
  })
  return ranked(rows)
}

/** Those with most first; as many in the order of their names. */
export function ranked<T extends Row>(rows: Iterable<T>): readonly T[] {
  return [...rows].sort((a, b) => totalOf(b) - totalOf(a) || (a.key < b.key ? -1 : 1))
}

export function totalOf({ counts }: Row): number {
  return counts.ALLOWED + counts.DENIED + counts.AUDIT
}

const none = { ALLOWED: 0, DENIED: 0, AUDIT: 0 }

function tally(
  before: Tallies,
  events: readonly FlowEvent[],
  identify: (event: FlowEvent) => Pick<Tally, 'key' | 'name'> | undefined,
): Tallies {
  if (events.length === 0) return before
  const tallies = new Map(before)
  for (const event of events) {
    const identity = identify(event)
    if (!identity) continue
    const counts = tallies.get(identity.key)?.counts ?? none
    const verdict = shownVerdict(event)
    const counted = { ...counts, [verdict]: counts[verdict] + event.count }
    tallies.set(identity.key, { ...identity, counts: counted, last: event })
    if (tallies.size > 2 * MAX_TALLIES) prune(tallies)
  }
  return tallies
}

function prune(tallies: Map<string, Tally>): void {
  for (const { key } of ranked(tallies.values()).slice(MAX_TALLIES)) tallies.delete(key)
}
