import t from 'tap'
import { formatBlock } from '../../src/engine/address.ts'
import { readClusterNetworkPolicy } from '../../src/engine/cluster-network-policy.ts'
import { unlimited } from '../../src/engine/cluster-policy-reader.ts'
import { InvalidObject, ObjectReader } from '../../src/engine/object-reader.ts'
import { ANY_PROTOCOL, type PeerMatch } from '../../src/engine/policy.ts'

const everything = { requirements: [] }
const base = { tier: 'Admin', priority: 10, subject: { namespaces: {} } }

function object(spec: unknown, metadata: object = { name: 'p' }) {
  return new ObjectReader({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata,
    spec,
  })
}

const read = (more: object) => readClusterNetworkPolicy(object({ ...base, ...more }))

t.test('the policy itself', async (t) => {
  t.same(readClusterNetworkPolicy(object(base)), {
    type: 'Policy',
    ref: { kind: 'ClusterNetworkPolicy', name: 'p' },
    tier: 'Admin',
    priority: 10,
    namespace: undefined,
    subject: { namespaceSelector: everything, podSelector: everything },
    ingress: undefined,
    egress: undefined,
    isAudited: false,
    problems: [],
  })
  t.equal(read({ tier: 'Baseline' }).tier, 'Baseline')
  t.equal(read({ priority: 0 }).priority, 0, 'the first priority')
  t.equal(read({ priority: 1000 }).priority, 1000, 'the last priority')
  t.match(read({ ingress: [], egress: null }), { ingress: undefined, egress: undefined }, 'a direction without rules')
  const status = new ObjectReader({ ...(object(base).value as object), status: { conditions: [] } })
  t.equal(readClusterNetworkPolicy(status).ref.name, 'p', 'a status is not looked at')
})

const requirement = (key: string, value: string) => ({ requirements: [{ key, operator: 'In', values: [value] }] })
const shop = { matchLabels: { team: 'shop' } }
const web = { matchLabels: { app: 'web' } }

t.test('subjects', async (t) => {
  const cases: readonly [rule: string, subject: object, expected: object][] = [
    ['namespaces', { namespaces: shop }, { namespaceSelector: requirement('team', 'shop'), podSelector: everything }],
    [
      'pods',
      { pods: { namespaceSelector: shop, podSelector: web } },
      { namespaceSelector: requirement('team', 'shop'), podSelector: requirement('app', 'web') },
    ],
    [
      'pods without a namespaceSelector are of every namespace',
      { pods: { podSelector: web } },
      { namespaceSelector: everything, podSelector: requirement('app', 'web') },
    ],
    [
      'null is absent',
      { pods: { podSelector: {} }, namespaces: null },
      { namespaceSelector: everything, podSelector: everything },
    ],
  ]
  for (const [rule, subject, expected] of cases) t.same(read({ subject }).subject, expected, rule)
})

t.test('rules', async (t) => {
  const from = [{ namespaces: {} }]
  const { ingress, egress, problems } = read({
    ingress: [
      { name: 'first', action: 'Pass', from },
      { name: '', action: 'Accept', from },
    ],
    egress: [{ action: 'Deny', to: from }],
  })
  const peers = [{ type: 'pods', namespaceSelector: everything, podSelector: everything }]
  t.same(ingress, [
    { name: 'first', action: 'Pass', ports: undefined, peers },
    { action: 'Accept', ports: undefined, peers },
  ])
  t.same(egress, [{ action: 'Deny', ports: undefined, peers }])
  t.same(problems, [])
  t.equal(read({ ingress: [{ name: '💡'.repeat(100), action: 'Pass', from }] }).ingress![0]!.name!.length, 200)
})

const withProtocols = (...protocols: unknown[]) => ({
  ingress: [{ action: 'Accept', from: [{ namespaces: {} }], protocols }],
})
const portsOf = (...protocols: unknown[]) => read(withProtocols(...protocols)).ingress![0]!.ports

