import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type HostSpec, type Network } from '../../src/lab/network.ts'
import { type PingOutcome, ping, sendPackets, udpPacket } from '../tools/raw.ts'
import { until } from '../until.ts'
import { counts, moved } from './counts.ts'
import {
  forgetful,
  hostEndpoint,
  networkPolicy,
  networkSet,
  type Policies,
  Product,
  policies,
  skip,
} from './product.ts'

const edge = ['10.77.0.1', 'fd77::1']
const admin = ['10.77.1.2', 'fd77:1::2']
const other = ['10.77.1.3', 'fd77:1::3']
const box = ['10.77.2.2', 'fd77:2::2']
const protocols = ['tcp', 'udp'] as const
const families = [0, 1] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900

const isEdge = { podSelector: { matchLabels: { app: 'edge' } } }
const self = hostEndpoint({ name: 'edge', node: 'edge' })
const denyAll = networkPolicy('edge', { ...isEdge, policyTypes: ['Ingress', 'Egress'] })
const portsOf = (...ports: number[]) => ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
/** What comes in and goes out, by port. */
const only = (...ports: number[]) =>
  networkPolicy('edge', {
    ...isEdge,
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ ports: portsOf(...ports) }],
    egress: [{ ports: portsOf(...ports) }],
  })

interface Site {
  readonly network: Network
  readonly folder: Policies
  /** An agent in each host, and in the router. */
  readonly agents: Readonly<Record<string, Agent>>
}

/** The router is the host that is protected: node `edge`. */
async function site(t: Test, objects: readonly object[], hosts: Readonly<Record<string, readonly string[]>>) {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: Object.entries(hosts).map(([name, addresses]): HostSpec => ({ name, addresses })),
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const names = ['router', ...Object.keys(hosts)]
  const started = await Promise.all(names.map((name) => Agent.start(network, name)))
  const agents = Object.fromEntries(names.map((name, i) => [name, started[i]!]))
  return { network, folder, agents } satisfies Site
}

function run({ network, folder }: Site, ...args: readonly string[]): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', ...args] })
}

async function serve(agent: Agent, addresses: readonly string[], ...ports: readonly number[]): Promise<void> {
  for (const address of addresses)
    for (const port of ports) for (const protocol of protocols) await agent.listen({ protocol, address, port })
}

interface Origin {
  readonly sourceAddress?: string
  readonly sourcePort?: number
}

/** What becomes of a new connection, by TCP and by UDP: one word where it is the same. */
async function outcome(agent: Agent, address: string, port: number, origin: Origin = {}): Promise<string> {
  const answers = await Promise.all(
    protocols.map((protocol) => agent.probe({ protocol, address, port, timeoutMs: DENIED_AFTER_MS, ...origin })),
  )
  return [...new Set(answers.map(({ ok, error }) => (ok ? 'reached' : error)))].join()
}

/** Outcomes by name, all at once: IPv4 and IPv6, one word where it is the same. */
async function outcomes<Name extends string>(
  asked: Readonly<Record<Name, (family: 0 | 1) => Promise<string>>>,
): Promise<Record<Name, string>> {
  const entries = await Promise.all(
    Object.entries(asked as Record<string, (family: 0 | 1) => Promise<string>>).map(async ([name, ask]) => {
      return [name, [...new Set(await Promise.all(families.map(ask)))].join()] as const
    }),
  )
  return Object.fromEntries(entries) as Record<Name, string>
}

