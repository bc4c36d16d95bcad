import t from 'tap'
import type { Policy } from '../../src/engine/policy.ts'
import { block, clusterPolicy, lintInput, networkPolicy, pods, podsMatch, port, rule } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const web = rule({ peers: [pods('app=web'), block('192.0.2.0/24')], ports: [port('80/TCP'), port('http/TCP')] })
const turned = rule({ peers: [block('192.0.2.0/24'), pods('app=web')], ports: [port('http/TCP'), port('80/TCP')] })
const all = rule()
const deny = rule({ action: 'Deny', peers: [pods('app=web', '')] })
const isFound = ['note shop/b: has the subjects and rules of NetworkPolicy shop/a']

const cases: readonly [rule: string, a: Policy, b: Policy, found: readonly string[]][] = [
  ['the same', networkPolicy('shop/a', { ingress: [web] }), networkPolicy('shop/b', { ingress: [web] }), isFound],
  [
    'in another order',
    networkPolicy('shop/a', { ingress: [web, all] }),
    networkPolicy('shop/b', { ingress: [all, turned] }),
    isFound,
  ],
  ['other rules', networkPolicy('shop/a', { ingress: [web] }), networkPolicy('shop/b', { ingress: [all] }), []],
  ['other directions', networkPolicy('shop/a', { ingress: [] }), networkPolicy('shop/b', { egress: [] }), []],
  [
    'no rule is not no isolation',
    networkPolicy('shop/a', { ingress: [all] }),
    networkPolicy('shop/b', { ingress: [all], egress: [] }),
    [],
  ],
  [
    'other subjects',
    networkPolicy('shop/a', { ingress: [] }),
    networkPolicy('shop/b', { ingress: [], subject: podsMatch('app=web') }),
    [],
  ],
  ['other namespaces', networkPolicy('shop/a', { ingress: [] }), networkPolicy('lab/b', { ingress: [] }), []],
  [
    'one is audited',
    networkPolicy('shop/a', { ingress: [] }),
    networkPolicy('shop/b', { ingress: [], isAudited: true }),
    [],
  ],
  [
    'no restriction is not nothing',
    networkPolicy('shop/a', { ingress: [all] }),
    networkPolicy('shop/b', { ingress: [rule({ peers: [] })] }),
    [],
  ],
  [
    'in a cluster tier whatever the priority',
    clusterPolicy('a', { ingress: [deny, all] }),
    clusterPolicy('b', { ingress: [deny, all], priority: 5 }),
    ['note b: has the subjects and rules of ClusterNetworkPolicy a'],
  ],
  [
    'where the order of rules counts',
    clusterPolicy('a', { ingress: [deny, all] }),
    clusterPolicy('b', { ingress: [all, deny] }),
    [],
  ],
]

t.test('duplicate-policy', async (t) => {
  for (const [name, a, b, expected] of cases) t.strictSame(found('duplicate-policy', lintInput([b, a])), expected, name)
})
