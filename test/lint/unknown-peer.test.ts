import t from 'tap'
import { clusterPolicy, lintInput, networkPolicy, rule } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const reason = 'to[0] has a field "services" that is not known'

t.test('unknown-peer', async (t) => {
  const closed = { failsClosed: reason }
  const policies = [
    clusterPolicy('accept', { egress: [rule(), rule({ ...closed, name: 'svc', peers: [] })] }),
    clusterPolicy('deny', { ingress: [rule({ ...closed, action: 'Deny' })], problems: [`ingress rule 0: ${reason}`] }),
    networkPolicy('shop/old', { ingress: [], problems: ['its last good version is in force'] }),
    networkPolicy('shop/good', { ingress: [rule()] }),
  ]
  t.strictSame(found('unknown-peer', lintInput(policies)), [
    `warning accept egress 1: ${reason}: the rule matches nothing`,
    `warning deny ingress 0: ${reason}: the rule denies everything`,
    'warning shop/old: its last good version is in force',
  ])
})
