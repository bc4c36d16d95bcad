import t from 'tap'
import { readClusterNetworkPolicy } from '../../src/engine/cluster-network-policy.ts'
import { ObjectReader } from '../../src/engine/object-reader.ts'
import type { Policy } from '../../src/engine/policy.ts'
import { understandPolicy } from '../../src/engine/understand.ts'

const everything = { requirements: [] }
const everyPod = { namespaceSelector: everything, podSelector: everything }

const understand = (value: unknown, lastGood?: Policy) => understandPolicy(value, lastGood)

const cluster = (spec: unknown, more: object = {}) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name: 'p' },
  spec,
  ...more,
})
const admin = (spec: object, kind = 'AdminNetworkPolicy', name = 'p') => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha1',
  kind,
  metadata: { name },
  spec,
})
const baseline = (spec: object, name = 'default') => admin(spec, 'BaselineAdminNetworkPolicy', name)
const network = (spec: unknown, more: object = {}) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'p', namespace: 'shop' },
  spec,
  ...more,
})

const base = { tier: 'Admin', priority: 10, subject: { namespaces: {} } }
const from = [{ namespaces: {} }]
const accept = { action: 'Accept', from }

t.test('what can be understood is what its reader makes of it', async (t) => {
  const written = cluster({ ...base, ingress: [accept] })
  t.same(understand(written), { policy: readClusterNetworkPolicy(new ObjectReader(written)) })
  const policyOf = (value: object) => {
    const { policy, problem } = understand(value)
    t.equal(problem, undefined)
    return policy!
  }
  t.equal(policyOf(cluster(base, { apiVersion: 'policy.networking.k8s.io/v1beta1' })).tier, 'Admin')
  t.equal(policyOf(admin({ priority: 3, subject: { namespaces: {} } })).priority, 3)
  t.equal(policyOf(baseline({ subject: { namespaces: {} } })).tier, 'Baseline')
  t.same(policyOf(network({ policyTypes: ['Egress'] })).egress, [])
})

t.test('limits are those of the API server that took it', async (t) => {
  const { policy, problem } = understand(cluster({ ...base, ingress: Array.from({ length: 26 }, () => accept) }))
  t.equal(policy!.ingress!.length, 26)
  t.equal(problem, undefined)
  const ports = Array.from({ length: 101 }, () => ({ namedPort: 'web' }))
  const rule = { action: 'Allow', from, ports }
  t.equal(understand(admin({ priority: 1, subject: { namespaces: {} }, ingress: [rule] })).problem, undefined)
})

const spoiled = cluster({ ...base, ingress: [{ ...accept, action: 'Log' }] })

t.test('the last good version stays in force', async (t) => {
  const lastGood = understand(cluster({ ...base, ingress: [accept] })).policy!
  const { policy, problem } = understand(spoiled, lastGood)
  t.equal(policy, lastGood)
  t.equal(
    problem,
    'ClusterNetworkPolicy p: spec.ingress[0].action: "Log" is none of Accept, Deny, Pass; its last good version stays in force',
  )
  t.equal(understand(cluster(base), lastGood).policy!.ingress, undefined, 'until a later one can be understood')
  const mode = { metadata: { name: 'p', annotations: { 'knp.dev/mode': 'dry' } } }
  t.equal(understand(cluster(base, mode), lastGood).policy, lastGood, 'also where only the mode is none')
  t.equal(understand(network({ policyTypes: ['Both'] }), lastGood).policy, lastGood, 'of a NetworkPolicy')
})

const why = 'until it can be read, its Accept rules match nothing and its other rules deny everything'
const actionsOf = (policy: Policy | undefined, direction: 'ingress' | 'egress' = 'ingress') =>
  policy![direction]?.map(({ action, peers }) => (peers?.length === 0 ? `${action} nothing` : action))