async function succeed(network: Network, argv: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await network.exec('router', argv, { input })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

function nft({ network }: Site, lines: readonly string[]): Promise<string> {
  return succeed(network, ['nft', '-f', '-'], `${lines.join('\n')}\n`)
}

function ip({ network }: Site, command: string): Promise<string> {
  return succeed(network, ['ip', ...command.split(' ')])
}

// Each in a network of its own.
t.jobs = 3

t.test('input and output are judged, loopback and own addresses are not', { skip }, async (t) => {
  const lab = await site(t, [self, only(80)], { admin })
  const { admin: remote, router } = lab.agents
  await serve(router!, [...edge, '127.0.0.1', '::1'], 80, 81)
  await serve(remote!, admin, 80, 81)
  const product = await run(lab)
  t.match(await product.status(), { host: { name: 'shop/edge', ingress: true, egress: true, forwards: [] } })
  const remoteTraffic = {
    'in 80': (i: 0 | 1) => outcome(remote!, edge[i]!, 80),
    'in 81': (i: 0 | 1) => outcome(remote!, edge[i]!, 81),
    'in ping': async (i: 0 | 1) => (await pinged(lab.network, 'admin', edge[i]!))!,
    'out 80': (i: 0 | 1) => outcome(router!, admin[i]!, 80),
    'out 81': (i: 0 | 1) => outcome(router!, admin[i]!, 81),
    'out ping': async (i: 0 | 1) => (await pinged(lab.network, 'router', admin[i]!))!,
  }

  const idle = await counts(product)
  t.same(
    await outcomes({
      loopback: (i) => outcome(router!, ['127.0.0.1', '::1'][i]!, 81),
      'its own address': (i) => outcome(router!, edge[i]!, 81),
      'its own address, from loopback': (i) => outcome(router!, edge[i]!, 81, { sourceAddress: edge[i]! }),
    }),
    { loopback: 'reached', 'its own address': 'reached', 'its own address, from loopback': 'reached' },
  )
  t.same(await moved(product, idle), { queued: 0, allowed: 0, denied: 0 }, 'none of it is queued')

  t.same(await outcomes(remoteTraffic), {
    'in 80': 'reached',
    'in 81': 'timeout',
    'in ping': 'timeout',
    'out 80': 'reached',
    'out 81': 'timeout',
    'out ping': 'timeout',
  })
  t.same(await moved(product, idle), { queued: 20, allowed: 8, denied: 12 }, 'one packet for each connection')

  await t.test('a policy that stops selecting the host takes its rules away', async (t) => {
    t.match(await chain(lab, 'incoming'), /goto judge/)
    const others = networkPolicy('edge', { podSelector: { matchLabels: { app: 'another' } } })
    await product.change(() => lab.folder.write('all.yaml', [self, others]))
    t.match(await product.status(), { host: { ingress: false, egress: false } })
    for (const name of ['incoming', 'before_output']) t.notMatch(await chain(lab, name), /goto judge/)
    const before = await counts(product)
    t.same([...new Set(Object.values(await outcomes(remoteTraffic)))], ['reached', 'reply'])
    t.same(await moved(product, before), { queued: 0, allowed: 0, denied: 0 })
    await product.change(() => lab.folder.write('all.yaml', [self, only(80)]))
    t.equal(await outcome(remote!, edge[0]!, 81), 'timeout', 'and brings them back')
  })
})

t.test('an address that comes is protected at once, as one that goes was', { skip }, async (t) => {
  const lab = await site(t, [self, only(80)], { admin })
  const { admin: remote, router } = lab.agents
  // Remembered denials go a moment after the address, and would be counted or not.
  const product = await run(lab, ...forgetful)
  const { generation } = await product.status()
  const lease = ['10.77.0.9', 'fd77::9']
  for (const i of families) {
    const bits = i === 0 ? 32 : 128
    await serve(router!, [edge[i]!], 80, 81)
    t.equal(await outcome(remote!, edge[i]!, 81), 'timeout', 'the former address')
    t.equal(await outcome(remote!, edge[i]!, 80), 'reached')
    await ip(lab, `addr add ${lease[i]}/${bits} dev admin${i === 0 ? '' : ' nodad'}`)
    const before = await counts(product)
    await serve(router!, [lease[i]!], 80, 81)
    t.equal(await outcome(remote!, lease[i]!, 81), 'timeout', 'the new one')
    t.equal(await outcome(remote!, lease[i]!, 80), 'reached')
    await ip(lab, `route replace ${admin[i]}/${bits} dev admin src ${lease[i]}`)
    await ip(lab, `addr del ${edge[i]}/${bits} dev lo`)
    t.equal(await outcome(remote!, lease[i]!, 81), 'timeout', 'without the former one')
    t.equal(await outcome(remote!, lease[i]!, 80), 'reached')
    t.same(await moved(product, before), { queued: 8, allowed: 4, denied: 4 })
  }
  t.equal((await product.status()).generation, generation, 'no policy had to change')
})

t.test('link-local addresses, neighbours, multicast, broadcast and DHCP', { skip }, async (t) => {
  const lab = await site(t, [self, only(80)], { admin })
  const { admin: remote, router } = lab.agents
  // Made of the interfaces' hardware addresses.
  const [near, far] = ['fe80::ff:fe01:1', 'fe80::ff:fe02:1']
  await serve(router!, [`${near}%admin`], 80, 81)
  await serve(remote!, [`${far}%eth0`], 80, 81)
  const product = await run(lab)

  await t.test('link-local, in and out', async (t) => {
    const before = await counts(product)
    t.same(
      await Promise.all([
        outcome(remote!, `${near}%eth0`, 80),
        outcome(remote!, `${near}%eth0`, 81),
        outcome(router!, `${far}%admin`, 80),
        outcome(router!, `${far}%admin`, 81),
      ]),
      ['reached', 'timeout', 'reached', 'timeout'],
    )
    t.same(await moved(product, before), { queued: 8, allowed: 4, denied: 4 })
  })

  await t.test('neighbour discovery under deny-all', async (t) => {
    await product.change(() => lab.folder.write('all.yaml', [self, denyAll]))
    await lab.network.exec('admin', ['ip', '-6', 'neigh', 'flush', 'dev', 'eth0'])
    await ip(lab, '-6 neigh flush dev admin')
    const before = await counts(product)
    t.same(await Promise.all([outcome(remote!, `${near}%eth0`, 80), outcome(router!, `${far}%admin`, 80)]), [
      'timeout',
      'timeout',
    ])
    t.same(await moved(product, before), { queued: 4, allowed: 0, denied: 4 }, 'they arrived to be denied')
    t.match(await ip(lab, `-6 neigh show ${far} dev admin`), /lladdr 02:00:00:02:00:01/)
    await product.change(() => lab.folder.write('all.yaml', [self, only(80)]))
  })

  const groups = [
    { name: 'IPv6 multicast', destination: 'ff02::1', source: far, to: '33:33:00:00:00:01' },
    { name: 'IPv4 multicast', destination: '224.0.0.1', source: admin[0]!, to: '01:00:5e:00:00:01' },
    { name: 'broadcast', destination: '255.255.255.255', source: admin[0]!, to: 'ff:ff:ff:ff:ff:ff' },
  ]
  // Behind all of ours: what arrives here is delivered.
  await nft(lab, [
    'table inet arrived {',
    ...[68, 80, 81].map((port) => `  counter port${port} { }`),
    '  chain input { type filter hook input priority 300; policy accept;',
    ...[68, 80, 81].map((port) => `    iifname admin udp dport ${port} counter name port${port}`),
    '  }',
    '}',
  ])
  const arrived = async (port: number) =>
    packetsOf(await succeed(lab.network, counterListing('arrived', `port${port}`)))
  for (const { name, destination, source, to } of groups) {
    t.test(name, async (t) => {
      const before = { ...(await counts(product)), 80: await arrived(80), 81: await arrived(81) }
      const packets = [80, 81].map((destinationPort) =>
        udpPacket({ source, destination, sourcePort: 4000, destinationPort }),
      )
      t.equal(await sendPackets(lab.network, 'admin', packets, { to }), 2)
      await until(async () => (await counts(product)).queued >= before.queued + 2)
      t.same(await moved(product, before), { queued: 2, allowed: 1, denied: 1 })
      t.equal(await arrived(80), before[80] + 1, 'what is allowed arrives')
      t.equal(await arrived(81), before[81], 'what is denied does not')
    })
  }

  t.test('DHCP reaches a host that has no IPv4 address', async (t) => {
    await ip(lab, '-4 addr flush dev lo')
    const before = await counts(product)
    const offer = (destinationPort: number) =>
      udpPacket({ source: '10.77.0.254', destination: '255.255.255.255', sourcePort: 67, destinationPort })
    const former = await arrived(81)
    t.equal(await sendPackets(lab.network, 'admin', [offer(81), offer(68)], { to: 'ff:ff:ff:ff:ff:ff' }), 2)
    await until(async () => (await arrived(68)) === 1)
    t.equal(await arrived(68), 1)
    t.equal(await arrived(81), former, 'to another port it does not arrive')
    t.same(await moved(product, before), { queued: 1, allowed: 0, denied: 1 }, 'the failsafe is not queued')
  })
})

t.test('the failsafe passes while the firewall is dead, and nothing else', { skip }, async (t) => {
  const lab = await site(t, [self, denyAll], { admin })
  const { admin: remote, router } = lab.agents
  await serve(router!, edge, 22, 23)
  await serve(remote!, admin, 22, 53, 54)
  const product = await run(lab, '--on-failure', 'closed')
  const tcp = (agent: Agent, address: string, port: number, origin: Origin = {}) =>
    agent.probe({ protocol: 'tcp', address, port, timeoutMs: DENIED_AFTER_MS, ...origin })
  const established = await Promise.all(
    edge.map(async (address) => (await remote!.open({ protocol: 'tcp', address, port: 22 })).connection!),
  )
  t.match(await established[0]!.exchange('alive'), { ok: true })
  await product.stop('SIGKILL')
  const unanswered = async () => packetsOf(await succeed(lab.network, counterListing('knp', 'unanswered')))
  const before = await unanswered()

  for (const i of families) {
    t.match(await established[i]!.exchange('dead'), { ok: true }, 'a session goes on')
    const [ssh, otherIn, dns, otherOut, sshOut] = await Promise.all([
      tcp(remote!, edge[i]!, 22),
      tcp(remote!, edge[i]!, 23),
      router!.probe({ protocol: 'udp', address: admin[i]!, port: 53, timeoutMs: DENIED_AFTER_MS }),
      tcp(router!, admin[i]!, 54),
      tcp(router!, admin[i]!, 22),
    ])
    t.match(ssh, { ok: true }, 'a new session')
    t.match(otherIn, { ok: false, error: 'timeout' }, 'another port')
    t.match(dns, { ok: true }, 'a name server answers')
    t.match(otherOut, { ok: false, error: 'timeout' }, 'output to another port')
    t.match(sshOut, { ok: false, error: 'timeout' }, 'inbound is not outbound')
  }
  t.equal((await unanswered()) - before, 6, 'each packet that was dropped got no verdict')

  const second = await run(lab, '--on-failure', 'closed')
  for (const connection of established) t.match(await connection.exchange('again'), { ok: true })
  t.match(await second.status(), { host: { ingress: true, egress: true } })
})

t.test(
  'a session that is older than the firewall goes on, also where the server is the first to speak',
  {
    skip,
  },
  async (t) => {
    const lab = await site(t, [self, denyAll], { admin })
    const { admin: remote, router } = lab.agents
    const download = async (port: number) =>
      await Promise.all(edge.map((address) => remote!.download({ address, port, durationMs: 30_000 })))
    for (const address of edge)
      for (const port of [22, 23]) await router!.serve({ address, port, bytesPerSecond: 1_000_000 })
    const [sessions, others] = [await download(22), await download(23)]
    for (const stream of [...sessions, ...others]) t.ok(await stream.more(2))
    await nft(lab, [
      'table inet stall {',
      // Ahead of connection tracking.
      '  chain output { type filter hook output priority -400; policy accept; tcp sport { 22, 23 } drop; }',
      '}',
    ])
    await Promise.all([...sessions, ...others].map((stream) => stream.quiet(200)))
    await run(lab)
    await nft(lab, ['delete table inet stall'])
    for (const stream of sessions) t.ok(await stream.more(3, 10_000))
    for (const stream of others) t.equal(stream.arrivals.at(-1)!.bytes, 0, 'one of another port is cut')
  },
)

t.test('a connection from a failsafe port is judged', { skip }, async (t) => {
  const lab = await site(t, [self, only(80)], { admin })
  const { admin: remote, router } = lab.agents
  await serve(remote!, admin, 80, 81)
  const product = await run(lab)
  const before = await counts(product)
  // One after the other: the port is the same.
  for (const i of families) {
    const origin = { sourceAddress: edge[i]!, sourcePort: 22 }
    t.equal(await outcome(router!, admin[i]!, 80, origin), 'reached')
    t.equal(await outcome(router!, admin[i]!, 81, origin), 'timeout')
  }
  t.same(await moved(product, before), { queued: 8, allowed: 4, denied: 4 })
})

t.test('a failsafe for some, and for none', { skip }, async (t) => {
  const lab = await site(t, [self, only(80)], { admin: [...admin, ...other] })
  const { admin: remote, router } = lab.agents
  await serve(router!, edge, 22, 80)
  const reach = (addresses: readonly string[], port: number) => (i: 0 | 1) =>
    reachTcp(remote!, edge[i]!, port, addresses[i]!)

  const some = admin.map((address) => `--failsafe-inbound=tcp/22@${address}/${isIPv4(address) ? 32 : 128}`)
  const restricted = await run(lab, ...some)
  t.match(await restricted.status(), { failsafe: { inbound: ['tcp/22@10.77.1.2/32', 'tcp/22@fd77:1::2/128'] } })
  const before = await counts(restricted)
  t.same(await outcomes({ named: reach(admin, 22), another: reach(other, 22), policy: reach(other, 80) }), {
    named: 'reached',
    another: 'timeout',
    policy: 'reached',
  })
  t.same(await moved(restricted, before), { queued: 4, allowed: 2, denied: 2 })
  await restricted.stop()

  const none = await run(lab, '--failsafe-inbound', 'none', '--failsafe-outbound', 'none')
  t.match(await none.status(), { failsafe: { inbound: [], outbound: [] } })
  t.same(await outcomes({ named: reach(admin, 22), policy: reach(admin, 80) }), {
    named: 'timeout',
    policy: 'reached',
  })
})

t.test('a published container port', { skip }, async (t) => {
  const endpoint = hostEndpoint({ name: 'edge', node: 'edge', forwards: ['10.77.2.0/24', 'fd77:2::/64'] })
  const lab = await site(t, [endpoint, only(8080)], { admin, box })
  const { admin: remote, box: container, router } = lab.agents
  await serve(container!, box, 8080, 8081)
  await serve(remote!, admin, 90)
  await serve(router!, edge, 90)
  // Port 80 is published as 8080, which policy allows, port 8080 as 8081, which it does not.
  const publish = ['tcp', 'udp'].flatMap((protocol) => [
    `ip daddr ${edge[0]} ${protocol} dport 80 dnat ip to ${box[0]}:8080`,
    `ip daddr ${edge[0]} ${protocol} dport 8080 dnat ip to ${box[0]}:8081`,
    `ip6 daddr ${edge[1]} ${protocol} dport 80 dnat ip6 to [${box[1]}]:8080`,
    `ip6 daddr ${edge[1]} ${protocol} dport 8080 dnat ip6 to [${box[1]}]:8081`,
  ])
  await nft(lab, [
    'table inet containers {',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept;',
    ...publish,
    '  }',
    '}',
  ])
  const product = await run(lab, ...forgetful)
  t.match(await product.status(), { host: { forwards: ['10.77.2.0/24', 'fd77:2::/64'] } })
  const before = await counts(product)
  t.same(
    await outcomes({
      'published, allowed': (i) => outcome(remote!, edge[i]!, 80),
      'published, denied': (i) => outcome(remote!, edge[i]!, 8080),
      'direct, allowed': (i) => outcome(remote!, box[i]!, 8080),
      'direct, denied': (i) => outcome(remote!, box[i]!, 8081),
    }),
    {
      'published, allowed': 'reached',
      'published, denied': 'timeout',
      'direct, allowed': 'reached',
      'direct, denied': 'timeout',
    },
    "the container's address and port are what is judged",
  )
  t.same(await moved(product, before), { queued: 16, allowed: 8, denied: 8 })

  await t.test("the container's own connections", async (t) => {
    const idle = await counts(product)
    t.same(await outcomes({ out: (i) => outcome(container!, admin[i]!, 90) }), { out: 'reached' })
    t.same(await moved(product, idle), { queued: 0, allowed: 0, denied: 0 }, 'are not judged')
    t.same(await outcomes({ host: (i) => outcome(container!, edge[i]!, 90) }), { host: 'timeout' }, 'but to the host')
  })

  await t.test('a deny revokes what is open', async (t) => {
    const open = await Promise.all(
      protocols.flatMap((protocol) =>
        edge.map(async (address) => (await remote!.open({ protocol, address, port: 80 })).connection!),
      ),
    )
    const exchange = async (nonce: string) => {
      const answers = await Promise.all(open.map((connection) => connection.exchange(nonce, DENIED_AFTER_MS)))
      return [...new Set(answers.map(({ ok, error }) => (ok ? 'answered' : error)))].join()
    }
    t.equal(await exchange('one'), 'answered')
    await product.change(() => lab.folder.write('all.yaml', [endpoint, only(8081)]))
    t.equal(await exchange('two'), 'timeout')
    t.same(await outcomes({ now: (i) => outcome(remote!, edge[i]!, 8080) }), { now: 'reached' })
  })
})

t.test('outside networks and other hosts as peers', { skip }, async (t) => {
  const office = networkSet('office', ['10.77.1.2/32', 'fd77:1::2/128'])
  const peer = hostEndpoint({ name: 'peer', node: 'peer', addresses: other })
  const from = (port: number, selector: object) => ({ from: [{ podSelector: selector }], ports: portsOf(port) })
  const policy = networkPolicy('edge', {
    ...isEdge,
    ingress: [
      from(80, { matchLabels: { zone: 'office' } }),
      from(81, { matchLabels: { app: 'peer' } }),
      from(82, {}),
      from(83, { matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['x'] }] }),
    ],
  })
  const lab = await site(t, [self, peer, office, policy], { admin: [...admin, ...other] })
  const { admin: remote, router } = lab.agents
  await serve(router!, edge, 80, 81, 82, 83)
  const product = await run(lab)
  const ports = [80, 81, 82, 83] as const
  const reach = async (addresses: readonly string[]) =>
    await outcomes(
      Object.fromEntries(
        ports.map((port) => [port, (i: 0 | 1) => outcome(remote!, edge[i]!, port, { sourceAddress: addresses[i]! })]),
      ),
    )
  t.same(
    await reach(admin),
    { 80: 'reached', 81: 'timeout', 82: 'timeout', 83: 'timeout' },
    'a set is named by its label, never by an empty selector or by what it lacks',
  )
  t.same(await reach(other), { 80: 'timeout', 81: 'reached', 82: 'reached', 83: 'reached' }, 'a host is a workload')

  await t.test('two HostEndpoints for one node', async (t) => {
    const double = hostEndpoint({ name: 'zz-double', node: 'edge' })
    await product.change(() => lab.folder.write('double.yaml', [double]))
    const status = await product.status()
    t.match(status.warnings, [
      `${lab.folder.path}/double.yaml:1: HostEndpoint shop/zz-double: node edge is shop/edge already; this one stands for nothing there`,
    ])
    t.match((await product.statusCommand()).stdout, 'this one stands for nothing there')
    t.equal(status.host?.name, 'shop/edge')
    t.match(await reach(admin), { 80: 'reached', 81: 'timeout' }, 'the first one holds')
  })
})

