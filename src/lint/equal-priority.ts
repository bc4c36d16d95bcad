import type { Direction } from '../engine/evaluator.ts'
import type { Policy } from '../engine/policy.ts'
import { type LintFinding, listed, policyText } from './finding.ts'
import type { LintWorld } from './lint-world.ts'
import { inOrder } from './order.ts'

const check = 'equal-priority'

/** How many earlier policies of one workload are remembered: enough to name some. */
const REMEMBERED = 4

/**
 * Policies of one cluster tier with equal priority, about the same workload in the same direction: which of them is asked
 * first is not what somebody wrote.
 */
export function equalPriority(world: LintWorld): LintFinding[] {
  const clusterPolicies = inOrder(world.input.policies.filter(({ tier }) => tier !== 'NetworkPolicy'))
  const equals = Map.groupBy(clusterPolicies, ({ tier, priority }) => `${tier} ${priority}`)
  return [...equals.values()].flatMap((policies) =>
    policies.length === 1
      ? []
      : (['egress', 'ingress'] as const).flatMap((direction) => overlaps(world, policies, direction)),
  )
}

function overlaps(world: LintWorld, policies: readonly Policy[], direction: Direction): LintFinding[] {
  const earlier = new Map<number, Policy[]>()
  return policies.flatMap((policy) => {
    if ((policy[direction] ?? []).length === 0) return []
    const others = new Set<Policy>()
    const shared: number[] = []
    for (const group of world.select(policy.subject, policy.namespace)) {
      const known = earlier.get(group)
      if (!known) {
        earlier.set(group, [policy])
        continue
      }
      if (shared.length < REMEMBERED) {
        for (const other of known) others.add(other)
        shared.push(group)
      }
      if (known.length < REMEMBERED) known.push(policy)
    }
    if (others.size === 0) return []
    const message =
      `has the priority of ${listed([...others].map(policyText))} (${policy.tier} tier, ${policy.priority}), ` +
      `and all are about ${listed(world.namesOf(shared))}: here the name decides which is asked first, elsewhere nothing does`
    const hint = 'give each policy a priority of its own'
    return [{ check, severity: 'warning', object: policy.ref, direction, message, hint }]
  })
}
