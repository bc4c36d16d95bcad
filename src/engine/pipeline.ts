import type { PolicyKind } from './evaluator.ts'
import { adminTier, baselineTier, networkPolicies } from './policy-tier.ts'

/** The policy APIs that knp itself enforces, in order of precedence. */
export const policyKinds: readonly PolicyKind[] = [adminTier, networkPolicies, baselineTier]

/** The tiers that a third party's evaluator may stand beside. */
export const tierNames = ['Admin', 'NetworkPolicy', 'Baseline'] as const
export type TierName = (typeof tierNames)[number]

/** Beside which of knp's own tiers an evaluator stands; before NetworkPolicy where neither is said. */
export interface Placement {
  readonly before?: TierName
  readonly after?: TierName
}

/** A third party's kind and its place. */
export interface Placed extends Placement {
  readonly kind: PolicyKind
}

/** All kinds in order of precedence: knp's own, and others in their places; at one place they keep their order. */
export function pipelineOf(others: readonly Placed[]): readonly PolicyKind[] {
  const at = (place: 'before' | 'after', tier: string) =>
    others.filter((other) => placeOf(other)[place] === tier).map(({ kind }) => kind)
  return policyKinds.flatMap((own) => [...at('before', own.name), own, ...at('after', own.name)])
}

function placeOf({ before, after }: Placement): Placement {
  if (after !== undefined) return { after }
  return { before: before ?? 'NetworkPolicy' }
}
