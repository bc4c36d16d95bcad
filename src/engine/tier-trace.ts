import { type Address, blockContains } from './address.ts'
import { OUTSIDE } from './address-map.ts'
import type { NearestMiss, TraceStep } from './evaluator.ts'
import type { Flow } from './flow.ts'
import { type FlowFacts, matchesPorts, matchesRule } from './flow-facts.ts'
import { forwardingHost, type IdentityTables, identityOf, workloadOf } from './identity.ts'
import type { IdentityIndex } from './identity-index.ts'
import { type Candidate, type Denied, findMiss } from './nearest-miss.ts'
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
  return rule.action === 'Deny' ? { ...named, nearest: missOfDenial(step, { policy, rule, index }) } : named
}

/** What stands ahead of a Deny rule, and one change away from deciding before it; else the rule itself is in the way. */
function missOfDenial(step: TierStep, { policy, rule, index }: Candidate): NearestMiss {
  const ahead = rulesAhead(step)
  const miss = findMiss(deniedOf(step), ahead)
  if (miss?.isNear) return miss.nearest
  return {
    policy: policy.ref,
    rule: index,
    difference: `${ruleText(rule, index)} ${wayPast(rule, ahead)}${brokenText(step, policy, ahead)}`,
    change: { type: 'rule' },
  }
}

function wayPast({ failsClosed }: Rule, ahead: readonly Candidate[]): string {
  if (failsClosed !== undefined) return 'would have to be understood'
  const isFirst = ahead.every(({ rule }) => rule.action === 'Deny')
  return `would have to go: no rule ahead of it ${isFirst ? 'allows anything' : 'is near'}`
}

/** A rule that might have let it through if anybody knew what it means. */
function brokenText(step: TierStep, policy: Policy, ahead: readonly Candidate[]): string {
  const facts = factsOf(step, step.flow)
  const broken = ahead.find(
    ({ rule }) => rule.action === 'Accept' && rule.failsClosed !== undefined && matchesPorts(facts, rule.ports),
  )
  if (!broken) return ''
  const place = broken.policy === policy ? '' : ` of ${broken.policy.ref.kind} ${refName(broken.policy.ref)}`
  return `; ${ruleText(broken.rule, broken.index)}${place} matches nothing: ${broken.rule.failsClosed}`
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
  const nearest = findMiss(deniedOf(step), rules)?.nearest
  const policy = nearest?.policy ?? policies[0]!.ref
  const others = policies.length - 1
  return {
    policy,
    reason:
      `${refName(policy)} isolates the ${ends[direction]} for ${direction}` +
      (others > 0 ? ` (with ${others} other ${others === 1 ? 'policy' : 'policies'})` : '') +
      (rules.length === 0 ? ' and allows nothing' : ' and no rule allows this flow'),
    nearest: nearest ?? { policy, difference: 'it has no rule that could allow it', change: { type: 'allow' } },
  }
}

function deniedOf(step: TierStep): Denied {
  const { direction, policies, flow, tier } = step
  return {
    facts: factsOf(step, flow),
    at: (address) => factsOf(step, redirected(step, address)),
    letsThrough: (facts) => {
      for (const policy of policies) {
        for (const rule of policy[direction]!) if (matchesRule(facts, policy, rule)) return rule.action !== 'Deny'
      }
      return tier.otherwise === 'next'
    },
  }
}

/** The flow with its other end at this address. */
function redirected({ direction, flow, tables }: TierStep, address: Address): Flow {
  const { packet } = flow
  const owner = workloadOf(tables, address)
  if (direction === 'ingress') {
    return {
      ...flow,
      packet: { ...packet, source: { ...address, port: packet.source.port } },
      sourceWorkload: owner,
      sourceIdentity: identityOf(tables, owner),
      hasSourceAddress: true,
    }
  }
  const behind = owner === OUTSIDE ? forwardingHost(tables, address, OUTSIDE) : owner
  const destination = behind === flow.sourceWorkload ? OUTSIDE : behind
  return {
    ...flow,
    packet: { ...packet, destination: { ...address, port: packet.destination.port } },
    destinationWorkload: destination,
    destinationIdentity: identityOf(tables, destination),
    hasDestinationAddress: true,
  }
}

function factsOf({ direction, world, identities, tables }: TierStep, flow: Flow): FlowFacts {
  const { packet, sourceIdentity, destinationIdentity, hasSourceAddress, hasDestinationAddress } = flow
  const known = (number: number) => (number === OUTSIDE ? undefined : identities.identities[number])
  const isEgress = direction === 'egress'
  const peer = known(isEgress ? destinationIdentity : sourceIdentity)
  const hasAddress = isEgress ? hasDestinationAddress : hasSourceAddress
  const address = isEgress ? packet.destination : packet.source
  return {
    protocol: packet.protocol,
    port: packet.destination.port,
    peer,
    peerAddress: hasAddress ? address : undefined,
    peerNodeLabels: isEgress ? identities.nodeLabelsOf(flow, tables) : [],
    peerSets:
      peer || !hasAddress
        ? []
        : [...world.networkSets].filter(({ networks }) => networks.some((block) => blockContains(block, address))),
    namedPorts: known(destinationIdentity)?.ports ?? [],
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
  const facts = factsOf(step, flow)
  const action = decided && decided.policy[direction]![decided.rule]!.action
  return rulesAhead(step).some(
    ({ rule }) =>
      rule.action !== action &&
      matchesPorts(facts, rule.ports) &&
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
