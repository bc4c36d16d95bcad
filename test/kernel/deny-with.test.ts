import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import type { RulesetCounters } from '../../src/ruleset/ruleset.ts'
import { slow } from '../slow.ts'
import { ping, type Sniffer, sendPackets, sniff, udpPacket } from '../tools/raw.ts'
import { until } from '../until.ts'
import { addressBytes, icmpMessage, ipPacket, protocols, sctpInit, tcpSegment, udpDatagram } from './packets.ts'
import { forgetful, hostEndpoint, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
const web = ['10.77.1.2', 'fd77:1::2'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
/** No policy selects it. */
const cache = ['10.77.2.3', 'fd77:2::3'] as const
const families = [0, 1] as const
type Family = (typeof families)[number]

/** Shorter than the time until a SYN is sent again. */
const SILENT_AFTER_MS = 600
/** A refusal is there long before anybody would send again. */
const AT_ONCE_MS = 550 * slow

const portsOf = (...ports: number[]) => ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
/** Of db, only what others begin to these ports; with `both`, only these ports of others too. */
const ingress = (...ports: number[]) =>
  networkPolicy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: portsOf(...ports) }] })
const both = (port: number) =>
  networkPolicy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ ports: portsOf(port) }],
    egress: [{ ports: portsOf(port) }],
  })
const pods = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'db', addresses: db }),
  pod({ name: 'cache', addresses: cache }),
]
/** On this machine, which is a node of the picture where there is a HostEndpoint. */
const localPods = [pod({ name: 'web', addresses: web }), pod({ name: 'db', addresses: db, node: 'edge' })]
const self = hostEndpoint({ name: 'edge', node: 'edge', forwards: [`${db[0]}/32`, `${db[1]}/128`] })
/** Only these ports of the machine itself, of what is behind it, and of others. */
const host = (...ports: number[]) =>
  networkPolicy('edge', {
    podSelector: { matchLabels: { app: 'edge' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ ports: portsOf(...ports) }],
    egress: [{ ports: portsOf(...ports) }],
  })

/** web on one side, db and cache on the other; the firewall is between them. */
interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly far: Agent
  readonly router: Agent
}

async function site(t: Test, objects: readonly object[]): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: web },
      { name: 'far', addresses: [...db, ...cache] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const [near, far, router] = await Promise.all(['near', 'far', 'router'].map((name) => Agent.start(network, name)))
  return { network, folder, near: near!, far: far!, router: router! }
}

function run({ network, folder }: Site, denyWith: 'drop' | 'reject', ...args: readonly string[]): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', '--deny-with', denyWith, ...args] })
}

async function serve(agent: Agent, addresses: readonly string[], ...ports: readonly number[]): Promise<void> {
  for (const address of addresses)
    for (const port of ports)
      for (const protocol of ['tcp', 'udp'] as const) await agent.listen({ protocol, address, port })
}

/** What a new connection meets, and whether it took long to learn that. */
async function meets(agent: Agent, protocol: 'tcp' | 'udp', address: string, port: number): Promise<string> {
  const { ok, error, ms } = await agent.probe({ protocol, address, port, timeoutMs: SILENT_AFTER_MS * slow })
  if (ok) return 'reached'
  return error === 'timeout' || ms < AT_ONCE_MS ? `${error}` : `${error} after ${ms} ms`
}

async function pinged({ network }: Site, from: string, to: string): Promise<string> {
  const started = performance.now()
  const [outcome] = await ping(network, from, to, { timeoutMs: SILENT_AFTER_MS * slow })
  const ms = performance.now() - started
  // The process has to be started too.
  return outcome === 'timeout' || ms < 2 * AT_ONCE_MS ? `${outcome}` : `${outcome} after ${ms} ms`
}

/** Of both families, by TCP, UDP and, where no port is given, ping: one word each. */
async function met(
  site: Site,
  from: 'near' | 'far' | 'router',
  to: readonly string[],
  port?: number,
): Promise<Readonly<Record<string, string>>> {
  const asked = families.flatMap((i): [string, Promise<string>][] => {
    const family = i === 0 ? 'IPv4' : 'IPv6'
    if (port === undefined) return [[`${family} ping`, pinged(site, from, to[i]!)]]
    return (['tcp', 'udp'] as const).map((protocol) => [
      `${family} ${protocol}`,
      meets(site[from], protocol, to[i]!, port),
    ])
  })
  return Object.fromEntries(await Promise.all(asked.map(async ([name, word]) => [name, await word] as const)))
}

