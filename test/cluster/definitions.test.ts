import t from 'tap'
import { openCluster } from './cluster.ts'
import { untilStatus } from './knp.ts'
import { addressesOf, apply, connect, createNamespaces, createPods, remove } from './pods.ts'
import { until } from './process.ts'

// A kind of policies that the API server ceases to have, and has again: its policies go with it, the others stay.

const cluster = await openCluster()
const namespace = 'knp-kinds'
const definition = cluster.programs.definitions.find((path) => path.endsWith('/baselineadminnetworkpolicies.yaml'))!
// What kinds there are is asked every 30 seconds, and twice before one is held to have gone.
const FOLLOW_MS = 120_000

await createNamespaces(t, cluster, [namespace])
await createPods(cluster, [
  { namespace, name: 'server' },
  { namespace, name: 'client' },
])
const [server = ''] = await addressesOf(cluster, namespace, 'server')
const baseline = {
  apiVersion: 'policy.networking.k8s.io/v1alpha1',
  kind: 'BaselineAdminNetworkPolicy',
  metadata: { name: 'default' },
  spec: {
    subject: { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': namespace } } },
    ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
  },
}
const becomes = (outcome: string) =>
  until(outcome, async () => (await connect(cluster, `${namespace}/client`, server)) === outcome, FOLLOW_MS)

async function define(): Promise<void> {
  await cluster.kubectl(['apply', '--server-side', '-f', definition])
  await cluster.kubectl(['wait', '--for=condition=Established', '-f', definition, '--timeout=60s'])
}

t.test('BaselineAdminNetworkPolicy goes and comes back', async (t) => {
  t.teardown(async () => {
    await define()
    await remove(cluster, [baseline])
  })
  await apply(cluster, [baseline])
  await becomes('timeout')
  await cluster.kubectl(['delete', '-f', definition])
  await becomes('connected')
  await untilStatus(cluster, 'nothing is wrong', ({ sources }) => sources.every(({ isCurrent }) => isCurrent))
  await define()
  await apply(cluster, [baseline])
  await becomes('timeout')
  t.pass('enforced, gone with its kind, and enforced again')
})
