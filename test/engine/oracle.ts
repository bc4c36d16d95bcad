import { judgeByClusterPolicies, policiesOfTier } from './oracle/cluster-policy.ts'
import { type Ends, endsOf } from './oracle/ends.ts'
import { judgeByNetworkPolicies, type RuleRef } from './oracle/network-policy.ts'
import type { OracleFlow, OracleWorld, PlainPolicy } from './oracle/objects.ts'

/**
 * The policy APIs, for pods and hosts, read word by word: slow, obvious, and without a line of the program's own. It takes
 * API objects as they are in JSON and looks at all of them for every question. What the program decides must be what this
 * says.
 */

/** `exempt`: no policy is asked. `default`: none of those asked decides. */
export type OracleVerdict = 'exempt' | 'default' | 'allow' | 'deny'

export interface OracleDecider {
  readonly direction: 'egress' | 'ingress'
  readonly tier: 'Admin' | 'NetworkPolicy' | 'Baseline'
  /**
   * The rule that decided; all of the rules that would have, in the NetworkPolicy tier. Empty where that tier denies, and
   * where it lets a pod reach its own node.
   */
  readonly rules: readonly RuleRef[]
}

export interface OracleDecision {
  readonly verdict: OracleVerdict
  /** The denial that ended it, egress first; else the last stage's acceptance by a policy. */
  readonly decidedBy?: OracleDecider
  /** A Pass ended a tier on the way. */
  readonly hasPassed: boolean
}

export interface OracleAnswer extends OracleDecision {
  /** The decision with the audited policies, which are not enforced. */
  readonly complete: OracleDecision
}

interface StageOutcome {
  readonly verdict: 'accept' | 'deny' | 'next'
  readonly by?: OracleDecider
  readonly hasPassed: boolean
}

/** @param localNode the node that decides packets */
export function oracle(world: OracleWorld, flow: OracleFlow, localNode: string): OracleAnswer {
  const enforced: OracleWorld = {
    ...world,
    networkPolicies: world.networkPolicies.filter((policy) => !isAudited(policy)),
    clusterPolicies: world.clusterPolicies.filter((policy) => !isAudited(policy)),
  }
  const ends = endsOf(world, flow, localNode)
  return { ...decide(enforced, flow, ends), complete: decide(world, flow, ends) }
}

function isAudited({ metadata }: PlainPolicy): boolean {
  return metadata.annotations?.['knp.dev/mode'] === 'audit'
}

function decide(world: OracleWorld, flow: OracleFlow, ends: Ends): OracleDecision {
  if (ends.isExempt) return { verdict: 'exempt', hasPassed: false }
  const nothing: StageOutcome = { verdict: 'next', hasPassed: false }
  const egress = ends.source ? judgeStage(world, flow, 'egress', ends) : nothing
  const ingress = ends.destination ? judgeStage(world, flow, 'ingress', ends) : nothing
  const hasPassed = egress.hasPassed || ingress.hasPassed
  for (const stage of [egress, ingress]) {
    if (stage.verdict === 'deny') return { verdict: 'deny', decidedBy: stage.by!, hasPassed }
  }
  for (const stage of [ingress, egress]) {
    if (stage.verdict === 'accept') return { verdict: 'allow', decidedBy: stage.by!, hasPassed }
  }
  return { verdict: 'default', hasPassed }
}

/** Admin tier, NetworkPolicy, Baseline tier: the first that accepts or denies ends the stage. */
function judgeStage(world: OracleWorld, flow: OracleFlow, direction: 'egress' | 'ingress', ends: Ends): StageOutcome {
  const admins = policiesOfTier(world.clusterPolicies, 'Admin')
  const admin = judgeByClusterPolicies(world, admins, flow, direction, ends)
  let hasPassed = admin?.verdict === 'pass'
  if (admin && admin.verdict !== 'pass') {
    return { verdict: admin.verdict, by: { direction, tier: 'Admin', rules: [admin.by] }, hasPassed }
  }

  const [subject, peer] = direction === 'egress' ? [ends.source!, ends.destination] : [ends.destination!, ends.source]
  const { networkPolicies } = world
  const middle = judgeByNetworkPolicies(world, networkPolicies, flow, direction, subject, peer, ends.destination)
  if (middle.verdict !== 'next') {
    // "Traffic to and from the node where a Pod is running is always allowed"; what comes from there is exempt.
    const verdict = direction === 'egress' && ends.isToOwnNode ? 'accept' : middle.verdict
    return { verdict, by: { direction, tier: 'NetworkPolicy', rules: middle.accepting }, hasPassed }
  }

  const lasts = policiesOfTier(world.clusterPolicies, 'Baseline')
  const last = judgeByClusterPolicies(world, lasts, flow, direction, ends)
  if (last?.verdict === 'pass') hasPassed = true
  if (!last || last.verdict === 'pass') return { verdict: 'next', hasPassed }
  return { verdict: last.verdict, by: { direction, tier: 'Baseline', rules: [last.by] }, hasPassed }
}
