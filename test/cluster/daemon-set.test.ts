import t from 'tap'
import { openCluster } from './cluster.ts'
import { knpPods, knpStatus } from './knp.ts'
import { createNamespaces, createPods } from './pods.ts'
import { until } from './process.ts'

// knp as its own manifests run it: one pod on each node, with the one capability that it needs.

const cluster = await openCluster()
const nodes = cluster.members.map(({ name }) => name)

t.test('one pod on each node, ready, and none has been started again', async (t) => {
  const pods = await knpPods(cluster)
  t.strictSame(pods.map(({ node }) => node).sort(), nodes)
  for (const { name, restarts } of pods) t.equal(restarts, 0, name)
})

t.test('each enforces for its own node, from what the API server says', async (t) => {
  for (const node of nodes) {
    const status = await knpStatus(cluster, node)
    t.equal(status.enforcing, true, node)
    t.match(status.sources, [{ name: 'kubernetes', isCurrent: true }], node)
  }
})

t.test('no privileged container: NET_ADMIN is its one capability, and nothing can be gained', async (t) => {
  const { spec } = JSON.parse(await cluster.kubectl(['-n', 'kube-system', 'get', 'daemonset', 'knp', '-o', 'json']))
  const [container] = spec.template.spec.containers
  t.match(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
  })
  t.not(container.securityContext.privileged, true)
  const NET_ADMIN = 1n << 12n
  for (const { name } of await knpPods(cluster)) {
    const script = 'console.log(require("node:fs").readFileSync("/proc/self/status", "utf8"))'
    const text = await cluster.kubectl(['-n', 'kube-system', 'exec', name, '--', '/usr/bin/node', '-e', script])
    const sets = [...text.matchAll(/^Cap(Prm|Eff|Bnd):\s+(\S+)$/gm)]
    t.strictSame(
      sets.map(([, set, bits]) => [set, BigInt(`0x${bits}`)]),
      ['Prm', 'Eff', 'Bnd'].map((set) => [set, NET_ADMIN]),
      name,
    )
  }
})

t.test('its account may read what policies need, and nothing else', async (t) => {
  const as = '--as=system:serviceaccount:kube-system:knp'
  const may = async (verb: string, resource: string) =>
    (await cluster.attemptKubectl(['auth', 'can-i', verb, resource, '-A', as])).stdout.trim()
  for (const resource of ['pods', 'nodes', 'namespaces', 'networkpolicies.networking.k8s.io']) {
    for (const verb of ['list', 'watch']) t.equal(await may(verb, resource), 'yes', `${verb} ${resource}`)
    t.equal(await may('update', resource), 'no', `update ${resource}`)
  }
  for (const resource of ['secrets', 'configmaps', 'services']) t.equal(await may('list', resource), 'no', resource)
  t.equal(await may('create', 'pods/exec'), 'no')
})

t.test("kubelet's probes reach pods that no policy lets anyone reach", async (t) => {
  const namespace = 'knp-probes'
  await createNamespaces(t, cluster, [namespace])
  const deny = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name: 'deny' },
    spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
  }
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify(deny) })
  await createPods(
    cluster,
    nodes.flatMap((node) => ['a', 'b', 'c'].map((name) => ({ namespace, name: `${name}-${node}`, node }))),
  )
  // Ready says that a probe has succeeded. Ten more of each kind: a second apart, and three in a row that fail restart it.
  await cluster.execOn(cluster.members[0]!, ['sleep', '10'])
  await until('the pods are told of', async () => {
    const text = await cluster.kubectl(['-n', namespace, 'get', 'pods', '-o', 'json'])
    const { items } = JSON.parse(text)
    t.equal(items.length, nodes.length * 3)
    for (const { metadata, status } of items) {
      const [container] = status.containerStatuses
      t.match(container, { ready: true, restartCount: 0 }, metadata.name)
    }
    return true
  })
  const events = await cluster.kubectl(['-n', namespace, 'get', 'events', '-o', 'json'])
  const failed = JSON.parse(events).items.filter(
    ({ reason, message }: { reason: string; message: string }) =>
      // A probe before the program listens is refused by the pod itself.
      reason === 'Unhealthy' && !message.includes('connection refused'),
  )
  t.strictSame(failed, [])
})
