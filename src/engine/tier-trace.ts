import type { TraceStep } from './evaluator.ts'
import { type IdentityIndex, OUTSIDE } from './identity.ts'
import { refName } from './objects.ts'
import { describeMiss, type Denied } from './nearest-miss.ts'
import type { Policy, Rule } from './policy.ts'
import type { TierDecision, TierRules } from './tier-evaluator.ts'
import type { World } from './world.ts'

/** What one tier decided, with the names that tell why. */
export interface TierStep extends TierDecision {
  readonly tier: TierRules
  /** The policies that were asked, in their order. */
  readonly policies: readonly Policy[]
  /** The rule that matched; left out where none did. */
  readonly decided?: { readonly policy: Policy; readonly rule: number }
  readonly world: World
  readonly identities: IdentityIndex
}

const ends = { egress: 'source', ingress: 'destination' } as const

/** Says why a tier decided as it did. Works on the policies themselves; it runs only when somebody reads it. */
export function describeStep(step: TierStep): TraceStep {
  const { direction, verdict, tier, policies, isOwnNode } = step
  const base = { direction, tier: tier.name, verdict }
  if (isOwnNode) return { ...base, reason: 'a pod always reaches the node it runs on' }
  if (policies.length === 0) {
    const kind = tier.name === 'NetworkPolicy' ? 'NetworkPolicy' : `policy of the ${tier.name} tier`
    return { ...base, reason: `no ${kind} selects the ${ends[direction]} for ${direction}` }
  }
  if (step.decided) return { ...base, ...describeRule(step, step.decided) }
  const undecidable = isUndecidable(step) && { isUndecidable: true }
  if (verdict === 'next') {
    const selecting = countOf(policies, tier)
    return { ...base, reason: `no ${direction} rule of the ${selecting} that ${selects(policies)} the ${ends[direction]} matches`, ...undecidable }
  }
  return { ...base, ...describeIsolation(step), ...undecidable }
}

function describeRule(
  step: TierStep,
  { policy, rule: index }: NonNullable<TierStep['decided']>,
): Omit<TraceStep, 'direction' | 'tier' | 'verdict'> {
  const { direction, tier, policies } = step
  const rule = policy[direction]![index]!
  const named = {
    policy: policy.ref,
    rule: index,
    ...(rule.name !== undefined && { ruleName: rule.name }),
    reason: `${direction} ${ruleText(rule, index)} ${deedOf(rule, tier)}`,
  }
  if (rule.action !== 'Deny') return named
  const ahead = policies.slice(0, policies.indexOf(policy) + 1).flatMap((each) =>
    each[direction]!.slice(0, each === policy ? index : undefined).map((other, i) => ({ policy: each, rule: other, index: i })),
  )
  const nearest = describeMiss(deniedOf(step), ahead)
  // What nothing ahead of it nearly let through, the rule itself stands against.
  return {
    ...named,
    nearest: nearest ?? {
      policy: policy.ref,
      rule: index,
      difference: `${ruleText(rule, index)} denies it, and no rule ahead of it lets it through`,
      change: { type: 'rule' },
    },
    ...(isUndecidable({ ...step, policies: [policy] }) && { isUndecidable: true }),
  }
}

function deedOf({ action, failsClosed }: Rule, tier: TierRules): string {
  if (failsClosed !== undefined) return `denies everything: ${failsClosed}`
  if (action === 'Accept') return 'allows it'
  if (action === 'Deny') return 'denies it'
  return `passes it on: the ${tier.name} tier has no more to say`
}

function ruleText({ name }: Rule, index: number): string {
  return `rule ${index}${name === undefined ? '' : ` "${name}"`}`
}

/** Nobody let it through where policies isolate the subject. */
function describeIsolation(step: TierStep): Omit<TraceStep, 'direction' | 'tier' | 'verdict'> {
  const { direction, policies } = step
  const rules = policies.flatMap((policy) => policy[direction]!.map((rule, index) => ({ policy, rule, index })))
  const nearest = describeMiss(deniedOf(step), rules)
  const policy = nearest?.policy ?? policies[0]!.ref
  const others = policies.length - 1
  return {
    policy,
    reason:
      `${refName(policy)} isolates the ${ends[direction]} for ${direction}` +
      (others > 0 ? ` (with ${others} other ${others === 1 ? 'policy' : 'policies'})` : '') +
      (rules.length === 0 ? ' and allows nothing' : ' and no rule allows this flow'),
    nearest: nearest ?? {
      policy,
      difference: 'it has no rule that allows anything like this',
      change: { type: 'allow' },
    },
  }
}

function countOf(policies: readonly Policy[], { name }: TierRules): string {
  const noun = policies.length === 1 ? 'policy' : 'policies'
  return name === 'NetworkPolicy' ? `${policies.length} ${noun}` : `${policies.length} ${noun} of the ${name} tier`
}

function selects(policies: readonly Policy[]): string {
  return policies.length === 1 ? 'selects' : 'select'
}

function deniedOf({ direction, flow, world, identities }: TierStep): Denied {
  const { packet, sourceIdentity, destinationIdentity, hasSourceAddress, hasDestinationAddress } = flow
  const identityOf = (number: number) => (number === OUTSIDE ? undefined : identities.identities[number])
  const isEgress = direction === 'egress'
  const address = isEgress ? packet.destination : packet.source
  return {
    packet,
    peer: identityOf(isEgress ? destinationIdentity : sourceIdentity),
    peerAddress: (isEgress ? hasDestinationAddress : hasSourceAddress) ? address : undefined,
    peerNodeLabels: isEgress ? identities.nodeLabelsOf(flow) : undefined,
    destination: identityOf(destinationIdentity),
    world,
  }
}

/** Whether a rule about addresses might match if the other end's were known. */
function isUndecidable({ direction, flow, policies }: TierStep): boolean {
  const hasAddress = direction === 'egress' ? flow.hasDestinationAddress : flow.hasSourceAddress
  if (hasAddress) return false
  return policies.some((policy) =>
    policy[direction]!.some(({ peers }) => peers?.some(({ type }) => type !== 'pods')),
  )
}
