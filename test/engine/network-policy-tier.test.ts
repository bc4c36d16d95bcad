import t from 'tap'
import { shop } from '../fixtures/shop.ts'
import { ask, policyLine, worldOf } from '../fixtures/world.ts'

/** One policy `shop/p`, and what it makes of a connection. */
type Case = readonly [rule: string, spec: string, from: string, to: string, verdict: 'allow' | 'deny']

function testCases(name: string, cases: readonly Case[]): void {
  t.test(name, async (t) => {
    for (const [rule, spec, from, to, verdict] of cases) {
      const world = worldOf(shop + policyLine('shop/p', spec))
      t.equal(ask(world, from, to).verdict, verdict, `${rule}: ${from} -> ${to}`)
    }
  })
}

const onDb = 'podSelector: {matchLabels: {app: db}}'
const onWeb = 'podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]'

testCases('isolation', [
  ['ingress: [] allows nothing', `${onDb}, ingress: []`, 'shop/web', 'shop/db:5432', 'deny'],
  ['null ingress allows nothing', `${onDb}, ingress: null`, 'shop/web', 'shop/db:5432', 'deny'],
  ['missing ingress allows nothing', onDb, 'shop/web', 'shop/db:5432', 'deny'],
  ['ingress: [{}] allows all', `${onDb}, ingress: [{}]`, '203.0.113.9', 'shop/db:1/udp', 'allow'],
  ['ingress: [{}] allows what has no ports', `${onDb}, ingress: [{}]`, 'shop/web', 'shop/db/icmp', 'allow'],
  ['missing egress allows nothing', onWeb, 'shop/web', 'shop/db:5432', 'deny'],
  ['egress: [{}] allows all', `${onWeb}, egress: [{}]`, 'shop/web', '203.0.113.9:1/sctp', 'allow'],
  ['the other direction is not isolated', onDb, 'shop/db', 'shop/web:80', 'allow'],
  ['nor is it by egress', onWeb, 'shop/db', 'shop/web:80', 'allow'],
  ['pods that no policy selects are not isolated', onDb, 'shop/db', 'shop/api:80', 'allow'],
  ['a policy selects in its own namespace only', 'podSelector: {}', 'shop/web', 'lab/web:80', 'allow'],
  ['an empty selector selects all pods there', 'podSelector: {}', 'lab/web', 'shop/api:80', 'deny'],
  ['rules outside policyTypes are ignored', `${onWeb}, ingress: []`, 'shop/db', 'shop/web:80', 'allow'],
  ['an egress accept does not open the ingress', 'podSelector: {}, egress: [{}]', 'shop/web', 'shop/db:1', 'deny'],
  [
    'the ingress accept does not open the egress',
    `podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}]`,
    'shop/web',
    'shop/db:1',
    'deny',
  ],
])

const sameNamespace = `${onDb}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]`
const anyNamespace = `${onDb}, ingress: [{from: [{namespaceSelector: {}}]}]`
const both = `${onDb}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: research}}, podSelector: {matchLabels: {app: web}}}]}]`
const either = `${onDb}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: research}}}, {podSelector: {matchLabels: {app: web}}}]}]`
const byName = `${onDb}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lab}}}]}]`

