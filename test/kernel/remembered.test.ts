import t, { type Test } from 'tap'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, LAST_STAMP, layoutMarks } from '../../src/datapath/marks.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { learnt } from '../../src/ruleset/text.ts'
import { slow } from '../slow.ts'
import { ping, sendPackets, sniff } from '../tools/raw.ts'
import { until } from '../until.ts'
import { addressBytes, icmpMessage, ipPacket, protocols, sctpInit, tcpSegment, udpDatagram } from './packets.ts'
import { hostEndpoint, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
const web = ['10.77.1.2', 'fd77:1::2'] as const
const api = ['10.77.1.3', 'fd77:1::3'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
const cache = ['10.77.2.3', 'fd77:2::3'] as const
const families = [0, 1] as const
type Family = (typeof families)[number]

/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 500
/** Longer than any of these tests. */
const LONG = ['--remember-allowed', '1h', '--remember-denied', '1h']

const portsOf = (...ports: number[]) => ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
const isApi = { podSelector: { matchLabels: { app: 'api' } } }
/** Everybody may reach db on these ports, and api on every port and by ping. */
const ingress = (...ports: number[]) =>
  networkPolicy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ ports: portsOf(...ports) }, { from: [isApi] }],
  })
/** db may begin nothing. */
const locked = networkPolicy('db-out', {
  podSelector: { matchLabels: { app: 'db' } },
  policyTypes: ['Egress'],
  egress: [],
})
const pods = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'api', addresses: api }),
  pod({ name: 'db', addresses: db, node: 'edge' }),
  pod({ name: 'cache', addresses: cache, node: 'edge' }),
]

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
      { name: 'near', addresses: [...web, ...api] },
      { name: 'far', addresses: [...db, ...cache] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const [near, far, router] = await Promise.all(['near', 'far', 'router'].map((name) => Agent.start(network, name)))
  for (const address of [...db, ...cache])
    for (const port of [80, 81])
      for (const protocol of ['tcp', 'udp'] as const) await far!.listen({ protocol, address, port })
  return { network, folder, near: near!, far: far!, router: router! }
}

function run({ network, folder }: Site, ...args: readonly string[]): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', ...args] })
}

const names = ['queued', 'allowed', 'denied', 'unanswered', 'limited', 'rememberedAllowed', 'rememberedDenied'] as const
type Moved = Readonly<Partial<Record<(typeof names)[number] | 'ids', number>>>

async function counts(product: Product): Promise<Required<Moved>> {
  const { counters, queue } = await product.status()
  return { ...counters, ids: queue.statistics!.idSequence }
}

/** How the counters move by something, without those that stay. `ids` is the queue's own count. */
async function moved(product: Product, act: () => Promise<unknown>): Promise<Moved> {
  const before = await counts(product)
  await act()
  const after = await counts(product)
  const entries = ([...names, 'ids'] as const).map((name) => [name, after[name] - before[name]] as const)
  return Object.fromEntries(entries.filter(([, by]) => by !== 0))
}

/** The same of packets that nobody answers: waits until so many have been decided, and that no more are. */
async function movedBy(
  site: Site,
  product: Product,
  host: 'near' | 'far',
  packets: readonly Uint8Array[],
): Promise<Moved> {
  return moved(product, async () => {
    const total = async () => {
      const { queued, rememberedAllowed, rememberedDenied } = await counts(product)
      return queued + rememberedAllowed + rememberedDenied
    }
    const before = await total()
    await sendPackets(site.network, host, packets)
    await until(async () => (await total()) >= before + packets.length)
    await pause()
  })
}

const askedAllowed = (count = 1): Moved => ({ queued: count, allowed: count, ids: count })
const askedDenied = (count = 1): Moved => ({ queued: count, denied: count, ids: count })
const nothing: Moved = {}
const known = (verdict: 'Allowed' | 'Denied', count = 1): Moved => ({ [`remembered${verdict}`]: count })

/** Time for a packet that must not come. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 200 * slow))

interface Try {
  readonly from?: readonly [string, string]
  readonly to?: readonly [string, string]
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
  readonly family: Family
}

/** A connection from a port of its own: `reached`, or why not. */
async function meets(agent: Agent, { from = web, to = db, port, protocol, family }: Try): Promise<string> {
  const { ok, error } = await agent.probe({
    protocol,
    address: to[family],
    port,
    sourceAddress: from[family],
    timeoutMs: DENIED_AFTER_MS,
  })
  return ok ? 'reached' : `${error}`
}

