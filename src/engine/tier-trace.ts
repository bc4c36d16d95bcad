import { OUTSIDE } from './address-map.ts'
import type { TraceStep } from './evaluator.ts'
import type { IdentityIndex, IdentityTables } from './identity.ts'
import { type Candidate, type Denied, describeMiss, matchesPorts } from './nearest-miss.ts'
import { refName } from './objects.ts'
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
  readonly tables: IdentityTables
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
  const undecidable = isUndecidable(step) && { isUndecidable: true }
  if (step.decided) return { ...base, ...describeRule(step, step.decided), ...undecidable }
  if (verdict === 'next')
    return { ...base, reason: `no ${direction} rule of the ${tier.name} tier matches`, ...undecidable }
  return { ...base, ...describeIsolation(step), ...undecidable }
}

function describeRule(
  step: TierStep,
  { policy, rule: index }: NonNullable<TierStep['decided']>,
): Omit<TraceStep, 'direction' | 'tier' | 'verdict'> {
  const { direction, tier } = step
  const rule = policy[direction]![index]!
  const named = {
    policy: policy.ref,
    rule: index,
    ...(rule.name !== undefined && { ruleName: rule.name }),
    reason: `${direction} ${ruleText(rule, index)} ${deedOf(rule, tier)}`,
  }
  if (rule.action !== 'Deny') return named
  const nearest = describeMiss(deniedOf(step), rulesAhead(step))
  // What nothing ahead of it nearly let through, the rule itself stands against.
  return {
    ...named,
    nearest: nearest ?? {
      policy: policy.ref,
      rule: index,
      difference: `${ruleText(rule, index)} denies it, and no rule ahead of it lets it through`,
      change: { type: 'rule' },
    },
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
  const rules = rulesAhead(step)
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

function deniedOf({ direction, flow, world, identities, tables }: TierStep): Denied {
  const { packet, sourceIdentity, destinationIdentity, hasSourceAddress, hasDestinationAddress } = flow
  const identityOf = (number: number) => (number === OUTSIDE ? undefined : identities.identities[number])
  const isEgress = direction === 'egress'
  const address = isEgress ? packet.destination : packet.source
  return {
    packet,
    peer: identityOf(isEgress ? destinationIdentity : sourceIdentity),
    peerAddress: (isEgress ? hasDestinationAddress : hasSourceAddress) ? address : undefined,
    peerNodeLabels: isEgress ? identities.nodeLabelsOf(flow, tables) : [],
    destination: identityOf(destinationIdentity),
    world,
  }
}

/**
 * Whether it would have been decided otherwise if the other end had an address that some rule asks for. What NetworkPolicy
 * allows stays allowed.
 */
function isUndecidable(step: TierStep): boolean {
  const { direction, flow, decided, tier } = step
  const hasAddress = direction === 'egress' ? flow.hasDestinationAddress : flow.hasSourceAddress
  if (hasAddress || (decided && tier.name === 'NetworkPolicy')) return false
  const denied = deniedOf(step)
  const action = decided && decided.policy[direction]![decided.rule]!.action
  return rulesAhead(step).some(
    ({ rule }) =>
      rule.action !== action &&
      matchesPorts(denied, rule.ports) &&
      rule.peers?.some(({ type }) => type === 'block' || type === 'domainName'),
  )
}

/** The rules that were asked before the one that decided; all where none did. */
function rulesAhead({ direction, policies, decided }: TierStep): Candidate[] {
  const rules = policies.flatMap((policy) => policy[direction]!.map((rule, index) => ({ policy, rule, index })))
  if (!decided) return rules
  return rules.slice(
    0,
    rules.findIndex(({ policy, index }) => policy === decided.policy && index === decided.rule),
  )
}