t.test('protocols', async (t) => {
  const cases: readonly [rule: string, protocol: object, expected: object][] = [
    ['tcp', { tcp: { destinationPort: { number: 80 } } }, { protocol: 6, first: 80, last: 80 }],
    ['udp', { udp: { destinationPort: { number: 53 } } }, { protocol: 17, first: 53, last: 53 }],
    ['sctp', { sctp: { destinationPort: { number: 9 } } }, { protocol: 132, first: 9, last: 9 }],
    ['port 1', { tcp: { destinationPort: { number: 1 } } }, { protocol: 6, first: 1, last: 1 }],
    ['port 65535', { tcp: { destinationPort: { number: 65535 } } }, { protocol: 6, first: 65535, last: 65535 }],
    ['a range', { tcp: { destinationPort: { range: { start: 1, end: 2 } } } }, { protocol: 6, first: 1, last: 2 }],
    ['tcp: {} is any TCP port', { tcp: {} }, { protocol: 6, first: 0, last: 65535 }],
    ['udp without a port is any UDP port', { udp: { destinationPort: null } }, { protocol: 17, first: 0, last: 65535 }],
    [
      'a name, of whatever protocol',
      { destinationNamedPort: 'web' },
      { protocol: ANY_PROTOCOL, first: 0, last: 0, portName: 'web' },
    ],
  ]
  for (const [rule, protocol, expected] of cases) t.same(portsOf(protocol), [expected], rule)
  t.equal(portsOf(), undefined, 'an empty list is no restriction')
  t.equal(
    read({ ingress: [{ action: 'Deny', from: [{ namespaces: {} }], protocols: null }] }).ingress![0]!.ports,
    undefined,
    'null is no restriction',
  )
  t.equal(portsOf({ tcp: {} }, { udp: {} })!.length, 2)
})

const egress = (peer: unknown, action = 'Accept') => ({ egress: [{ action, to: [peer] }] })
const ingress = (peer: unknown, action = 'Accept') => ({ ingress: [{ action, from: [peer] }] })

t.test('peers', async (t) => {
  const pods = { pods: { namespaceSelector: shop, podSelector: web } }
  const podsMatch = {
    type: 'pods',
    namespaceSelector: requirement('team', 'shop'),
    podSelector: requirement('app', 'web'),
  }
  const cases: readonly [rule: string, peer: object, expected: readonly object[]][] = [
    ['namespaces', { namespaces: shop }, [{ ...podsMatch, podSelector: everything }]],
    ['pods', pods, [podsMatch]],
    ['pods of every namespace', { pods: { podSelector: web } }, [{ ...podsMatch, namespaceSelector: everything }]],
    ['null is absent', { ...pods, namespaces: null }, [podsMatch]],
  ]
  for (const [rule, peer, expected] of cases) {
    t.same(read(ingress(peer)).ingress![0]!.peers, expected, `from ${rule}`)
    t.same(read(egress(peer)).egress![0]!.peers, expected, `to ${rule}`)
  }
  t.same(read(egress({ nodes: shop })).egress![0]!.peers, [{ type: 'nodes', selector: requirement('team', 'shop') }])
  t.same(
    read(egress({ domainNames: ['Example.COM.', '*.b.Org', '_sip._tcp.example.com', 'a-b_c.d0'] })).egress![0]!.peers,
    ['example.com', '*.b.org', '_sip._tcp.example.com', 'a-b_c.d0'].map((pattern) => ({ type: 'domainName', pattern })),
    'names in lower case, without a trailing dot',
  )
  const blocks = read(egress({ networks: ['10.1.2.3/8', 'fd00::/8'] })).egress![0]!.peers!
  t.same(blocks.map(textOf), ['10.0.0.0/8', 'fd00::/8'], 'each network is a block')
  const both = read({ egress: [{ action: 'Deny', to: [{ networks: ['0.0.0.0/0'] }, pods] }] }).egress![0]!
  t.same(
    both.peers!.map(({ type }) => type),
    ['block', 'pods'],
    'in the order written',
  )
})

function textOf(peer: PeerMatch): string {
  return peer.type === 'block' && peer.except.length === 0 ? formatBlock(peer.cidr) : peer.type
}