const kinds = families.flatMap((family) => (['tcp', 'udp'] as const).map((protocol) => ({ family, protocol })))

/** Elements of the sets that packets fill. */
async function elements({ network }: Site): Promise<string> {
  const sets = [learnt.allowed4, learnt.allowed6, learnt.denied4, learnt.denied6]
  const texts = await Promise.all(
    sets.map((set) => network.exec('router', ['nft', '-n', 'list', 'set', 'inet', 'knp', set])),
  )
  return texts.map(({ stdout }) => /elements = \{([^}]*)\}/.exec(stdout)?.[1] ?? '').join('')
}

for (const denyWith of ['drop', 'reject'] as const) {
  t.test(`a second connection like the first is answered by the kernel: ${denyWith}`, { skip }, async (t) => {
    const lab = await site(t, [...pods, ingress(80)])
    const product = await run(lab, '--deny-with', denyWith, ...LONG)
    const refusal = { tcp: ['refused', 'refused'], udp: ['unreachable', 'prohibited'] } as const
    for (const { family, protocol } of kinds) {
      const name = `${protocol} IPv${family === 0 ? 4 : 6}`
      const denial = denyWith === 'drop' ? 'timeout' : refusal[protocol][family]
      const act = async (one: Pick<Try, 'from' | 'port'>, outcome: string) =>
        t.equal(await meets(lab.near, { ...one, protocol, family }), outcome, `${name} ${outcome}`)
      t.same(await moved(product, () => act({ port: 80 }, 'reached')), askedAllowed(), 'the first is asked about')
      for (let again = 0; again < 2; again++)
        t.same(await moved(product, () => act({ port: 80 }, 'reached')), known('Allowed'), 'and no other')
      t.same(await moved(product, () => act({ port: 81 }, denial)), askedDenied(), 'another port is')
      for (let again = 0; again < 2; again++)
        t.same(await moved(product, () => act({ port: 81 }, denial)), known('Denied'), 'once')
      t.same(await moved(product, () => act({ port: 81, from: api }, 'reached')), askedAllowed(), 'another client is')
      t.same(await moved(product, () => act({ port: 81, from: api }, 'reached')), known('Allowed'), 'once')
    }
    for (const family of families) {
      const pinged = async (source: string, outcome: RegExp) =>
        t.match((await ping(lab.network, 'near', db[family], { source, timeoutMs: DENIED_AFTER_MS }))[0], outcome)
      for (let again = 0; again < 3; again++) {
        t.same(await moved(product, () => pinged(api[family], /^reply$/)), askedAllowed(), 'each ping is')
        t.same(await moved(product, () => pinged(web[family], /^(timeout|unreachable)$/)), askedDenied())
      }
    }
    // The number that stands where others have their port (the checksum) is the same in all of these, their id is not.
    const echo = (source: readonly [string, string], id: number) =>
      families.map((i) => {
        const ends = { source: source[i], destination: db[i] }
        const [protocol, type] = i === 0 ? [protocols.icmp, 8] : [protocols.icmpv6, 128]
        return ipPacket(ends, protocol, icmpMessage(ends, type, 0, Buffer.alloc(0), (id << 16) | (9000 - id)))
      })
    for (let id = 4000; id < 4003; id++) {
      t.same(await movedBy(lab, product, 'near', echo(api, id)), askedAllowed(2), 'alike in all but their id')
      t.same(await movedBy(lab, product, 'near', echo(web, id)), askedDenied(2))
    }
    const sctp = (sourcePort: number) =>
      families.map((i) =>
        ipPacket({ source: web[i], destination: db[i] }, protocols.sctp, sctpInit({ sourcePort, port: 81 })),
      )
    t.same(await movedBy(lab, product, 'near', sctp(4000)), askedDenied(2), 'SCTP')
    t.same(await movedBy(lab, product, 'near', sctp(4001)), known('Denied', 2))
  })
}

