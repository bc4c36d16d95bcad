import type { DecisionCount } from './decision-totals.ts'
import type { PolicyName } from './engine/evaluator.ts'
import type { FirewallFigures } from './firewall-figures.ts'

/** How often somebody decided since the firewall's start, what the kernel remembers included. */
export interface DeciderTotal {
  readonly tier: string
  /** Absent where it was the tier itself. */
  readonly policy?: PolicyName
  readonly allowed: number
  readonly denied: number
  /** How often it would have denied what passed, were it enforced. */
  readonly audit: number
}

type Total = { -readonly [K in keyof DeciderTotal]: DeciderTotal[K] }

/** Policies, and tiers for what none of their policies decided; those with most first, at most so many. */
export function deciderTotals({ asked, remembered }: FirewallFigures['decisions'], most: number): DeciderTotal[] {
  const totals = new Map<string, Total>()
  const totalOf = (tier: string, policy?: PolicyName): Total => {
    const key = JSON.stringify([tier, policy?.kind, policy?.namespace, policy?.name])
    const known = totals.get(key)
    if (known) return known
    const total = { tier, ...(policy && { policy: nameOf(policy) }), allowed: 0, denied: 0, audit: 0 }
    totals.set(key, total)
    return total
  }
  for (const { tiers, policies } of [asked, remembered]) {
    for (const count of tiers) add(totalOf(count.tier), count, 1)
    for (const count of policies) {
      add(totalOf(count.tier, count.policy), count, 1)
      add(totalOf(count.tier), count, -1)
    }
  }
  return [...totals.values()]
    .filter((total) => sumOf(total) > 0)
    .sort((a, b) => sumOf(b) - sumOf(a))
    .slice(0, most)
}

function sumOf({ allowed, denied, audit }: DeciderTotal): number {
  return allowed + denied + audit
}

function nameOf({ kind, namespace, name }: PolicyName): PolicyName {
  return { kind, ...(namespace !== undefined && { namespace }), name }
}

function add(total: Total, { verdict, count }: DecisionCount, sign: 1 | -1): void {
  const column = verdict === 'allow' ? 'allowed' : verdict === 'deny' ? 'denied' : 'audit'
  total[column] += sign * count
}
