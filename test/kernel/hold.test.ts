import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { until } from '../until.ts'
import { networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const fresh = ['10.77.3.2', 'fd77:3::2']
/** Not one of theirs: that some are named has pods looked for at all. */
const elsewhere = '192.0.2.0/24'
/** What is known in time is known well before, and what is not is waited for in vain. */
const LONG_HOLD = '10s'
const TIMEOUT_MS = 8000 * slow
/** So long nothing comes that should not. */
const QUIET_MS = 700

/** `db` may be asked by `app: fresh` on port 80, `fresh` by `app: client` on port 80. */
const rules = ['db', 'fresh'].map((app) => {
  const peer = app === 'db' ? 'fresh' : 'client'
  const from = [{ podSelector: { matchLabels: { app: peer } } }]
  return networkPolicy(app, {
    podSelector: { matchLabels: { app } },
    ingress: [{ from, ports: ['TCP', 'UDP'].map((protocol) => ({ port: 80, protocol })) }],
  })
})

const knownPods = [pod({ name: 'client', addresses: client }), pod({ name: 'db', addresses: db })]

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly product: Product
  readonly agents: Record<'client' | 'db' | 'router', Agent>
  /** Starts a pod: its route, and a program in it, before anybody knows it. */
  startPod(): Promise<Agent>
  /** Its object says where it is. */
  makeKnown(): Promise<void>
  unknown(): Promise<NonNullable<FirewallStatus['unknownPods']>>
}