t.test('only what begins is learnt, and only that is answered', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80), locked])
  const product = await run(lab, ...LONG)
  const SYN = 0x02
  const others = { ACK: 0x10, 'SYN+ACK': 0x12, 'SYN+RST': 0x06, 'SYN+FIN': 0x03, FIN: 0x01 }
  let sourcePort = 5000
  for (const family of families) {
    const ends = { source: web[family], destination: db[family] }
    const segment = (port: number, flags: number) =>
      ipPacket(ends, protocols.tcp, tcpSegment(ends, { sourcePort: sourcePort++, port }, flags))
    const send = (port: number, flags: number) => movedBy(lab, product, 'near', [segment(port, flags)])
    for (const [name, flags] of Object.entries(others))
      t.same(await send(81, flags), askedDenied(), `${name} is asked about`)
    t.same(await send(80, others.ACK), askedAllowed(), 'also where it is allowed')
    t.notMatch(await elements(lab), web[family], 'nothing was learnt')
    t.same(await send(81, SYN), askedDenied(), 'so a SYN is asked about')
    t.same(await send(80, SYN), askedAllowed())
    t.match(await elements(lab), web[family])
    t.same(await send(81, SYN), known('Denied'), 'once')
    t.same(await send(80, SYN | 0xc0), known('Allowed'), 'with ECN bits too')
    for (const [name, flags] of Object.entries(others))
      t.same(await send(81, flags), askedDenied(), `${name} is answered by no tuple`)
    t.same(await send(80, others.ACK), askedAllowed())
  }
})

t.test('a packet that names further stops is answered by no tuple', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80), locked])
  const product = await run(lab, ...LONG)
  const ROUTING = 43
  const ends = { source: web[1], destination: db[1] }
  let sourcePort = 6000
  const syn = () => tcpSegment(ends, { sourcePort: sourcePort++, port: 80 }, 0x02)
  const send = (packet: Buffer) => movedBy(lab, product, 'near', [packet])
  const plain = () => ipPacket(ends, protocols.tcp, syn())
  t.same(await send(plain()), askedAllowed())
  t.same(await send(plain()), known('Allowed'), 'control: its tuple is remembered')
  for (const type of [0, 2, 4, 9]) {
    // RFC 8200 section 4.4: next header, length, type, one segment left; then an address.
    const routing = Buffer.from([protocols.tcp, 2, type, 1, 0, 0, 0, 0, ...addressBytes(db[1])])
    t.same(await send(ipPacket(ends, ROUTING, Buffer.concat([routing, syn()]))), askedDenied(), `type ${type}`)
  }
})

t.test('a reply is answered by no tuple', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80), locked])
  const first = await run(lab, ...LONG)
  const connections = await Promise.all(
    families.map(async (family) => {
      const { connection } = await lab.near.open({
        protocol: 'udp',
        address: db[family],
        port: 80,
        sourceAddress: web[family],
      })
      t.match(await connection!.exchange('n'), { ok: true })
      return connection!
    }),
  )
  await first.stop()
  // What a former run has stamped is judged again.
  const product = await run(lab, ...LONG)
  for (const family of families) {
    const ends = { source: db[family], destination: web[family] }
    const { port } = connections[family]!
    const datagram = (sourcePort: number) =>
      ipPacket(ends, protocols.udp, udpDatagram(ends, { sourcePort, port }, 'from db'))
    t.same(await movedBy(lab, product, 'far', [datagram(5001)]), askedDenied(), 'db may begin nothing')
    t.same(await movedBy(lab, product, 'far', [datagram(5002)]), known('Denied'), 'which is remembered')
    const arriving = await sniff(lab.network, 'near')
    t.same(await movedBy(lab, product, 'far', [datagram(80)]), askedAllowed(), 'but a reply is no beginning')
    t.ok(await arriving.find((packet) => packet.includes('from db')), 'and arrives')
    await arriving.stop()
    t.same(await movedBy(lab, product, 'far', [datagram(5003)]), known('Denied'))
  }
})

t.test('what this machine sends is not what carries its address', { skip }, async (t) => {
  const host = networkPolicy('edge', {
    podSelector: { matchLabels: { app: 'edge' } },
    policyTypes: ['Egress'],
    egress: [{ ports: portsOf(81) }],
  })
  const lab = await site(t, [...pods, ingress(80), host, hostEndpoint({ name: 'edge', node: 'edge' })])
  const product = await run(lab, ...LONG)
  await lab.network.exec('router', ['sysctl', '-qw', 'net.ipv4.conf.all.accept_local=1'])
  for (const { family, protocol } of kinds) {
    const outward = () => meets(lab.router, { from: edge, to: cache, port: 81, protocol, family })
    t.same(await moved(product, outward), askedAllowed(), 'what policies let it do')
    t.same(await moved(product, outward), known('Allowed'))
    const fromHere = () => meets(lab.router, { from: edge, port: 81, protocol, family })
    t.same(await moved(product, fromHere), nothing, 'its own pod: nobody is asked')
    const ends = { source: edge[family], destination: db[family] }
    const sourcePort = 4000 + family
    const ports = { sourcePort, port: 81 }
    const arriving = await sniff(lab.network, 'far')
    const forged =
      protocol === 'tcp'
        ? ipPacket(ends, protocols.tcp, tcpSegment(ends, ports))
        : ipPacket(ends, protocols.udp, udpDatagram(ends, ports, 'forged'))
    t.same(await movedBy(lab, product, 'near', [forged]), askedDenied(), 'forged by another machine: asked about')
    t.equal(await fromHere(), 'reached')
    const clientPort = (packet: Buffer) => packet.readUInt16BE(family === 0 ? 20 : 40)
    const isOwn = (packet: Buffer) => packet.includes(addressBytes(edge[family])) && clientPort(packet) !== sourcePort
    t.ok(await arriving.find(isOwn), 'control: its own arrives')
    t.notOk(
      arriving.packets.some((packet) => clientPort(packet) === sourcePort),
      'and that one does not',
    )
    await arriving.stop()
    t.same(await moved(product, fromHere), nothing)
  }
})

