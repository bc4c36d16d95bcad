import t from 'tap'
import { readAdminNetworkPolicy, readBaselineAdminNetworkPolicy } from '../../src/engine/admin-network-policy.ts'
import { unlimited } from '../../src/engine/cluster-policy-reader.ts'
import { InvalidObject, ObjectReader } from '../../src/engine/object-reader.ts'
import { ANY_PROTOCOL, LAST_PRIORITY } from '../../src/engine/policy.ts'

const everything = { requirements: [] }

function object(kind: string, spec: unknown, metadata: object) {
  return new ObjectReader({ apiVersion: 'policy.networking.k8s.io/v1alpha1', kind, metadata, spec })
}

const admin = (more: object, metadata: object = { name: 'p' }) =>
  object('AdminNetworkPolicy', { priority: 10, subject: { namespaces: {} }, ...more }, metadata)
const baseline = (more: object, metadata: object = { name: 'default' }) =>
  object('BaselineAdminNetworkPolicy', { subject: { namespaces: {} }, ...more }, metadata)
const readAdmin = (more: object) => readAdminNetworkPolicy(admin(more))
const readBaseline = (more: object) => readBaselineAdminNetworkPolicy(baseline(more))

/** What holds for both kinds. */
const kinds = [
  { kind: 'AdminNetworkPolicy', read: readAdmin },
  { kind: 'BaselineAdminNetworkPolicy', read: readBaseline },
] as const

t.test('the policy itself', async (t) => {
  const policy = {
    type: 'Policy',
    ref: { kind: 'AdminNetworkPolicy', name: 'p' },
    tier: 'Admin',
    priority: 10,
    namespace: undefined,
    subject: { namespaceSelector: everything, podSelector: everything },
    ingress: undefined,
    egress: undefined,
    isAudited: false,
    problems: [],
  }
  t.same(readAdmin({}), policy)
  t.same(readBaseline({ ingress: [], egress: null }), {
    ...policy,
    ref: { kind: 'BaselineAdminNetworkPolicy', name: 'default' },
    tier: 'Baseline',
    priority: LAST_PRIORITY,
  })
  t.equal(readAdmin({ priority: 0 }).priority, 0)
  t.equal(readAdmin({ priority: 1000 }).priority, 1000)
  const audited = { name: 'default', annotations: { 'knp.dev/mode': 'audit' } }
  t.equal(readAdminNetworkPolicy(admin({}, audited)).isAudited, true)
  t.equal(readBaselineAdminNetworkPolicy(baseline({}, audited)).isAudited, true)
})

const from = [{ namespaces: {} }]

t.test('actions', async (t) => {
  const actionOf = (read: (more: object) => ReturnType<typeof readAdmin>, action: string) =>
    read({ ingress: [{ action, from }] }).ingress![0]!.action
  for (const { kind, read } of kinds) {
    t.equal(actionOf(read, 'Allow'), 'Accept', `${kind}: Allow`)
    t.equal(actionOf(read, 'Deny'), 'Deny', `${kind}: Deny`)
  }
  t.equal(actionOf(readAdmin, 'Pass'), 'Pass')
})

const shop = { matchLabels: { team: 'shop' } }
const web = { matchLabels: { app: 'web' } }
const shopMatch = { requirements: [{ key: 'team', operator: 'In', values: ['shop'] }] }
const webMatch = { requirements: [{ key: 'app', operator: 'In', values: ['web'] }] }

t.test('subjects and peers', async (t) => {
  const pods = { pods: { namespaceSelector: shop, podSelector: web } }
  for (const { kind, read } of kinds) {
    t.same(read({ subject: pods }).subject, { namespaceSelector: shopMatch, podSelector: webMatch }, `${kind}: subject`)
    const { ingress, egress } = read({
      ingress: [{ name: 'in', action: 'Allow', from: [{ namespaces: shop }, pods] }],
      egress: [{ action: 'Deny', to: [pods, { nodes: shop }, { networks: ['10.0.0.0/8', 'fd00::/8'] }] }],
    })
    t.same(
      ingress,
      [
        {
          name: 'in',
          action: 'Accept',
          ports: undefined,
          peers: [
            { type: 'pods', namespaceSelector: shopMatch, podSelector: everything },
            { type: 'pods', namespaceSelector: shopMatch, podSelector: webMatch },
          ],
        },
      ],
      `${kind}: ingress`,
    )
    t.match(
      egress![0]!.peers,
      [{ type: 'pods' }, { type: 'nodes', selector: shopMatch }, { type: 'block' }, { type: 'block' }],
      `${kind}: egress`,
    )
  }
  t.same(readAdmin({ egress: [{ action: 'Allow', to: [{ domainNames: ['*.A.b.'] }] }] }).egress![0]!.peers, [
    { type: 'domainName', pattern: '*.a.b' },
  ])
})

