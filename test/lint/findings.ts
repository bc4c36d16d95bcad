import type { LintFinding, LintInput } from '../../src/lint/finding.ts'
import { lint } from '../../src/lint/lint.ts'

/** `warning shop/db ingress 0: what is wrong`, of one check, without the hints. */
export function found(check: string, input: LintInput): string[] {
  return lint(input)
    .filter((finding) => finding.check === check)
    .map(oneLine)
}

function oneLine({ severity, object, direction, rule, message }: LintFinding): string {
  const name = object.namespace === undefined ? object.name : `${object.namespace}/${object.name}`
  const place = [severity, name, ...(direction ? [direction] : []), ...(rule === undefined ? [] : [rule])].join(' ')
  return `${place}: ${message}`
}
