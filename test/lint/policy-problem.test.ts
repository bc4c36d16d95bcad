import t from 'tap'
import { clusterPolicy, lintInput, networkPolicy, rule } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const reason = 'to[0] has the unknown field "services"'
const whole = 'spec.tier is missing; until it can be read its other rules deny everything'
const closed = { failsClosed: reason }

const input = lintInput([
  clusterPolicy('accept', { egress: [rule(), rule({ ...closed, name: 'svc', peers: [] })] }),
  clusterPolicy('deny', {
    ingress: [rule({ ...closed, action: 'Deny' })],
    problems: [`rule ingress[0] denies everything: ${reason}`, 'rule ingress[1] names a port that nodes never have'],
  }),
  clusterPolicy('whole', {
    ingress: [rule({ failsClosed: whole, action: 'Deny' }), rule({ failsClosed: whole, action: 'Deny' })],
    problems: [whole],
  }),
  networkPolicy('shop/old', { ingress: [], problems: ['its last good version is in force'] }),
  networkPolicy('shop/good', { ingress: [rule()] }),
])

t.test('policy-problem: what is not said of a rule', async (t) => {
  t.strictSame(found('policy-problem', input), [
    'warning deny: rule ingress[1] names a port that nodes never have',
    `warning whole: ${whole}`,
    'warning shop/old: its last good version is in force',
  ])
})
