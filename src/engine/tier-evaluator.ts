import {
  type Direction,
  NO_POLICY,
  type PolicyEvaluator,
  type TierTables,
  type Trace,
  type Verdict,
} from './evaluator.ts'
import type { Flow } from './flow.ts'
import type { IdentityTables } from './identity.ts'
import type { TierName } from './policy.ts'
import { RuleFinder } from './rule-index.ts'
import { RuleMatcher } from './rule-matcher.ts'
import { ACCEPT, DENY, RULE_ACTION, RULE_LENGTH, RULE_POLICY } from './rule-words.ts'
import type { Words } from './twin-words.ts'

/** What a tier decides by; see `PolicyTier`, which writes it. */
export interface PolicyTierTables extends TierTables {
  /** Per identity, the number of its selection: the policies that select it; 0: none. */
  readonly selections: Words
  /** Per selection, LIST_COLUMNS words: where the list of its policies starts in `words`; 0 where none has rules there. */
  readonly lists: Words
  /** Lists: how many rules, the rules (see rule-words.ts); or INDEXED and an index over rules elsewhere. */
  readonly words: Words
}

/**
 * The columns of `lists`: egress and ingress as enforced, then egress and ingress with the audited policies; then the numbers
 * of the first policies for egress and for ingress, where there are any: as enforced, then with the audited ones.
 */
export const LIST_COLUMNS = 8
export const AUDITED_COLUMN = 2
export const FIRST_POLICY_COLUMN = 4
/** In place of a list's length: an index over its rules follows. */
export const INDEXED = -1
/** The first columns of `lists`. */
export const EGRESS = 0
export const INGRESS = 1

/** What makes the tiers different from each other. */
export interface TierRules {
  readonly name: TierName
  /** What it says of a flow that none of the policies that select the subject has a rule for. */
  readonly otherwise: 'deny' | 'next'
  /** Whether it lets a pod reach the node it runs on, whatever its policies say. */
  readonly opensOwnNode: boolean
}

/** Says in words what a tier did; only where there are names. */
export type TierExplainer = (step: TierDecision, trace: Trace) => void

/** What a tier found: where the rule starts that decided (0: none). */
export interface TierDecision {
  readonly direction: Direction
  readonly flow: Flow
  readonly verdict: Verdict
  readonly rule: number
  /** Whether any policy with rules in this direction selects the subject. */
  readonly isSelected: boolean
  /** The node that a pod runs on: reached in spite of the policies. */
  readonly isOwnNode: boolean
}

/** A tier of policies, over the tables of one generation. */
export class TierEvaluator implements PolicyEvaluator {
  readonly name: TierName
  decidedPolicy = NO_POLICY
  readonly #rules: TierRules
  readonly #tables: PolicyTierTables
  readonly #matcher: RuleMatcher
  readonly #finder: RuleFinder
  readonly #explain: TierExplainer | undefined

  /** @param explain fills traces; left out on the packet path */
  constructor(rules: TierRules, tables: PolicyTierTables, identities: IdentityTables, explain?: TierExplainer) {
    this.name = rules.name
    this.#rules = rules
    this.#tables = tables
    this.#matcher = new RuleMatcher(tables.words, identities)
    this.#finder = new RuleFinder(tables.words, identities, this.#matcher)
    this.#explain = explain
  }

  evaluateEgress(flow: Flow, trace?: Trace): Verdict {
    const list = this.#listOf(flow.sourceIdentity, EGRESS, flow.includesAudited)
    if (list === 0) return trace ? this.#trace('egress', flow, 'next', 0, false, false, trace) : 'next'
    this.#matcher.takeEgress(flow)
    const rule = this.#find(list, flow)
    const verdict = this.#verdictOf(rule, flow.sourceIdentity, EGRESS, flow.includesAudited)
    // "Traffic to and from the node where a Pod is running is always allowed" (NetworkPolicy concept page).
    const isOwnNode = verdict === 'deny' && this.#rules.opensOwnNode && flow.isToOwnNode
    const final = isOwnNode ? 'accept' : verdict
    if (isOwnNode) this.decidedPolicy = NO_POLICY
    return trace ? this.#trace('egress', flow, final, rule, true, isOwnNode, trace) : final
  }

  evaluateIngress(flow: Flow, trace?: Trace): Verdict {
    const list = this.#listOf(flow.destinationIdentity, INGRESS, flow.includesAudited)
    if (list === 0) return trace ? this.#trace('ingress', flow, 'next', 0, false, false, trace) : 'next'
    this.#matcher.takeIngress(flow)
    const rule = this.#find(list, flow)
    const verdict = this.#verdictOf(rule, flow.destinationIdentity, INGRESS, flow.includesAudited)
    return trace ? this.#trace('ingress', flow, verdict, rule, true, false, trace) : verdict
  }

  #listOf(identity: number, column: number, includesAudited: boolean): number {
    const selection = this.#tables.selections[identity]!
    if (selection === 0) return 0
    return this.#tables.lists[selection * LIST_COLUMNS + column + (includesAudited ? AUDITED_COLUMN : 0)]!
  }

  /** Where the first rule starts that matches; 0 where none does. */
  #find(list: number, flow: Flow): number {
    const { words } = this.#tables
    const count = words[list]!
    if (count === INDEXED) return this.#finder.find(list + 1, flow)
    let rule = list + 1
    for (let left = count; left > 0; left--) {
      if (this.#matcher.matches(rule)) return rule
      rule += words[rule + RULE_LENGTH]!
    }
    return 0
  }

  #verdictOf(rule: number, identity: number, direction: number, includesAudited: boolean): Verdict {
    const { words, lists, selections } = this.#tables
    if (rule === 0) {
      const column = FIRST_POLICY_COLUMN + direction + (includesAudited ? AUDITED_COLUMN : 0)
      this.decidedPolicy = lists[selections[identity]! * LIST_COLUMNS + column]!
      return this.#rules.otherwise
    }
    this.decidedPolicy = words[rule + RULE_POLICY]!
    const action = words[rule + RULE_ACTION]
    return action === ACCEPT ? 'accept' : action === DENY ? 'deny' : 'next'
  }

  #trace(
    direction: Direction,
    flow: Flow,
    verdict: Verdict,
    rule: number,
    isSelected: boolean,
    isOwnNode: boolean,
    trace: Trace,
  ): Verdict {
    if (!this.#explain) throw new Error('this evaluator was made for the packet path and has no names')
    this.#explain({ direction, flow, verdict, rule, isSelected, isOwnNode }, trace)
    return verdict
  }
}
