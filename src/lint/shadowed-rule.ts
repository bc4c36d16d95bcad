import type { Direction } from '../engine/evaluator.ts'
import type { Action, PodsMatch, Policy } from '../engine/policy.ts'
import type { Requirement } from '../engine/selector.ts'
import { peerCovers, podsCover, portCovers } from './cover.ts'
import { duplicatesIn } from './duplicate-policy.ts'
import { type LintFinding, listed, type PlacedRule, placeOf, policyText, rulesIn } from './finding.ts'
import type { LintWorld } from './lint-world.ts'
import { inOrder } from './order.ts'

const check = 'shadowed-rule'
const SUPERFLUOUS_HINT = 'remove it, or correct what it was meant to match'
const directions = ['egress', 'ingress'] as const

/**
 * Rules that never decide, because others match all that they match: in a NetworkPolicy any other rule of the same policy;
 * in the cluster tiers rules that are asked before, of the same policy or of others about the same subjects.
 */
export function shadowedRule({ input }: LintWorld): LintFinding[] {
  const duplicates = duplicatesIn(input.policies)
  const networkPolicies = input.policies.filter(({ tier }) => tier === 'NetworkPolicy')
  return [
    ...networkPolicies.flatMap((policy) => directions.flatMap((direction) => superfluous(rulesIn(policy, direction)))),
    ...(['Admin', 'Baseline'] as const).flatMap((tier) =>
      shadowedIn(inOrder(input.policies.filter((policy) => policy.tier === tier)), duplicates),
    ),
  ]
}

/** Rules of one NetworkPolicy add up: of two that match the same, the later is superfluous. */
function superfluous(rules: readonly PlacedRule[]): LintFinding[] {
  const kept = new Set(rules.filter(isUnderstood))
  const findings: LintFinding[] = []
  for (const placed of rules.toReversed()) {
    if (!kept.delete(placed)) continue
    const covering = coveringRules(placed, [...kept])
    if (!covering) {
      kept.add(placed)
      continue
    }
    findings.unshift({
      check,
      severity: 'note',
      ...placeOf(placed),
      message: `adds nothing: ${namesOf(covering, placed)} already ${deedOf(covering)} all that it allows`,
      hint: SUPERFLUOUS_HINT,
    })
  }
  return findings
}

function shadowedIn(policies: readonly Policy[], duplicates: ReadonlyMap<Policy, Policy>): LintFinding[] {
  const subjects = new SubjectIndex()
  return policies.flatMap((policy) => {
    // All of a copy's rules are shadowed: it is a finding of its own.
    if (duplicates.has(policy)) return []
    const before = subjects.covering(policy)
    // An audited policy is not in force: what comes after it decides all the same.
    if (!policy.isAudited) subjects.add(policy)
    return directions.flatMap((direction) => shadowedOf(policy, before, direction))
  })
}

function shadowedOf(policy: Policy, before: readonly Policy[], direction: Direction): LintFinding[] {
  const earlier = before.flatMap((other) => rulesIn(other, direction)).filter(isUnderstood)
  return rulesIn(policy, direction).flatMap((placed): LintFinding[] => {
    if (!isUnderstood(placed)) return []
    const covering = coveringRules(placed, earlier)
    earlier.push(placed)
    if (!covering) return []
    const isHarmless = covering.every(({ rule }) => rule.action === placed.rule.action)
    return [
      {
        check,
        severity: isHarmless ? 'note' : 'warning',
        ...placeOf(placed),
        message: `never decides: ${namesOf(covering, placed)}, asked before, ${deedOf(covering)} all that it matches`,
        hint: isHarmless ? SUPERFLUOUS_HINT : 'have it asked first, or remove it',
      },
    ]
  })
}

/** Whether it is in force as it was written, and matches anything; what does not is another check's. */
function isUnderstood({ rule: { failsClosed, peers, ports } }: PlacedRule): boolean {
  return failsClosed === undefined && peers?.length !== 0 && ports?.length !== 0
}