t.test('nothing is remembered for 0s', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const product = await run(lab, '--remember-allowed', '0s', '--remember-denied', '1h')
  const reach = (one: (typeof kinds)[number], port: number) => () => meets(lab.near, { ...one, port })
  for (const one of kinds) {
    for (let again = 0; again < 3; again++) t.same(await moved(product, reach(one, 80)), askedAllowed())
    t.same(await moved(product, reach(one, 81)), askedDenied())
    t.same(await moved(product, reach(one, 81)), known('Denied'), 'each has its time')
  }
  await product.stop()
  const other = await run(lab, '--remember-allowed', '1h', '--remember-denied', '0s')
  for (const one of kinds) {
    for (let again = 0; again < 3; again++) t.same(await moved(other, reach(one, 81)), askedDenied())
    t.same(await moved(other, reach(one, 80)), askedAllowed())
    t.same(await moved(other, reach(one, 80)), known('Allowed'))
  }
})

t.test('a full set learns nothing more, and nobody notices', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const product = await run(lab, ...LONG, '--remember-size', '1')
  for (const family of families) {
    const meet = (one: Pick<Try, 'from' | 'port' | 'protocol'>, outcome: string) => async () =>
      t.equal(await meets(lab.near, { ...one, family }), outcome)
    const first = meet({ port: 80, protocol: 'udp' }, 'reached')
    t.same(await moved(product, first), askedAllowed())
    t.same(await moved(product, first), known('Allowed'))
    const second = meet({ port: 80, protocol: 'tcp' }, 'reached')
    for (let again = 0; again < 3; again++) t.same(await moved(product, second), askedAllowed(), 'no room')
    t.same(await moved(product, first), known('Allowed'), 'the first one stays')
    const third = meet({ port: 81, protocol: 'udp' }, 'timeout')
    t.same(await moved(product, third), askedDenied())
    t.same(await moved(product, third), known('Denied'))
    const fourth = meet({ port: 81, protocol: 'tcp' }, 'timeout')
    for (let again = 0; again < 3; again++) t.same(await moved(product, fourth), askedDenied(), 'no room')
  }
})

t.test('marks that others set teach nothing', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const product = await run(lab, ...LONG)
  const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
  const forge = async (mark: number, connection: number) => {
    const script = [
      'table inet others { }',
      'delete table inet others',
      'table inet others {',
      '  chain first { type filter hook prerouting priority -190; policy accept;',
      `    ct state new ct mark set ${connection >>> 0}`,
      `    meta mark set ${mark >>> 0}`,
      '  }',
      '}',
    ]
    const { code, stderr } = await lab.network.exec('router', ['nft', '-f', '-'], { input: `${script.join('\n')}\n` })
    if (code !== 0) throw new Error(stderr)
  }
  // Whatever the generation is: an answer that carries its stamp is the one that teaches.
  for (let stamp = 1; stamp <= LAST_STAMP; stamp++) {
    await forge(marks.allowed | (stamp << marks.stampShift), stamp << marks.connectionShift)
    const one = kinds[stamp % kinds.length]!
    const untouched = () => meets(lab.near, { ...one, to: cache, port: 80 })
    t.same(await moved(product, untouched), {}, 'where no policy selects')
    t.equal(await elements(lab), '', `stamp ${stamp}`)
  }
  const { queue } = await product.status()
  t.equal(queue.statistics!.idSequence, 0)
  const stamp = (await stampInForce(lab)) << marks.stampShift
  const connection = (await stampInForce(lab)) << marks.connectionShift
  for (const one of kinds) {
    await forge(marks.allowed | stamp, connection)
    const denied = () => meets(lab.near, { ...one, port: 81 })
    t.same(await moved(product, denied), askedDenied(), 'forged to be allowed')
    t.same(await moved(product, denied), known('Denied'))
    await forge(marks.denied | stamp, connection)
    const allowed = () => meets(lab.near, { ...one, port: 80 })
    t.same(await moved(product, allowed), askedAllowed(), 'forged to be denied')
    t.same(await moved(product, allowed), known('Allowed'))
  }
})

