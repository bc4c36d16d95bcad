import t from 'tap'
import { refName } from '../../src/engine/objects.ts'
import { readManifest } from '../../src/sources/manifest.ts'

const read = (text: string) => readManifest(text, 'f.yaml')

/** Text, and the problems that it must be refused with. */
type Case = readonly [rule: string, text: string, message: string | RegExp]

const policy = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n'
const knownPolicies =
  'ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2, policy.networking.k8s.io/v1beta1), AdminNetworkPolicy (policy.networking.k8s.io/v1alpha1), BaselineAdminNetworkPolicy (policy.networking.k8s.io/v1alpha1)'
const pod = (metadata: string) => `apiVersion: v1\nkind: Pod\nmetadata: ${metadata}\n`

const cases: readonly Case[] = [
  [
    'a nested field has the line of its own',
    `${policy}spec:\n  podSelector: {}\n  ingress:\n  - ports:\n    - port: 443\n      endPort: 80\n`,
    'f.yaml:9: NetworkPolicy shop/p: spec.ingress[0].ports[0].endPort: endPort 80 is below port 443',
  ],
  [
    'an unknown field too',
    `${policy}spec:\n  podSelector: {}\n  egres: []\n`,
    'f.yaml:6: NetworkPolicy shop/p: spec.egres: unknown field "egres"; known here: podSelector, policyTypes, ingress, egress',
  ],
  ['what is missing has the line of what is around it', policy, 'f.yaml:1: NetworkPolicy shop/p: spec is missing'],
  [
    'an item of a list',
    `${policy}spec:\n  ingress:\n  - from:\n    - podSelector: {}\n    - {}\n`,
    /^f\.yaml:8: NetworkPolicy shop\/p: spec\.ingress\[0\]\.from\[1\]: a peer needs/,
  ],
  [
    'an empty item has its line',
    `${policy}spec:\n  ingress:\n  -\n`,
    /^f\.yaml:\d: .*spec\.ingress\[0\]: empty rule; write \{\} to/,
  ],
  ['an object without a name', pod('{namespace: shop}'), 'f.yaml:3: Pod: metadata: name is missing'],
  [
    'a later document',
    `${pod('{name: a}')}---\n${pod('{name: B}')}`,
    'f.yaml:7: Pod B: metadata.name: "B" is no valid object name',
  ],
  [
    'items of a List',
    'apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: B\n',
    'f.yaml:10: Pod B: metadata.name: "B" is no valid object name',
  ],
  ['items that are no objects', 'apiVersion: v1\nkind: List\nitems:\n- a\n', 'f.yaml:4: expected a mapping, found "a"'],
  [
    'a label value that is a number',
    pod('\n  name: a\n  labels:\n    v: 1'),
    'f.yaml:6: Pod a: metadata.labels.v: a label value is a string, found 1: quote it',
  ],
  [
    'a label value that is a truth value',
    pod('{name: a, labels: {v: true}}'),
    'f.yaml:3: Pod a: metadata.labels.v: a label value is a string, found true: quote it',
  ],
  [
    'a template that was not filled in',
    pod('{name: "{{ .Values.name }}"}'),
    'f.yaml:3: Pod {{ .Values.name }}: metadata.name: "{{ .Values.name }}" is no valid object name',
  ],
  [
    'a duplicate key',
    'apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b\n',
    'f.yaml:5: Map keys must be unique',
  ],
  ['wrong indentation', 'apiVersion: v1\nkind: Pod\n metadata: {}\n', /^f\.yaml:\d: /],
  [
    'an open bracket',
    'apiVersion: v1\nmetadata: {name: a\n',
    /^f\.yaml:\d: Flow map in block collection must be sufficiently indented|^f\.yaml:\d: /,
  ],
  ['tabs', 'apiVersion: v1\nmetadata:\n\tname: a\n', /^f\.yaml:3: Tabs are not allowed as indentation/],
  ['an alias of nothing', `---\n${pod('{name: a}')}---\n${pod('*nobody')}`, /^f\.yaml:\d+: Unresolved alias .*nobody$/],
  ['a text alone', 'hello\n', 'f.yaml:1: expected a mapping, found "hello"'],
  ['no kind', '# comment\napiVersion: v1\n', 'f.yaml:2: kind: expected a string, found nothing'],
  ['no apiVersion', 'kind: Pod\n', 'f.yaml:1: Pod: apiVersion: expected a string, found nothing'],
  [
    'NetworkPolicy of an API that is gone',
    policy.replace('networking.k8s.io/v1', 'extensions/v1beta1'),
    'f.yaml:1: NetworkPolicy shop/p: apiVersion: "extensions/v1beta1" has no NetworkPolicy (any more); write networking.k8s.io/v1',
  ],
  [
    'NetworkPolicy of another version',
    policy.replace('/v1', '/v2'),
    /^f\.yaml:1: .*apiVersion: "networking\.k8s\.io\/v2" has no NetworkPolicy/,
  ],
  [
    'another policy of that group',
    policy.replace('NetworkPolicy', 'PodPolicy'),
    'f.yaml:2: PodPolicy shop/p: kind: unknown kind PodPolicy',
  ],
  [
    'a policy kind that is not enforced',
    'apiVersion: policy.networking.k8s.io/v1alpha1\nkind: TenantPolicy\nmetadata: {name: a}\n',
    `f.yaml:2: TenantPolicy a: kind: TenantPolicy (policy.networking.k8s.io/v1alpha1) is not enforced by this version of knp; known: ${knownPolicies}`,
  ],
  [
    'a cluster-wide policy of another version',
    'apiVersion: policy.networking.k8s.io/v1alpha1\nkind: ClusterNetworkPolicy\nmetadata: {name: a}\n',
    `f.yaml:2: ClusterNetworkPolicy a: kind: ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha1) is not enforced by this version of knp; known: ${knownPolicies}`,
  ],
  [
    'a rule of a cluster-wide policy',
    'apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: a}\nspec:\n  tier: Admin\n  priority: 1\n  subject: {namespaces: {}}\n  ingress:\n  - action: Allow\n    from: [{namespaces: {}}]\n',
    'f.yaml:9: ClusterNetworkPolicy a: spec.ingress[0].action: "Allow" is none of Accept, Deny, Pass',
  ],
  [
    'a kind of ours that is not known',
    'apiVersion: knp.dev/v1alpha1\nkind: HostPolicy\nmetadata: {name: a}\n',
    /^f\.yaml:2: HostPolicy a: kind: HostPolicy \(knp\.dev\/v1alpha1\) is not enforced/,
  ],
]

