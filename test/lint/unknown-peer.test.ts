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

  networkPolicy('shop/good', { ingress: [rule()] }),
])

t.test('unknown-peer', async (t) => {
  t.strictSame(found('unknown-peer', input), [
    `warning accept egress 1: ${reason}: the rule matches nothing`,
    `warning deny ingress 0: ${reason}: the rule denies everything`,
  ])
})
