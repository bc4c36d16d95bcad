import { type LintFinding, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

/** What the reader of a policy has to say about it, but for rules that fail closed: those have a check of their own. */
export function policyProblem({ input }: LintWorld): LintFinding[] {
  return input.policies.flatMap((policy) => {
    const reasons = rulesOf(policy).flatMap(({ rule }) => rule.failsClosed ?? [])
    const isSaidElsewhere = (problem: string) => reasons.some((why) => why !== problem && problem.includes(why))
    return policy.problems
      .filter((problem) => !isSaidElsewhere(problem))
      .map((message): LintFinding => ({ check: 'policy-problem', severity: 'warning', object: policy.ref, message }))
  })
}
