import t, { type Test } from 'tap'
import { type Attempts, during, startCalls, startServer } from './attempts.ts'
import { openCluster } from './cluster.ts'
import { configureKnp, rolledOut } from './knp.ts'
import { inNode } from './node.ts'
import { addressesOf, apply, createNamespaces, createPods, inNetworkOfPod } from './pods.ts'
import { until } from './process.ts'

// A rolling update of the DaemonSet while connections are made all the time: what is lost, and what is opened. Each
// connection goes to another port than those of half a minute before, so that none is answered by what is remembered.

const cluster = await openCluster()
const namespace = 'knp-update'
const [near = '', far = near] = cluster.members.map(({ name }) => name)
const nearNode = cluster.members[0]!
const ports = { firstPort: 20_000, ports: 3_000 }
const pace = { intervalMs: 10, timeoutMs: 500 }

await createNamespaces(t, cluster, [namespace])
await createPods(cluster, [
  { namespace, name: 'server', node: near },
  { namespace, name: 'friend', node: far },
  { namespace, name: 'stranger', node: far },
])
await apply(cluster, [
  {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name: 'server' },
    spec: {
      podSelector: { matchLabels: { app: 'server' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'friend' } } }] }],
    },
  },
])

async function networkOf(name: string, node: string) {
  const [address = ''] = await addressesOf(cluster, namespace, name)
  const way = await inNetworkOfPod(cluster, node, address, [])
  return { address, within: (argv: readonly string[]) => [...way, ...argv] }
}
const server = await networkOf('server', near)
const friend = await networkOf('friend', far)
const stranger = await networkOf('stranger', far)
t.teardown(await startServer(server.within, ports.firstPort, ports.ports))

type Fared = Readonly<Record<'friend' | 'stranger' | 'node', Attempts>>

const to = { address: server.address, ...ports }
const bothDuring = (act: () => Promise<void>): Promise<Fared> =>
  during(
    {
      friend: startCalls(friend.within, to, pace),
      stranger: startCalls(stranger.within, to, pace),
      // As its kubelet does.
      node: startCalls((argv) => inNode(nearNode, argv), to, pace),
    },
    act,
  )

function tell(t: Test, { friend, stranger, node }: Fared): void {
  const span = (from = 0, to = 0) => `${to - from} ms`
  t.comment(
    `allowed: ${friend.connected} connected, ${friend.failed} lost (within ${span(friend.failedFromMs, friend.failedToMs)}); ` +
      `forbidden: ${stranger.failed} refused, ${stranger.connected} opened (within ${span(stranger.connectedFromMs, stranger.connectedToMs)}); ` +
      `the server's node: ${node.connected} connected, ${node.failed} lost`,
  )
}

/** The policy holds, and nothing that is allowed gets lost. */
const holds = ({ friend, stranger, node }: Fared) =>
  friend.failed === 0 && friend.connected > 0 && stranger.connected === 0 && node.failed === 0 && node.connected > 0
const aSecond = () => cluster.exec(['sleep', '1']).then(() => {})

for (const onFailure of ['closed', 'open'] as const) {
  t.test(`under ${onFailure}`, async (t) => {
    await configureKnp(cluster, (text) => text.replace(/onFailure: \w+/, `onFailure: ${onFailure}`))
    await until('the policy is in force', async () => holds(await bothDuring(aSecond)), 60_000)
    const fared = await bothDuring(async () => {
      await cluster.kubectl(['-n', 'kube-system', 'rollout', 'restart', 'daemonset/knp'])
      await rolledOut(cluster)
      await aSecond()
    })
    tell(t, fared)
    t.equal(fared.node.failed, 0, 'nothing of what the node itself sends to its pod is lost')
    if (onFailure === 'closed') t.equal(fared.stranger.connected, 0, 'nothing is opened')
    else t.equal(fared.friend.failed, 0, 'nothing is lost')
    t.ok(holds(await bothDuring(aSecond)), 'afterwards all is as before')
  })
}