const withPorts = (...ports: unknown[]) => ({ ingress: [{ action: 'Allow', from, ports }] })

t.test('ports', async (t) => {
  const cases: readonly [rule: string, port: object, expected: object][] = [
    ['no protocol means TCP', { portNumber: { port: 80 } }, { protocol: 6, first: 80, last: 80 }],
    ['UDP', { portNumber: { protocol: 'UDP', port: 53 } }, { protocol: 17, first: 53, last: 53 }],
    ['SCTP', { portNumber: { protocol: 'SCTP', port: 9 } }, { protocol: 132, first: 9, last: 9 }],
    ['a range without a protocol is of TCP', { portRange: { start: 1, end: 9 } }, { protocol: 6, first: 1, last: 9 }],
    [
      'a range of UDP',
      { portRange: { protocol: 'UDP', start: 1, end: 65535 } },
      { protocol: 17, first: 1, last: 65535 },
    ],
    ['a range of one, which the CRD takes', { portRange: { start: 9, end: 9 } }, { protocol: 6, first: 9, last: 9 }],
    [
      'a name is of whatever protocol',
      { namedPort: 'web' },
      { protocol: ANY_PROTOCOL, first: 0, last: 0, portName: 'web' },
    ],
  ]
  for (const { kind, read } of kinds) {
    for (const [rule, port, expected] of cases) {
      t.same(read(withPorts(port)).ingress![0]!.ports, [expected], `${kind}: ${rule}`)
    }
    t.equal(read(withPorts()).ingress![0]!.ports, undefined, `${kind}: an empty list is no restriction`)
  }
})

t.test('a peer that cannot be understood makes its rule fail closed', async (t) => {
  const cases: readonly [rule: string, peer: unknown, reason: string][] = [
    ['an empty peer', {}, 'is empty, or a newer version of the API filled it'],
    ['an unknown field', { services: {} }, 'has the unknown field "services"'],
    ['an unknown field beside a known one', { namespaces: {}, zone: 1 }, 'has the unknown field "zone"'],
    ['two known fields', { namespaces: {}, nodes: {} }, 'has namespaces and nodes, and a peer has one of them'],
    [
      'namespaces as the first version of the API had them',
      { namespaces: { namespaceSelector: {} } },
      'has the unknown field "namespaces.namespaceSelector"',
    ],
    [
      'pods as the first version of the API had them',
      { pods: { namespaces: { namespaceSelector: {} }, podSelector: {} } },
      'has the unknown field "pods.namespaces"',
    ],
  ]
  const ports = [{ portNumber: { port: 80 } }]
  for (const { kind, read } of kinds) {
    for (const [rule, peer, what] of cases) {
      const failsClosed = `spec.egress[0].to[1] ${what}`
      const readRule = (action: string) => read({ egress: [{ action, to: [{ namespaces: {} }, peer], ports }] })
      const accept = readRule('Allow')
      const ports80 = [{ protocol: 6, first: 80, last: 80 }]
      t.same(accept.egress, [{ action: 'Accept', ports: ports80, peers: [], failsClosed }], `${kind}: ${rule}, Allow`)
      t.same(accept.problems, [`rule egress[0] matches nothing: ${failsClosed}`])
      for (const action of kind === 'AdminNetworkPolicy' ? ['Deny', 'Pass'] : ['Deny']) {
        const { egress, problems } = readRule(action)
        const denial = { action: 'Deny', ports: undefined, peers: undefined, failsClosed }
        t.same(egress, [denial], `${kind}: ${rule}, ${action}`)
        t.same(problems, [`rule egress[0] denies everything: ${failsClosed}`])
      }
    }
    for (const field of ['networks', 'nodes', 'domainNames']) {
      const { ingress } = read({ ingress: [{ action: 'Allow', from: [{ [field]: {} }] }] })
      t.match(ingress, [{ peers: [], failsClosed: `spec.ingress[0].from[0] has the unknown field "${field}"` }])
    }
  }
  const names = (action: string) => ({ egress: [{ action, to: [{ domainNames: ['a.b'] }] }] })
  for (const action of ['Deny', 'Pass']) {
    t.match(readAdmin(names(action)).egress, [
      { action: 'Deny', failsClosed: 'spec.egress[0].to[0] has domainNames, which only go with Allow' },
    ])
  }
  const ofBaseline = readBaseline(names('Allow')).egress![0]!
  t.same(ofBaseline.peers, [], 'the Baseline one knows no domain names')
  t.equal(ofBaseline.failsClosed, 'spec.egress[0].to[0] has the unknown field "domainNames"')
})

