import type { PolicyKind } from './evaluator.ts'
import { networkPolicies } from './network-policy-tier.ts'

/** The policy APIs that knp enforces, in order of precedence. */
export const policyKinds: readonly PolicyKind[] = [networkPolicies]