t.test('what is refused, and where', async (t) => {
  for (const [rule, text, message] of cases) t.throws(() => read(text), { code: 'INVALID_MANIFEST', message }, rule)
})

t.test('all problems of a file are named, one a line', async (t) => {
  const text = `${pod('{name: A}')}---\n${pod('{name: b}')}---\n${pod('{name: C}')}---\nkind: x: y\n`
  try {
    read(text)
    t.fail('it must be refused')
  } catch (error) {
    const lines = (error as Error).message.split('\n')
    t.equal(lines.length, 3)
    t.match(lines[0], /^f\.yaml:3: Pod A: /)
    t.match(lines[1], /^f\.yaml:11: Pod C: /)
    t.match(lines[2], /^f\.yaml:13: /)
    t.match((error as { hint?: string }).hint, /^correct the lines named/)
  }
})

const namesOf = (text: string) => read(text).objects.map(({ ref }) => `${ref.kind} ${refName(ref)} ${ref.line}`)

t.test('cluster-wide policies and domain names', async (t) => {
  const clusterPolicy = (version: string, kind: string, name: string, spec: string) =>
    `apiVersion: policy.networking.k8s.io/${version}\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: {subject: {namespaces: {}}${spec}}\n---\n`
  const { objects, notes } = read(
    clusterPolicy('v1alpha2', 'ClusterNetworkPolicy', 'a', ', tier: Admin, priority: 1') +
      clusterPolicy('v1beta1', 'ClusterNetworkPolicy', 'b', ', tier: Baseline, priority: 2') +
      clusterPolicy('v1alpha1', 'AdminNetworkPolicy', 'c', ', priority: 3') +
      clusterPolicy('v1alpha1', 'BaselineAdminNetworkPolicy', 'default', '') +
      'apiVersion: knp.dev/v1alpha1\nkind: DomainName\nmetadata: {name: api.example.com}\nspec: {addresses: [192.0.2.1]}\n',
  )
  t.match(objects, [
    { type: 'Policy', ref: { kind: 'ClusterNetworkPolicy', name: 'a', file: 'f.yaml', line: 1 }, tier: 'Admin' },
    { type: 'Policy', ref: { kind: 'ClusterNetworkPolicy', name: 'b', line: 6 }, tier: 'Baseline', priority: 2 },
    { type: 'Policy', ref: { kind: 'AdminNetworkPolicy', name: 'c' }, tier: 'Admin', priority: 3 },
    { type: 'Policy', ref: { kind: 'BaselineAdminNetworkPolicy', name: 'default' }, tier: 'Baseline' },
    { type: 'DomainName', ref: { kind: 'DomainName', name: 'api.example.com', line: 21 } },
  ])
  t.same(notes, [])
})

