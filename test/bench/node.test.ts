import t from 'tap'
import { judgeNode } from '../../bench/node.ts'

t.test('nobody may be asked about what is known, nor about probes; nothing may fail', async (t) => {
  const judged = (scenario: string, metric: string, value: number) =>
    judgeNode({ scenario: `bridge: ${scenario}`, metric, value, unit: '' })
  t.equal(judged('knp, new', 'pod to pod: queued per connection', 1), true)
  t.equal(judged('knp, new', 'pod to service: queued per connection', 0.99), false)
  t.equal(judged('knp, known', 'pod to pod: queued per connection', 0.001), false)
  t.equal(judged('no firewall', 'pod to pod: queued per connection', 0), true)
  t.equal(judged('knp, new', 'probe by the node: queued per connection', 1), false)
  t.equal(judged('knp, new', 'probe by the node: failures', 1), false)
  t.equal(judged('knp, new', 'pod to pod: p99', 1), undefined)
})
