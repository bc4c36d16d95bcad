import type { PolicyKind } from './evaluator.ts'
import { adminTier, baselineTier, networkPolicies } from './policy-tier.ts'

/** The policy APIs that knp enforces, in order of precedence. */
export const policyKinds: readonly PolicyKind[] = [adminTier, networkPolicies, baselineTier]
