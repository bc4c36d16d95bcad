import t from 'tap'
import type { FlowEvent } from '../../src/flows/event.ts'
import { type FlowQuery, parseFlowQuery } from '../../src/flows/filter.ts'

const event: FlowEvent = {
  timeMs: 0,
  count: 1,
  verdict: 'deny',
  protocol: 17,
  source: { name: 'shop/web', address: '10.0.0.2', port: 40_000 },
  destination: { name: 'node:n1', address: 'fd00::3', port: 53 },
  hook: 'forward',
  decidedBy: {
    tier: 'NetworkPolicy',
    reason: '',
    policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-only' },
  },
  isRemembered: false,
  generation: 1,
}
const audited: FlowEvent = {
  ...event,
  verdict: 'allow',
  decidedBy: { tier: 'Default', reason: '' },
  audit: { verdict: 'deny', decidedBy: event.decidedBy },
}
const unreadable: FlowEvent = {
  timeMs: 0,
  count: 1,
  verdict: 'deny',
  protocol: 0,
  hook: 'forward',
  decidedBy: { tier: 'Unreadable', reason: '' },
  isRemembered: false,
  generation: 1,
}

const matching: readonly FlowQuery[] = [
  {},
  { verdict: 'deny' },
  { from: 'shop/web' },
  { from: 'shop/' },
  { from: '10.0.0.2' },
  { from: '10.0.0.0/8' },
  { to: 'node:n1' },
  { to: 'fd00:0::3' },
  { to: 'fd00::/16' },
  { port: '53' },
  { port: '53/UDP' },
  { policy: 'db-only' },
  { policy: 'shop/db-only' },
  { verdict: 'deny', from: 'shop/web', to: 'fd00::3', port: '53', policy: 'db-only' },
]
const others: readonly FlowQuery[] = [
  { verdict: 'allow' },
  { verdict: 'audit' },
  { from: 'shop/we' },
  { from: 'node:n1' },
  { from: 'sho/' },
  { from: '10.0.0.3' },
  { from: '11.0.0.0/8' },
  { to: '10.0.0.2' },
  { port: '54' },
  { port: '53/tcp' },
  { port: '40000' },
  { policy: 'only' },
  { policy: 'stock/db-only' },
  { verdict: 'deny', from: 'shop/api' },
]

t.test('a flow is matched by each thing that is asked', async (t) => {
  for (const query of matching) t.equal(parseFlowQuery(query).matches(event), true, JSON.stringify(query))
  for (const query of others) t.equal(parseFlowQuery(query).matches(event), false, JSON.stringify(query))
})

t.test('what is audited is allowed, and found by the policy that would deny it', async (t) => {
  for (const query of [{ verdict: 'audit' }, { verdict: 'allow' }, { policy: 'db-only' }] as const) {
    t.equal(parseFlowQuery(query).matches(audited), true, JSON.stringify(query))
  }
  t.equal(parseFlowQuery({ verdict: 'deny' }).matches(audited), false)
})

t.test('what could not be read has no ends', async (t) => {
  t.equal(parseFlowQuery({ verdict: 'deny' }).matches(unreadable), true)
  for (const query of [{ from: '0.0.0.0/0' }, { to: '::/0' }, { port: '0' }, { policy: 'db-only' }]) {
    t.equal(parseFlowQuery(query).matches(unreadable), false, JSON.stringify(query))
  }
})

t.test('what cannot be understood is refused', async (t) => {
  for (const [query, message] of [
    [{ from: 'web' }, /"web" is neither/],
    [{ to: 'a/b/c' }, /"a\/b\/c" is neither/],
    [{ from: '10.0.0.0/33' }, /neither/],
    [{ port: 'http' }, /port "http"/],
    [{ port: '53/icmp' }, /port/],
    [{ verdict: 'denied' as 'deny' }, /verdict "denied"/],
  ] as const) {
    t.throws(() => parseFlowQuery(query), { code: 'USAGE', message }, JSON.stringify(query))
  }
})