t.test('what is read, with the file and line it stands at', async (t) => {
  t.same(read(pod('{name: a}')).objects[0]!.ref, {
    kind: 'Pod',
    namespace: 'default',
    name: 'a',
    file: 'f.yaml',
    line: 1,
  })
  t.same(namesOf(`# of the shop\n---\n${pod('{name: a}')}---\n\n${policy}spec: {}\n`), [
    'Pod default/a 3',
    'NetworkPolicy shop/p 8',
  ])
  t.same(namesOf(''), [], 'an empty file')
  t.same(namesOf('# nothing yet\n---\n---\n'), [], 'empty documents')
  t.same(
    namesOf(`\ufeff${pod('{name: a}').replaceAll('\n', '\r\n')}`),
    ['Pod default/a 1'],
    'a mark of byte order and DOS line ends',
  )
})

t.test('lists', async (t) => {
  const list =
    'apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ""}\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: shop}\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n1}\n'
  t.same(namesOf(list), ['Namespace shop 5', 'Node n1 8'])
  const typed =
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n- metadata: {name: a}\n  spec: {}\n- metadata: {name: b}\n  spec: {}\n'
  t.same(
    namesOf(typed),
    ['NetworkPolicy default/a 4', 'NetworkPolicy default/b 6'],
    'items of a typed list carry no kind',
  )
  t.same(namesOf('apiVersion: v1\nkind: List\nitems: []\n'), [])
})

t.test('JSON', async (t) => {
  const object = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', labels: { v: '1' } },
    status: { podIP: 'fd00::1' },
  }
  for (const indent of [undefined, 2, '\t'])
    t.same(namesOf(JSON.stringify(object, undefined, indent)), ['Pod default/a 1'])
  const wrong = JSON.stringify({ ...object, status: { podIP: 'x' } }, undefined, 2)
  t.throws(() => readManifest(wrong, 'f.json'), { message: 'f.json:11: Pod a: status.podIP: "x" is no IP address' })
})

t.test('anchors and merge keys', async (t) => {
  const text = `${pod('{name: a, labels: &l {app: web, tier: x}}')}---\n${pod('{name: b, labels: {<<: {app: api, tier: y}, app: db}}')}`
  const labels = read(text).objects.map((object) => 'labels' in object && Object.fromEntries(object.labels))
  t.same(
    labels,
    [
      { app: 'web', tier: 'x' },
      { app: 'db', tier: 'y' },
    ],
    'what is written wins over what is merged',
  )
  const aliased =
    'apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a, labels: &l {app: web}}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b, labels: *l}\n'
  t.same(namesOf(aliased), ['Pod default/a 4', 'Pod default/b 7'])
  const wrong = `${pod('\n  name: b\n  labels:\n    <<: {v: 1}')}`
  t.throws(() => read(wrong), {
    message: 'f.yaml:5: Pod b: metadata.labels.v: a label value is a string, found 1: quote it',
  })
})

t.test('kinds that policies do not refer to are noted and left out', async (t) => {
  const { objects, notes } = read(
    `${pod('{name: a}')}---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n---\napiVersion: example.net/v1\nkind: Thing\n`,
  )
  t.equal(objects.length, 1)
  t.same(notes, [
    'f.yaml:5: Service shop/web: not a kind that policies refer to; left out',
    'f.yaml:9: Thing: not a kind that policies refer to; left out',
  ])
})

t.test('tests stand beside manifests, and are no part of the picture', async (t) => {
  const check = '{from: shop/web, to: shop/db, port: 80, expect: deny}'
  const { objects, notes, tests, testProblems } = read(
    `apiVersion: knp.dev/v1alpha1\nkind: ConnectivityTest\nmetadata: {name: a}\nspec: {checks: [${check}]}\n`,
  )
  t.same({ objects, notes, testProblems }, { objects: [], notes: [], testProblems: [] })
  t.equal(tests.length, 1)
})
