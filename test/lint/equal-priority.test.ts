import t from 'tap'
import type { Policy } from '../../src/engine/policy.ts'
import { clusterPolicy, lintInput, networkPolicy, podsMatch, rule, workload } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const workloads = [workload('shop/db', 'app=db'), workload('shop/web', 'app=web'), workload('lab/web', 'app=web')]
const allow = { ingress: [rule()] }
const db = podsMatch('app=db', '')
const web = podsMatch('app=web', '')
const suffix = 'here the name decides which is asked first, elsewhere nothing does'

const cases: readonly [rule: string, policies: readonly Policy[], found: readonly string[]][] = [
  [
    'equal ones about one workload',
    [clusterPolicy('b', { ...allow, priority: 7, subject: db }), clusterPolicy('a', { ...allow, priority: 7 })],
    [
      `warning b ingress: has the priority of ClusterNetworkPolicy a (Admin tier, 7), and all are about shop/db: ${suffix}`,
    ],
  ],
  [
    'of several kinds',
    [clusterPolicy('a', allow), clusterPolicy('b', { ...allow, kind: 'AdminNetworkPolicy' })],
    [
      `warning a ingress: has the priority of AdminNetworkPolicy b (Admin tier, 0), and all are about shop/db, shop/web, lab/web: ${suffix}`,
    ],
  ],
  ['other priorities', [clusterPolicy('a', allow), clusterPolicy('b', { ...allow, priority: 1 })], []],
  ['other tiers', [clusterPolicy('a', allow), clusterPolicy('b', { ...allow, tier: 'Baseline' })], []],
  [
    'other workloads',
    [clusterPolicy('a', { ...allow, subject: db }), clusterPolicy('b', { ...allow, subject: web })],
    [],
  ],
  ['other directions', [clusterPolicy('a', allow), clusterPolicy('b', { egress: [rule()], ingress: [] })], []],
  ['NetworkPolicies have no order', [networkPolicy('shop/a', allow), networkPolicy('shop/b', allow)], []],
  [
    'each is told of those before it',
    ['a', 'b', 'c'].map((name) => clusterPolicy(name, { ...allow, subject: db })),
    [
      `warning b ingress: has the priority of ClusterNetworkPolicy a (Admin tier, 0), and all are about shop/db: ${suffix}`,
      `warning c ingress: has the priority of ClusterNetworkPolicy a, ClusterNetworkPolicy b (Admin tier, 0), and all are about shop/db: ${suffix}`,
    ],
  ],
]

t.test('equal-priority', async (t) => {
  for (const [name, policies, expected] of cases)
    t.strictSame(found('equal-priority', lintInput(policies, { workloads })), expected, name)
})
