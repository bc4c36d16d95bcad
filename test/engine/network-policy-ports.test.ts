import t from 'tap'
import { HOOK_FORWARD } from '../../src/engine/flow.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, packet, policyLine, worldOf } from '../fixtures/world.ts'

type Case = readonly [rule: string, spec: string, from: string, to: string, verdict: 'allow' | 'deny']

function testCases(name: string, cases: readonly Case[]): void {
  t.test(name, async (t) => {
    for (const [rule, spec, from, to, verdict] of cases) {
      const world = worldOf(shop + policyLine('shop/p', spec))
      t.equal(ask(world, from, to).verdict, verdict, `${rule}: ${from} -> ${to}`)
    }
  })
}

const onDb = (ports: string) => `podSelector: {matchLabels: {app: db}}, ingress: [{ports: [${ports}]}]`
const toAnyone = (ports: string) =>
  `podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [${ports}]}]`
const range = onDb('{port: 8000, endPort: 8003}')

testCases('ports', [
  ['a port', onDb('{port: 5432}'), 'shop/web', 'shop/db:5432', 'allow'],
  ['another port', onDb('{port: 5432}'), 'shop/web', 'shop/db:5433', 'deny'],
  ['TCP where no protocol is written', onDb('{port: 5432}'), 'shop/web', 'shop/db:5432/udp', 'deny'],
  ['a protocol is met exactly', onDb('{port: 5432, protocol: UDP}'), 'shop/web', 'shop/db:5432', 'deny'],
  ['SCTP', onDb('{port: 5432, protocol: SCTP}'), 'shop/web', 'shop/db:5432/sctp', 'allow'],
  ['endPort: the first', range, 'shop/web', 'shop/db:8000', 'allow'],
  ['endPort is inclusive', range, 'shop/web', 'shop/db:8003', 'allow'],
  ['endPort: one more', range, 'shop/web', 'shop/db:8004', 'deny'],
  ['endPort: one less', range, 'shop/web', 'shop/db:7999', 'deny'],
  ['ports: [{}] is every TCP port', onDb('{}'), 'shop/web', 'shop/db:65535', 'allow'],
  ['and no UDP port', onDb('{}'), 'shop/web', 'shop/db:65535/udp', 'deny'],
  ['a protocol alone is all of its ports', onDb('{protocol: UDP}'), 'shop/web', 'shop/db:1/udp', 'allow'],
  ['ports: [] is no restriction', onDb(''), 'shop/web', 'shop/db:1/udp', 'allow'],
  ['ports are alternatives', onDb('{port: 1}, {port: 2, protocol: UDP}'), 'shop/web', 'shop/db:2/udp', 'allow'],
  [
    'a rule with ports does not match ICMP',
    onDb('{}, {protocol: UDP}, {protocol: SCTP}'),
    'shop/web',
    'shop/db/icmp',
    'deny',
  ],
])

testCases('named ports', [
  ['the name of the destination', onDb('{port: sql}'), 'shop/web', 'shop/db:5432', 'allow'],
  ['not the number of another pod', onDb('{port: sql}'), 'shop/web', 'shop/db:6543', 'deny'],
  ['not the source', onDb('{port: sql}'), 'lab/web', 'shop/db:6543', 'deny'],
  ['the protocol must agree', onDb('{port: sql, protocol: UDP}'), 'shop/web', 'shop/db:5432/udp', 'deny'],
  ['and be the one asked', onDb('{port: dns, protocol: UDP}'), 'shop/web', 'shop/db:53', 'deny'],
  ['UDP', onDb('{port: dns, protocol: UDP}'), 'shop/web', 'shop/db:53/udp', 'allow'],
  ['one name for two protocols: TCP', onDb('{port: same}'), 'shop/web', 'shop/db:7001', 'allow'],
  ['one name for two protocols: not the other number', onDb('{port: same}'), 'shop/web', 'shop/db:7000', 'deny'],
  ['a name that no pod has matches nothing', onDb('{port: nothing}'), 'shop/web', 'shop/db:5432', 'deny'],
  ['egress: on each destination its own', toAnyone('{port: sql}'), 'shop/web', 'lab/web:6543', 'allow'],
  ['egress: not the number of another', toAnyone('{port: sql}'), 'shop/web', 'lab/web:5432', 'deny'],
  ['egress: a pod without the name', toAnyone('{port: sql}'), 'shop/web', 'shop/api:5432', 'deny'],
  ['never an address outside', toAnyone('{port: sql}'), 'shop/web', '203.0.113.9:5432', 'deny'],
  ['nor a node', toAnyone('{port: sql}'), 'shop/web', 'node:n2:5432', 'deny'],
])

const namedToBlock = (cidr: string) =>
  `podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: ${cidr}}}], ports: [{port: sql}]}]`

testCases('named ports at blocks', [
  [
    'on a block that covers a pod they are that pod’s',
    namedToBlock('10.0.0.0/16'),
    'shop/web',
    'shop/db:5432',
    'allow',
  ],
  ['of each its own', namedToBlock('10.0.0.0/16'), 'shop/web', 'lab/web:6543', 'allow'],
  ['and not of another', namedToBlock('10.0.0.0/16'), 'shop/web', 'lab/web:5432', 'deny'],
  [
    'on a block that covers nobody they are nothing',
    namedToBlock('203.0.113.0/24'),
    'shop/web',
    '203.0.113.9:5432',
    'deny',
  ],
  ['the block must match too', namedToBlock('10.0.1.0/24'), 'shop/web', 'shop/db:5432', 'deny'],
])

t.test('what has no ports is judged: rules with ports do not match, rules without do', async (t) => {
  const withPorts = worldOf(shop + policyLine('shop/p', onDb('{}, {protocol: UDP}, {protocol: SCTP}, {port: sql}')))
  const withPeers = worldOf(
    shop + policyLine('shop/p', 'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}]}]'),
  )
  for (const [name, protocol] of [
    ['ESP', 50],
    ['AH', 51],
    ['GRE', 47],
    ['ICMP', 1],
    ['number 0', 0],
  ] as const) {
    const flow = packet({ source: '10.0.0.1', destination: '10.0.0.3', protocol })
    t.equal(withPorts.compiled.engine.decide(flow, HOOK_FORWARD), 'deny', `${name}: ports`)
    t.equal(withPeers.compiled.engine.decide(flow, HOOK_FORWARD), 'accept', `${name}: peers`)
    const stranger = packet({ source: '10.0.1.1', destination: '10.0.0.3', protocol })
    t.equal(withPeers.compiled.engine.decide(stranger, HOOK_FORWARD), 'deny', `${name}: another peer`)
  }
})