t.test("judged output leaves as others' marks route it", { skip }, async (t) => {
  const target = ['10.77.5.5', 'fd77:5::5']
  const lab = await site(t, [self, only(80, 90, 91)], { main: target, side: target })
  const { main, side, router } = lab.agents
  for (const agent of [main, side]) await serve(agent!, target, 80, 81, 90, 91)
  for (const i of families) {
    const family = i === 0 ? '-4' : '-6'
    const route = `${target[i]}/${i === 0 ? 32 : 128}`
    await ip(lab, `${family} route flush ${route}`)
    await ip(lab, `${family} route add ${route} dev main src ${edge[i]}`)
    await ip(lab, `${family} route add ${route} dev side src ${edge[i]} table 100`)
    // wg-quick compares the whole mark, which has not the other one's bit.
    await ip(lab, `${family} rule add fwmark 0xca6c lookup 100`)
    await ip(lab, `${family} rule add fwmark 0x2000/0x2000 lookup 100`)
  }
  await nft(lab, [
    'table inet marks {',
    '  chain output { type route hook output priority -150; policy accept;',
    '    meta l4proto { tcp, udp } th dport 90 meta mark set 0xca6c',
    '    meta l4proto { tcp, udp } th dport 91 meta mark set meta mark | 0x2000',
    '  }',
    '}',
  ])
  const who = async (port: number) => {
    const answers = await Promise.all(
      target.flatMap((address) =>
        protocols.map((protocol) => router!.probe({ protocol, address, port, timeoutMs: DENIED_AFTER_MS })),
      ),
    )
    return [...new Set(answers.map(({ answer, error }) => answer?.split(' ').at(-1) ?? error))].join()
  }
  t.same(await Promise.all([who(80), who(90), who(91)]), ['main', 'side', 'side'], 'without the firewall')
  const product = await run(lab)
  const before = await counts(product)
  t.same(await Promise.all([who(80), who(90), who(91), who(81)]), ['main', 'side', 'side', 'timeout'])
  t.same(await moved(product, before), { queued: 16, allowed: 12, denied: 4 })
})

async function reachTcp(agent: Agent, address: string, port: number, sourceAddress: string): Promise<string> {
  const { ok, error } = await agent.probe({ protocol: 'tcp', address, port, sourceAddress, timeoutMs: DENIED_AFTER_MS })
  return ok ? 'reached' : `${error}`
}

async function pinged(network: Network, from: string, to: string): Promise<PingOutcome | undefined> {
  return (await ping(network, from, to, { timeoutMs: DENIED_AFTER_MS }))[0]
}

function chain({ network }: Site, name: string): Promise<string> {
  return succeed(network, ['nft', 'list', 'chain', 'inet', 'knp', name])
}

function counterListing(table: string, counter: string): string[] {
  return ['nft', 'list', 'counter', 'inet', table, counter]
}

function packetsOf(listing: string): number {
  return Number(/packets (\d+)/.exec(listing)?.[1])
}