/** The stamp of the answers that the kernel learns from. */
async function stampInForce({ network }: Site): Promise<number> {
  const { stdout } = await network.exec('router', ['nft', '-n', 'list', 'set', 'inet', 'knp', 'current'])
  return (Number(/elements = \{ (0x[0-9a-f]+) /.exec(stdout)?.[1]) >>> 24) & 0x0f
}

t.test('a change of others leaves a tuple, a change of its own does not', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const product = await run(lab, ...LONG)
  const outcome = async (port: number) =>
    [...new Set(await Promise.all(kinds.map((one) => meets(lab.near, { ...one, port }))))].join()
  const all = (port: number, expected: string) => async () => t.equal(await outcome(port), expected)
  const count = kinds.length
  t.same(await moved(product, all(80, 'reached')), askedAllowed(count))
  t.same(await moved(product, all(81, 'timeout')), askedDenied(count))

  const others = networkPolicy('cache', { podSelector: { matchLabels: { app: 'cache' } }, ingress: [] })
  await product.change(() => lab.folder.write('others.yaml', [others]))
  const toCache = () => meets(lab.near, { ...kinds[0]!, to: cache, port: 80 })
  t.same(await moved(product, toCache), askedDenied(), 'the change is in force')
  t.same(await moved(product, all(80, 'reached')), known('Allowed', count), 'and concerns nobody else')
  t.same(await moved(product, all(81, 'timeout')), known('Denied', count))

  await product.change(() => lab.folder.write('all.yaml', [...pods, ingress(81)]))
  t.same(await moved(product, all(80, 'timeout')), askedDenied(count), 'allowed, and denied now')
  t.same(await moved(product, all(81, 'reached')), askedAllowed(count), 'denied, and allowed now')
  t.same(await moved(product, all(80, 'timeout')), askedDenied(count), 'until what was learnt before has timed out')
  t.same(await moved(product, all(81, 'reached')), askedAllowed(count))
})

t.test('when what was learnt before a change has timed out, tuples count again', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const product = await run(lab, '--remember-allowed', '2s', '--remember-denied', '1s')
  const [one] = kinds
  const reach = (port: number) => () => meets(lab.near, { ...one!, port })
  t.same(await moved(product, reach(80)), askedAllowed())
  const changedAt = performance.now()
  await product.change(() => lab.folder.write('all.yaml', [...pods, ingress(81)]))
  t.equal(await reach(81)(), 'reached')
  await until(async () => 'rememberedAllowed' in (await moved(product, reach(81))), 10_000 * slow)
  t.ok(performance.now() - changedAt > 2000, 'the longer of the two times')
  await until(async () => 'queued' in (await moved(product, reach(80))), 10_000 * slow)
  t.same(await reach(80)(), 'timeout', 'what was allowed once is not')
})

t.test('while the firewall is away tuples answer, and its next run begins without any', { skip }, async (t) => {
  const lab = await site(t, [...pods, ingress(80)])
  const first = await run(lab, ...LONG)
  for (const one of kinds) {
    t.equal(await meets(lab.near, { ...one, port: 80 }), 'reached')
    t.equal(await meets(lab.near, { ...one, port: 81 }), 'timeout')
  }
  t.not(await elements(lab), '')
  await first.stop('SIGKILL')
  for (const one of kinds) {
    t.equal(await meets(lab.near, { ...one, port: 80 }), 'reached', 'what was allowed')
    t.equal(await meets(lab.near, { ...one, port: 80, from: api }), 'timeout', 'and nothing else')
    t.equal(await meets(lab.near, { ...one, port: 81 }), 'timeout')
  }
  const product = await run(lab, ...LONG)
  for (const one of kinds) {
    t.same(await moved(product, () => meets(lab.near, { ...one, port: 80 })), askedAllowed())
    t.same(await moved(product, () => meets(lab.near, { ...one, port: 80 })), known('Allowed'))
    t.same(await moved(product, () => meets(lab.near, { ...one, port: 81 })), askedDenied())
    t.same(await moved(product, () => meets(lab.near, { ...one, port: 81 })), known('Denied'))
  }
})