t.test('without a last good version a cluster-wide policy fails closed, rule by rule', async (t) => {
  const { policy, problem } = understand(
    cluster({
      ...base,
      priority: 7,
      ingress: [
        { name: 'a', action: 'Accept', from, protocols: [{ icmp: {} }] },
        { name: 'd', action: 'Deny', from, protocols: [{ tcp: { destinationPort: { number: 80 } } }] },
        { action: 'Pass', from },
        { action: 'Log', from },
        { action: 7, name: 7 },
        'rule',
        {},
      ],
      egress: [{ action: 'Accept', to: from }],
    }),
  )
  const message = `ClusterNetworkPolicy p: spec.ingress[0].protocols[0].icmp: unknown field "icmp"; known here: tcp, udp, sctp, destinationNamedPort; ${why}`
  t.equal(problem, message)
  const denial = { action: 'Deny', ports: undefined, peers: undefined, failsClosed: message }
  t.same(policy, {
    type: 'Policy',
    ref: { kind: 'ClusterNetworkPolicy', name: 'p' },
    tier: 'Admin',
    priority: 7,
    namespace: undefined,
    subject: everyPod,
    ingress: [
      { name: 'a', action: 'Accept', ports: undefined, peers: [], failsClosed: message },
      { name: 'd', ...denial },
      denial,
      denial,
      denial,
      denial,
      denial,
    ],
    egress: [{ action: 'Accept', ports: undefined, peers: [], failsClosed: message }],
    isAudited: false,
    problems: [message],
  })
})

t.test('what cannot be read of a cluster-wide policy', async (t) => {
  const deny = { action: 'Deny', from }
  type Case = readonly [rule: string, value: object, expected: object]
  const cases: readonly Case[] = [
    ['no tier is Admin', cluster({ ...base, tier: null, ingress: [deny] }), { tier: 'Admin', priority: 10 }],
    ['an unknown tier is Admin', cluster({ ...base, tier: 'Early', ingress: [deny] }), { tier: 'Admin', priority: 10 }],
    ['no priority is 0', cluster({ ...base, priority: null, ingress: [deny] }), { priority: 0 }],
    [
      'a priority out of range is 0',
      cluster({ ...base, tier: 'Baseline', priority: 1001 }),
      { tier: 'Baseline', priority: 0 },
    ],
    [
      'a field that the spec has not',
      cluster({ ...base, order: 1, ingress: [deny] }),
      { ingress: [{ action: 'Deny' }] },
    ],
    ['no rules say nothing', cluster({ ...base, order: 1 }), { ingress: undefined, egress: undefined }],
    ['an empty list of rules says nothing', cluster({ ...base, order: 1, ingress: [] }), { ingress: undefined }],
    [
      'a list of rules that is none denies',
      cluster({ ...base, ingress: {} }),
      { ingress: [{ action: 'Deny' }], egress: undefined },
    ],
    [
      'a list of rules that is none denies: egress',
      cluster({ ...base, egress: 'all' }),
      { egress: [{ action: 'Deny' }] },
    ],
    [
      'a spec that is none denies everything',
      cluster('deny'),
      { tier: 'Admin', priority: 0, subject: everyPod, ingress: [{ action: 'Deny' }], egress: [{ action: 'Deny' }] },
    ],
    ['no spec says nothing', cluster(null), { subject: everyPod, ingress: undefined, egress: undefined }],
    [
      'a version that is not known',
      cluster({ ...base, ingress: [deny] }, { apiVersion: 'policy.networking.k8s.io/v1' }),
      { tier: 'Admin', priority: 10, ingress: [{ action: 'Deny' }] },
    ],
    [
      'metadata with a field that is not known',
      cluster({ ...base, ingress: [deny] }, { metadata: { name: 'p', owner: 'a' } }),
      { ref: { kind: 'ClusterNetworkPolicy', name: 'p' }, ingress: [{ action: 'Deny' }] },
    ],
    [
      'an audited policy stays one',
      cluster({ ...base, order: 1 }, { metadata: { name: 'p', annotations: { 'knp.dev/mode': 'audit' } } }),
      { isAudited: true },
    ],
    [
      'a mode that is none counts as enforce',
      cluster({ ...base, order: 1 }, { metadata: { name: 'p', annotations: { 'knp.dev/mode': 'Audit' } } }),
      { isAudited: false },
    ],
    [
      'AdminNetworkPolicy: Allow matches nothing',
      admin({ priority: 5, order: 1, subject: { namespaces: {} }, ingress: [{ action: 'Allow' }] }),
      { ref: { kind: 'AdminNetworkPolicy', name: 'p' }, tier: 'Admin', priority: 5, ingress: [{ peers: [] }] },
    ],
    [
      "AdminNetworkPolicy: the other API's action denies",
      admin({ priority: 5, subject: { namespaces: {} }, ingress: [{ action: 'Accept', from }] }),
      { ingress: [{ action: 'Deny', peers: undefined }] },
    ],
    [
      'BaselineAdminNetworkPolicy: Pass denies',
      baseline({ subject: { namespaces: {} }, ingress: [{ action: 'Pass', from }] }),
      {
        ref: { kind: 'BaselineAdminNetworkPolicy', name: 'default' },
        tier: 'Baseline',
        priority: 1001,
        ingress: [{ action: 'Deny' }],
      },
    ],
    [
      'BaselineAdminNetworkPolicy: another name',
      baseline({ subject: { namespaces: {} }, ingress: [{ action: 'Deny', from }] }, 'other'),
      { ref: { name: 'other' }, tier: 'Baseline', ingress: [{ action: 'Deny' }] },
    ],
  ]
  for (const [rule, value, expected] of cases) {
    const { policy, problem } = understand(value)
    t.match(policy, expected, rule)
    for (const [field, wanted] of Object.entries(expected)) {
      if (wanted === undefined) t.equal(policy![field as keyof Policy], undefined, `${rule}: ${field}`)
    }
    t.match(
      problem,
      /; until it can be read, its (Accept|Allow) rules match nothing and its other rules deny everything$/,
    )
    t.same(policy!.problems, [problem], `${rule}: the policy carries the problem`)
  }
  t.match(
    understand(cluster({ ...base, tier: 'Early' })).problem,
    /^ClusterNetworkPolicy p: spec\.tier: "Early" is none/,
  )
  t.match(
    understand(admin({ priority: 'x' })).problem,
    /^AdminNetworkPolicy p: .*; until it can be read, its Allow rules/,
  )
})