const reached = { 'IPv4 tcp': 'reached', 'IPv4 udp': 'reached', 'IPv6 tcp': 'reached', 'IPv6 udp': 'reached' }
const silent = { 'IPv4 tcp': 'timeout', 'IPv4 udp': 'timeout', 'IPv6 tcp': 'timeout', 'IPv6 udp': 'timeout' }
/** ECONNREFUSED of a reset, EHOSTUNREACH of ICMP 3/13, EACCES of ICMPv6 1/1. */
const refused = {
  'IPv4 tcp': 'refused',
  'IPv4 udp': 'unreachable',
  'IPv6 tcp': 'refused',
  'IPv6 udp': 'prohibited',
}
const bothPings = (word: string) => ({ 'IPv4 ping': word, 'IPv6 ping': word })

type Counts = RulesetCounters

async function counts(product: Product): Promise<Counts> {
  return (await product.status()).counters
}

async function moved(product: Product, before: Counts): Promise<Counts> {
  const now = await counts(product)
  return Object.fromEntries(
    Object.keys(before).map((name) => [name, now[name as keyof Counts] - before[name as keyof Counts]]),
  ) as Counts
}

const counted = (allowed: number, denied: number): Counts => {
  const queued = allowed + denied
  return { rememberedAllowed: 0, rememberedDenied: 0, limited: 0, queued, allowed, denied, audited: 0, unanswered: 0 }
}

/** Packets that answer a refused one: resets, and ICMP errors by type and code. */
function answersIn({ packets }: Sniffer): string[] {
  return packets.flatMap((packet) => {
    const v4 = packet[0]! >> 4 === 4
    const upper = packet.subarray(v4 ? 20 : 40)
    const source = v4 ? packet.subarray(12, 16).join('.') : `v6 ..${packet.subarray(22, 24).toString('hex')}`
    const protocol = packet[v4 ? 9 : 6]
    if (protocol === protocols.tcp && (upper[13]! & 0x04) !== 0)
      return [`reset from ${source}:${upper.readUInt16BE(0)}`]
    const isError =
      (protocol === protocols.icmp && [3, 11, 12].includes(upper[0]!)) ||
      (!v4 && protocol === protocols.icmpv6 && upper[0]! < 128)
    return isError ? [`error ${upper[0]}/${upper[1]} from ${source}`] : []
  })
}

/** Whether a packet goes to this port, behind these addresses and a header without options. */
function goesTo(packet: Buffer, addresses: readonly string[], port: number): boolean {
  const v4 = packet[0]! >> 4 === 4
  const destination = v4 ? packet.subarray(16, 20) : packet.subarray(24, 40)
  const isOne = addresses.some((address) => addressBytes(address).equals(destination))
  return isOne && packet.readUInt16BE(v4 ? 22 : 42) === port
}

