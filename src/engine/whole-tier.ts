import {
  type Because,
  type CompiledWhole,
  type Direction,
  type IncrementalTier,
  type PolicyEvaluator,
  type Problem,
  SELECTS_BOTH,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type TierTables,
  type TraceStep,
  type Verdict,
  type WholeEvaluator,
  type WholeKind,
} from './evaluator.ts'
import type { Flow } from './flow.ts'
import type { Identities, IdentityTables } from './identity.ts'
import type { Snapshot } from './snapshot.ts'
import { sharedWords, type Words } from './twin-words.ts'

/** The name of the table that says who is selected; the evaluator's own may not have it. */
const SELECTED = 'selected'

/** A tier that is compiled from the whole picture at every change. */
export class WholeTier implements IncrementalTier {
  readonly #kind: WholeKind
  readonly #publishIdentities: () => Identities
  readonly #snapshot: () => Snapshot
  #compiled: CompiledWhole | undefined
  #selected: Words = sharedWords(0)

  constructor(kind: WholeKind, identities: { publish(): Identities }, snapshot: () => Snapshot) {
    this.#kind = kind
    this.#publishIdentities = () => identities.publish()
    this.#snapshot = snapshot
  }

  prepare(): void {}

  /** What may be decided otherwise by it is not known: everyone whom it selects, now or before, is named. */
  settle(): ReadonlySet<number> {
    const former = this.#selected
    this.#compiled = this.#kind.compile(this.#snapshot(), this.#publishIdentities())
    const { selected } = this.#compiled
    this.#selected = sharedWords(selected.length)
    for (let identity = 0; identity < selected.length; identity++) {
      this.#selected[identity] = selected[identity]! & SELECTS_BOTH
    }
    const touched = new Set<number>()
    for (const each of [former, this.#selected]) {
      for (const [identity, bits] of each.entries()) if (bits !== 0) touched.add(identity)
    }
    return touched
  }

  publish({ tables: identities }: Identities): { readonly tables: TierTables; readonly evaluator: PolicyEvaluator } {
    const { tables: own = {}, evaluator } = this.#compiled!
    if (SELECTED in own) throw new TypeError(`evaluator ${this.#kind.name}: no table may be named "${SELECTED}"`)
    const tables = { ...own, [SELECTED]: this.#selected }
    return { tables, evaluator: wrap(this.#kind, tables, evaluator ?? this.#kind.evaluate(own, identities)) }
  }

  selected(identity: number): number {
    return this.#selected[identity] ?? 0
  }

  problems(): readonly Problem[] {
    return this.#compiled?.problems ?? []
  }
}

/** The tier of a third party's kind in the packet thread. */
export function attachWhole(kind: WholeKind, tables: TierTables, identities: IdentityTables): PolicyEvaluator {
  const { [SELECTED]: _, ...own } = tables
  return wrap(kind, tables, kind.evaluate(own, identities))
}

/** Holds an evaluator to what a tier promises: it is asked of its own subjects, and each answer has one step in the trace. */
function wrap({ name }: WholeKind, tables: TierTables, evaluator: WholeEvaluator): PolicyEvaluator {
  const selected = tables[SELECTED]!
  const ask = {
    egress: (flow: Flow, because?: Because[]) => checked(evaluator.evaluateEgress(flow, because)),
    ingress: (flow: Flow, because?: Because[]) => checked(evaluator.evaluateIngress(flow, because)),
  }
  const step = (direction: Direction, flow: Flow): TraceStep => ({
    direction,
    tier: name,
    ...tell(flow, ask[direction]),
  })
  return {
    name,
    evaluateEgress(flow, trace) {
      if ((selected[flow.sourceIdentity]! & SELECTS_EGRESS) === 0) {
        trace?.push(unselected(name, 'egress', 'source'))
        return 'next'
      }
      if (!trace) return ask.egress(flow)
      return trace[trace.push(step('egress', flow)) - 1]!.verdict
    },
    evaluateIngress(flow, trace) {
      if ((selected[flow.destinationIdentity]! & SELECTS_INGRESS) === 0) {
        trace?.push(unselected(name, 'ingress', 'destination'))
        return 'next'
      }
      if (!trace) return ask.ingress(flow)
      return trace[trace.push(step('ingress', flow)) - 1]!.verdict
    },
  }

  function tell(flow: Flow, judge: (flow: Flow, because: Because[]) => Verdict): Omit<TraceStep, 'direction' | 'tier'> {
    const because: Because[] = []
    try {
      const verdict = judge(flow, because)
      return { reason: `${name} said ${verdict}`, ...because.at(-1), verdict }
    } catch (error) {
      // The packet thread denies what it cannot judge.
      return { verdict: 'deny', reason: `${name} failed, and what cannot be judged is denied: ${String(error)}` }
    }
  }
}

function checked(verdict: Verdict): Verdict {
  if (verdict === 'next' || verdict === 'deny' || verdict === 'accept') return verdict
  throw new TypeError(`answered ${String(verdict)} instead of accept, deny or next`)
}

function unselected(tier: string, direction: Direction, end: 'source' | 'destination'): TraceStep {
  return { direction, tier, verdict: 'next', reason: `${tier} does not select the ${end} for ${direction}` }
}