const shop = { matchLabels: { team: 'shop' } }
const shopMatch = { requirements: [{ key: 'team', operator: 'In', values: ['shop'] }] }
const odd = { matchExpressions: [{ key: 'a', operator: 'Like' }] }

t.test('a subject that cannot be read', async (t) => {
  const deny = [{ action: 'Deny', from }]
  const cases: readonly [rule: string, subject: unknown, expected: object][] = [
    ['none selects everything', undefined, everyPod],
    ['an empty one selects everything', {}, everyPod],
    [
      'an unknown field selects everything',
      { pods: { namespaceSelector: shop, podSelector: shop }, vms: {} },
      everyPod,
    ],
    ['two fields select everything', { namespaces: shop, pods: { podSelector: shop } }, everyPod],
    ['a namespace selector that is none selects everything', { namespaces: odd }, everyPod],
    ['an unknown field in a selector selects everything', { namespaces: { ...shop, matchNames: ['a'] } }, everyPod],
    [
      'a pod selector that is none selects the pods of its namespaces',
      { pods: { namespaceSelector: shop, podSelector: odd } },
      { namespaceSelector: shopMatch, podSelector: everything },
    ],
    [
      'a namespace selector that is none selects the pods in every namespace',
      { pods: { namespaceSelector: odd, podSelector: shop } },
      { namespaceSelector: everything, podSelector: shopMatch },
    ],
    ['two selectors that are none', { pods: { namespaceSelector: odd, podSelector: odd } }, everyPod],
    [
      'an unknown field beside the selectors',
      { pods: { namespaceSelector: shop, podSelector: shop, or: {} } },
      everyPod,
    ],
  ]
  for (const [rule, subject, expected] of cases) {
    const { policy } = understand(cluster({ ...base, subject, ingress: deny }))
    t.same(policy!.subject, expected, rule)
    t.same(actionsOf(policy), ['Deny'], rule)
  }
  const silent = understand(cluster({ ...base, subject: {}, ingress: [accept], egress: [{ action: 'Accept' }] }))
    .policy!
  t.equal(silent.ingress, undefined, 'where no rule denies, the policy says nothing')
  t.equal(silent.egress, undefined, 'where no rule denies, the policy says nothing')
  const half = understand(
    cluster({ ...base, subject: { pods: { namespaceSelector: shop, podSelector: odd } }, ingress: [accept] }),
  ).policy
  t.same(actionsOf(half), ['Accept nothing'], 'a subject of which something can be read keeps its rules')
  const both = understand(cluster({ ...base, subject: {}, ingress: [accept], egress: [{ action: 'Pass' }] })).policy
  t.same(actionsOf(both), ['Accept nothing'])
  t.same(actionsOf(both, 'egress'), ['Deny'], 'one rule that denies is enough')
})

t.test('a mode that is none counts as enforce', async (t) => {
  const metadata = { name: 'p', annotations: { 'knp.dev/mode': 'dry', other: 'a' } }
  const { policy, problem } = understand(cluster({ ...base, ingress: [accept] }, { metadata }))
  t.equal(
    problem,
    'ClusterNetworkPolicy p: metadata.annotations.knp.dev/mode: "dry" is none of enforce, audit; until it can be read the policy is enforced',
  )
  t.same(policy, { ...understand(cluster({ ...base, ingress: [accept] })).policy, problems: [problem] })
  const ofNetwork = understand(network({ policyTypes: ['Ingress'] }, { metadata })).policy
  t.match(ofNetwork, { isAudited: false, ingress: [], problems: [/until it can be read the policy is enforced$/] })
})