type Closed = readonly [rule: string, spec: (action: string) => object, reason: string]

const pods = { podSelector: {} }
const closed: readonly Closed[] = [
  ['an empty peer', (a) => egress({}, a), 'spec.egress[0].to[0] is empty, or a newer version of the API filled it'],
  ['an empty peer of ingress', (a) => ingress({}, a), 'spec.ingress[0].from[0] is empty, or a newer'],
  ['a null peer', (a) => egress(null, a), 'spec.egress[0].to[0] is empty, or a newer'],
  ['a peer of null fields', (a) => egress({ pods: null }, a), 'spec.egress[0].to[0] is empty, or a newer'],
  ['an unknown field', (a) => egress({ services: {} }, a), 'spec.egress[0].to[0] has the unknown field "services"'],
  ['an unknown field of null', (a) => egress({ pods, services: null }, a), 'has the unknown field "services"'],
  ['an unknown field beside a known one', (a) => ingress({ pods, zone: 'a' }, a), 'has the unknown field "zone"'],
  [
    'an unknown field beside a value that is none',
    (a) => egress({ networks: ['everywhere'], zone: 'a' }, a),
    'has the unknown field "zone"',
  ],
  ['an unknown field of pods', (a) => ingress({ pods: { ...pods, ids: [] } }, a), 'unknown field "pods.ids"'],
  ['pods without what they need', (a) => ingress({ pods: { namespaces: {} } }, a), 'unknown field "pods.namespaces"'],
  [
    'an unknown field of a selector',
    (a) => egress({ namespaces: { sameLabels: ['team'] } }, a),
    'unknown field "namespaces.sameLabels"',
  ],
  ['an unknown field with a line end', (a) => egress({ 'a\nb': 1 }, a), 'unknown field "a\\nb"'],
  ['networks of an ingress rule', (a) => ingress({ networks: ['10.0.0.0/8'] }, a), 'the unknown field "networks"'],
  ['nodes of an ingress rule', (a) => ingress({ nodes: {} }, a), 'the unknown field "nodes"'],
  ['domainNames of an ingress rule', (a) => ingress({ domainNames: ['a.b'] }, a), 'the unknown field "domainNames"'],
  [
    'two known fields',
    (a) => egress({ namespaces: {}, nodes: {} }, a),
    'spec.egress[0].to[0] has namespaces and nodes, and a peer has one of them',
  ],
]

const ports = [{ tcp: { destinationPort: { number: 80 } } }]

/** The same rule with protocols and a peer that can be understood in front of the one that cannot. */
function amid(spec: object): object {
  return Object.fromEntries(
    Object.entries(spec).map(([direction, [rule]]) => {
      const field = direction === 'ingress' ? 'from' : 'to'
      return [direction, [{ ...rule, name: 'n', [field]: [{ namespaces: {} }, ...rule[field]], protocols: ports }]]
    }),
  )
}

t.test('an Accept rule with a peer that cannot be understood matches nothing', async (t) => {
  for (const [rule, spec, reason] of closed) {
    const policy = read(spec('Accept'))
    const [closedRule] = policy.ingress ?? policy.egress!
    t.match(closedRule, { action: 'Accept', peers: [] }, rule)
    t.same(closedRule!.peers, [], `${rule}: no peer`)
    t.ok(closedRule!.failsClosed!.includes(reason), `${rule}: ${closedRule!.failsClosed}`)
    const direction = policy.ingress ? 'ingress' : 'egress'
    t.same(policy.problems, [`rule ${direction}[0] matches nothing: ${closedRule!.failsClosed}`])
    const other = read(amid(spec('Accept')))
    t.same((other.ingress ?? other.egress)![0]!.peers, [], `${rule}, behind a peer that is understood`)
    t.match(other.problems, [`rule ${direction}[0] "n" matches nothing: `])
    t.equal(other.problems.length, 1)
  }
})

