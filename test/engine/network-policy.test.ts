import t from 'tap'
import { formatBlock } from '../../src/engine/address.ts'
import { readNetworkPolicy } from '../../src/engine/network-policy.ts'
import { ObjectReader } from '../../src/engine/object-reader.ts'

function read(spec: unknown, metadata: object = { name: 'p' }) {
  return readNetworkPolicy(
    new ObjectReader({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }),
  )
}

const open = { action: 'Accept', ports: undefined, peers: undefined }

t.test('the namespace is default where none is written', async (t) => {
  t.equal(read({}).namespace, 'default')
  t.equal(read({}, { name: 'p', namespace: 'shop' }).namespace, 'shop')
})

t.test('directions', async (t) => {
  type Case = readonly [rule: string, spec: object, ingress: unknown, egress: unknown]
  const cases: readonly Case[] = [
    ['no policyTypes: ingress', {}, [], undefined],
    ['null policyTypes: ingress', { policyTypes: null }, [], undefined],
    ['empty policyTypes: ingress', { policyTypes: [] }, [], undefined],
    ['no policyTypes and an egress rule: both', { egress: [{}] }, [], [open]],
    ['no policyTypes and an empty egress: ingress alone', { egress: [] }, [], undefined],
    ['no policyTypes and ingress rules: ingress', { ingress: [{}] }, [open], undefined],
    ['Egress alone', { policyTypes: ['Egress'] }, undefined, []],
    ['rules outside policyTypes are ignored: ingress', { policyTypes: ['Egress'], ingress: [{}] }, undefined, []],
    ['rules outside policyTypes are ignored: egress', { policyTypes: ['Ingress'], egress: [{}] }, [], undefined],
    ['both written', { policyTypes: ['Ingress', 'Egress'], ingress: [{}], egress: null }, [open], []],
    ['null rules isolate', { policyTypes: ['Ingress'], ingress: null }, [], undefined],
  ]
  for (const [rule, spec, ingress, egress] of cases) {
    const policy = read(spec)
    t.same({ ingress: policy.ingress, egress: policy.egress }, { ingress, egress }, rule)
  }
})

function portsOf(...ports: unknown[]) {
  return read({ ingress: [{ ports }] }).ingress![0]!.ports
}

t.test('ports', async (t) => {
  const cases: readonly [rule: string, port: object, expected: object][] = [
    ['no protocol means TCP', { port: 80 }, { protocol: 6, first: 80, last: 80 }],
    ['null protocol means TCP', { port: 80, protocol: null }, { protocol: 6, first: 80, last: 80 }],
    ['UDP', { port: 53, protocol: 'UDP' }, { protocol: 17, first: 53, last: 53 }],
    ['SCTP', { port: 9, protocol: 'SCTP' }, { protocol: 132, first: 9, last: 9 }],
    ['{} means every TCP port', {}, { protocol: 6, first: 0, last: 65535 }],
    ['a protocol alone means all of its ports', { protocol: 'UDP' }, { protocol: 17, first: 0, last: 65535 }],
    ['endPort is the last one', { port: 80, endPort: 90 }, { protocol: 6, first: 80, last: 90 }],
    ['endPort may be the port', { port: 80, endPort: 80 }, { protocol: 6, first: 80, last: 80 }],
    ['a name', { port: 'http', protocol: 'UDP' }, { protocol: 17, portName: 'http' }],
  ]
  for (const [rule, port, expected] of cases) t.match(portsOf(port)![0], expected, rule)
  t.equal(portsOf(), undefined, 'an empty list is no restriction')
  t.equal(read({ ingress: [{ ports: null }] }).ingress![0]!.ports, undefined, 'null is no restriction')
})

t.test('peers', async (t) => {
  const peersOf = (...from: unknown[]) => read({ ingress: [{ from }] }).ingress![0]!.peers
  t.equal(peersOf(), undefined, 'an empty list is no restriction')
  t.same(peersOf({ podSelector: {} }), [
    { type: 'pods', namespaceSelector: undefined, podSelector: { requirements: [] } },
  ])
  const everywhere = [{ type: 'pods', namespaceSelector: { requirements: [] }, podSelector: { requirements: [] } }]
  t.same(peersOf({ namespaceSelector: {} }), everywhere)
  t.same(peersOf({ namespaceSelector: {}, podSelector: null, ipBlock: null }), everywhere, 'null is absent')
  const [block] = peersOf({ ipBlock: { cidr: '10.1.2.3/8', except: ['10.1.0.0/16', '10.2.0.0/16'] } })!
  if (block!.type !== 'block') throw new Error('an ipBlock is a block')
  t.same([block!.cidr, ...block!.except].map(formatBlock), ['10.0.0.0/8', '10.1.0.0/16', '10.2.0.0/16'])
})

const ingress = (rule: unknown) => ({ ingress: [rule] })
const port = (fields: object) => ingress({ ports: [fields] })
const from = (peer: unknown) => ingress({ from: [peer] })
const block = (cidr: unknown, ...except: unknown[]) => from({ ipBlock: { cidr, except } })

