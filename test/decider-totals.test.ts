import t from 'tap'
import { deciderTotals } from '../src/decider-totals.ts'

const web = { kind: 'NetworkPolicy', namespace: 'shop', name: 'web' }
const tenants = { kind: 'ClusterNetworkPolicy', name: 'tenants' }
const decisions = {
  asked: {
    tiers: [
      { direction: 'ingress', tier: 'Admin', verdict: 'deny', count: 2 },
      { direction: 'ingress', tier: 'Admin', verdict: 'audit', count: 1 },
      { direction: 'ingress', tier: 'NetworkPolicy', verdict: 'allow', count: 10 },
      { direction: 'egress', tier: 'NetworkPolicy', verdict: 'deny', count: 4 },
      { direction: 'none', tier: 'Default', verdict: 'allow', count: 5 },
      { direction: 'none', tier: 'Exempt', verdict: 'allow', count: 0 },
    ],
    policies: [
      { direction: 'ingress', tier: 'Admin', verdict: 'deny', count: 2, policy: tenants },
      { direction: 'ingress', tier: 'Admin', verdict: 'audit', count: 1, policy: tenants },
      { direction: 'ingress', tier: 'NetworkPolicy', verdict: 'allow', count: 10, policy: web },
      { direction: 'egress', tier: 'NetworkPolicy', verdict: 'deny', count: 3, policy: web },
    ],
  },
  remembered: {
    tiers: [{ direction: 'ingress', tier: 'NetworkPolicy', verdict: 'allow', count: 100 }],
    policies: [{ direction: 'ingress', tier: 'NetworkPolicy', verdict: 'allow', count: 100, policy: web }],
  },
} as const

t.test('policies, and tiers for the rest', async (t) => {
  t.same(deciderTotals(decisions, 10), [
    { tier: 'NetworkPolicy', policy: web, allowed: 110, denied: 3, audit: 0 },
    { tier: 'Default', allowed: 5, denied: 0, audit: 0 },
    { tier: 'Admin', policy: tenants, allowed: 0, denied: 2, audit: 1 },
    // Of a policy that is gone.
    { tier: 'NetworkPolicy', allowed: 0, denied: 1, audit: 0 },
  ])
})

t.test('at most so many', async (t) => {
  t.same(
    deciderTotals(decisions, 2).map(({ tier }) => tier),
    ['NetworkPolicy', 'Default'],
  )
})
