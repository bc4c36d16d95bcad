import t from 'tap'
import type { LintFinding } from '../../src/lint/finding.ts'
import { formatLint, lintJson } from '../../src/output/lint.ts'

const object = { kind: 'NetworkPolicy', namespace: 'shop', name: 'db', file: 'p/db.yaml', line: 4 }
const findings: readonly LintFinding[] = [
  { check: 'selects-nothing', severity: 'warning', object, message: 'selects nothing', hint: 'correct it' },
  { check: 'shadowed-rule', severity: 'note', object, direction: 'ingress', rule: 1, message: 'adds nothing' },
  {
    check: 'unknown-peer',
    severity: 'warning',
    object: { kind: 'ClusterNetworkPolicy', name: 'tenants' },
    direction: 'egress',
    rule: 0,
    ruleName: 'to\u001b all',
    message: 'a\nb',
  },
]

t.test('as text', async (t) => {
  t.equal(
    formatLint(findings, 2),
    [
      'p/db.yaml:4: warning: NetworkPolicy shop/db: selects nothing; correct it',
      'p/db.yaml:4: note: NetworkPolicy shop/db rule 1 (ingress): adds nothing',
      'warning: ClusterNetworkPolicy tenants rule 0 "to\\u{1b} all" (egress): a b',
      '2 warnings, 1 note in 2 policies',
      '',
    ].join('\n'),
  )
  t.equal(formatLint([], 1), 'no findings in 1 policy\n')
  t.match(formatLint(findings.slice(0, 1), 1), /\n1 warning in 1 policy\n$/)
  t.match(formatLint([findings[1]!, findings[1]!], 3), /\n2 notes in 3 policies\n$/)
})

t.test('as JSON', async (t) => {
  t.strictSame(JSON.parse(JSON.stringify(lintJson(findings, 2))), {
    schema: 'knp.lint/v1',
    findings: [
      { check: 'selects-nothing', severity: 'warning', object, message: 'selects nothing', hint: 'correct it' },
      { check: 'shadowed-rule', severity: 'note', object, direction: 'ingress', rule: 1, message: 'adds nothing' },
      {
        check: 'unknown-peer',
        severity: 'warning',
        object: { kind: 'ClusterNetworkPolicy', name: 'tenants' },
        direction: 'egress',
        rule: 0,
        ruleName: 'to\u001b all',
        message: 'a\nb',
      },
    ],
    counts: { policies: 2, warnings: 2, notes: 1 },
  })
})