t.test('a NetworkPolicy isolates what it selects', async (t) => {
  const wrong = [{ form: [] }]
  type Case = readonly [rule: string, spec: unknown, selector: object, directions: string]
  const cases: readonly Case[] = [
    ['the directions written', { podSelector: shop, policyTypes: ['Ingress'], ingress: wrong }, shopMatch, 'in'],
    ['the directions written: egress', { policyTypes: ['Egress'], egress: wrong }, everything, 'out'],
    ['no directions: ingress', { podSelector: shop, ingress: wrong }, shopMatch, 'in'],
    ['no directions, and egress rules: both', { podSelector: shop, egress: wrong }, shopMatch, 'in out'],
    ['no directions, and egress that is no list: both', { egress: 'all' }, everything, 'in out'],
    ['a direction that is not known: both', { policyTypes: ['Ingress', 'Both'] }, everything, 'in out'],
    ['directions that are no list: both', { policyTypes: 'Ingress', ingress: wrong }, everything, 'in out'],
    ['a selector that is none: its namespace', { podSelector: odd, policyTypes: ['Ingress'] }, everything, 'in'],
    ['a field that is not known', { podSelector: shop, policyTypes: ['Ingress'], order: 1 }, shopMatch, 'in'],
    ['a spec that is none: all of its namespace', 'deny', everything, 'in out'],
  ]
  for (const [rule, spec, podSelector, directions] of cases) {
    const { policy, problem } = understand(network(spec))
    t.match(
      problem,
      /^NetworkPolicy shop\/p: spec.*; until it can be read it isolates what it selects and allows nothing$/,
    )
    t.same(
      policy,
      {
        type: 'Policy',
        ref: { kind: 'NetworkPolicy', namespace: 'shop', name: 'p' },
        tier: 'NetworkPolicy',
        priority: 0,
        namespace: 'shop',
        subject: { namespaceSelector: undefined, podSelector },
        ingress: directions.includes('in') ? [] : undefined,
        egress: directions.includes('out') ? [] : undefined,
        isAudited: false,
        problems: [problem],
      },
      rule,
    )
  }
  const audit = { metadata: { name: 'p', annotations: { 'knp.dev/mode': 'audit' } } }
  t.match(understand(network({ order: 1 }, audit)).policy, {
    isAudited: true,
    namespace: 'default',
    ref: { namespace: 'default' },
  })
})

t.test('what is nothing', async (t) => {
  const cases: readonly [rule: string, value: unknown, problem: string | RegExp][] = [
    [
      'a text',
      'policy',
      /^an object without a kind: expected a mapping, found "policy"; nothing of it can be enforced$/,
    ],
    ['nothing', undefined, /^an object without a kind: .*; nothing of it can be enforced$/],
    ['no kind', { ...cluster(base), kind: undefined }, /^an object without a kind p: kind: expected a string/],
    ['another kind', { ...cluster(base), kind: 'Pod' }, /^Pod p: kind: "Pod" is none of NetworkPolicy, /],
    ['no name', cluster(base, { metadata: {} }), /^ClusterNetworkPolicy: metadata: name is missing; nothing/],
    [
      'an empty name',
      cluster(base, { metadata: { name: '' } }),
      /^ClusterNetworkPolicy: metadata\.name: "" is no valid/,
    ],
    ['no metadata', cluster(base, { metadata: 'p' }), /^ClusterNetworkPolicy: metadata: expected a mapping/],
    [
      'a NetworkPolicy without a name',
      network({}, { metadata: {} }),
      /^NetworkPolicy: metadata: name is missing; nothing/,
    ],
    ['a NetworkPolicy without metadata', network({}, { metadata: 7 }), /^NetworkPolicy: metadata: expected a mapping/],
  ]
  for (const [rule, value, problem] of cases) {
    const understood = understand(value)
    t.equal(understood.policy, undefined, rule)
    t.match(understood.problem, problem, rule)
  }
})

t.test('a defect of a reader is not taken for one of the object', async (t) => {
  const broken = {
    ...network({}),
    get spec() {
      throw new TypeError('broken')
    },
  }
  t.throws(() => understandPolicy(broken, undefined), { message: 'broken' })
})