t.test('a port name beside peers that name none', async (t) => {
  for (const { read } of kinds) {
    const rule = (peer: object) => ({ egress: [{ action: 'Allow', to: [peer], ports: [{ namedPort: 'web' }] }] })
    t.match(read(rule({ nodes: {} })).problems, [/^rule egress\[0\] names a port that its networks, nodes and/])
    t.same(read(rule({ namespaces: {} })).problems, [])
  }
})

const repeat = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i))

t.test('limits', async (t) => {
  const rule = { action: 'Allow', from }
  const egressRule = { action: 'Allow', to: from }
  const to = (peer: object) => ({ egress: [{ action: 'Allow', to: [peer] }] })
  const limits: readonly [what: string, spec: (count: number) => object, most: number, message: string][] = [
    ['ingress rules', (n) => ({ ingress: repeat(n, () => rule) }), 100, 'spec.ingress: 101 rules, more than 100'],
    ['egress rules', (n) => ({ egress: repeat(n, () => egressRule) }), 100, 'spec.egress: 101 rules, more than 100'],
    [
      'peers of an ingress rule',
      (n) => ({ ingress: [{ ...rule, from: repeat(n, () => ({ namespaces: {} })) }] }),
      100,
      'spec.ingress[0].from: 101 peers, more than 100',
    ],
    [
      'peers of an egress rule',
      (n) => ({ egress: [{ ...egressRule, to: repeat(n, () => ({ namespaces: {} })) }] }),
      100,
      'spec.egress[0].to: 101 peers, more than 100',
    ],
    [
      'ports',
      (n) => withPorts(...repeat(n, () => ({ namedPort: 'web' }))),
      100,
      'spec.ingress[0].ports: 101 ports, more than 100',
    ],
    [
      'networks',
      (n) => to({ networks: repeat(n, (i) => `10.${i}.0.0/16`) }),
      25,
      'spec.egress[0].to[0].networks: 26 networks, more than 25',
    ],
    [
      'characters of a rule name',
      (n) => ({ ingress: [{ ...rule, name: 'n'.repeat(n) }] }),
      100,
      'spec.ingress[0].name: 101 characters, more than 100',
    ],
  ]
  for (const { kind, read } of kinds) {
    for (const [what, spec, most, message] of limits) {
      t.same(read(spec(most)).problems, [], `${kind}: ${most} ${what}`)
      t.throws(() => read(spec(most + 1)), { name: 'InvalidObject', message }, `${kind}: ${most + 1} ${what}`)
    }
  }
  const names = (n: number) => to({ domainNames: repeat(n, (i) => `n${i}.example.com`) })
  t.equal(readAdmin(names(25)).egress![0]!.peers!.length, 25)
  t.throws(() => readAdmin(names(26)), { message: 'spec.egress[0].to[0].domainNames: 26 names, more than 25' })
  const many = { ingress: repeat(101, () => rule) }
  t.equal(readAdminNetworkPolicy(admin(many), unlimited).ingress!.length, 101, 'an API server may take more')
  t.equal(readBaselineAdminNetworkPolicy(baseline(many), unlimited).ingress!.length, 101, 'an API server may take more')
})

