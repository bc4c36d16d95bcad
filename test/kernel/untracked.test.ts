import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { sendTcp, sniff } from '../tools/raw.ts'
import { until } from '../until.ts'
import { counts, moved } from './counts.ts'
import { addressBytes } from './packets.ts'
import { forgetful, hostEndpoint, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'
import { now } from './streams.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
const near = ['10.77.1.2', 'fd77:1::2'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
/** Its ports are the pod's. */
const service = ['10.96.0.1', 'fd96::1'] as const
const families = [0, 1] as const
const protocols = ['tcp', 'udp'] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
const STREAM_MS = 60_000
const script = fileURLToPath(new URL('./children/forget-connections.ts', import.meta.url))

type Addresses = readonly [v4: string, v6: string]

const portsOf = (...ports: number[]) => ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
/** What a workload lets in and where it goes, by port. */
const only = (app: string, ingress: readonly number[], egress: readonly number[]) =>
  networkPolicy(app, {
    podSelector: { matchLabels: { app } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: ingress.length === 0 ? [] : [{ ports: portsOf(...ingress) }],
    egress: egress.length === 0 ? [] : [{ ports: portsOf(...egress) }],
  })

/** What is protected: a pod behind this machine, or this machine itself. */
const places = [
  { name: 'a pod', app: 'db', object: pod({ name: 'db', addresses: db }), addresses: db, where: 'far' },
  {
    name: 'a host',
    app: 'edge',
    object: hostEndpoint({ name: 'edge', node: 'edge' }),
    addresses: edge,
    where: 'router',
  },
] as const

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly outside: Agent
  readonly inside: Agent
}

async function site(t: Test, where: string, objects: readonly object[]): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: near },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const [outside, inside] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, where)])
  return { network, folder, outside: outside!, inside: inside! }
}

function run({ network, folder }: Site): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', '--on-failure', 'closed', ...forgetful] })
}

async function serve(agent: Agent, addresses: Addresses, ...ports: readonly number[]): Promise<void> {
  for (const address of addresses)
    for (const port of ports) for (const protocol of protocols) await agent.listen({ protocol, address, port })
}

/** Streams from a server: UDP, which is never asked again, and TCP. */
async function serveStreams(agent: Agent, addresses: Addresses, port: number): Promise<void> {
  for (const address of addresses) {
    await agent.push({ address, port, intervalMs: 20, durationMs: STREAM_MS })
    await agent.serve({ address, port, bytesPerSecond: 1_000_000 })
  }
}

interface Origin {
  readonly sourcePort?: number
}

/** What becomes of a new connection, by these protocols, IPv4 and IPv6: one word where it is the same. */
async function outcome(
  agent: Agent,
  to: Addresses,
  port: number,
  origin: Origin = {},
  by: readonly ('tcp' | 'udp')[] = protocols,
): Promise<string> {
  const answers = await Promise.all(
    to.flatMap((address) =>
      by.map((protocol) => agent.probe({ protocol, address, port, timeoutMs: DENIED_AFTER_MS * slow, ...origin })),
    ),
  )
  return [...new Set(answers.map(({ ok, error }) => (ok ? 'reached' : error)))].join()
}

/** A connection of each family and protocol; what an exchange on all of them comes to. */
async function connectAll(agent: Agent, to: Addresses, port: number): Promise<(nonce: string) => Promise<string>> {
  const opened = await Promise.all(
    to.flatMap((address) => protocols.map((protocol) => agent.open({ protocol, address, port }))),
  )
  return async (nonce) => {
    const answers = await Promise.all(opened.map(({ connection }) => connection!.exchange(nonce, DENIED_AFTER_MS)))
    return [...new Set(answers.map(({ ok, error }) => (ok ? 'answered' : error)))].join()
  }
}