t.test('a Deny or Pass rule with a peer that cannot be understood denies everything', async (t) => {
  const names: Closed = [
    'domainNames, which only an Accept rule may have',
    (a) => egress({ domainNames: ['example.com'] }, a),
    'spec.egress[0].to[0] has domainNames, which only go with Accept',
  ]
  for (const action of ['Deny', 'Pass']) {
    for (const [rule, spec, reason] of [...closed, names]) {
      for (const written of [spec(action), amid(spec(action))]) {
        const policy = read(written)
        const [closedRule] = policy.ingress ?? policy.egress!
        const { failsClosed = '', name: _, ...inForce } = closedRule!
        t.same(inForce, { action: 'Deny', ports: undefined, peers: undefined }, `${action}: ${rule}`)
        t.ok(failsClosed.replace('[1] ', '[0] ').includes(reason), `${rule}: ${failsClosed}`)
        t.equal(policy.problems.length, 1)
        t.match(policy.problems[0], / denies everything: /)
      }
    }
  }
})

t.test('failing closed concerns the rule alone, and names every peer', async (t) => {
  const { egress, problems } = read({
    egress: [
      { action: 'Accept', to: [{ namespaces: {} }] },
      { name: 'odd\nname', action: 'Accept', to: [{ zone: 1 }, { nodes: {} }, {}] },
      { action: 'Pass', to: [{ namespaces: {} }] },
    ],
  })
  t.same(
    egress!.map(({ action, failsClosed }) => [action, failsClosed === undefined]),
    [
      ['Accept', true],
      ['Accept', false],
      ['Pass', true],
    ],
  )
  const reason =
    'spec.egress[1].to[0] has the unknown field "zone"; spec.egress[1].to[2] is empty, or a newer version of the API filled it'
  t.equal(egress![1]!.failsClosed, reason)
  t.same(problems, [`rule egress[1] "odd\\nname" matches nothing: ${reason}`])
})

t.test('a port name beside peers that name none', async (t) => {
  const named = [{ destinationNamedPort: 'web' }]
  for (const peer of [{ networks: ['10.0.0.0/8'] }, { nodes: {} }, { domainNames: ['a.b'] }]) {
    const policy = read({ egress: [{ action: 'Accept', to: [{ namespaces: {} }, peer], protocols: named }] })
    t.same(policy.problems, [
      'rule egress[0] names a port that its networks, nodes and domainNames never have: only pods name ports',
    ])
    t.equal(policy.egress![0]!.peers!.length, 2, 'it is in force')
  }
  t.same(read({ egress: [{ action: 'Accept', to: [{ namespaces: {} }], protocols: named }] }).problems, [])
  t.same(read({ egress: [{ action: 'Accept', to: [{ nodes: {} }], protocols: ports }] }).problems, [])
})

const repeat = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i))
const aRule = { action: 'Accept', from: [{ namespaces: {} }] }
const anEgressRule = { action: 'Accept', to: [{ namespaces: {} }] }

type Limit = readonly [what: string, spec: (count: number) => object, most: number, message: string]

const limits: readonly Limit[] = [
  ['ingress rules', (n) => ({ ingress: repeat(n, () => aRule) }), 25, 'spec.ingress: 26 rules, more than 25'],
  ['egress rules', (n) => ({ egress: repeat(n, () => anEgressRule) }), 25, 'spec.egress: 26 rules, more than 25'],
  [
    'peers of an ingress rule',
    (n) => ({ ingress: [{ ...aRule, from: repeat(n, () => ({ namespaces: {} })) }] }),
    25,
    'spec.ingress[0].from: 26 peers, more than 25',
  ],
  [
    'peers of an egress rule',
    (n) => ({ egress: [{ ...anEgressRule, to: repeat(n, () => ({ namespaces: {} })) }] }),
    25,
    'spec.egress[0].to: 26 peers, more than 25',
  ],
  [
    'protocols',
    (n) => withProtocols(...repeat(n, () => ({ tcp: {} }))),
    25,
    'spec.ingress[0].protocols: 26 protocols, more than 25',
  ],
  [
    'networks',
    (n) => egress({ networks: repeat(n, (i) => `10.${i}.0.0/16`) }),
    25,
    'spec.egress[0].to[0].networks: 26 networks, more than 25',
  ],
  [
    'domain names',
    (n) => egress({ domainNames: repeat(n, (i) => `n${i}.example.com`) }),
    25,
    'spec.egress[0].to[0].domainNames: 26 names, more than 25',
  ],
  [
    'characters of a rule name',
    (n) => ({ ingress: [{ ...aRule, name: 'n'.repeat(n) }] }),
    100,
    'spec.ingress[0].name: 101 characters, more than 100',
  ],
]

