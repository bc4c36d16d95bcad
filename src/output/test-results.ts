import type { CheckResult, ExpectedDecider, TestResult } from '../connectivity-test.ts'
import type { DecidedBy } from '../engine/index.ts'
import { refName } from '../engine/objects.ts'
import { decidedByJson, formatDecision } from './decision.ts'
import { printable } from './printable.ts'

/** What failed and why, then one line that counts. @param brokenWorlds how many worlds could not be read */
export function formatTestResults(results: readonly TestResult[], brokenWorlds: number): string {
  const checks = results.flatMap((result) => result.checks)
  const undecided = checks.filter((result) => 'problem' in result).length
  const passed = checks.filter((result) => result.passed).length
  const failed = checks.length - passed - undecided
  const counts = [
    `${passed} of ${checks.length} checks passed`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(undecided > 0 ? [`${undecided} undecidable`] : []),
    ...(brokenWorlds > 0 ? [`${brokenWorlds} ${brokenWorlds === 1 ? 'world' : 'worlds'} could not be read`] : []),
  ]
  const failures = results.flatMap((result) =>
    result.checks.filter((check) => !check.passed).map((check) => `${formatFailure(result, check)}\n`),
  )
  return printable(`${[...failures, counts.join(', ')].join('\n')}\n`)
}

/** One line for each check that could not be decided. */
export function problemsOf(results: readonly TestResult[]): string[] {
  return results.flatMap((result) =>
    result.checks.flatMap((check) => ('problem' in check ? [`${placeOf(result, check)}: ${check.message}`] : [])),
  )
}

function formatFailure(result: TestResult, check: CheckResult): string {
  const { from, to, question, expect, decidedBy } = check.check
  const port = question.protocol === 'icmp' ? '' : `:${question.port}`
  const target = `${port !== '' && to.includes('::') ? `[${to}]` : to}${port}/${question.protocol}`
  const head = `${placeOf(result, check)}: ${refName(result.test.ref)}: ${from} -> ${target}`
  const expected = `  expected  ${expect}${decidedBy ? `, ${expectedText(decidedBy)}` : ''}`
  if ('problem' in check) {
    const word = check.problem === 'unknown' ? 'UNDECIDABLE' : 'INVALID'
    return `${word}  ${head}\n${expected}\n  but       ${check.message}`
  }
  const { verdict, decidedBy: actual } = check.decision
  const explanation = formatDecision(check.decision)
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`)
  return [`FAILED  ${head}`, expected, `  but       ${verdict}, ${deciderText(actual)}`, ...explanation].join('\n')
}

function placeOf({ test }: TestResult, { check }: CheckResult): string {
  return `${test.ref.file}:${check.line}`
}

function expectedText({ kind, namespace, name, rule, direction, tier }: ExpectedDecider): string {
  const parts = [
    ...(kind === undefined ? [] : [kind]),
    ...(namespace === undefined ? [] : [`namespace ${namespace}`]),
    ...(name === undefined ? [] : [`name ${name}`]),
    ...(rule === undefined ? [] : [`rule ${rule}`]),
    ...(direction === undefined ? [] : [direction]),
    ...(tier === undefined ? [] : [`tier ${tier}`]),
  ]
  return `decided by ${parts.join(', ')}`
}

function deciderText({ policy, rule, direction, tier }: DecidedBy): string {
  return expectedText({
    ...(policy && { kind: policy.kind, name: policy.name }),
    ...(policy?.namespace !== undefined && { namespace: policy.namespace }),
    ...(rule !== undefined && { rule }),
    ...(direction && { direction }),
    tier,
  })
}

/** `knp.test/v1`: a check that could not be decided has neither verdict nor `decidedBy`. */
export function testResultsJson(results: readonly TestResult[]): object {
  const checks = results.flatMap((result) => result.checks)
  const passed = checks.filter((check) => check.passed).length
  return {
    schema: 'knp.test/v1',
    passed,
    failed: checks.length - passed,
    tests: results.map((result) => ({
      name: result.test.ref.name,
      file: result.test.ref.file,
      checks: result.checks.map(checkJson),
    })),
  }
}

function checkJson(result: CheckResult): object {
  const { from, to, question, expect } = result.check
  return {
    from,
    to,
    protocol: question.protocol.toUpperCase(),
    port: question.protocol === 'icmp' ? null : question.port,
    expect,
    verdict: 'problem' in result ? null : result.decision.verdict,
    passed: result.passed,
    decidedBy: 'problem' in result ? null : decidedByJson(result.decision),
  }
}
