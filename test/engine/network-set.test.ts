import t from 'tap'
import { formatBlock, InvalidObject, ObjectReader, readNetworkSet } from '../../src/engine/index.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, hostLine, networkSetLine, policyLine, worldOf } from '../fixtures/world.ts'

const set = (spec: unknown, more: object = {}) =>
  new ObjectReader({
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'NetworkSet',
    metadata: { name: 'partners', namespace: 'shop', labels: { role: 'partner' } },
    spec,
    ...more,
  })

t.test('a NetworkSet', async (t) => {
  const { networks, labels, ...read } = readNetworkSet(set({ networks: ['203.0.113.0/24', '2001:db8::/32'] }))
  t.same(read, {
    type: 'NetworkSet',
    ref: { kind: 'NetworkSet', namespace: 'shop', name: 'partners' },
    namespace: 'shop',
  })
  t.same([...labels], [['role', 'partner']])
  t.same(networks.map(formatBlock), ['203.0.113.0/24', '2001:db8::/32'])
  t.same(readNetworkSet(set({})).networks, [], 'it may be empty')
  t.equal(readNetworkSet(new ObjectReader({ metadata: { name: 'a' } })).namespace, 'default')
})

t.test('what a NetworkSet may not be', async (t) => {
  const refused: readonly [rule: string, object: ObjectReader, message: string][] = [
    ['an unknown field', set({ nets: [] }), 'spec.nets: unknown field "nets"; known here: networks'],
    ['a status', set({}, { status: {} }), 'status: unknown field "status"'],
    ['networks that are no list', set({ networks: '0.0.0.0/0' }), 'spec.networks: expected a list, found "0.0.0.0/0"'],
    ['a spec that is no mapping', set([]), 'spec: expected a mapping, found a list'],
    [
      'an address',
      set({ networks: ['10.0.0.0/8', '203.0.113.9'] }),
      'spec.networks[1]: "203.0.113.9" is no CIDR such as 10.0.0.0/8 or fd00::/8',
    ],
    ['a name', set({ networks: ['example.com'] }), 'spec.networks[0]: "example.com" is no CIDR'],
    ['nothing', set({ networks: [null] }), 'spec.networks[0]: expected a string, found nothing'],
    ['a prefix too long', set({ networks: ['2001:db8::/129'] }), 'spec.networks[0]: "2001:db8::/129" is no CIDR'],
    [
      'a label that is none',
      set({}, { metadata: { name: 'a', labels: { 'a b': '' } } }),
      'metadata.labels.a b: "a b" is no valid label key',
    ],
    ['no name', set({}, { metadata: {} }), 'metadata: name is missing'],
  ]
  for (const [rule, object, message] of refused) {
    t.throws(() => readNetworkSet(object), InvalidObject, rule)
    t.throws(() => readNetworkSet(object), { message }, rule)
  }
})

const sets =
  networkSetLine('shop/partners', 'role: partner, tier: gold', "203.0.113.0/25, '2001:db8::/64'") +
  networkSetLine('shop/offices', 'role: office', '198.51.100.0/24, 203.0.113.64/26') +
  networkSetLine('lab/scanners', 'role: partner', '192.0.2.0/24') +
  networkSetLine('shop/inside', 'role: inside', "0.0.0.0/0, '::/0'")

type Case = readonly [rule: string, peer: string, from: string, verdict: 'allow' | 'deny']

function testCases(name: string, cases: readonly Case[]): void {
  t.test(name, async (t) => {
    for (const [rule, peer, from, verdict] of cases) {
      const policy = policyLine('shop/p', `podSelector: {matchLabels: {app: db}}, ingress: [{from: [${peer}]}]`)
      t.equal(ask(worldOf(shop + sets + policy), from, 'shop/db:1').verdict, verdict, `${rule}: ${from}`)
    }
  })
}

const partners = '{podSelector: {matchLabels: {role: partner}}}'
const expression = (text: string) => `{podSelector: {matchExpressions: [${text}]}}`
const notGold = expression(
  '{key: role, operator: In, values: [partner, office]}, {key: tier, operator: NotIn, values: [gold]}',
)
const inAll = (selector: string) => `{namespaceSelector: {}, podSelector: {${selector}}}`

