import t, { type Test } from 'tap'
import { type Attempts, during, startCalls } from './attempts.ts'
import { openCluster } from './cluster.ts'
import { knpPods, untilStatus } from './knp.ts'
import { addressesOf, apply, createNamespaces, createPods, inNetworkOfPod, remove } from './pods.ts'
import { until } from './process.ts'

// What becomes of the API server: enforcement goes on as it was, the status says what is wrong, and nobody has to help.

const cluster = await openCluster()
const namespace = 'knp-api'
const [near = '', far = near] = cluster.members.map(({ name }) => name)

await createNamespaces(t, cluster, [namespace])
await createPods(cluster, [
  { namespace, name: 'db', node: near },
  { namespace, name: 'friend', node: near },
  { namespace, name: 'stranger', node: far },
])
const [db = ''] = await addressesOf(cluster, namespace, 'db')
const [friend = ''] = await addressesOf(cluster, namespace, 'friend')
const [stranger = ''] = await addressesOf(cluster, namespace, 'stranger')

const policy = (name: string, ...from: readonly string[]) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace, name },
  spec: {
    podSelector: { matchLabels: { app: 'db' } },
    policyTypes: ['Ingress'],
    ingress: from.map((app) => ({ from: [{ podSelector: { matchLabels: { app } } }] })),
  },
})
const onlyFriend = policy('db', 'friend')
await apply(cluster, [onlyFriend])
const ways = {
  friend: await inNetworkOfPod(cluster, near, friend, []),
  stranger: await inNetworkOfPod(cluster, far, stranger, []),
}

/** Starts to connect to the database over and over; no API server is asked. */
function call(from: keyof typeof ways) {
  const to = { address: db, firstPort: 80, ports: 1 }
  return startCalls((argv) => [...ways[from], ...argv], to, { intervalMs: 100, timeoutMs: 500 })
}

/** Connections that were begun just now. */
async function connectsNow(from: keyof typeof ways): Promise<boolean> {
  const calling = call(from)
  await cluster.exec(['sleep', '1'])
  return (await calling.stop()).connected > 0
}

/** Both connect all the time while something happens, and see the end of it; answers what became of it. */
const bothDuring = (act: () => Promise<void>) =>
  during({ friend: call('friend'), stranger: call('stranger') }, async () => {
    await act()
    await cluster.exec(['sleep', '1'])
  })

function holds(t: Test, { friend, stranger }: Record<keyof typeof ways, Attempts>): void {
  t.equal(friend.failed, 0, `what is allowed passes: ${friend.connected} connections`)
  t.equal(stranger.connected, 0, `what is forbidden does not: ${stranger.failed} attempts`)
  t.ok(friend.connected > 10 && stranger.failed > 10, 'both have tried all the time')
}

const isCurrent = (status: { readonly sources: readonly { readonly isCurrent: boolean }[] }) =>
  status.sources.every((source) => source.isCurrent)
const problemsOf = (status: { readonly sources: readonly { readonly error?: string }[] }) =>
  status.sources.map(({ error = '' }) => error).join('\n')
const names = async () => (await knpPods(cluster)).map(({ name, restarts }) => `${name} ${restarts}`)

const before = await names()
await until(
  'the policy is in force',
  async () => (await connectsNow('friend')) && !(await connectsNow('stranger')),
  30_000,
)

t.test('it is killed and started again', async (t) => {
  const fared = await bothDuring(async () => {
    await cluster.killApiServer()
    await untilStatus(cluster, 'says that the API server is away', (status) => !isCurrent(status))
    await untilStatus(cluster, 'names what it asked', (status) => /10\.96\.0\.1/.test(problemsOf(status)))
    await cluster.startApiServer()
    await untilStatus(cluster, 'is current again', isCurrent, 90_000)
  })
  holds(t, fared)
  await apply(cluster, [policy('db', 'friend', 'stranger')])
  await until('what is changed then is followed', () => connectsNow('stranger'), 30_000)
  await apply(cluster, [onlyFriend])
  await until('and changed back', async () => !(await connectsNow('stranger')), 30_000)
})

t.test('it has forgotten what happened while it was away: policies that came and went', async (t) => {
  const gone = policy('gone', 'friend')
  await apply(cluster, [gone])
  const path = '/apis/networking.k8s.io/v1/networkpolicies'
  const { metadata } = JSON.parse(await cluster.kubectl(['get', '--raw', path]))
  const fared = await bothDuring(async () => {
    await cluster.killApiServer()
    await cluster.behindTheBack(async (kubectl) => {
      const other = { kubectl }
      await remove(other, [gone])
      for (let number = 0; number < 20; number++) await apply(other, [policy('passing', `nobody-${number}`)])
      await remove(other, [policy('passing')])
      await apply(other, [policy('come', 'friend')])
      // Alone it would let the stranger in; the picture as a whole does not.
      await apply(other, [policy('late', 'another')])
    })
    await cluster.forgetHistory()
    await cluster.startApiServer()
    await untilStatus(cluster, 'is current again', isCurrent, 90_000)
  })
  holds(t, fared)
  const watch = `${path}?watch=true&timeoutSeconds=1&resourceVersion=${metadata.resourceVersion}`
  const { stdout, stderr } = await cluster.attemptKubectl(['get', '--raw', watch])
  t.match(`${stdout}${stderr}`, /too old resource version|"code":410/, 'the history is gone')
  await remove(cluster, [onlyFriend, policy('come')])
  await until(
    'what it listed anew is what is in force: `late` alone',
    async () => !(await connectsNow('friend')),
    30_000,
  )
  await remove(cluster, [policy('late')])
  await until('and nothing of it afterwards', () => connectsNow('stranger'), 30_000)
  await apply(cluster, [onlyFriend])
  await until(
    'the policy is back',
    async () => (await connectsNow('friend')) && !(await connectsNow('stranger')),
    30_000,
  )
})

t.test('it refuses what it allowed: rights are revoked, and given back', async (t) => {
  const binding = ['clusterrolebinding', 'knp', '-o', 'json']
  const { roleRef, subjects } = JSON.parse(await cluster.kubectl(['get', ...binding]))
  const fared = await bothDuring(async () => {
    await cluster.kubectl(['delete', 'clusterrolebinding', 'knp'])
    // Watches that are under way are not ended for that.
    await cluster.killApiServer()
    await cluster.startApiServer()
    await untilStatus(
      cluster,
      'names the rights that it lacks',
      (status) => /403|forbidden/i.test(problemsOf(status)),
      90_000,
    )
    await apply(cluster, [
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: 'knp' },
        roleRef,
        subjects,
      },
    ])
    await untilStatus(cluster, 'is current again', isCurrent, 90_000)
  })
  holds(t, fared)
})

t.test('all that without a restart', async (t) => t.strictSame(await names(), before))
