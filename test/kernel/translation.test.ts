import t, { type Test } from 'tap'
import { Agent, type Stream } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { type Sniffer, sniff } from '../tools/raw.ts'
import { counts, moved } from './counts.ts'
import { addressBytes, protocols as numbers } from './packets.ts'
import { forgetful, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'
import { now } from './streams.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
const web = ['10.77.1.2', 'fd77:1::2'] as const
/** No pod. */
const other = ['10.77.1.3', 'fd77:1::3'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
/** A pod that no policy selects. */
const cache = ['10.77.2.3', 'fd77:2::3'] as const
/** Ports 80, 81 and 90 are the pod's 8080, 8081 and 8090. */
const services = { db: ['10.96.0.1', 'fd96::1'], cache: ['10.96.0.2', 'fd96::2'] } as const
const ports = [80, 81, 90] as const
const nodePorts = { db: 30000, cache: 31000 } as const
const families = [0, 1] as const
const protocols = ['tcp', 'udp'] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
const STREAM_MS = 60_000

const block = (address: string) => ({ ipBlock: { cidr: `${address}/${address.includes(':') ? 128 : 32}` } })
const portsOf = (...numbers: number[]) => numbers.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
const app = (name: string) => ({ podSelector: { matchLabels: { app: name } } })
const pods = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'db', addresses: db }),
  pod({ name: 'cache', addresses: cache }),
]

interface Rules {
  /** Whom db lets in, to ports 8080 and 8090. */
  readonly from?: readonly object[]
  /** Where db goes. */
  readonly egress?: readonly object[]
  /** Where web goes. */
  readonly to?: readonly object[]
}

const outside = [{ to: other.map(block), ports: portsOf(90, 92) }]

const rules = ({ from = [app('web')], egress = outside, to = [app('db')] }: Rules = {}) => [
  ...pods,
  networkPolicy('db', {
    ...app('db'),
    policyTypes: ['Ingress', 'Egress'],
    ingress: from.length === 0 ? [] : [{ from, ports: portsOf(8080, 8090) }],
    egress,
  }),
  networkPolicy('web', { ...app('web'), policyTypes: ['Egress'], egress: [{ to }] }),
]

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly far: Agent
}

/** The firewall's machine translates as kube-proxy does: services and NodePorts, and masquerade by its mark. */
async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: [...web, ...other] },
      { name: 'far', addresses: [...db, ...cache] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', rules())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  const backends = { db, cache }
  const translated = (['db', 'cache'] as const).flatMap((name) =>
    protocols.flatMap((protocol) =>
      ports.flatMap((port) => {
        const [v4, v6] = backends[name]
        const [service4, service6] = services[name]
        const node = nodePorts[name] + port
        return [
          `ip saddr ${v4} ip daddr ${service4} ${protocol} dport ${port} meta mark set meta mark | 0x4000`,
          `ip6 saddr ${v6} ip6 daddr ${service6} ${protocol} dport ${port} meta mark set meta mark | 0x4000`,
          `ip daddr ${service4} ${protocol} dport ${port} dnat ip to ${v4}:80${port}`,
          `ip6 daddr ${service6} ${protocol} dport ${port} dnat ip6 to [${v6}]:80${port}`,
          `ip daddr ${edge[0]} ${protocol} dport ${node} meta mark set meta mark | 0x4000 dnat ip to ${v4}:80${port}`,
          `ip6 daddr ${edge[1]} ${protocol} dport ${node} meta mark set meta mark | 0x4000 dnat ip6 to [${v6}]:80${port}`,
        ]
      }),
    ),
  )
  const script = [
    'table inet services {',
    '  chain services {',
    ...translated,
    '  }',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }',
    '  chain output { type nat hook output priority -100; policy accept; jump services; }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
    // What leaves the cluster.
    `    ip saddr ${db[0]} ip daddr ${other[0]} masquerade`,
    `    ip6 saddr ${db[1]} ip6 daddr ${other[1]} masquerade`,
    '    meta mark & 0x4000 == 0 return',
    '    meta mark set meta mark ^ 0x4000 masquerade',
    '  }',
    '}',
  ]
  const { code, stderr } = await network.exec('router', ['nft', '-f', '-'], { input: `${script.join('\n')}\n` })
  if (code !== 0) throw new Error(stderr)
  for (const protocol of protocols) {
    for (const address of [...db, ...cache])
      for (const port of [8080, 8081]) await far!.listen({ protocol, address, port })
    for (const address of other) for (const port of [90, 91]) await near!.listen({ protocol, address, port })
  }
  const streamed = [[far!, db, 8090] as const, [near!, other, 92] as const]
  for (const [agent, addresses, port] of streamed) {
    for (const address of addresses) {
      await agent.push({ address, port, intervalMs: 20, durationMs: STREAM_MS })
      await agent.serve({ address, port, bytesPerSecond: 1_000_000 })
    }
  }
  return { network, folder, near: near!, far: far! }
}

