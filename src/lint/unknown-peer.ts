import { type LintFinding, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'unknown-peer'

/** Rules that fail closed: their peers have something that this version does not understand. */
export function unknownPeer({ input }: LintWorld): LintFinding[] {
  return input.policies.flatMap((policy) =>
    rulesOf(policy).flatMap((placed): LintFinding[] => {
      const { action, failsClosed } = placed.rule
      // A policy none of which can be read gives the same reason for each rule: it is said once, see policy-problem.
      if (failsClosed === undefined || policy.problems.includes(failsClosed)) return []
      const effect = action === 'Accept' ? 'the rule matches nothing' : 'the rule denies everything'
      const message = `${failsClosed}: ${effect}`
      const hint = 'correct the peer, or use a version of knp that knows what it asks for'
      return [{ check, severity: 'warning', ...placeOf(placed), message, hint }]
    }),
  )
}
