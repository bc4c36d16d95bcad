import { refName } from '../engine/objects.ts'
import type { LintFinding, Severity } from '../lint/finding.ts'
import { printable } from './printable.ts'

/** What `knp lint` found, one line each, then one that counts. @param policies how many policies were looked at */
export function formatLint(findings: readonly LintFinding[], policies: number): string {
  const { warnings, notes } = countsOf(findings)
  const found = [...counted(warnings, 'warning'), ...counted(notes, 'note')].join(', ') || 'no findings'
  const summary = `${found} in ${policies} ${policies === 1 ? 'policy' : 'policies'}`
  return printable(`${[...findings.map(formatFinding), summary].join('\n')}\n`)
}

/** `knp.lint/v1`, see docs/linting.md. */
export function lintJson(findings: readonly LintFinding[], policies: number): object {
  return {
    schema: 'knp.lint/v1',
    findings: findings.map(({ object, ...finding }) => {
      const { kind, namespace, name, file, line } = object
      return {
        ...finding,
        object: {
          kind,
          ...(namespace !== undefined && { namespace }),
          name,
          ...(file !== undefined && { file, line }),
        },
      }
    }),
    counts: { policies, ...countsOf(findings) },
  }
}

function formatFinding({ severity, object, direction, rule, ruleName, message, hint }: LintFinding): string {
  const place = object.file === undefined ? '' : `${object.file}:${object.line}: `
  const where = [
    `${object.kind} ${refName(object)}`,
    ...(rule === undefined ? [] : [`rule ${rule}`]),
    ...(ruleName === undefined ? [] : [`"${ruleName}"`]),
    ...(direction === undefined ? [] : [`(${direction})`]),
  ].join(' ')
  // A finding is one line, whatever its texts hold.
  return `${place}${severity}: ${where}: ${message}${hint === undefined ? '' : `; ${hint}`}`.replaceAll('\n', ' ')
}

function countsOf(findings: readonly LintFinding[]): { warnings: number; notes: number } {
  const count = (wanted: Severity) => findings.filter(({ severity }) => severity === wanted).length
  return { warnings: count('warning'), notes: count('note') }
}

function counted(count: number, noun: string): string[] {
  return count === 0 ? [] : [`${count} ${noun}${count === 1 ? '' : 's'}`]
}