t.test('limits', async (t) => {
  for (const [what, spec, most, message] of limits) {
    t.same(read(spec(most)).problems, [], `${most} ${what}`)
    t.throws(() => read(spec(most + 1)), { name: 'InvalidObject', message }, `${most + 1} ${what}`)
    const from = object({ ...base, ...spec(most + 1) })
    t.same(readClusterNetworkPolicy(from, unlimited).problems, [], `${what} without limits`)
  }
})

const rule = (fields: object) => ({ ingress: [{ ...aRule, ...fields }] })
const port = (destinationPort: unknown) => withProtocols({ tcp: { destinationPort } })
const range = (start: unknown, end: unknown) => port({ range: { start, end } })
const network = (text: unknown) => egress({ networks: [text] })
const domain = (text: unknown) => egress({ domainNames: [text] })
const inPort = 'spec.ingress[0].protocols[0].tcp.destinationPort'

type Refused = readonly [rule: string, spec: object, message: string | RegExp]

const refused: readonly Refused[] = [
  ['an unknown field of the spec', { order: 1 }, /^spec\.order: unknown field "order"/],
  ['no tier', { tier: undefined }, 'spec.tier: expected a string, found nothing'],
  ['an unknown tier', { tier: 'NetworkPolicy' }, 'spec.tier: "NetworkPolicy" is none of Admin, Baseline'],
  ['no priority', { priority: null }, 'spec.priority: expected an integer, found nothing'],
  ['no priority in the Baseline tier', { tier: 'Baseline', priority: null }, /^spec\.priority: expected an integer/],
  ['a priority below 0', { priority: -1 }, 'spec.priority: -1 is outside 0-1000'],
  ['a priority above 1000', { priority: 1001 }, 'spec.priority: 1001 is outside 0-1000'],
  ['a fraction as priority', { priority: 1.5 }, 'spec.priority: expected an integer, found 1.5'],
  ['no subject', { subject: undefined }, /^spec\.subject: a subject has exactly one of namespaces and pods/],
  ['an empty subject', { subject: {} }, /^spec\.subject: a subject has exactly one of namespaces and pods/],
  ['two subjects', { subject: { namespaces: {}, pods } }, /^spec\.subject: a subject has exactly one of/],
  ['an unknown subject', { subject: { nodes: {} } }, /^spec\.subject\.nodes: unknown field "nodes"/],
  ['an unknown field beside the subject', { subject: { namespaces: {}, vms: {} } }, /^spec\.subject\.vms: unknown/],
  ['a subject without podSelector', { subject: { pods: {} } }, /^spec\.subject\.pods: podSelector is missing/],
  ['an unknown field of the subject', { subject: { pods: { ...pods, a: 1 } } }, /^spec\.subject\.pods\.a: unknown/],
  [
    'a selector of the subject',
    { subject: { namespaces: { matchExpressions: [{ key: 'a', operator: 'Is' }] } } },
    /^spec\.subject\.namespaces\.matchExpressions\[0\]\.operator: "Is" is none of/,
  ],
  ['rules that are no list', { ingress: {} }, 'spec.ingress: expected a list, found a mapping'],
  ['no action', rule({ action: null }), 'spec.ingress[0]: action is missing'],
  ['an unknown action', rule({ action: 'Log' }), 'spec.ingress[0].action: "Log" is none of Accept, Deny, Pass'],
  ["the older API's action", rule({ action: 'Allow' }), /^spec\.ingress\[0\]\.action: "Allow" is none of/],
  ['a null rule', { ingress: [null] }, 'spec.ingress[0]: action is missing'],
  ['an unknown field of a rule', rule({ log: true }), /^spec\.ingress\[0\]\.log: unknown field "log"/],
  ['`to` in an ingress rule', rule({ to: [{ namespaces: {} }] }), /^spec\.ingress\[0\]\.to: unknown field/],
  ['`from` in an egress rule', { egress: [aRule] }, /^spec\.egress\[0\]\.from: unknown field/],
  ["the older API's ports", rule({ ports: [] }), /^spec\.ingress\[0\]\.ports: unknown field/],
  ['a name that is none', rule({ name: 7 }), 'spec.ingress[0].name: expected a string, found 7'],
  ['no peers', rule({ from: undefined }), 'spec.ingress[0]: from is missing: a rule names at least one peer'],
  ['an empty list of peers', rule({ from: [] }), 'spec.ingress[0]: from is missing: a rule names at least one peer'],
  ['no peers of an egress rule', { egress: [{ action: 'Deny' }] }, /^spec\.egress\[0\]: to is missing/],
  ['a peer that is no mapping', ingress('all'), 'spec.ingress[0].from[0]: expected a mapping, found "all"'],
  ['pods without podSelector', ingress({ pods: {} }), /^spec\.ingress\[0\]\.from\[0\]\.pods: podSelector is missing/],
  [
    'a peer with a bad label',
    ingress({ namespaces: { matchLabels: { a: 'b c' } } }),
    /from\[0\]\.namespaces\.matchLabels\.a: "b c" is no valid label value$/,
  ],
  ['no networks', egress({ networks: [] }), /to\[0\]\.networks: an empty list; name at least one$/],
  ['an address', network('10.0.0.1'), /networks\[0\]: "10\.0\.0\.1" is no CIDR such as/],
  ['a prefix too long', network('10.0.0.0/33'), /networks\[0\]: "10\.0\.0\.0\/33" is no CIDR such as/],
  ['a network that is no text', network(10), /networks\[0\]: expected a string, found 10$/],
  [
    'IPv4 in IPv6 notation',
    network('::ffff:10.0.0.0/104'),
    /networks\[0\]: "::ffff:10\.0\.0\.0\/104" is an IPv4 block in IPv6 notation/,
  ],
  [
    'more text than the longest CIDR',
    network('1111:2222:3333:4444:5555:6666:100.100.100.100/128'),
    /networks\[0\]: ".+" is longer than 43 characters$/,
  ],
  ['a network twice', egress({ networks: ['10.0.0.0/8', '10.0.0.0/8'] }), /\[1\]: "10\.0\.0\.0\/8" is listed twice$/],
  ['no domain names', egress({ domainNames: [] }), /domainNames: an empty list; name at least one$/],
  ['a domain name twice', egress({ domainNames: ['a.b', 'a.b'] }), /domainNames\[1\]: "a\.b" is listed twice$/],
  ['a name of one label', domain('localhost'), /domainNames\[0\]: "localhost" is no domain name such as example\.com/],
  ['a wildcard over one label', domain('*.com'), /"\*\.com" is no domain name/],
  ['a wildcard alone', domain('*'), /"\*" is no domain name/],
  ['a wildcard inside', domain('a.*.com'), /is no domain name/],
  ['a part of a label as wildcard', domain('*a.example.com'), /is no domain name/],
  ['an empty label', domain('a..com'), /is no domain name/],
  ['two trailing dots', domain('a.com..'), /is no domain name/],
  ['a label that begins with a dash', domain('-a.com'), /is no domain name/],
  ['a label that ends with a dash', domain('a-.com'), /is no domain name/],
  ['punctuation', domain('[a].com'), /is no domain name/],
  ['a line end', domain('a.com\n'), /is no domain name/],
  ['a domain name in a Deny rule that is none', egress({ domainNames: ['a'] }, 'Deny'), /"a" is no domain name/],
  [
    'an empty protocol',
    withProtocols({}),
    /protocols\[0\]: a protocol has exactly one of tcp, udp, sctp, destinationN/,
  ],
  ['a null protocol', withProtocols(null), /protocols\[0\]: a protocol has exactly one of/],
  ['tcp: null', withProtocols({ tcp: null }), /protocols\[0\]: a protocol has exactly one of/],
  ['two protocols in one', withProtocols({ tcp: {}, udp: {} }), /protocols\[0\]: a protocol has exactly one of/],
  ['an unknown protocol', withProtocols({ icmp: {} }), /protocols\[0\]\.icmp: unknown field "icmp"/],
  ['a protocol in capitals', withProtocols({ TCP: {} }), /protocols\[0\]\.TCP: unknown field/],
  ['an unknown field of tcp', withProtocols({ tcp: { sourcePort: {} } }), /tcp\.sourcePort: unknown field/],
  ['an empty port name', withProtocols({ destinationNamedPort: '' }), /destinationNamedPort: an empty port name$/],
  ['a number as port name', withProtocols({ destinationNamedPort: 80 }), /expected a string, found 80$/],
  ['an empty port', port({}), `${inPort}: a port has exactly one of number and range`],
  ['a number and a range', port({ number: 1, range: { start: 1, end: 2 } }), /a port has exactly one of number and/],
  ['a port that is a number', port(80), `${inPort}: expected a mapping, found 80`],
  ['an unknown field of a port', port({ name: 'web' }), /destinationPort\.name: unknown field/],
  ['port 0', port({ number: 0 }), `${inPort}.number: 0 is outside 1-65535`],
  ['port 65536', port({ number: 65536 }), `${inPort}.number: 65536 is outside 1-65535`],
  ['a range of one', range(80, 80), `${inPort}.range: start 80 is not below end 80`],
  ['a range backwards', range(81, 80), `${inPort}.range: start 81 is not below end 80`],
  ['a range from 0', range(0, 80), `${inPort}.range.start: 0 is outside 1-65535`],
  ['a range beyond the last port', range(1, 65536), `${inPort}.range.end: 65536 is outside 1-65535`],
  ['a range without an end', range(1, null), `${inPort}.range.end: expected an integer, found nothing`],
  ['a range without a start', range(null, 1), `${inPort}.range.start: expected an integer, found nothing`],
  ['an unknown field of a range', port({ range: { start: 1, end: 2, step: 2 } }), /range\.step: unknown field/],
]