async function inRouter({ network }: Site, argv: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await network.exec('router', argv, { input })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

function nft(site: Site, ...lines: readonly string[]): Promise<string> {
  return inRouter(site, ['nft', '-f', '-'], `${lines.join('\n')}\n`)
}

/** Time for an answer that must not come. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 300 * slow))

// Each in a network of its own.
t.jobs = 3

t.test('forwarded: what is denied is answered, or not', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  await serve(lab.far, [...db, ...cache], 80, 81)
  for (const denyWith of ['drop', 'reject'] as const) {
    await t.test(denyWith, async (t) => {
      const product = await run(lab, denyWith)
      t.equal((await product.status()).denyWith, denyWith)
      const [nearEnd, farEnd] = [await sniff(lab.network, 'near'), await sniff(lab.network, 'far')]
      const before = await counts(product)
      t.same(await met(lab, 'near', db, 80), reached)
      t.same(await met(lab, 'near', cache, 81), reached, 'where no policy selects')
      t.same(await met(lab, 'near', cache), bothPings('reply'))
      t.same(await met(lab, 'near', db, 81), denyWith === 'drop' ? silent : refused)
      t.same(await met(lab, 'near', db), bothPings(denyWith === 'drop' ? 'timeout' : 'unreachable'))
      const ends = families.map((i) => ({ source: web[i], destination: db[i] }))
      const sctp = ends.map((pair) => ipPacket(pair, protocols.sctp, sctpInit({ sourcePort: 4000, port: 81 })))
      t.equal(await sendPackets(lab.network, 'near', sctp), 2)
      await until(async () => (await counts(product)).denied >= before.denied + 8)
      await pause()
      t.same(await moved(product, before), counted(4, 8), 'one packet for each connection')
      t.same(
        answersIn(nearEnd).sort(),
        denyWith === 'drop'
          ? []
          : [
              // UDP, ping and SCTP; a reset says that it is from whom was to be reached.
              ...Array.from({ length: 3 }, () => 'error 1/1 from v6 ..0001'),
              ...Array.from({ length: 3 }, () => `error 3/13 from ${edge[0]}`),
              `reset from ${db[0]}:81`,
              'reset from v6 ..0002:81',
            ],
      )
      t.same(
        farEnd.packets.filter((packet) => goesTo(packet, db, 81)),
        [],
        'the other end notices nothing',
      )
      t.ok(farEnd.packets.some((packet) => goesTo(packet, db, 80)))
      await Promise.all([nearEnd.stop(), farEnd.stop()])
      t.equal((await product.stop()).code, 0)
    })
  }
})

t.test('input and output of the machine itself', { skip }, async (t) => {
  const lab = await site(t, [self, host(80)])
  await serve(lab.router, edge, 22, 80, 81)
  await serve(lab.far, db, 53, 80, 81)
  // Made of the interfaces' hardware addresses.
  const [ours, theirs] = ['fe80::ff:fe01:1%eth0', 'fe80::ff:fe02:1%near']
  const reflect = async (value: 0 | 1) => {
    for (const name of ['net.ipv4.fwmark_reflect', 'net.ipv6.fwmark_reflect'])
      await inRouter(lab, ['sysctl', '-qw', `${name}=${value}`])
  }
  for (const [denyWith, reflects] of [
    ['drop', 0],
    ['reject', 0],
    ['reject', 1],
  ] as const) {
    await t.test(`${denyWith}, fwmark_reflect ${reflects}`, async (t) => {
      await reflect(reflects)
      const product = await run(lab, denyWith)
      const before = await counts(product)
      const denied = denyWith === 'drop' ? silent : refused
      const deniedPing = bothPings(denyWith === 'drop' ? 'timeout' : 'unreachable')
      t.same(await met(lab, 'near', edge, 80), reached, 'input')
      t.same(await met(lab, 'near', edge, 81), denied)
      t.same(await met(lab, 'near', edge), deniedPing)
      t.same(await met(lab, 'router', db, 80), reached, 'output')
      t.same(await met(lab, 'router', db, 81), denied)
      t.same(await met(lab, 'router', db), deniedPing)
      t.same(await met(lab, 'router', edge, 81), reached, 'its own addresses')
      t.same(await moved(product, before), counted(8, 12))

      const failsafe = ['tcp', 'tcp'] as const
      t.same(
        await Promise.all(failsafe.map((protocol, i) => meets(lab.near, protocol, edge[i]!, 22))),
        ['reached', 'reached'],
        'the failsafe',
      )
      const linkLocal = await counts(product)
      t.same(
        await Promise.all([
          meets(lab.near, 'tcp', ours, 81),
          meets(lab.near, 'udp', ours, 81),
          meets(lab.far, 'tcp', 'fe80::ff:fe01:2%eth0', 81),
          meets(lab.router, 'tcp', theirs, 81),
          meets(lab.router, 'udp', theirs, 81),
        ]),
        denyWith === 'drop'
          ? Array(5).fill('timeout')
          : ['prohibited', 'prohibited', 'prohibited', 'refused', 'prohibited'],
        'link-local: the kernel does not know where to send a reset',
      )
      t.same(await moved(product, linkLocal), counted(0, 5))
      t.equal((await product.stop()).code, 0)
    })
  }
})

t.test('a port published with DNAT refuses by the address that was asked', { skip }, async (t) => {
  const lab = await site(t, [self, host(80)])
  await serve(lab.far, db, 80, 81)
  await nft(
    lab,
    'table inet containers {',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept;',
    ...['tcp', 'udp'].flatMap((protocol) =>
      [80, 81].flatMap((port) => [
        `ip daddr ${edge[0]} ${protocol} dport 80${port} dnat ip to ${db[0]}:${port}`,
        `ip6 daddr ${edge[1]} ${protocol} dport 80${port} dnat ip6 to [${db[1]}]:${port}`,
      ]),
    ),
    '  }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept; ip daddr 10.77.2.0/24 masquerade; ip6 daddr fd77:2::/64 masquerade; }',
    '}',
  )
  const product = await run(lab, 'reject')
  const before = await counts(product)
  t.same(await met(lab, 'near', edge, 8080), reached)
  t.same(await met(lab, 'near', edge, 8081), refused)
  t.same(await moved(product, before), counted(4, 4))
})

t.test('what is never answered', { skip }, async (t) => {
  const lab = await site(t, [self, ...localPods, both(80), host(80)])
  await serve(lab.far, db, 80)
  await nft(
    lab,
    'table inet untracked {',
    '  chain prerouting { type filter hook prerouting priority -300; policy accept; meta l4proto { tcp, udp } th dport 83 notrack; }',
    '}',
  )
  const product = await run(lab, 'reject', ...forgetful)
  const open = await Promise.all(
    db.map(async (address) => (await lab.near.open({ protocol: 'udp', address, port: 80 })).connection!),
  )
  for (const connection of open) t.match(await connection.exchange('one'), { ok: true })
  await product.change(() => lab.folder.write('all.yaml', [self, ...localPods, both(79), host(79)]))
  const ends = families.map((i) => ({ source: web[i], destination: db[i] }))
  const back = families.map((i) => ({ source: db[i], destination: web[i] }))
  const syn = { sourcePort: 4000, port: 81 }
  const tcp = (flags: number, ports = syn) =>
    ends.map((pair) => ipPacket(pair, protocols.tcp, tcpSegment(pair, ports, flags)))
  const broken = tcp(0x02, { sourcePort: 4001, port: 81 })
  for (const packet of broken) packet[packet.length - 1]! ^= 0xff
  const udpTo = (port: number) =>
    ends.map((pair) => ipPacket(pair, protocols.udp, udpDatagram(pair, { sourcePort: 4002, port })))
  /** About a packet of web's, said by db. */
  const errorAbout = (sourcePort: number, port: number) =>
    back.map((pair, i) => {
      const quoted = ipPacket(ends[i]!, protocols.udp, udpDatagram(ends[i]!, { sourcePort, port }))
      const v4 = isIPv4(pair.source)
      return ipPacket(pair, v4 ? protocols.icmp : protocols.icmpv6, icmpMessage(pair, v4 ? 3 : 1, v4 ? 3 : 4, quoted))
    })
  const groups = [
    udpPacket({ source: web[0], destination: '224.0.0.1', sourcePort: 4000, destinationPort: 81 }),
    udpPacket({ source: web[0], destination: '255.255.255.255', sourcePort: 4000, destinationPort: 81 }),
    udpPacket({ source: web[1], destination: 'ff02::1', sourcePort: 4000, destinationPort: 81 }),
  ]
  const cases: readonly [
    name: string,
    from: 'near' | 'far',
    packets: readonly Buffer[],
    to: string,
    answers: number,
  ][] = [
    ['a SYN, which is', 'near', tcp(0x02), 'auto', 2],
    ['a datagram, which is', 'near', udpTo(82), 'auto', 2],
    ['a reset', 'near', tcp(0x04, { sourcePort: 4003, port: 81 }), 'auto', 0],
    ['a wrong checksum', 'near', broken, 'auto', 0],
    ['no flags', 'near', tcp(0, { sourcePort: 4004, port: 81 }), 'auto', 0],
    ['untracked TCP', 'near', tcp(0x02, { sourcePort: 4005, port: 83 }), 'auto', 0],
    ['untracked UDP', 'near', udpTo(83), 'auto', 0],
    ['an error about what is denied now', 'far', errorAbout(open[0]!.port, 80).slice(0, 1), 'auto', 0],
    ['likewise, IPv6', 'far', errorAbout(open[1]!.port, 80).slice(1), 'auto', 0],
    ['an error about nothing', 'far', errorAbout(9, 9), 'auto', 0],
    ['IPv4 multicast', 'near', groups.slice(0, 1), '01:00:5e:00:00:01', 0],
    ['to the hardware address of one', 'near', groups.slice(0, 1), 'auto', 0],
    ['broadcast', 'near', groups.slice(1, 2), 'ff:ff:ff:ff:ff:ff', 0],
    ['to the hardware address of one', 'near', groups.slice(1, 2), 'auto', 0],
    ['IPv6 multicast', 'near', groups.slice(2), '33:33:00:00:00:01', 0],
    ['to the hardware address of one', 'near', groups.slice(2), 'auto', 0],
  ]
  for (const [name, from, packets, to, answers] of cases) {
    await t.test(name, async (t) => {
      const before = await counts(product)
      const sniffer = await sniff(lab.network, from)
      t.equal(await sendPackets(lab.network, from, packets, { to }), packets.length)
      await until(async () => (await counts(product)).denied >= before.denied + packets.length)
      if (answers > 0) await until(async () => answersIn(sniffer).length >= answers)
      else await pause()
      t.same(await moved(product, before), counted(0, packets.length))
      t.equal(answersIn(sniffer).length, answers)
      await sniffer.stop()
    })
  }

  await t.test("what exceeds a source's rate", async (t) => {
    const sources = families.map((i) => ({ set: `sources${i === 0 ? 4 : 6}`, address: web[i] }))
    const forget = sources.map(({ set, address }) => `delete element inet knp ${set} { ${address} }`)
    // Sources that may send almost nothing more: nobody has to flood.
    await nft(
      lab,
      ...forget,
      ...sources.map(
        ({ set, address }) => `add element inet knp ${set} { ${address} limit rate over 1/hour burst 3 packets }`,
      ),
    )
    const before = await counts(product)
    const sniffer = await sniff(lab.network, 'near')
    const packets = Array.from({ length: 10 }, () => tcp(0x02)).flat()
    t.equal(await sendPackets(lab.network, 'near', packets), 20)
    await until(async () => (await counts(product)).limited >= before.limited + 14)
    await pause()
    t.same(await moved(product, before), { ...counted(0, 6), limited: 14 })
    t.equal(answersIn(sniffer).length, 6)
    await sniffer.stop()
    await nft(lab, ...forget)
  })

  await t.test('what gets no verdict', async (t) => {
    await product.stop('SIGKILL')
    const sniffer = await sniff(lab.network, 'near')
    t.same(await met(lab, 'near', db, 81), silent)
    t.same(await met(lab, 'near', edge, 81), silent)
    t.same(
      await met(lab, 'router', db, 81),
      { ...refused, 'IPv4 udp': 'refused', 'IPv6 udp': 'refused' },
      'nobody is asked about the own pod: it refuses itself',
    )
    t.same(
      await met(lab, 'router', cache, 81),
      { ...silent, 'IPv4 udp': 'prohibited', 'IPv6 udp': 'prohibited' },
      'sending fails, as it does wherever output drops at once',
    )
    t.same(await met(lab, 'near', db), bothPings('timeout'))
    t.same(answersIn(sniffer), [])
    t.match(await inRouter(lab, ['nft', 'list', 'counter', 'inet', 'knp', 'unanswered']), /packets 14 /)
    await sniffer.stop()
  })
})