testCases('which sets a peer names', [
  ['matchLabels ask for a label', partners, '203.0.113.9', 'allow'],
  ['and for its value', '{podSelector: {matchLabels: {role: other}}}', '203.0.113.9', 'deny'],
  ['outside the set', partners, '203.0.113.200', 'deny'],
  ['`In` asks for a label', expression('{key: role, operator: In, values: [partner, x]}'), '203.0.113.9', 'allow'],
  ['`In` of other values', expression('{key: role, operator: In, values: [x]}'), '203.0.113.9', 'deny'],
  ['`Exists` asks for a label', expression('{key: tier, operator: Exists}'), '203.0.113.9', 'allow'],
  ['`Exists` of a label that it has not', expression('{key: zone, operator: Exists}'), '203.0.113.9', 'deny'],
  ['`NotIn` asks for none', expression('{key: role, operator: NotIn, values: [x]}'), '203.0.113.9', 'deny'],
  ['`DoesNotExist` asks for none', expression('{key: zone, operator: DoesNotExist}'), '203.0.113.9', 'deny'],
  ['beside it, `NotIn` leaves sets out', notGold, '203.0.113.9', 'deny'],
  ['and lets others in', notGold, '203.0.113.65', 'allow'],
  [
    'all requirements must hold',
    '{podSelector: {matchLabels: {role: partner}, matchExpressions: [{key: tier, operator: DoesNotExist}]}}',
    '203.0.113.9',
    'deny',
  ],
  ['an empty selector names no set', '{podSelector: {}}', '203.0.113.9', 'deny'],
  ['nor does one of namespaces alone', '{namespaceSelector: {}}', '203.0.113.9', 'deny'],
  ['nor one of namespaces by their labels', '{namespaceSelector: {matchLabels: {team: sales}}}', '203.0.113.9', 'deny'],
  ['podSelector alone means sets of its own namespace', partners, '192.0.2.9', 'deny'],
  ['with namespaceSelector, of all it selects', inAll('matchLabels: {role: partner}'), '192.0.2.9', 'allow'],
  ['the own one too', inAll('matchLabels: {role: partner}'), '203.0.113.9', 'allow'],
  [
    'and of no others',
    '{namespaceSelector: {matchLabels: {team: research}}, podSelector: {matchLabels: {role: partner}}}',
    '203.0.113.9',
    'deny',
  ],
  [
    'namespaces are found by their labels',
    '{namespaceSelector: {matchLabels: {team: research}}, podSelector: {matchLabels: {role: partner}}}',
    '192.0.2.9',
    'allow',
  ],
  ['sets may overlap: the one', partners, '203.0.113.65', 'allow'],
  ['and the other', '{podSelector: {matchLabels: {role: office}}}', '203.0.113.65', 'allow'],
  ['each counts by its own labels', '{podSelector: {matchLabels: {role: office}}}', '203.0.113.9', 'deny'],
])

const inside = '{podSelector: {matchLabels: {role: inside}}}'

testCases('whose addresses a set holds', [
  ['those that nobody owns', inside, '203.0.113.200', 'allow'],
  ['nodes are plain addresses', inside, 'node:n2', 'allow'],
  ['host-network pods too', inside, '10.9.0.2', 'allow'],
  ['never a pod', inside, 'shop/web', 'deny'],
  ['never a pod of another namespace', inside, 'lab/web', 'deny'],
  ['by its address neither', inside, '10.0.0.1', 'deny'],
])

t.test('both families', async (t) => {
  const policy = policyLine('shop/p', `podSelector: {matchLabels: {app: db}}, ingress: [{from: [${partners}]}]`)
  const world = worldOf(shop + sets + policy)
  t.equal(ask(world, '2001:db8::9', '[fd00::3]:1').verdict, 'allow')
  t.equal(ask(world, '2001:db8:1::9', '[fd00::3]:1').verdict, 'deny')
  const short =
    networkSetLine('shop/all6', 'role: six', "'::/0'") + networkSetLine('shop/all4', 'role: four', '0.0.0.0/0')
  const by = (role: string) =>
    worldOf(
      shop +
        short +
        policyLine('shop/p', `podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {role: ${role}}}}]}]`),
    )
  t.equal(ask(by('six'), '203.0.113.9', 'shop/db:1').verdict, 'deny', 'all of IPv6 is no IPv4')
  t.equal(ask(by('four'), '2001:db8::9', '[fd00::3]:1').verdict, 'deny', 'all of IPv4 is no IPv6')
})