type Addresses = readonly [v4: string, v6: string]

/** What becomes of a new connection, by TCP and UDP, IPv4 and IPv6: one word where it is the same. */
async function outcome(agent: Agent, from: Addresses, to: Addresses, port: number): Promise<string> {
  const answers = await Promise.all(
    families.flatMap((i) =>
      protocols.map((protocol) =>
        agent.probe({ protocol, sourceAddress: from[i], address: to[i], port, timeoutMs: DENIED_AFTER_MS * slow }),
      ),
    ),
  )
  return [...new Set(answers.map(({ ok, error }) => (ok ? 'reached' : error)))].join()
}

/** Outcomes by name, all at once. */
async function outcomes(asked: Readonly<Record<string, Promise<string>>>): Promise<Readonly<Record<string, string>>> {
  return Object.fromEntries(await Promise.all(Object.entries(asked).map(async ([name, word]) => [name, await word])))
}

/** Streams to a client, UDP and TCP, both families; the server of UDP is never asked again. */
async function streams(agent: Agent, from: Addresses, to: Addresses, port: number): Promise<readonly Stream[]> {
  const target = (i: 0 | 1) => ({ sourceAddress: from[i], address: to[i], port, durationMs: STREAM_MS })
  return await Promise.all(families.flatMap((i) => [agent.subscribe(target(i)), agent.download(target(i))]))
}

/** Where packets of the other side come from that arrive at a port: by UDP, or the first ones of TCP. */
function sourcesOf(packets: readonly Buffer[], port: number): string {
  const names = new Map([...edge, ...web, ...db].map((address) => [addressBytes(address).toString('hex'), address]))
  const sources = packets.flatMap((packet) => {
    const v4 = packet[0]! >> 4 === 4
    const upper = packet.subarray(v4 ? 20 : 40)
    if (upper.readUInt16BE(2) !== port) return []
    // The end of an earlier connection may come late.
    if (packet[v4 ? 9 : 6] === numbers.tcp && upper[13] !== 2) return []
    const source = v4 ? packet.subarray(12, 16) : packet.subarray(8, 24)
    return [names.get(source.toString('hex')) ?? source.toString('hex')]
  })
  return [...new Set(sources)].sort().join()
}