t.test('a process cannot make its own packets pass as answers', { skip }, async (t) => {
  const lab = await site(t, [self, host(80)])
  await serve(lab.far, db, 80)
  const product = await run(lab, 'reject')
  const open = await Promise.all(
    db.map(async (address) => (await lab.router.open({ protocol: 'udp', address, port: 80 })).connection!),
  )
  for (const connection of open) t.match(await connection.exchange('one'), { ok: true })
  const errors = families.map((i) => {
    const quotedEnds = { source: db[i], destination: edge[i] }
    const ports = { sourcePort: 80, port: open[i]!.port }
    const quoted = ipPacket(quotedEnds, protocols.udp, udpDatagram(quotedEnds, ports))
    const pair = { source: edge[i], destination: db[i] }
    const [protocol, type, code] = i === 0 ? [protocols.icmp, 3, 13] : [protocols.icmpv6, 1, 1]
    return ipPacket(pair, protocol, icmpMessage(pair, type, code, quoted))
  })
  const sniffer = await sniff(lab.network, 'far')
  t.equal(await sendPackets(lab.network, 'router', errors, { to: 'routed' }), 2)
  await until(async () => answersIn(sniffer).length >= 2)
  t.equal(answersIn(sniffer).length, 2, 'about an allowed connection they pass')
  await product.change(() => lab.folder.write('all.yaml', [self, host(81)]))
  const before = await counts(product)
  t.equal(await sendPackets(lab.network, 'router', errors, { to: 'routed' }), 2)
  await until(async () => (await counts(product)).denied >= before.denied + 2)
  await pause()
  t.same(await moved(product, before), counted(0, 2), 'about a denied one they are judged')
  t.equal(answersIn(sniffer).length, 2)
  await sniffer.stop()
})

