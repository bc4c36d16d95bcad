import t, { type Test } from 'tap'
import { openCluster } from './cluster.ts'
import {
  addressesOf,
  apply,
  connect,
  createNamespaces,
  createPods,
  type Outcome,
  type PodSpec,
  type Protocol,
  podManifest,
  remove,
  serviceManifest,
} from './pods.ts'
import { until } from './process.ts'

// Real connections between real pods follow everything that happens at the API server.

const cluster = await openCluster()
const [near = '', far = near] = cluster.members.map(({ name }) => name)
/** Long enough for a busy machine; what it takes on a quiet one is told. */
const FOLLOW_MS = 15_000

const shop = 'knp-shop'
const other = 'knp-other'
const pods: readonly PodSpec[] = [
  { namespace: shop, name: 'db', node: near },
  { namespace: shop, name: 'web', node: near },
  { namespace: shop, name: 'api', node: far },
  { namespace: other, name: 'web', node: far },
]

await createNamespaces(t, cluster, [shop, other])
await apply(cluster, [serviceManifest(shop, 'db')])
await createPods(cluster, pods)

/** Where `to` is found: a pod's addresses, or a Service's. */
async function targets(to: string): Promise<readonly string[]> {
  const [kind, name = ''] = to.split(':')
  if (kind !== 'service') return await addressesOf(cluster, ...(to.split('/') as [string, string]))
  const [namespace = '', service = ''] = name.split('/')
  const path = 'jsonpath={.spec.clusterIP}'
  return [await cluster.kubectl(['-n', namespace, 'get', 'service', service, '-o', path])]
}

/** `from > to` or `from > to/udp`: what must become of it. */
type Table = Readonly<Record<string, Outcome>>

/** Waits until all connections of the table fare as it says, by each address, and then asks them all once more. */
async function expect(t: Test, table: Table): Promise<void> {
  const started = performance.now()
  const attempts = await Promise.all(
    Object.entries(table).map(async ([flow, outcome]) => {
      const [from = '', rest = ''] = flow.split(' > ')
      const [to = '', protocol = 'tcp'] = rest.split(' ')
      return (await targets(to)).map((address) => ({ flow, from, address, protocol: protocol as Protocol, outcome }))
    }),
  )
  const outcomes = () =>
    Promise.all(
      attempts.flat().map(async ({ flow, from, address, protocol }) => {
        return `${flow} at ${address}: ${await connect(cluster, from, address, 80, protocol)}`
      }),
    )
  const wanted = attempts.flat().map(({ flow, address, outcome }) => `${flow} at ${address}: ${outcome}`)
  let last: readonly string[] = []
  await until(
    'connections as the policies say',
    async () => {
      last = await outcomes()
      return last.join() === wanted.join()
    },
    FOLLOW_MS,
  ).catch(() => {})
  t.comment(`followed within ${Math.round(performance.now() - started)} ms, attempts included`)
  t.strictSame(last, wanted)
  t.strictSame(await outcomes(), wanted, 'and it stays so')
}

const open: Table = {
  [`${shop}/web > ${shop}/db`]: 'connected',
  [`${shop}/api > ${shop}/db`]: 'connected',
  [`${shop}/api > ${shop}/db udp`]: 'connected',
  [`${other}/web > ${shop}/db`]: 'connected',
  [`${other}/web > service:${shop}/db`]: 'connected',
}

/** All of `open`, but these. */
const except = (denied: Table): Table => ({ ...open, ...denied })

const toDb = (outcome: Outcome): Table => Object.fromEntries(Object.keys(open).map((flow) => [flow, outcome]))

const dbPolicy = (...from: object[]) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace: shop, name: 'db' },
  spec: { podSelector: { matchLabels: { app: 'db' } }, ingress: from.length > 0 ? [{ from }] : [] },
})
const fromApi = { podSelector: { matchLabels: { app: 'api' } } }
const fromFriends = { namespaceSelector: { matchLabels: { friend: 'yes' } } }
const label = (kind: string, namespace: string, name: string, text: string) =>
  cluster.kubectl(['-n', namespace, 'label', '--overwrite', kind, name, text])

t.test('without a policy everyone reaches everyone', (t) => expect(t, open))

t.test('a NetworkPolicy that is created, changed and deleted', async (t) => {
  const db = dbPolicy(fromApi)
  t.teardown(() => remove(cluster, [db]))
  await apply(cluster, [db])
  const onlyApi = {
    ...toDb('timeout'),
    [`${shop}/api > ${shop}/db`]: 'connected',
    [`${shop}/api > ${shop}/db udp`]: 'connected',
  } as const
  await expect(t, onlyApi)
  await apply(cluster, [dbPolicy(fromFriends)])
  await expect(t, toDb('timeout'))
  await remove(cluster, [db])
  await expect(t, open)
})