async function inRouter({ network }: Site, argv: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await network.exec('router', argv, { input })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

function nft(site: Site, lines: readonly string[]): Promise<string> {
  return inRouter(site, ['nft', '-f', '-'], `${lines.join('\n')}\n`)
}

/** Counts, ahead of ours, the packets of a state. */
// The kernel does not track neighbour discovery, which is never judged.
async function countState(site: Site, state: 'untracked' | 'invalid'): Promise<() => Promise<number>> {
  await nft(site, [
    'table inet states {',
    `  counter ${state} { }`,
    ...['input', 'forward', 'output'].map(
      (hook) =>
        `  chain ${hook} { type filter hook ${hook} priority -199; policy accept; meta l4proto != ipv6-icmp ct state ${state} counter name ${state}; }`,
    ),
    '}',
  ])
  return async () => {
    const text = await inRouter(site, ['nft', 'list', 'counter', 'inet', 'states', state])
    return Number(/packets (\d+)/.exec(text)?.[1])
  }
}

// Each in a network of its own.
t.jobs = 2

for (const { name, app, object, addresses, where } of places) {
  t.test(`UNTRACKED: ${name}`, { skip }, async (t) => {
    const lab = await site(t, where, [object, only(app, [60, 64, 66], [62])])
    const { outside, inside, folder } = lab
    await serve(inside, addresses, 60, 61)
    await serve(outside, near, 62, 63)
    await serveStreams(inside, addresses, 66)
    // As NodeLocal DNSCache has it: both directions, in both chains of raw.
    await nft(lab, [
      'table inet raw {',
      ...['prerouting', 'output'].flatMap((hook) => [
        `  chain ${hook} { type filter hook ${hook} priority -300; policy accept;`,
        '    meta l4proto { tcp, udp } th dport 60-66 notrack',
        '    meta l4proto { tcp, udp } th sport 60-66 notrack',
        '  }',
      ]),
      '}',
    ])
    const untracked = await countState(lab, 'untracked')
    const product = await run(lab)
    const before = await counts(product)
    t.same(
      await Promise.all([
        outcome(outside, addresses, 60),
        outcome(outside, addresses, 61),
        outcome(inside, near, 62),
        outcome(inside, near, 63),
      ]),
      ['reached', 'timeout', 'reached', 'timeout'],
      'allowed and denied, in and out',
    )
    // The ends of connections may still be under way.
    await until(async () => (await counts(product)).queued - before.queued === (await untracked()))
    t.ok((await untracked()) > 8, 'each packet is judged, and all were untracked')
    t.equal((await counts(product)).denied - before.denied, 8, 'one packet of each connection is denied')
    // One after the other: the port is the same.
    const from = (sourcePort: number, port: number) => outcome(inside, near, port, { sourcePort }, ['tcp'])
    t.same([await from(64, 62), await from(64, 63)], ['reached', 'timeout'], 'a SYN answers nothing')
    t.equal(await outcome(inside, near, 63, { sourcePort: 65 }), 'timeout', 'nor does a datagram from a denied port')

    const exchange = await connectAll(outside, addresses, 60)
    const streams = await Promise.all(
      families.flatMap((i) => {
        const target = { address: addresses[i], port: 66, durationMs: STREAM_MS }
        return [outside.subscribe(target), outside.download(target)]
      }),
    )
    t.equal(await exchange('one'), 'answered')
    t.equal(await now(streams), 'flows')
    await product.change(() => folder.write('all.yaml', [object, only(app, [60, 61, 64, 66], [62])]))
    t.same([await exchange('two'), await now(streams)], ['answered', 'flows'], 'go on after a change')
    await product.change(() => folder.write('all.yaml', [object, only(app, [61], [62])]))
    t.same([await exchange('three'), await now(streams)], ['timeout', 'nothing'], 'and are cut by a deny')
    t.equal(await outcome(outside, addresses, 61), 'reached')
    const established = await connectAll(outside, addresses, 61)
    t.equal(await established('control'), 'answered')
    await product.stop('SIGKILL')
    t.match(await established('dead'), 'timeout', 'nothing is remembered while the firewall is dead')
    await run(lab)
    t.equal(await outcome(outside, addresses, 61), 'reached')
  })

  t.test(`INVALID: ${name}`, { skip }, async (t) => {
    const lab = await site(t, where, [object, only(app, [60], [62])])
    const { network, outside, inside, folder } = lab
    await serve(inside, addresses, 60)
    const invalid = await countState(lab, 'invalid')
    const product = await run(lab)
    const sniffer = await sniff(network, 'near', { outgoing: true })
    const connections = await Promise.all(
      addresses.map(async (address) => (await outside.open({ protocol: 'tcp', address, port: 60 })).connection!),
    )
    for (const connection of connections) t.match(await connection.exchange('control'), { ok: true })
    // What is behind the window the kernel takes for sent again, and so for valid: these are far ahead of it.
    const beyond = await Promise.all(
      connections.map(async ({ port }, i) => {
        const upper = i === 0 ? 20 : 40
        const syn = await sniffer.find((packet) => {
          return packet[0]! >> 4 === (i === 0 ? 4 : 6) && packet.readUInt16BE(upper) === port
        })
        return (syn!.readUInt32BE(upper + 4) + 0x40000000) >>> 0
      }),
    )
    await sniffer.stop()
    // Behind all of ours: what arrives here is delivered.
    const last = where === 'router' ? 'input' : 'forward'
    await nft(lab, [
      'table inet arrived {',
      '  counter invalid { }',
      `  chain last { type filter hook ${last} priority 300; policy accept; ct state invalid counter name invalid; }`,
      '}',
    ])
    const arrived = async () => {
      const text = await inRouter(lab, ['nft', 'list', 'counter', 'inet', 'arrived', 'invalid'])
      return Number(/packets (\d+)/.exec(text)?.[1])
    }
    const send = async (i: 0 | 1, flags: string, port: number, sourcePort: number, sequence = 77) => {
      const before = { counts: await counts(product), invalid: await invalid(), arrived: await arrived() }
      await sendTcp(network, 'near', { destination: addresses[i], flags, port, sourcePort, sequence, count: 3 })
      await until(async () => {
        const { allowed, denied } = await counts(product)
        return allowed + denied - before.counts.allowed - before.counts.denied >= 3
      })
      return {
        invalid: (await invalid()) - before.invalid,
        arrived: (await arrived()) - before.arrived,
        ...(await moved(product, before.counts)),
      }
    }
    const passes = { invalid: 3, arrived: 3, queued: 3, allowed: 3, denied: 0 }
    const stops = { invalid: 3, arrived: 0, queued: 3, allowed: 0, denied: 3 }
    for (const i of families) {
      const family = `IPv${i === 0 ? 4 : 6}`
      t.same(await send(i, 'FPU', 60, 5000), passes, `${family}: to an allowed port: each is judged, none is learnt`)
      t.same(await send(i, 'FPU', 61, 5000), stops, `${family}: to a denied one`)
      t.same(await send(i, 'R', 5000, 62), passes, `${family}: as an answer from a port that may be asked`)
      t.same(await send(i, 'R', 5000, 63), stops, `${family}: as one from another`)
      const { port } = connections[i]!
      t.same(await send(i, 'A', 60, port, beyond[i]), passes, `${family}: out of the window of an allowed connection`)
      t.match(await connections[i]!.exchange('still'), { ok: true })
    }
    await product.change(() => folder.write('all.yaml', [object, only(app, [61], [62])]))
    for (const i of families) {
      t.same(await send(i, 'A', 60, connections[i]!.port, beyond[i]), stops, 'of one that is denied now')
      t.same(await send(i, 'R', 61, 5000), passes, 'control')
    }
  })
}

t.test('connections that the kernel meets midway, beside address translation', { skip }, async (t) => {
  const object = pod({ name: 'db', addresses: db })
  const lab = await site(t, 'far', [object, only('db', [60, 66], [])])
  const { network, outside, inside, folder } = lab
  await serve(inside, db, 60, 61)
  await serveStreams(inside, db, 66)
  await nft(lab, [
    'table inet services {',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept;',
    `    ip daddr ${service[0]} dnat ip to ${db[0]}`,
    `    ip6 daddr ${service[1]} dnat ip6 to ${db[1]}`,
    '  }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
    `    ip daddr ${db[0]} masquerade`,
    `    ip6 daddr ${db[1]} masquerade`,
    '  }',
    '}',
  ])
  const product = await run(lab)
  const forget = async () => {
    const { code, stderr } = await network.exec('router', [process.execPath, '--no-warnings', script])
    if (code !== 0) throw new Error(stderr)
  }
  const exchange = await connectAll(outside, service, 60)
  t.equal(await exchange('one'), 'answered')
  await forget()
  const before = await counts(product)
  t.equal(await exchange('two'), 'answered', 'policy allows them: they go on')
  t.same(await moved(product, before), { queued: 4, allowed: 4, denied: 0 }, 'one packet of each was judged')
  await forget()
  await product.change(() => folder.write('all.yaml', [object, only('db', [61], [])]))
  t.equal(await exchange('three'), 'timeout', 'policy denies them: they are cut')
  t.equal(await outcome(outside, service, 61), 'reached', 'control')
  await product.change(() => folder.write('all.yaml', [object, only('db', [61, 66], [])]))
  const streams = await Promise.all(
    families.flatMap((i) => {
      const target = { address: service[i], port: 66, durationMs: STREAM_MS }
      return [outside.subscribe(target), outside.download(target)]
    }),
  )
  t.equal(await now(streams), 'flows')
  const sniffer = await sniff(network, 'near')
  await forget()
  const { denied } = await counts(product)
  await until(async () => (await counts(product)).denied >= denied + 4)
  const ofDb = (packet: Buffer) => {
    const source = packet[0]! >> 4 === 4 ? packet.subarray(12, 16) : packet.subarray(8, 24)
    return db.some((address) => addressBytes(address).equals(source))
  }
  t.notOk(sniffer.packets.some(ofDb), "the server's datagrams begin something new, which its egress denies")
  await sniffer.stop()
})