testCases('peers by labels', [
  ['podSelector alone means the own namespace', sameNamespace, 'shop/web', 'shop/db:1', 'allow'],
  ['and no other', sameNamespace, 'lab/web', 'shop/db:1', 'deny'],
  ['and the labels', sameNamespace, 'shop/api', 'shop/db:1', 'deny'],
  [
    'an empty podSelector means the own namespace',
    `${onDb}, ingress: [{from: [{podSelector: {}}]}]`,
    'lab/web',
    'shop/db:1',
    'deny',
  ],
  ['namespaceSelector: {} means all namespaces', anyNamespace, 'lab/batch', 'shop/db:1', 'allow'],
  ['the own one too', anyNamespace, 'shop/api', 'shop/db:1', 'allow'],
  ['but nobody outside', anyNamespace, '203.0.113.9', 'shop/db:1', 'deny'],
  ['nor a node', anyNamespace, 'node:n2', 'shop/db:1', 'deny'],
  ['nor a host-network pod', anyNamespace, '10.9.0.2', 'shop/db:1', 'deny'],
  [
    'an empty podSelector matches nobody outside',
    `${onDb}, ingress: [{from: [{podSelector: {}}]}]`,
    '203.0.113.9',
    'shop/db:1',
    'deny',
  ],
  ['both selectors of one peer must match', both, 'lab/web', 'shop/db:1', 'allow'],
  ['the labels are not enough', both, 'shop/web', 'shop/db:1', 'deny'],
  ['nor is the namespace', both, 'lab/batch', 'shop/db:1', 'deny'],
  ['two peers are alternatives: the first', either, 'lab/batch', 'shop/db:1', 'allow'],
  ['the second', either, 'shop/web', 'shop/db:1', 'allow'],
  ['neither', either, 'shop/api', 'shop/db:1', 'deny'],
  ['from: [] is no restriction', `${onDb}, ingress: [{from: []}]`, '203.0.113.9', 'shop/db:1', 'allow'],
  ['namespaces carry their name as a label', byName, 'lab/batch', 'shop/db:1', 'allow'],
  ['and no other name', byName, 'shop/web', 'shop/db:1', 'deny'],
  [
    'NotIn matches a missing key',
    `${onDb}, ingress: [{from: [{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}]}]`,
    'shop/web',
    'shop/db:1',
    'allow',
  ],
  [
    'egress peers are who is asked',
    `${onWeb}, egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]`,
    'shop/web',
    'shop/api:1',
    'allow',
  ],
  [
    'and nobody else',
    `${onWeb}, egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]`,
    'shop/web',
    'shop/db:1',
    'deny',
  ],
])

const blocks = (rule: string) => `${onDb}, ingress: [{from: [${rule}]}]`
const most = blocks('{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/28]}}')
const twoBlocks = blocks(
  '{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/28]}}, {ipBlock: {cidr: 203.0.113.0/29}}',
)
const everyIPv4 = blocks('{ipBlock: {cidr: 0.0.0.0/0}}')
const everyIPv6 = blocks("{ipBlock: {cidr: '::/0'}}")

testCases('peers by address', [
  ['an address in the block', most, '203.0.113.99', 'shop/db:1', 'allow'],
  ['an address outside', most, '198.51.100.1', 'shop/db:1', 'deny'],
  ['an excepted address', most, '203.0.113.9', 'shop/db:1', 'deny'],
  ['except narrows its own block only', twoBlocks, '203.0.113.7', 'shop/db:1', 'allow'],
  ['and goes on to narrow that', twoBlocks, '203.0.113.9', 'shop/db:1', 'deny'],
  ['a block matches pods too', blocks('{ipBlock: {cidr: 10.0.1.0/24}}'), 'lab/web', 'shop/db:1', 'allow'],
  ['and nodes', blocks('{ipBlock: {cidr: 10.9.0.2/32}}'), 'node:n2', 'shop/db:1', 'allow'],
  ['all of IPv4 is no IPv6', everyIPv4, '2001:db8::9', 'shop/db:1', 'deny'],
  ['all of IPv6 is no IPv4', everyIPv6, '203.0.113.9', 'shop/db:1', 'deny'],
  ['all of IPv6', everyIPv6, '2001:db8::9', 'shop/db:1', 'allow'],
  [
    'a pod is matched in the family of the connection',
    blocks("{ipBlock: {cidr: 'fd00::/16'}}"),
    'lab/web',
    'shop/db:1',
    'deny',
  ],
  ['and in that only', blocks("{ipBlock: {cidr: 'fd00::/16'}}"), 'lab/web', '[fd00::3]:1', 'allow'],
  [
    'an egress block is about the destination',
    `${onWeb}, egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]`,
    'shop/web',
    '203.0.113.9:1',
    'allow',
  ],
  [
    'and not about the source',
    `${onWeb}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/16}}]}]`,
    'shop/web',
    '203.0.113.9:1',
    'deny',
  ],
])
