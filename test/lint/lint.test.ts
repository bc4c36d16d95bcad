import t from 'tap'
import { lint } from '../../src/lint/lint.ts'
import { lintInput, networkPolicy, pods, podsMatch, port, rule, workload } from '../fixtures/lint-input.ts'

const at = (name: string, file: string, line: number) => {
  const policy = networkPolicy(name, { subject: podsMatch('app=no'), ingress: [], problems: [name] })
  return { ...policy, ref: { ...policy.ref, file, line } }
}

t.test('findings are in the order of files and lines', async (t) => {
  const policies = [at('n/d', 'b.yaml', 1), at('n/a', 'a.yaml', 20), at('n/c', 'a.yaml', 3)]
  const findings = lint(lintInput(policies, { workloads: [workload('n/web', 'app=web')] }))
  t.strictSame(
    findings.map(({ check, object: { file, line } }) => `${file}:${line} ${check}`),
    [
      'a.yaml:3 selects-nothing',
      'a.yaml:3 policy-problem',
      'a.yaml:3 duplicate-policy',
      'a.yaml:20 selects-nothing',
      'a.yaml:20 policy-problem',
      'b.yaml:1 selects-nothing',
      'b.yaml:1 policy-problem',
      'b.yaml:1 duplicate-policy',
    ],
  )
})

t.test('the usual policies of a namespace are clean', async (t) => {
  const policies = [
    networkPolicy('shop/deny-all', { ingress: [], egress: [] }),
    networkPolicy('shop/dns', {
      egress: [
        rule({
          peers: [pods('k8s-app=kube-dns', 'kubernetes.io/metadata.name=kube-system')],
          ports: [port('53/UDP'), port('53/TCP')],
        }),
      ],
    }),
    networkPolicy('shop/web-to-db', {
      subject: podsMatch('app=web'),
      egress: [rule({ peers: [pods('app=db')], ports: [port('sql/TCP')] })],
    }),
    networkPolicy('shop/db-from-web', {
      subject: podsMatch('app=db'),
      ingress: [rule({ peers: [pods('app=web')], ports: [port('sql/TCP')] })],
    }),
  ]
  const workloads = [workload('shop/web', 'app=web'), workload('shop/db', 'app=db', { ports: ['sql:5432/TCP'] })]
  t.strictSame(lint(lintInput(policies, { workloads })), [])
  t.strictSame(lint(lintInput(policies)), [], 'without any workload too')
  t.strictSame(lint(lintInput([])), [])
})
