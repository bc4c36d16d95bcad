import t from 'tap'
import { openCluster } from './cluster.ts'
import { addressesOf, apply, createNamespaces, createPods, podManifest, remove } from './pods.ts'
import { until } from './process.ts'

// A pod connects before any source can have told of its address. Policies that select it judge these connections too.

const cluster = await openCluster()
const namespace = 'knp-first'
const count = Number(process.env.KNP_FIRST_PODS ?? 100)
const nodes = cluster.members.map(({ name }) => name)

/**
 * Tries what is forbidden from the first instant on, for two seconds; then what is allowed, until it works. It says how
 * often the one and the other connected.
 */
const attempts = `
forbidden=0; tries=0; end=$(($(date +%s) + 2))
while [ $(date +%s) -lt $end ]; do
  nc -w 1 "$FORBIDDEN" 80 -e /bin/true 2>/dev/null && forbidden=$((forbidden + 1))
  tries=$((tries + 1))
done
allowed=0
for i in $(seq 20); do nc -w 1 "$ALLOWED" 80 -e /bin/true 2>/dev/null && allowed=1 && break; done
echo "tries=$tries forbidden=$forbidden allowed=$allowed"
`

await createNamespaces(t, cluster, [namespace])
await createPods(
  cluster,
  ['forbidden', 'allowed'].map((name) => ({ namespace, name, node: nodes[0]! })),
)
const [forbidden = ''] = await addressesOf(cluster, namespace, 'forbidden')
const [allowed = ''] = await addressesOf(cluster, namespace, 'allowed')

/** Starts pods one after the other and answers what each of them says. */
async function startPods(prefix: string, pods: number): Promise<readonly string[]> {
  const said: string[] = []
  for (let number = 0; number < pods; number++) {
    const pod = podManifest({
      namespace,
      name: `${prefix}-${number}`,
      labels: { app: prefix },
      node: nodes[number % nodes.length]!,
      command: ['/bin/sh', '-c', attempts],
      env: { FORBIDDEN: forbidden, ALLOWED: allowed },
    })
    await apply(cluster, [pod])
  }
  for (let number = 0; number < pods; number++) {
    const name = `${prefix}-${number}`
    const path = 'jsonpath={.status.phase}'
    await until(`${name} has ended`, async () => {
      return (await cluster.kubectl(['-n', namespace, 'get', 'pod', name, '-o', path])) === 'Succeeded'
    })
    said.push((await cluster.kubectl(['-n', namespace, 'logs', name])).trim())
  }
  return said
}

t.test('without a policy a pod reaches both at once: the attempts are real', async (t) => {
  for (const text of await startPods('free', 2)) {
    t.match(text, /allowed=1$/)
    t.notMatch(text, /forbidden=0/)
  }
})

for (const direction of ['Egress', 'Ingress'] as const) {
  t.test(`${direction}: of ${count} pods that start in turn, none reaches what a policy forbids`, async (t) => {
    const prefix = direction.toLowerCase()
    const policy = {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace, name: prefix },
      spec:
        direction === 'Egress'
          ? {
              podSelector: { matchLabels: { app: prefix } },
              policyTypes: [direction],
              egress: [{ to: [{ podSelector: { matchLabels: { app: 'allowed' } } }] }],
            }
          : {
              podSelector: { matchLabels: { app: 'forbidden' } },
              ingress: [{ from: [{ podSelector: { matchLabels: { app: 'nobody' } } }] }],
            },
    }
    t.teardown(() => remove(cluster, [policy]))
    await apply(cluster, [policy])
    const said = await startPods(prefix, direction === 'Egress' ? count : Math.ceil(count / 10))
    t.strictSame(
      said.filter((text) => !/ forbidden=0 allowed=1$/.test(text)),
      [],
    )
    t.comment(`${said.length} pods, for example: ${said[0]}`)
  })
}
