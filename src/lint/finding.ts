import type { Address } from '../engine/address.ts'
import type { Direction } from '../engine/evaluator.ts'
import {
  type Namespace,
  type NetworkSet,
  type Node,
  type ObjectRef,
  refName,
  type Workload,
} from '../engine/objects.ts'
import type { Policy, Rule } from '../engine/policy.ts'

/** What the checks look at: the part of a snapshot that policies refer to. */
export interface LintInput {
  readonly workloads: readonly Workload[]
  /** By name; the namespace of every workload and NetworkSet is in it. */
  readonly namespaces: ReadonlyMap<string, Namespace>
  readonly nodes: readonly Node[]
  readonly networkSets: readonly NetworkSet[]
  readonly policies: readonly Policy[]
  /** What is known of DNS: names in lower case, without a trailing dot. */
  readonly domainNames: readonly { readonly name: string; readonly addresses: readonly Address[] }[]
}

/** `warning`: the policy hardly does what it was written for. `note`: it may be meant, and is worth a look. */
export type Severity = 'warning' | 'note'

/** One thing that is wrong, or looks wrong, with one policy. */
export interface LintFinding {
  /** The name of the check, as docs/linting.md lists it. */
  readonly check: string
  readonly severity: Severity
  readonly object: ObjectRef
  readonly direction?: Direction
  /** Index in the policy's rules of that direction. */
  readonly rule?: number
  readonly ruleName?: string
  /** What is wrong, without a full stop; the object, rule and direction are not repeated in it. */
  readonly message: string
  /** What to do about it. */
  readonly hint?: string
}

/** A rule with its place in its policy. */
export interface PlacedRule {
  readonly policy: Policy
  readonly direction: Direction
  readonly index: number
  readonly rule: Rule
}

/** Every rule of a policy, egress first. */
export function rulesOf(policy: Policy): PlacedRule[] {
  return [...rulesIn(policy, 'egress'), ...rulesIn(policy, 'ingress')]
}

/** The rules of one direction, in their order; none where the policy says nothing about it. */
export function rulesIn(policy: Policy, direction: Direction): PlacedRule[] {
  return (policy[direction] ?? []).map((rule, index) => ({ policy, direction, index, rule }))
}

/** Where a finding about a rule stands. */
export function placeOf({
  policy,
  direction,
  index,
  rule,
}: PlacedRule): Pick<LintFinding, 'object' | 'direction' | 'rule' | 'ruleName'> {
  return {
    object: policy.ref,
    direction,
    rule: index,
    ...(rule.name !== undefined && { ruleName: rule.name }),
  }
}

/** `NetworkPolicy shop/db`. */
export function policyText({ ref }: Policy): string {
  return `${ref.kind} ${refName(ref)}`
}

const SHOWN = 3

/** The first few, and how many more: `a, b, c and 4 more`. */
export function listed(names: readonly string[]): string {
  const more = names.length - SHOWN
  // "and 1 more" is no shorter than the name.
  return more < 2 ? names.join(', ') : `${names.slice(0, SHOWN).join(', ')} and ${more} more`
}
