import type { Finding } from '../finding.ts'
import { printable } from './printable.ts'

/** What `knp doctor` found, one line each, remedies below. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.flatMap(({ check, result, detail, remedy }) => [
    `${result.padEnd(4)}  ${check.padEnd(width)}  ${detail}`,
    ...(remedy === undefined ? [] : [`${' '.repeat(width + 8)}remedy: ${remedy}`]),
  ])
  const failed = findings.filter(({ result }) => result === 'fail').length
  const verdict = failed === 0 ? 'the firewall can enforce here' : `the firewall cannot enforce here: ${failed} missing`
  return printable(`${[...lines, '', verdict].join('\n')}\n`)
}