t.test('a deny ends open connections for both ends', { skip }, async (t) => {
  const lab = await site(t, [...localPods, self, ingress(80, 81, 82), host(80, 81)])
  const sockets = async (where: string, port: number) => {
    const { stdout } = await lab.network.exec(where, ['ss', '-Htn', 'state', 'established', `( sport = :${port} )`])
    return stdout.split('\n').filter((line) => line !== '').length
  }
  for (const address of db) {
    for (const port of [80, 81]) await lab.far.serve({ address, port, bytesPerSecond: 1_000_000 })
    await lab.far.push({ address, port: 82, intervalMs: 20, durationMs: 60_000 })
    await lab.far.listen({ protocol: 'tcp', address, port: 82 })
  }
  for (const address of edge) await lab.router.serve({ address, port: 81, bytesPerSecond: 1_000_000 })
  const product = await run(lab, 'reject')
  const durationMs = 60_000
  const all = <T>(addresses: readonly string[], make: (address: string, i: Family) => Promise<T>) =>
    Promise.all(families.map((i) => make(addresses[i]!, i)))
  const kept = await all(db, (address) => lab.near.download({ address, port: 80, durationMs }))
  const cut = await all(
    db,
    async (address) => (await lab.near.open({ protocol: 'tcp', address, port: 81 })).connection!,
  )
  const idle = await all(
    db,
    async (address) => (await lab.near.open({ protocol: 'tcp', address, port: 82 })).connection!,
  )
  const cutAtHost = await all(
    edge,
    async (address) => (await lab.near.open({ protocol: 'tcp', address, port: 81 })).connection!,
  )
  const pushed = await all(db, (address) => lab.near.subscribe({ address, port: 82, durationMs }))
  for (const stream of [...kept, ...pushed]) t.ok(await stream.more(3), 'flows')
  for (const connection of idle) t.match(await connection.exchange('one'), { ok: true })
  t.same([await sockets('far', 81), await sockets('far', 82), await sockets('router', 81)], [2, 2, 2])
  const atServer = await sniff(lab.network, 'far')

  const before = await counts(product)
  await product.change(() => lab.folder.write('all.yaml', [...localPods, self, ingress(80), host(80)]))
  await until(async () => (await sockets('far', 81)) + (await sockets('router', 81)) === 0)
  t.same([await sockets('far', 81), await sockets('router', 81)], [0, 0], 'who sends learns it at once')
  t.equal(await sockets('far', 82), 2, 'who is silent does not')
  for (const stream of pushed) t.ok(await stream.quiet(200), 'a push ends')
  await until(
    async () =>
      answersIn(atServer).some((text) => text.startsWith('error 3/13')) &&
      answersIn(atServer).some((text) => text.startsWith('error 1/1')),
  )
  t.match(answersIn(atServer).sort().join('\n'), /error 1\/1 from(.|\n)*error 3\/13 from/, 'and its sender is told')
  for (const connection of [...cut, ...cutAtHost]) {
    const { error } = await connection.exchange('two', 2000)
    t.match(error, /^(reset|closed)$/, 'who receives has learnt it by acknowledging, or learns it now')
  }
  for (const connection of idle) {
    const { error, ms } = await connection.exchange('two', 2000)
    t.equal(error, 'reset', 'who is silent learns it with the next packet')
    t.ok(ms < AT_ONCE_MS, `${ms} ms`)
  }
  t.equal(await sockets('far', 82), 2, 'its other end is silent too, and does not know')
  for (const stream of kept) t.ok(await stream.more(5), 'what is allowed goes on')
  t.equal((await moved(product, before)).unanswered, 0)
  await atServer.stop()
})