t.test('what both refuse', async (t) => {
  const rule = (fields: object) => ({ ingress: [{ action: 'Allow', from, ...fields }] })
  const number = (fields: object) => withPorts({ portNumber: fields })
  const range = (fields: object) => withPorts({ portRange: fields })
  const port = 'spec.ingress[0].ports[0]'
  const refused: readonly [rule: string, spec: object, message: string | RegExp][] = [
    ['a tier', { tier: 'Admin' }, /^spec\.tier: unknown field "tier"/],
    ['no subject', { subject: null }, /^spec\.subject: a subject has exactly one of namespaces and pods/],
    ['two subjects', { subject: { namespaces: {}, pods: {} } }, /^spec\.subject: a subject has exactly one of/],
    ['an unknown subject', { subject: { nodes: {} } }, /^spec\.subject\.nodes: unknown field/],
    [
      'a subject without namespaceSelector',
      { subject: { pods: { podSelector: {} } } },
      'spec.subject.pods: namespaceSelector is missing; {} selects everything',
    ],
    [
      'a subject without podSelector',
      { subject: { pods: { namespaceSelector: {} } } },
      'spec.subject.pods: podSelector is missing; {} selects everything',
    ],
    [
      'a peer without namespaceSelector',
      rule({ from: [{ pods: { podSelector: {} } }] }),
      /from\[0\]\.pods: namespaceSelector is missing/,
    ],
    ['no action', rule({ action: null }), 'spec.ingress[0]: action is missing'],
    ["the newer API's action", rule({ action: 'Accept' }), /^spec\.ingress\[0\]\.action: "Accept" is none of Allow, /],
    ["the newer API's protocols", rule({ protocols: [] }), /^spec\.ingress\[0\]\.protocols: unknown field/],
    ['no peers', rule({ from: [] }), 'spec.ingress[0]: from is missing: a rule names at least one peer'],
    ['an empty port', withPorts({}), `${port}: a port has exactly one of portNumber, portRange, namedPort`],
    ['two ports in one', withPorts({ namedPort: 'a', portNumber: { port: 1 } }), /a port has exactly one of/],
    ['an unknown port', withPorts({ port: 80 }), /ports\[0\]\.port: unknown field/],
    ['an empty port name', withPorts({ namedPort: '' }), `${port}.namedPort: an empty port name`],
    ['an unknown protocol', number({ protocol: 'ICMP', port: 1 }), /protocol: "ICMP" is none of TCP, UDP, SCTP$/],
    ['an unknown protocol of a range', range({ protocol: 'tcp', start: 1, end: 2 }), /protocol: "tcp" is none of TCP/],
    ['no number', number({ protocol: 'TCP' }), `${port}.portNumber.port: expected an integer, found nothing`],
    ['port 0', number({ port: 0 }), `${port}.portNumber.port: 0 is outside 1-65535`],
    ['port 65536', number({ port: 65536 }), `${port}.portNumber.port: 65536 is outside 1-65535`],
    ['an unknown field of a port', number({ port: 1, name: 'a' }), /portNumber\.name: unknown field/],
    ['a range backwards', range({ start: 2, end: 1 }), `${port}.portRange: start 2 is above end 1`],
    ['a range from 0', range({ start: 0, end: 1 }), `${port}.portRange.start: 0 is outside 1-65535`],
    ['a range beyond the last port', range({ start: 1, end: 65536 }), /portRange\.end: 65536 is outside 1-65535$/],
    ['a range without an end', range({ start: 1 }), `${port}.portRange.end: expected an integer, found nothing`],
    ['an unknown field of a range', range({ start: 1, end: 2, step: 1 }), /portRange\.step: unknown field/],
  ]
  for (const { kind, read } of kinds) {
    for (const [rule, more, message] of refused) {
      t.throws(() => read(more), InvalidObject, `${kind}: ${rule}`)
      t.throws(() => read(more), { message }, `${kind}: ${rule}`)
    }
  }
})

t.test('what one refuses', async (t) => {
  t.throws(() => readAdmin({ priority: null }), { message: 'spec.priority: expected an integer, found nothing' })
  t.throws(() => readAdmin({ priority: -1 }), { message: 'spec.priority: -1 is outside 0-1000' })
  t.throws(() => readAdmin({ priority: 1001 }), { message: 'spec.priority: 1001 is outside 0-1000' })
  t.throws(() => readBaseline({ priority: 1 }), { message: /^spec\.priority: unknown field "priority"/ })
  t.throws(() => readBaseline({ ingress: [{ action: 'Pass', from }] }), {
    message: 'spec.ingress[0].action: "Pass" is none of Allow, Deny',
  })
  t.throws(() => readBaselineAdminNetworkPolicy(baseline({}, { name: 'other' })), {
    message: 'metadata.name: "other" is not "default", the only name that a BaselineAdminNetworkPolicy may have',
    path: ['metadata', 'name'],
  })
  t.throws(() => readAdminNetworkPolicy(object('AdminNetworkPolicy', null, { name: 'p' })), {
    message: 'spec is missing',
  })
})