type Case = readonly [rule: string, spec: unknown, message: string | RegExp]

const refused: readonly Case[] = [
  ['no spec', undefined, 'spec is missing'],
  ['an unknown field of the spec', { podselector: {} }, /^spec\.podselector: unknown field "podselector"/],
  ['an unknown field of a rule', ingress({ form: [] }), /^spec\.ingress\[0\]\.form: unknown field/],
  ['`to` in an ingress rule', ingress({ to: [] }), /^spec\.ingress\[0\]\.to: unknown field/],
  ['`from` in an egress rule', { egress: [{ from: [] }] }, /^spec\.egress\[0\]\.from: unknown field/],
  ['an unknown field of a port', port({ ports: 80 }), /^spec\.ingress\[0\]\.ports\[0\]\.ports: unknown field/],
  [
    'an unknown field of a peer',
    from({ podSelectors: {} }),
    /^spec\.ingress\[0\]\.from\[0\]\.podSelectors: unknown field/,
  ],
  ['an unknown field of a block', from({ ipBlock: { cidr: '10.0.0.0/8', not: [] } }), /ipBlock\.not: unknown field/],
  ['a null rule', ingress(null), 'spec.ingress[0]: empty rule; write {} to allow everything'],
  ['an unknown direction', { policyTypes: ['ingress'] }, 'spec.policyTypes[0]: "ingress" is none of Ingress, Egress'],
  ['rules that are no list', { ingress: {} }, 'spec.ingress: expected a list, found a mapping'],
  ['an unknown protocol', port({ protocol: 'ICMP' }), /protocol: "ICMP" is none of TCP, UDP, SCTP$/],
  ['port 0', port({ port: 0 }), /ports\[0\]\.port: 0 is outside 1-65535$/],
  ['port 65536', port({ port: 65536 }), /ports\[0\]\.port: 65536 is outside 1-65535$/],
  ['a number as text', port({ port: '80' }), /port: "80" is neither a number nor a valid port name$/],
  ['a port name in capitals', port({ port: 'HTTP' }), /"HTTP" is neither a number nor a valid port name$/],
  ['a port name of 16 characters', port({ port: 'a'.repeat(16) }), /is neither a number nor a valid port name$/],
  ['a port name with two dashes in a row', port({ port: 'a--b' }), /is neither a number nor a valid port name$/],
  ['an empty port name', port({ port: '' }), /"" is neither a number nor a valid port name$/],
  ['endPort without a port', port({ endPort: 80 }), /endPort: endPort needs a port$/],
  ['endPort with a named port', port({ port: 'http', endPort: 80 }), /endPort: endPort needs a numeric port$/],
  ['endPort below the port', port({ port: 443, endPort: 80 }), /endPort: endPort 80 is below port 443$/],
  ['endPort above 65535', port({ port: 443, endPort: 65536 }), /endPort: 65536 is outside 1-65535$/],
  ['an empty peer', from({}), /from\[0\]: a peer needs podSelector, namespaceSelector or ipBlock/],
  ['a null peer', from(null), /from\[0\]: a peer needs podSelector, namespaceSelector or ipBlock/],
  [
    'a block beside a podSelector',
    from({ ipBlock: { cidr: '10.0.0.0/8' }, podSelector: {} }),
    /from\[0\]: ipBlock cannot stand beside/,
  ],
  [
    'a block beside a namespaceSelector',
    from({ ipBlock: { cidr: '10.0.0.0/8' }, namespaceSelector: {} }),
    /cannot stand beside/,
  ],
  ['a block without a cidr', from({ ipBlock: {} }), /ipBlock: cidr is missing$/],
  ['a cidr that is none', block('10.0.0.0'), /ipBlock\.cidr: "10\.0\.0\.0" is no CIDR such as/],
  ['an exception that is no CIDR', block('10.0.0.0/8', '10.1'), /except\[0\]: "10\.1" is no CIDR such as/],
  [
    'an exception outside',
    block('10.0.0.0/8', '11.0.0.0/16'),
    /except\[0\]: "11\.0\.0\.0\/16" is not a strict subset of 10\.0\.0\.0\/8$/,
  ],
  ['an exception as large as its block', block('10.0.0.0/8', '10.0.0.0/8'), /is not a strict subset of/],
  ['an exception larger than its block', block('10.1.0.0/16', '10.0.0.0/8'), /is not a strict subset of/],
  ['an exception of the other family', block('::/0', '10.0.0.0/8'), /is not a strict subset of ::\/0$/],
  [
    'an unknown operator',
    { podSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } },
    /^spec\.podSelector\.matchExpressions\[0\]\.operator:/,
  ],
  [
    'a bad label',
    from({ podSelector: { matchLabels: { a: 'b c' } } }),
    /podSelector\.matchLabels\.a: "b c" is no valid label value$/,
  ],
]

t.test('what the API refuses', async (t) => {
  for (const [rule, spec, message] of refused) t.throws(() => read(spec), { name: 'InvalidObject', message }, rule)
})