t.test('policies see who asks and which pod answers, whatever is translated', { skip }, async (t) => {
  const { network, folder, near, far } = await site(t)
  const product = await Product.start(network, folder, { args: forgetful })

  await t.test('a service and a NodePort', async (t) => {
    const before = await counts(product)
    const reach = await outcomes({
      'web, service': outcome(near, web, services.db, 80),
      'web, service, a port that db denies': outcome(near, web, services.db, 81),
      'web, service of a pod that web may not reach': outcome(near, web, services.cache, 80),
      'another, service': outcome(near, other, services.db, 80),
      'another, service of a pod without policies': outcome(near, other, services.cache, 80),
      'web, NodePort': outcome(near, web, edge, nodePorts.db + 80),
      'web, NodePort of a pod that web may not reach': outcome(near, web, edge, nodePorts.cache + 80),
      'another, NodePort': outcome(near, other, edge, nodePorts.db + 80),
      'another, NodePort of a pod without policies': outcome(near, other, edge, nodePorts.cache + 80),
    })
    t.same(reach, {
      'web, service': 'reached',
      'web, service, a port that db denies': 'timeout',
      'web, service of a pod that web may not reach': 'timeout',
      'another, service': 'timeout',
      'another, service of a pod without policies': 'reached',
      'web, NodePort': 'reached',
      'web, NodePort of a pod that web may not reach': 'timeout',
      'another, NodePort': 'timeout',
      'another, NodePort of a pod without policies': 'reached',
    })
    t.same(await moved(product, before), { queued: 28, allowed: 8, denied: 20 }, 'one packet for each connection')
  })

  await t.test('a pod that reaches itself by its service', async (t) => {
    const before = await counts(product)
    const reach = await outcomes({
      itself: outcome(far, db, services.db, 80),
      'itself, a port that it denies': outcome(far, db, services.db, 81),
      'another pod, to which its egress is denied': outcome(far, db, services.cache, 80),
      'another pod, to it': outcome(far, cache, services.db, 80),
      'a pod without policies': outcome(far, cache, services.cache, 80),
    })
    t.same(reach, {
      itself: 'reached',
      'itself, a port that it denies': 'reached',
      'another pod, to which its egress is denied': 'timeout',
      'another pod, to it': 'timeout',
      'a pod without policies': 'reached',
    })
    t.same(await moved(product, before), { queued: 16, allowed: 8, denied: 8 })
  })

  await t.test('masquerade comes after, also by the mark of another program', async (t) => {
    const [atFar, atNear] = await Promise.all([sniff(network, 'far'), sniff(network, 'near')])
    const reach = await outcomes({
      service: outcome(near, web, services.db, 80),
      masqueraded: outcome(far, db, other, 90),
      'masqueraded, denied': outcome(far, db, other, 91),
    })
    t.same(reach, { service: 'reached', masqueraded: 'reached', 'masqueraded, denied': 'timeout' })
    /** What arrives is reported a moment later. */
    const reported = (sniffer: Sniffer, port: number, addresses: readonly string[]) =>
      Promise.all(addresses.map((address) => sniffer.find((packet) => sourcesOf([packet], port) === address)))
    await Promise.all([reported(atFar, 8080, web), reported(atNear, 90, edge)])
    t.equal(sourcesOf(atFar.packets, 8080), [...web].sort().join(), 'a service: the client itself')
    t.equal(sourcesOf(atNear.packets, 90), [...edge].sort().join(), 'what leaves: this machine')
    t.equal(sourcesOf(atNear.packets, 91), '')
    const before = atFar.packets.length
    t.equal(await outcome(near, web, edge, nodePorts.db + 80), 'reached')
    await reported(atFar, 8080, edge)
    t.equal(sourcesOf(atFar.packets.slice(before), 8080), [...edge].sort().join(), 'a NodePort: this machine')
    await Promise.all([atFar.stop(), atNear.stop()])
  })

  await t.test("the service's address is nobody's", async (t) => {
    await product.change(() => folder.write('all.yaml', rules({ to: services.db.map(block) })))
    t.equal(await outcome(near, web, services.db, 80), 'timeout', 'allowed to that address alone')
    await product.change(() => folder.write('all.yaml', rules({ to: db.map(block) })))
    t.equal(await outcome(near, web, services.db, 80), 'reached', "control: to the pod's")
    await product.change(() => folder.write('all.yaml', rules()))
  })

  await t.test('what is open when policies change', async (t) => {
    const open = {
      service: await streams(near, web, services.db, 90),
      nodePort: await streams(near, web, edge, nodePorts.db + 90),
      itself: await streams(far, db, services.db, 90),
      masqueraded: await streams(far, db, other, 92),
    }
    const all = async () => {
      const { service, nodePort, itself, masqueraded } = open
      return await outcomes({
        service: now(service),
        nodePort: now(nodePort),
        itself: now(itself),
        masqueraded: now(masqueraded),
      })
    }
    t.same(await all(), { service: 'flows', nodePort: 'flows', itself: 'flows', masqueraded: 'flows' })
    await product.change(() => folder.write('all.yaml', rules({ from: [app('web'), app('cache')] })))
    t.same(await all(), { service: 'flows', nodePort: 'flows', itself: 'flows', masqueraded: 'flows' })
    await product.change(() => folder.write('all.yaml', rules({ from: [app('cache')] })))
    t.same(await all(), { service: 'nothing', nodePort: 'nothing', itself: 'flows', masqueraded: 'flows' })
    await product.change(() => folder.write('all.yaml', rules({ from: [app('cache')], egress: [] })))
    t.same(await all(), { service: 'nothing', nodePort: 'nothing', itself: 'flows', masqueraded: 'nothing' })
  })
})