t.test('a host is no outside address, nor is what lies behind it', async (t) => {
  const host = hostLine('edge/web1', 'role: web', 'node: n7, addresses: [192.0.2.1], forwards: [172.17.0.0/16]')
  const policy = policyLine(
    'shop/p',
    `podSelector: {matchLabels: {app: db}}, ingress: [{from: [${inside}]}], egress: [{to: [${inside}]}]`,
  )
  const world = worldOf(shop + sets + host + policy)
  t.equal(ask(world, '192.0.2.1', 'shop/db:1').verdict, 'deny')
  t.equal(ask(world, '192.0.2.2', 'shop/db:1').verdict, 'allow')
  t.equal(ask(world, 'shop/db', '172.17.0.2:1').verdict, 'deny')
  t.equal(ask(world, 'shop/db', '172.18.0.2:1').verdict, 'allow')
})

t.test('egress, and ports beside it', async (t) => {
  const world = worldOf(
    shop +
      sets +
      policyLine(
        'shop/p',
        `podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [${partners}], ports: [{port: 443}]}]`,
      ),
  )
  t.match(ask(world, 'shop/db', '203.0.113.9:443'), { verdict: 'allow', decidedBy: { rule: 0 } })
  t.equal(ask(world, 'shop/db', '203.0.113.9:80').verdict, 'deny')
  t.equal(ask(world, 'shop/db', '203.0.113.200:443').verdict, 'deny')
})

t.test('a set is never a subject, and brings its namespace along', async (t) => {
  const far = networkSetLine('far/partners', 'role: partner', '203.0.113.0/24')
  const { snapshot, compiled } = worldOf(
    far + policyLine('far/deny-all', 'podSelector: {}, policyTypes: [Ingress, Egress]'),
    'n1',
  )
  t.same([...snapshot.namespaces.keys()], ['far'])
  t.match(compiled, { subjects: [], selectedWorkloads: 0 })
  const named = policyLine(
    'shop/p',
    'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: far}}, podSelector: {matchLabels: {role: partner}}}]}]',
  )
  t.equal(ask(worldOf(shop + far + named), '203.0.113.9', 'shop/db:1').verdict, 'allow')
})

t.test('what a denial says of sets', async (t) => {
  const cases: readonly [rule: string, peer: string, from: string, difference: string][] = [
    [
      'outside the set that is meant',
      partners,
      '203.0.113.200',
      'rule 0 allows port 1/tcp, peer 203.0.113.200 is outside NetworkSet shop/partners',
    ],
    [
      'outside several',
      inAll('matchLabels: {role: partner}'),
      '198.51.100.9',
      'rule 0 allows port 1/tcp, peer 198.51.100.9 is outside NetworkSet shop/partners, NetworkSet lab/scanners',
    ],
    ['no set is meant', '{podSelector: {}}', '203.0.113.9', 'rule 0 allows port 1/tcp, peer 203.0.113.9 is no pod'],
    ['a workload is told by its labels', inside, 'shop/web', 'rule 0 allows port 1/tcp, peer lacks role=inside'],
  ]
  for (const [rule, peer, from, difference] of cases) {
    const policy = policyLine('shop/p', `podSelector: {matchLabels: {app: db}}, ingress: [{from: [${peer}]}]`)
    const { verdict, nearest } = ask(worldOf(shop + sets + policy), from, 'shop/db:1')
    t.same({ verdict, difference: nearest?.difference }, { verdict: 'deny', difference }, rule)
  }
  const port = policyLine(
    'shop/p',
    `podSelector: {matchLabels: {app: db}}, ingress: [{from: [${partners}], ports: [{port: 9}]}]`,
  )
  t.equal(
    ask(worldOf(shop + sets + port), '203.0.113.9', 'shop/db:1').nearest?.difference,
    'rule 0 allows this peer on port 9/tcp, not on port 1/tcp',
    'inside the set only the port is wrong',
  )
})
