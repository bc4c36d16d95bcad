import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { type ParsedMetric, parsePrometheus, valuesOf } from '../fixtures/prometheus.ts'
import { slow } from '../slow.ts'
import { until } from '../until.ts'
import { get } from './http.ts'
import { forgetful, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const web = ['10.77.1.2', 'fd77:1::2'] as const
const api = ['10.77.1.3', 'fd77:1::3'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
const cache = ['10.77.2.3', 'fd77:2::3'] as const
const PORT = 9080
/** Each denied datagram is one packet, and its sender waits no longer. */
const DENIED_AFTER_MS = 300

const TOLD_TIMEOUT_MS = 20_000 * slow

const ports = (...numbers: number[]) => numbers.map((port) => ({ protocol: 'UDP', port }))
const clusterPolicy = (name: string, tier: 'Admin' | 'Baseline', port: number) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name },
  spec: {
    tier,
    priority: 1,
    subject: { namespaces: {} },
    ingress: [
      { action: 'Deny', from: [{ namespaces: {} }], protocols: [{ udp: { destinationPort: { number: port } } }] },
    ],
  },
})
const dbPolicy = (...open: number[]) =>
  networkPolicy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: ports(...open) }] })
const world = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'api', addresses: api }),
  pod({ name: 'db', addresses: db }),
  pod({ name: 'cache', addresses: cache }),
  clusterPolicy('no-telnet', 'Admin', 23),
  clusterPolicy('no-mail', 'Baseline', 25),
  networkPolicy('web-out', {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Egress'],
    egress: [{ ports: ports(80, 81) }],
  }),
]

/** Who sends how much to whom, and what decides it. */
const rows = [
  { from: web, to: db, port: 80, times: 7, tier: 'ingress NetworkPolicy allow', policy: 'NetworkPolicy shop db' },
  { from: web, to: db, port: 81, times: 3, tier: 'ingress NetworkPolicy deny', policy: 'NetworkPolicy shop db' },
  { from: web, to: db, port: 82, times: 2, tier: 'egress NetworkPolicy deny', policy: 'NetworkPolicy shop web-out' },
  {
    from: web,
    to: cache,
    port: 81,
    times: 5,
    tier: 'egress NetworkPolicy allow',
    policy: 'NetworkPolicy shop web-out',
  },
  { from: api, to: db, port: 23, times: 4, tier: 'ingress Admin deny', policy: 'ClusterNetworkPolicy  no-telnet' },
  { from: api, to: cache, port: 25, times: 1, tier: 'ingress Baseline deny', policy: 'ClusterNetworkPolicy  no-mail' },
  { from: api, to: cache, port: 98, times: 6, tier: 'none Default allow', policy: undefined },
] as const

class Site {
  static async make(t: Test): Promise<Site> {
    const network = await createNetwork({
      prefix: 'knpm',
      hosts: [
        { name: 'near', addresses: [...web, ...api] },
        { name: 'far', addresses: [...db, ...cache] },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    const near = await Agent.start(network, 'near')
    const far = await Agent.start(network, 'far')
    for (const { to, port } of rows) for (const address of to) await far.listen({ protocol: 'udp', address, port })
    return new Site(network, folder, near)
  }

  readonly network: Network
  readonly folder: Policies
  readonly #near: Agent

  private constructor(network: Network, folder: Policies, near: Agent) {
    this.network = network
    this.folder = folder
    this.#near = near
  }

  /** Sends what the rows say over IPv4 and IPv6; answers how many were answered. */
  async send(): Promise<number> {
    const probes = rows.flatMap(({ from, to, port, times }) =>
      [0, 1].flatMap((family) =>
        Array.from({ length: times }, () =>
          this.#near.probe({
            protocol: 'udp',
            sourceAddress: from[family]!,
            address: to[family]!,
            port,
            timeoutMs: DENIED_AFTER_MS,
          }),
        ),
      ),
    )
    return (await Promise.all(probes)).filter(({ ok }) => ok).length
  }

  async metrics(): Promise<ReadonlyMap<string, ParsedMetric>> {
    const { status, body } = await get(this.network, PORT, '/metrics')
    if (status !== 200) throw new Error(`${status}: ${body}`)
    return parsePrometheus(body)
  }
}

/** What `send` must have come to, `times` times. */
function expectedTiers(times: number, origin = 'asked'): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {}
  for (const { tier, times: packets } of rows) {
    sums[`${tier} ${origin}`] = (sums[`${tier} ${origin}`] ?? 0) + 2 * packets * times
  }
  return sums
}

function expectedPolicies(times: number): Readonly<Record<string, number>> {
  return Object.fromEntries(
    rows.flatMap(({ tier, policy, times: packets }) => {
      const [direction, name, verdict] = tier.split(' ')
      return policy ? [[`${direction} ${name} ${policy} ${verdict}`, 2 * packets * times]] : []
    }),
  )
}

const positive = (values: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value > 0))
const sum = (values: Readonly<Record<string, number>>) =>
  Object.values(values).reduce((total, value) => total + value, 0)
const SENT = 2 * rows.reduce((total, { times }) => total + times, 0)
const ALLOWED = 2 * rows.reduce((total, { times, tier }) => total + (tier.endsWith('allow') ? times : 0), 0)

