import { type LintFinding, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'unknown-peer'
const severity = 'warning'
const hint = 'correct the policy, or use a version of knp that knows what it asks for'

/** What this version could not understand of a policy, and fails closed about; and what else its reader has to say. */
export function unknownPeer({ input }: LintWorld): LintFinding[] {
  return input.policies.flatMap((policy) => {
    const closed = rulesOf(policy).flatMap((placed) => {
      const { action, failsClosed } = placed.rule
      if (failsClosed === undefined) return []
      const effect = action === 'Accept' ? 'the rule matches nothing' : 'the rule denies everything'
      return [{ placed, reason: failsClosed, message: `${failsClosed}: ${effect}` }]
    })
    // What belongs to a rule is said there.
    const others = policy.problems.filter((problem) => !closed.some(({ reason }) => problem.includes(reason)))
    return [
      ...closed.map(({ placed, message }): LintFinding => ({ ...placeOf(placed), check, severity, message, hint })),
      ...others.map((message): LintFinding => ({ object: policy.ref, check, severity, message, hint })),
    ]
  })
}