async function site(t: Test, ...args: readonly string[]): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knph',
    hosts: [
      { name: 'client', addresses: client },
      { name: 'db', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', [...knownPods, ...rules])
  const started = await Promise.all(['client', 'db', 'router'].map((host) => Agent.start(network, host)))
  const product = await Product.start(network, folder, { args })
  const [near, far, node] = started
  for (const protocol of ['tcp', 'udp'] as const)
    for (const [agent, addresses] of [
      [near!, client],
      [far!, db],
    ] as const)
      for (const address of addresses) for (const port of [80, 81]) await agent.listen({ protocol, address, port })
  return {
    network,
    folder,
    product,
    agents: { client: near!, db: far!, router: node! },
    async startPod() {
      await network.addHost({ name: 'fresh', addresses: fresh })
      const agent = await Agent.start(network, 'fresh')
      for (const protocol of ['tcp', 'udp'] as const)
        for (const address of fresh) for (const port of [80, 81]) await agent.listen({ protocol, address, port })
      return agent
    },
    async makeKnown() {
      await product.changeInStatus(() => folder.write('fresh.yaml', [pod({ name: 'fresh', addresses: fresh })]))
    },
    unknown: async () => (await product.status()).unknownPods!,
  }
}

/** UDP is sent once: what arrives has waited. TCP tells whether a connection is made. */
function reach(from: Agent, addresses: readonly string[], port: number, timeoutMs = TIMEOUT_MS): Promise<boolean[]> {
  const probes = addresses.flatMap((address) =>
    (['tcp', 'udp'] as const).map((protocol) => from.probe({ protocol, address, port, timeoutMs })),
  )
  return Promise.all(probes.map(async (probe) => (await probe).ok))
}

const all = [true, true, true, true]
const none = [false, false, false, false]

t.test('a pod that has just started is judged by the policies that select it', { skip }, async (t) => {
  const { agents, startPod, makeKnown, unknown, product } = await site(t, '--pod-cidr', elsewhere, '--hold', LONG_HOLD)
  const pod = await startPod()
  t.equal((await unknown()).addresses, 2)
  const before = (await product.status()).counters
  const early = {
    fromAllowed: reach(pod, db, 80),
    fromDenied: reach(pod, db, 81),
    toAllowed: reach(agents.client, fresh, 80),
    toDenied: reach(agents.client, fresh, 81),
  }
  await until(async () => (await unknown()).holding >= 16)
  t.same(await reach(agents.router, fresh, 81), all, 'this machine’s own probes do not wait')
  t.same(await reach(agents.client, db, 81, QUIET_MS), none, 'who is known is judged at once')
  t.match(await unknown(), { denied: 0, allowed: 0 }, 'all are waiting still')
  t.same((await product.status()).counters.unanswered, before.unanswered)
  await makeKnown()
  t.same(await early.fromAllowed, all)
  t.same(await early.fromDenied, none)
  t.same(await early.toAllowed, all)
  t.same(await early.toDenied, none)
  t.match(await unknown(), { addresses: 0, holding: 0, denied: 0, allowed: 0 })
})

t.test('one that nobody comes to know', { skip }, async (t) => {
  for (const verdict of ['deny', 'allow'] as const) {
    t.test(verdict, async (t) => {
      const { agents, startPod, makeKnown, unknown, product } = await site(
        t,
        ...['--pod-cidr', elsewhere, '--hold', '200ms', '--unknown-local', verdict, '--deny-with', 'reject'],
      )
      const pod = await startPod()
      t.same(await reach(agents.client, fresh, 81, QUIET_MS), verdict === 'allow' ? all : none)
      t.same(await reach(pod, client, 80, QUIET_MS), verdict === 'allow' ? all : none)
      t.same(await reach(pod, db, 80, QUIET_MS), none, 'the other end’s policies hold')
      const { allowed, denied, holding } = await unknown()
      t.equal(holding, 0)
      if (verdict === 'deny') t.ok(denied > 0 && allowed === 0, `${denied} denied, ${allowed} allowed`)
      else t.ok(allowed > 0, `${allowed} allowed`)
      t.equal((await product.status()).counters.rememberedAllowed, 0)
      if (verdict === 'deny') {
        // No reset: who tries again is heard.
        const waiting = pod.probe({ protocol: 'tcp', address: db[0]!, port: 80, timeoutMs: TIMEOUT_MS })
        await until(async () => (await unknown()).denied > denied)
        await makeKnown()
        t.match(await waiting, { ok: true })
      } else {
        await makeKnown()
        t.same(await reach(agents.client, fresh, 81, QUIET_MS), none, 'nothing that was allowed is remembered')
      }
    })
  }
})

t.test('a flood of one does not keep others waiting', { skip }, async (t) => {
  const { agents, startPod, unknown } = await site(
    t,
    '--pod-cidr',
    elsewhere,
    '--hold',
    '2s',
    '--queue-max-length',
    '64',
  )
  const pod = await startPod()
  const flood = Array.from({ length: 30 }, () => reach(pod, db, 80, 100))
  await Promise.all(flood)
  t.ok((await unknown()).holding <= 4, 'a sixteenth of the queue')
  const before = (await unknown()).held
  t.same(await reach(agents.db, client, 80), all, 'who is known is answered meanwhile')
  t.equal((await unknown()).held, before)
})

t.test('a route that goes, and one that is no pod’s', { skip }, async (t) => {
  const { network, startPod, unknown } = await site(t, '--pod-cidr', elsewhere, '--hold', LONG_HOLD)
  const ip = async (...argv: readonly string[]) => {
    const { code, stderr } = await network.exec('router', ['ip', ...argv])
    t.equal(code, 0, stderr)
  }
  const becomes = (count: number, comment: string) =>
    t.resolves(
      until(async () => (await unknown()).addresses === count),
      comment,
    )
  await startPod()
  await becomes(2, 'both families')
  await ip('route', 'del', `${fresh[0]}/32`)
  await becomes(1, 'an IPv4 route is removed')
  await ip('-6', 'route', 'del', `${fresh[1]}/128`)
  await becomes(0, 'an IPv6 route is removed')
  for (const [version, address] of [
    ['-4', `${fresh[0]}/32`],
    ['-6', `${fresh[1]}/128`],
  ] as const)
    await ip(version, 'route', 'add', address, 'dev', 'fresh')
  await becomes(2, 'and come again')
  await ip('route', 'replace', `${fresh[0]}/32`, 'via', client[0]!, 'dev', 'client', 'onlink')
  await becomes(1, 'one that leads through a gateway')
  await ip('route', 'replace', `${fresh[0]}/32`, 'dev', 'fresh')
  await becomes(2, 'and back')
  await ip('link', 'add', 'other', 'type', 'bridge')
  await ip('link', 'set', 'other', 'up')
  await ip('route', 'add', '10.77.9.9/32', 'dev', 'other')
  await ip('route', 'add', '10.77.9.8/32', 'dev', 'fresh', 'table', '77')
  await ip('route', 'add', '10.77.9.10/32', 'dev', 'fresh')
  await becomes(3, 'through an interface of a pod, in the main table')
  await ip('link', 'set', 'fresh', 'down')
  await becomes(0, 'an interface that goes down takes its routes along')
})

t.test('pods behind a bridge are known by the blocks of their addresses', { skip }, async (t) => {
  const blocks = ['10.77.3.0/24', 'fd77:3::/64']
  const { network, agents, folder, startPod, makeKnown, unknown, product } = await site(
    t,
    ...blocks.flatMap((block) => ['--pod-cidr', block]),
    ...['--hold', LONG_HOLD],
  )
  const pod = await startPod()
  for (const [i, block] of blocks.entries()) {
    const version = isIPv4(fresh[i]!) ? '-4' : '-6'
    for (const argv of [
      ['route', 'add', block, 'dev', 'fresh'],
      ['route', 'del', `${fresh[i]}/${i === 0 ? 32 : 128}`],
    ])
      t.match(await network.exec('router', ['ip', version, ...argv]), { code: 0 })
  }
  await until(async () => (await unknown()).addresses === 0)
  t.same((await unknown()).blocks, blocks)
  const early = { allowed: reach(pod, db, 80), denied: reach(pod, db, 81), to: reach(agents.client, fresh, 80) }
  await until(async () => (await unknown()).holding >= 12)
  t.same(await reach(agents.router, fresh, 81), all, 'this machine’s own probes do not wait')
  await makeKnown()
  t.same([await early.allowed, await early.denied, await early.to], [all, none, all])

  t.test('one that is known and that no policy selects is not asked about', async (t) => {
    await product.changeInStatus(() => folder.write('all.yaml', [...knownPods, rules[0]!]))
    const { counters } = await product.status()
    t.same(await reach(agents.client, fresh, 81), all)
    t.equal((await product.status()).counters.queued, counters.queued)
    await product.changeInStatus(() => folder.remove('fresh.yaml'))
    const waiting = reach(agents.client, fresh, 81, QUIET_MS)
    await until(async () => (await unknown()).holding >= 4)
    t.same(await waiting, none, 'nobody knows it any more')
  })
})

t.test('what a pod had open when its object went goes on', { skip }, async (t) => {
  const { agents, folder, startPod, makeKnown, unknown, product } = await site(
    t,
    ...['--pod-cidr', elsewhere, '--hold', '200ms'],
  )
  await startPod()
  await makeKnown()
  const open = fresh.flatMap((address) =>
    (['tcp', 'udp'] as const).map(
      async (protocol) => (await agents.client.open({ protocol, address, port: 80 })).connection!,
    ),
  )
  const connections = await Promise.all(open)
  const exchange = async () =>
    (await Promise.all(connections.map((connection, i) => connection.exchange(`n${i}`, TIMEOUT_MS)))).map(
      ({ ok }) => ok,
    )
  t.same(await exchange(), all)
  await product.changeInStatus(() => folder.remove('fresh.yaml'))
  for (let round = 0; round < 5; round++) t.same(await exchange(), all, 'also while it is looked through')
  t.equal((await unknown()).denied, 0)
  t.same(await reach(agents.client, fresh, 80, QUIET_MS), none, 'what begins waits in vain')
})

t.test('with files only, and without blocks, nothing is taken for a pod', { skip }, async (t) => {
  const { agents, startPod, product } = await site(t)
  await startPod()
  t.same(await reach(agents.client, fresh, 81), all)
  t.equal((await product.status()).unknownPods, undefined)
})
