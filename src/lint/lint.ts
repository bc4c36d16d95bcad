import { blockCoversWorkloads } from './block-covers-workloads.ts'
import { dnsForgotten } from './dns-forgotten.ts'
import { duplicatePolicy } from './duplicate-policy.ts'
import { equalPriority } from './equal-priority.ts'
import type { LintFinding, LintInput } from './finding.ts'
import { LintWorld } from './lint-world.ts'
import { compareText } from './order.ts'
import { policyProblem } from './policy-problem.ts'
import { selectsNothing } from './selects-nothing.ts'
import { shadowedRule } from './shadowed-rule.ts'
import { unknownDomainName } from './unknown-domain-name.ts'
import { unknownPeer } from './unknown-peer.ts'
import { unknownPortName } from './unknown-port-name.ts'

/** Looks for one kind of mistake; pure. */
type Check = (world: LintWorld) => readonly LintFinding[]

/** All checks, as docs/linting.md lists them. */
const checks: readonly Check[] = [
  selectsNothing,
  unknownPortName,
  unknownPeer,
  policyProblem,
  equalPriority,
  dnsForgotten,
  shadowedRule,
  duplicatePolicy,
  blockCoversWorkloads,
  unknownDomainName,
]

/** What is wrong, or looks wrong, with the policies: by file and line, then by name. */
export function lint(input: LintInput): LintFinding[] {
  const world = new LintWorld(input)
  return checks.flatMap((check) => check(world)).sort(compareFindings)
}

function compareFindings({ object: a, ...first }: LintFinding, { object: b, ...second }: LintFinding): number {
  return (
    compareText(a.file ?? '', b.file ?? '') ||
    (a.line ?? 0) - (b.line ?? 0) ||
    compareText(`${a.kind} ${a.namespace ?? ''}/${a.name}`, `${b.kind} ${b.namespace ?? ''}/${b.name}`) ||
    compareText(first.direction ?? '', second.direction ?? '') ||
    (first.rule ?? -1) - (second.rule ?? -1)
  )
}