t.test('what is refused', async (t) => {
  for (const [rule, more, message] of refused) {
    t.throws(() => read(more), InvalidObject, rule)
    t.throws(() => read(more), { message }, rule)
  }
  t.throws(() => readClusterNetworkPolicy(object(undefined)), { message: 'spec is missing' })
  t.throws(() => readClusterNetworkPolicy(object(base, { name: 'p', namespace: 'shop' })), {
    message: 'metadata.namespace: a ClusterNetworkPolicy has no namespace',
  })
  const unknown = new ObjectReader({ ...(object(base).value as object), rules: [] })
  t.throws(() => readClusterNetworkPolicy(unknown), { message: /^rules: unknown field "rules"/ })
})

t.test('audit', async (t) => {
  const audited = (annotations: unknown) => readClusterNetworkPolicy(object(base, { name: 'p', annotations })).isAudited
  t.equal(audited({ 'knp.dev/mode': 'audit' }), true)
  t.equal(audited({ 'knp.dev/mode': 'enforce' }), false)
  t.equal(audited({ 'knp.dev/mode': null, 'example.com/mode': 'audit', other: 7 }), false, 'others are ignored')
  for (const mode of ['Audit', '', 'off']) {
    t.throws(() => audited({ 'knp.dev/mode': mode }), {
      name: 'InvalidObject',
      message: `metadata.annotations.knp.dev/mode: "${mode}" is none of enforce, audit`,
    })
  }
  t.throws(() => audited({ 'knp.dev/mode': true }), { message: /expected a string, found true$/ })
  t.throws(() => audited([]), { message: 'metadata.annotations: expected a mapping, found a list' })
})