/** The first of the rules that match all that the rule matches, peer by peer and port by port; `undefined` where something is left. */
function coveringRules(placed: PlacedRule, others: readonly PlacedRule[]): PlacedRule[] | undefined {
  const { rule, policy } = placed
  const covering = new Set<PlacedRule>()
  for (const peer of rule.peers ?? [undefined]) {
    for (const port of rule.ports ?? [undefined]) {
      const found = others.find(({ rule: other, policy: { namespace } }) => {
        const hasPort = !other.ports || (port && other.ports.some((each) => portCovers(each, port)))
        if (!hasPort) return false
        if (!other.peers) return true
        if (!peer) return false
        const narrow = { match: peer, namespace: policy.namespace }
        return other.peers.some((each) => peerCovers({ match: each, namespace }, narrow))
      })
      if (!found) return undefined
      covering.add(found)
    }
  }
  return [...covering]
}

function namesOf(rules: readonly PlacedRule[], { policy }: PlacedRule): string {
  return listed(
    rules.map((each) => `rule ${each.index}${each.policy === policy ? '' : ` of ${policyText(each.policy)}`}`),
  )
}

/** What rules do with what they match, in words: `denies`, `deny`, or `decide` where they do not do the same. */
function deedOf(rules: readonly PlacedRule[]): string {
  const [first, ...others] = new Set(rules.map(({ rule }) => rule.action))
  if (first === undefined || others.length > 0) return 'decide'
  const [one, many] = deeds[first]
  return rules.length === 1 ? one : many
}

const deeds: Record<Action, readonly [one: string, many: string]> = {
  Accept: ['allows', 'allow'],
  Deny: ['denies', 'deny'],
  Pass: ['passes on', 'pass on'],
}

/** Policies by their subjects, to find those whose subject covers another's without asking each. */
class SubjectIndex {
  readonly #byRequirement = new Map<string, Entry[]>()
  #size = 0

  add(policy: Policy): void {
    const entry = { policy, place: this.#size++ }
    for (const key of wideKeys(policy.subject)) {
      const entries = this.#byRequirement.get(key)
      if (entries) entries.push(entry)
      else this.#byRequirement.set(key, [entry])
    }
  }

  /** The policies about all that this one is about, in the order in which they were added. */
  covering({ subject, namespace }: Policy): Policy[] {
    const narrow = { match: subject, namespace }
    const candidates = new Set(narrowKeys(subject).flatMap((key) => this.#byRequirement.get(key) ?? []))
    return [...candidates]
      .filter(({ policy }) => podsCover({ match: policy.subject, namespace: policy.namespace }, narrow))
      .sort((a, b) => a.place - b.place)
      .map(({ policy }) => policy)
  }
}

interface Entry {
  readonly policy: Policy
  readonly place: number
}

/** One requirement of a subject, under which it is kept: a subject that it covers has one for the same label. */
function wideKeys(subject: PodsMatch): string[] {
  const [first] = requirementsOf(subject)
  if (!first) return ['']
  const [where, { key, operator, values }] = first
  return operator === 'In' ? values.map((value) => `${where} ${key}=${value}`) : [`${where} ${key}`]
}

/** Under which keys the subjects are kept that may cover this one. */
function narrowKeys(subject: PodsMatch): string[] {
  const keys = requirementsOf(subject).flatMap(([where, { key, operator, values }]) => [
    `${where} ${key}`,
    ...(operator === 'In' ? [`${where} ${key}=${values[0]}`] : []),
  ])
  return ['', ...new Set(keys)]
}

function requirementsOf({ podSelector, namespaceSelector }: PodsMatch): (readonly [string, Requirement])[] {
  return [
    ...podSelector.requirements.map((requirement) => ['pod', requirement] as const),
    ...(namespaceSelector?.requirements ?? []).map((requirement) => ['namespace', requirement] as const),
  ]
}