t.test('totals are what was sent', { skip }, async (t) => {
  const site = await Site.make(t)
  await site.folder.write('world.yaml', [...world, dbPolicy(80)])
  const product = await Product.start(site.network, site.folder, { args: [...forgetful, '--queue-count', '2'] })
  t.same(positive(valuesOf((await site.metrics()).get('knp_decisions_total'))), {})
  t.equal(await site.send(), ALLOWED)
  const metrics = await site.metrics()
  const of = (name: string) => valuesOf(metrics.get(name))
  t.same(positive(of('knp_decisions_total')), expectedTiers(1))
  t.same(of('knp_policy_decisions_total'), expectedPolicies(1))
  t.same(of('knp_asked_packets_total'), { '': SENT })
  t.same(of('knp_unanswered_packets_total'), { '': 0 })
  t.same(of('knp_remembered_packets_total'), { allow: 0, deny: 0 })
  t.same(Object.keys(of('knp_queue_packets_total')), ['100', '101'])
  t.equal(sum(of('knp_queue_packets_total')), SENT)
  for (const name of ['knp_decision_duration_seconds', 'knp_queue_wait_seconds']) {
    const samples = metrics.get(name)!.samples
    t.equal(samples.find((sample) => sample.name === `${name}_count`)?.value, SENT, `${name} counts packets`)
    t.equal(samples.find(({ labels }) => labels.le === '+Inf')?.value, SENT)
  }
  const took = metrics.get('knp_decision_duration_seconds')!.samples.find(({ name }) => name.endsWith('_sum'))!.value
  t.ok(took > 0 && took < 10, `${took} s`)
  t.same(of('knp_enforcing'), { '': 1 })

  await t.test('totals survive generations, and policies that take the numbers of others', async (t) => {
    // Gone, then there again: whatever was counted by its number meanwhile was another one's.
    await product.change(() => site.folder.write('world.yaml', world))
    await product.change(() =>
      site.folder.write('world.yaml', [
        ...world,
        networkPolicy('other', { podSelector: { matchLabels: { app: 'nobody' } }, ingress: [] }),
      ]),
    )
    t.same(positive(valuesOf((await site.metrics()).get('knp_decisions_total'))), expectedTiers(1), 'tiers keep theirs')
    const kept = valuesOf((await site.metrics()).get('knp_policy_decisions_total'))
    t.same(
      kept,
      Object.fromEntries(Object.entries(expectedPolicies(1)).filter(([labels]) => !labels.includes('shop db'))),
      'what was known of a policy goes with it',
    )
    await product.change(() => site.folder.write('world.yaml', [...world, dbPolicy(80)]))
    t.equal(await site.send(), ALLOWED)
    const after = await site.metrics()
    t.same(positive(valuesOf(after.get('knp_decisions_total'))), expectedTiers(2))
    const ofDb = (values: Readonly<Record<string, number>>) =>
      Object.fromEntries(Object.entries(values).filter(([labels]) => labels.includes('shop db')))
    const byPolicy = valuesOf(after.get('knp_policy_decisions_total'))
    t.same(ofDb(byPolicy), ofDb(expectedPolicies(1)))
    t.same(byPolicy, { ...expectedPolicies(2), ...ofDb(expectedPolicies(1)) })
    t.equal(valuesOf(after.get('knp_compile_duration_seconds'))['+Inf'], 3)
    t.equal(valuesOf(after.get('knp_apply_duration_seconds'))['+Inf'], 3)
  })
  t.equal((await product.stop()).code, 0)
})

t.test('what the kernel remembers counts for who decided it', { skip }, async (t) => {
  const site = await Site.make(t)
  await site.folder.write('world.yaml', [...world, dbPolicy(80)])
  const args = ['--remember-allowed', '1h', '--remember-denied', '1h']
  const product = await Product.start(site.network, site.folder, { args })
  for (const times of [1, 2]) {
    t.equal(await site.send(), ALLOWED)
    // What the kernel does by itself is told a little later.
    const counted = async () => sum(valuesOf((await site.metrics()).get('knp_decisions_total')))
    await until(async () => (await counted()) >= times * SENT, TOLD_TIMEOUT_MS)
    const metrics = await site.metrics()
    const decisions = valuesOf(metrics.get('knp_decisions_total'))
    const byTier: Record<string, number> = {}
    for (const [labels, count] of Object.entries(positive(decisions))) {
      const tier = labels.replace(/ (asked|remembered)$/, '')
      byTier[`${tier} asked`] = (byTier[`${tier} asked`] ?? 0) + count
    }
    t.same(byTier, expectedTiers(times), 'every packet counts once')
    t.same(valuesOf(metrics.get('knp_policy_decisions_total')), expectedPolicies(times))
    const remembered = Object.entries(decisions).flatMap(([labels, n]) => (labels.endsWith('remembered') ? n : []))
    t.equal(
      remembered.reduce((total, n) => total + n, 0),
      sum(valuesOf(metrics.get('knp_remembered_packets_total'))),
      'as many as the kernel says',
    )
    t.same(valuesOf(metrics.get('knp_remembered_unknown_packets_total')), { '': 0 })
    if (times === 2)
      t.ok(sum(valuesOf(metrics.get('knp_asked_packets_total'))) <= SENT, 'nothing was asked about twice')
  }
  await product.stop()
})