t.test('pods and namespaces that are labelled otherwise', async (t) => {
  const db = dbPolicy(fromApi, fromFriends)
  t.teardown(() => remove(cluster, [db]))
  await apply(cluster, [db])
  const web = { [`${shop}/web > ${shop}/db`]: 'timeout' } as const
  const elsewhere = {
    [`${other}/web > ${shop}/db`]: 'timeout',
    [`${other}/web > service:${shop}/db`]: 'timeout',
  } as const
  await expect(t, except({ ...web, ...elsewhere }))
  await label('pod', shop, 'web', 'app=api')
  await expect(t, except(elsewhere))
  await label('pod', shop, 'web', 'app=web')
  await label('namespace', '', other, 'friend=yes')
  await expect(t, except(web))
  await label('namespace', '', other, 'friend-')
  await expect(t, except({ ...web, ...elsewhere }))
})

t.test('a pod that goes, and another one of its name, with another address', async (t) => {
  const db = dbPolicy(fromApi)
  t.teardown(() => remove(cluster, [db]))
  await apply(cluster, [db])
  const before = await addressesOf(cluster, shop, 'api')
  const api = pods.find(({ name }) => name === 'api')!
  await remove(cluster, [podManifest(api)])
  await createPods(cluster, [api])
  t.notSame(await addressesOf(cluster, shop, 'api'), before)
  await expect(t, {
    [`${shop}/api > ${shop}/db`]: 'connected',
    [`${shop}/web > ${shop}/db`]: 'timeout',
  })
})

t.test('egress', async (t) => {
  const web = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: shop, name: 'web' },
    spec: {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      egress: [{ to: [fromApi], ports: [{ port: 'web' }] }],
    },
  }
  t.teardown(() => remove(cluster, [web]))
  await apply(cluster, [web])
  await expect(t, {
    [`${shop}/web > ${shop}/db`]: 'timeout',
    [`${shop}/web > ${shop}/api`]: 'connected',
    [`${shop}/web > ${shop}/api udp`]: 'timeout',
    [`${other}/web > ${shop}/db`]: 'connected',
  })
})

const subject = { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: 'db' } } } }
const webs = { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: 'web' } } } }
const fromWeb: Table = {
  [`${shop}/web > ${shop}/db`]: 'timeout',
  [`${other}/web > ${shop}/db`]: 'timeout',
  [`${other}/web > service:${shop}/db`]: 'timeout',
}
const alpha2 = 'policy.networking.k8s.io/v1alpha2'
const alpha1 = 'policy.networking.k8s.io/v1alpha1'

const clusterWide: readonly (readonly [string, object])[] = [
  [
    'ClusterNetworkPolicy of the Admin tier',
    {
      apiVersion: alpha2,
      kind: 'ClusterNetworkPolicy',
      metadata: { name: 'knp-admin' },
      spec: { tier: 'Admin', priority: 10, subject, ingress: [{ action: 'Deny', from: [webs] }] },
    },
  ],
  [
    'ClusterNetworkPolicy of the Baseline tier',
    {
      apiVersion: alpha2,
      kind: 'ClusterNetworkPolicy',
      metadata: { name: 'knp-baseline' },
      spec: { tier: 'Baseline', priority: 10, subject, ingress: [{ action: 'Deny', from: [webs] }] },
    },
  ],
  [
    'AdminNetworkPolicy',
    {
      apiVersion: alpha1,
      kind: 'AdminNetworkPolicy',
      metadata: { name: 'knp-admin' },
      spec: { priority: 10, subject, ingress: [{ action: 'Deny', from: [webs] }] },
    },
  ],
  [
    'BaselineAdminNetworkPolicy',
    {
      apiVersion: alpha1,
      kind: 'BaselineAdminNetworkPolicy',
      metadata: { name: 'default' },
      spec: { subject, ingress: [{ action: 'Deny', from: [webs] }] },
    },
  ],
]

for (const [name, policy] of clusterWide) {
  t.test(`${name}: created and deleted`, async (t) => {
    t.teardown(() => remove(cluster, [policy]))
    await apply(cluster, [policy])
    await expect(t, except(fromWeb))
    await remove(cluster, [policy])
    await expect(t, open)
  })
}

t.test('the tiers in their order: Admin before NetworkPolicy before Baseline', async (t) => {
  const [, admin] = clusterWide[0]!
  const [, baseline] = clusterWide[1]!
  const friendly = dbPolicy(fromApi, { namespaceSelector: {} })
  t.teardown(() => remove(cluster, [admin, baseline, friendly]))
  await apply(cluster, [baseline, friendly])
  await expect(t, open)
  await apply(cluster, [admin])
  await expect(t, except(fromWeb))
})
