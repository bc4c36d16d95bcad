import t, { type Test } from 'tap'
import { Agent, type Stream } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { sendPackets, sniff } from '../tools/raw.ts'
import { until } from '../until.ts'
import { addressBytes, icmpMessage, ipPacket, protocols as numbers, udpDatagram } from './packets.ts'
import { forgetful, hostEndpoint, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
/** Two pods, each behind a service with its port plus 8000 as the pod's. */
const pods = { first: ['10.77.2.2', 'fd77:2::2'], second: ['10.77.2.3', 'fd77:2::3'] } as const
const services = { first: ['10.96.0.1', 'fd96::1'], second: ['10.96.0.2', 'fd96::2'] } as const
/** A service whose pod is the machine itself. */
const own = ['10.96.0.3', 'fd96::3'] as const
const names = ['first', 'second'] as const
const families = [0, 1] as const
const protocols = ['tcp', 'udp'] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
const STREAM_MS = 60_000
/** What comes every 20 ms, and has not come for so long, does not come. */
const QUIET_MS = 400

const self = hostEndpoint({ name: 'edge', node: 'edge' })
const block = (address: string) => ({ ipBlock: { cidr: `${address}/${address.includes(':') ? 128 : 32}` } })
/** What the host may reach. */
const egress = (to: readonly object[], ...ports: readonly number[]) =>
  networkPolicy('edge', {
    podSelector: { matchLabels: { app: 'edge' } },
    policyTypes: ['Egress'],
    egress: [
      { to, ...(ports.length > 0 && { ports: ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }]) }) },
    ],
  })
const everything = [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: '::/0' } }]
const everythingBut = ([v4, v6]: readonly [string, string]) => [
  { ipBlock: { cidr: '0.0.0.0/0', except: [`${v4}/32`] } },
  { ipBlock: { cidr: '::/0', except: [`${v6}/128`] } },
]
const only = (...addresses: readonly string[]) => addresses.map(block)

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly router: Agent
  readonly far: Agent
}

/** The router is the host that is protected. Its own connections to a service go to the pod, as kube-proxy has it. */
async function site(t: Test, objects: readonly object[]): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [{ name: 'far', addresses: names.flatMap((name) => [...pods[name]]) }],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const [router, far] = await Promise.all([Agent.start(network, 'router'), Agent.start(network, 'far')])
  const lab = { network, folder, router, far }
  // As through the default route of a node.
  await inRouter(lab, ['ip', 'route', 'add', '10.96.0.0/16', 'dev', 'far', 'src', edge[0]])
  await inRouter(lab, ['ip', 'route', 'add', 'fd96::/16', 'dev', 'far', 'src', edge[1]])
  await nft(lab, [
    'table inet service {',
    '  chain output { type nat hook output priority -100; policy accept;',
    ...protocols.flatMap((protocol) => [
      `ip daddr { ${edge[0]}, ${own[0]} } ${protocol} dport 85 dnat ip to ${edge[0]}:8085`,
      `ip6 daddr { ${edge[1]}, ${own[1]} } ${protocol} dport 85 dnat ip6 to [${edge[1]}]:8085`,
    ]),
    // Ports of the machine itself: as kube-proxy has NodePorts, and container engines published ports.
    ...names.flatMap((name, at) =>
      protocols.flatMap((protocol) => [
        `ip daddr { ${edge[0]}, 127.0.0.1 } ${protocol} dport 3008${at} dnat ip to ${pods[name][0]}:8080`,
        `ip6 daddr ${edge[1]} ${protocol} dport 3008${at} dnat ip6 to [${pods[name][1]}]:8080`,
        `ip daddr ${edge[0]} ${protocol} dport 3009${at} dnat ip to ${pods[name][0]}:8090`,
        `ip6 daddr ${edge[1]} ${protocol} dport 3009${at} dnat ip6 to [${pods[name][1]}]:8090`,
      ]),
    ),
    ...names.flatMap((name) =>
      [80, 81, 90].flatMap((port) =>
        protocols.flatMap((protocol) => [
          `ip daddr ${services[name][0]} ${protocol} dport ${port} dnat ip to ${pods[name][0]}:80${port}`,
          `ip6 daddr ${services[name][1]} ${protocol} dport ${port} dnat ip6 to [${pods[name][1]}]:80${port}`,
        ]),
      ),
    ),
    '  }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
    '    oif != lo ip saddr 127.0.0.0/8 masquerade',
    '  }',
    '}',
  ])
  for (const name of names) {
    for (const address of pods[name]) {
      for (const port of [8080, 8081]) for (const protocol of protocols) await far.listen({ protocol, address, port })
      await far.push({ address, port: 8090, intervalMs: 20, durationMs: STREAM_MS })
      await far.serve({ address, port: 8090, bytesPerSecond: 1_000_000 })
    }
  }
  return lab
}

function run({ network, folder }: Site, ...args: readonly string[]): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', '--on-failure', 'closed', ...args] })
}

async function inRouter({ network }: Site, argv: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await network.exec('router', argv, { input })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

function nft(site: Site, lines: readonly string[]): Promise<string> {
  return inRouter(site, ['nft', '-f', '-'], `${lines.join('\n')}\n`)
}

/** Streams to the host, both families; the server of UDP is never asked again. */
async function streams(
  { router }: Site,
  addresses: readonly [string, string],
  port = 90,
): Promise<Readonly<Record<string, Stream>>> {
  const opened = families.map(async (i) => {
    const target = { address: addresses[i], port, durationMs: STREAM_MS }
    const [push, download] = await Promise.all([router.subscribe(target), router.download(target)])
    return [
      [`IPv${i === 0 ? 4 : 6} push`, push],
      [`IPv${i === 0 ? 4 : 6} download`, download],
    ] as const
  })
  return Object.fromEntries((await Promise.all(opened)).flat())
}

/** What streams do now, one word where it is the same. */
async function now(flows: Readonly<Record<string, Stream>>): Promise<string> {
  const words = Object.entries(flows).map(async ([name, stream]) => {
    if (!(await stream.more(1, QUIET_MS))) return [name, 'nothing']
    // What was under way does not come again.
    if (await stream.quiet(QUIET_MS, 3 * QUIET_MS)) return [name, 'nothing']
    return [name, (await stream.more(3, 5000)) ? 'flows' : 'nothing']
  })
  const found = await Promise.all(words)
  return new Set(found.map(([, word]) => word)).size === 1 ? found[0]![1]! : found.map((pair) => pair.join(' ')).join()
}

/** What becomes of a new connection of the host, by TCP and UDP, IPv4 and IPv6: one word where it is the same. */
async function outcome({ router }: Site, addresses: readonly string[], port: number): Promise<string> {
  const answers = await Promise.all(
    addresses.flatMap((address) =>
      protocols.map((protocol) => router.probe({ protocol, address, port, timeoutMs: DENIED_AFTER_MS * slow })),
    ),
  )
  return [...new Set(answers.map(({ ok, error }) => (ok ? 'reached' : error)))].join()
}

// Each in a network of its own.
t.jobs = 3

t.test('a deny of the pod ends what the host has open through its service', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  const product = await run(lab)
  const [first, second] = [await streams(lab, services.first), await streams(lab, services.second)]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await product.change(() => lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first))]))
  t.same([await now(first), await now(second)], ['nothing', 'flows'], 'of the one pod, and not of the other')
  t.same([await outcome(lab, services.first, 80), await outcome(lab, services.second, 80)], ['timeout', 'reached'])
})

t.test('what the pod alone is allowed goes on, also where the server is the first to speak', { skip }, async (t) => {
  const lab = await site(t, [self, egress(only(...pods.first, ...pods.second))])
  const product = await run(lab)
  const [first, second] = [await streams(lab, services.first), await streams(lab, services.second)]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await product.change(() => lab.folder.write('all.yaml', [self, egress(only(...pods.first, ...services.second))]))
  t.same([await now(first), await now(second)], ['flows', 'nothing'], "the service's address is nobody's")
})

t.test('at the start, while the firewall is dead, and after a restart', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything, 8080, 8090)])
  const before = await run(lab, ...forgetful)
  const counts = async (product: Product) => {
    const { queued, allowed, denied } = (await product.status()).counters
    return { queued, allowed, denied }
  }
  const idle = await counts(before)
  t.equal(await outcome(lab, services.first, 80), 'reached', "the pod's port is what is judged")
  t.equal(await outcome(lab, services.first, 81), 'timeout', 'also where it is denied')
  const { queued, allowed, denied } = await counts(before)
  t.same(
    { queued: queued - idle.queued, allowed: allowed - idle.allowed, denied: denied - idle.denied },
    { queued: 8, allowed: 4, denied: 4 },
    'one packet for each connection',
  )
  const [first, second] = [await streams(lab, services.first), await streams(lab, services.second)]
  t.same([await now(first), await now(second)], ['flows', 'flows'])

  await before.stop('SIGKILL')
  t.same([await now(first), await now(second)], ['flows', 'flows'], 'dead: what was allowed goes on')
  t.match(await outcome(lab, services.first, 80), /^(timeout,prohibited|prohibited,timeout)$/, 'what is new does not')

  await lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first), 8080, 8090)])
  const after = await run(lab)
  t.same([await now(first), await now(second)], ['nothing', 'flows'], 'restarted: policies have changed meanwhile')
  t.same([await outcome(lab, services.first, 80), await outcome(lab, services.second, 80)], ['timeout', 'reached'])
  await after.change(() => lab.folder.write('all.yaml', [self, egress(everything, 8080, 8090)]))
  t.same([await outcome(lab, services.first, 80), await outcome(lab, services.first, 81)], ['reached', 'timeout'])
})

t.test('a table of an earlier version gets the chains that it lacks', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  const former = await run(lab)
  const [first, second] = [await streams(lab, services.first), await streams(lab, services.second)]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await former.stop('SIGKILL')
  // In one transaction: as the rules of input were before there were any for replies.
  await nft(lab, [
    ...['before_reply', 'divert_reply', 'after_reply', 'before_input'].map((name) => `flush chain inet knp ${name}`),
    ...['before_reply', 'divert_reply', 'after_reply'].map((name) => `delete chain inet knp ${name}`),
    'table inet knp { chain before_input { jump prepare; goto incoming; }; }',
  ])
  const baseChains = async () => {
    const text = await inRouter(lab, ['nft', '-a', 'list', 'table', 'inet', 'knp'])
    const handles = [...text.matchAll(/chain ((?:before|divert|after)_\w+) \{ # handle (\d+)/g)]
    return Object.fromEntries(handles.map(([, name, handle]) => [name, handle]))
  }
  const left = await baseChains()
  t.equal(Object.keys(left).length, 9)
  await lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first))])
  await run(lab)
  const made = await baseChains()
  t.equal(Object.keys(made).length, 12)
  t.match(made, left, 'those that were there are the same')
  t.same([await now(first), await now(second)], ['nothing', 'flows'])
})

t.test('through a port of its own address, which the kernel routes to loopback first', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  await inRouter(lab, ['sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1'])
  const product = await run(lab)
  const [first, second] = [await streams(lab, edge, 30090), await streams(lab, edge, 30091)]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await product.change(() => lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first))]))
  t.same([await now(first), await now(second)], ['nothing', 'flows'])
  const sniffer = await sniff(lab.network, 'far')
  t.same([await outcome(lab, edge, 30080), await outcome(lab, edge, 30081)], ['timeout', 'reached'])
  t.same(
    [await outcome(lab, ['127.0.0.1'], 30080), await outcome(lab, ['127.0.0.1'], 30081)],
    ['timeout', 'reached'],
    'and of a loopback address',
  )
  const arrivedAt = (addresses: readonly string[]) => {
    const destinations = addresses.map(addressBytes)
    return sniffer.packets.filter((packet) =>
      destinations.some((bytes) =>
        bytes.equals(packet[0]! >> 4 === 4 ? packet.subarray(16, 20) : packet.subarray(24, 40)),
      ),
    ).length
  }
  t.ok(arrivedAt(pods.second) > 0, 'control: packets to the second pod left')
  t.equal(arrivedAt(pods.first), 0, 'to the first none')
  await sniffer.stop()
})

t.test('what DNAT sends back to it, and what is untracked, is loopback', { skip }, async (t) => {
  const lab = await site(t, [self, egress(only(...pods.second))])
  for (const address of [...edge, '127.0.0.1', '::1']) {
    for (const protocol of protocols) {
      await lab.router.listen({ protocol, address, port: 8085 })
      await lab.router.listen({ protocol, address, port: 8086 })
    }
  }
  await nft(lab, [
    'table inet untracked {',
    '  chain output { type filter hook output priority -300; policy accept; oif lo meta l4proto { tcp, udp } th dport 8086 notrack; }',
    '  chain back { type filter hook output priority -300; policy accept; oif lo meta l4proto { tcp, udp } th sport 8086 notrack; }',
    '}',
  ])
  const product = await run(lab, ...forgetful)
  const { queued } = (await product.status()).counters
  const loopback = async () => {
    return [
      await outcome(lab, edge, 85),
      await outcome(lab, own, 85),
      await outcome(lab, edge, 8086),
      await outcome(lab, ['127.0.0.1', '::1'], 8086),
    ]
  }
  const all = ['reached', 'reached', 'reached', 'reached']
  t.same(await loopback(), all)
  t.equal((await product.status()).counters.queued, queued, 'none of it is queued')
  t.same([await outcome(lab, services.first, 80), await outcome(lab, services.second, 80)], ['timeout', 'reached'])
  await product.stop('SIGKILL')
  t.same(await loopback(), all)
  t.match(await outcome(lab, services.second, 80), /timeout/)
})

t.test('an ICMP error from the pod is judged by the pod', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  const product = await run(lab)
  // Behind all of ours: what arrives here is delivered.
  await nft(lab, [
    'table inet arrived {',
    '  counter errors { }',
    '  chain input { type filter hook input priority 300; policy accept;',
    '    icmp type destination-unreachable icmp code port-unreachable counter name errors',
    '    icmpv6 type destination-unreachable icmpv6 code port-unreachable counter name errors',
    '  }',
    '}',
  ])
  const arrived = async () => {
    const text = await inRouter(lab, ['nft', 'list', 'counter', 'inet', 'arrived', 'errors'])
    return Number(/packets (\d+)/.exec(text)?.[1])
  }
  const connect = async (name: keyof typeof pods) =>
    await Promise.all(
      families.map(async (i) => {
        const { connection } = await lab.router.open({ protocol: 'udp', address: services[name][i], port: 80 })
        t.match(await connection!.exchange('control'), { ok: true })
        const asked = { source: edge[i], destination: pods[name][i] }
        const ends = { source: asked.destination, destination: asked.source }
        const quoted = ipPacket(asked, numbers.udp, udpDatagram(asked, { sourcePort: connection!.port, port: 8080 }))
        return i === 0
          ? ipPacket(ends, numbers.icmp, icmpMessage(ends, 3, 3, quoted))
          : ipPacket(ends, numbers.icmpv6, icmpMessage(ends, 1, 4, quoted))
      }),
    )
  const errors = { first: await connect('first'), second: await connect('second') }
  const policies = [
    { name: 'everything but the first pod', policy: egress(everythingBut(pods.first)) },
    { name: 'the second pod alone', policy: egress(only(...pods.second, ...services.first)) },
  ]
  for (const { name, policy } of policies) {
    await product.change(() => lab.folder.write('all.yaml', [self, policy]))
    const before = { arrived: await arrived(), denied: (await product.status()).counters.denied }
    await sendPackets(lab.network, 'far', [...errors.first, ...errors.second])
    await until(async () => (await product.status()).counters.denied >= before.denied + 2)
    await until(async () => (await arrived()) >= before.arrived + 2)
    t.equal(await arrived(), before.arrived + 2, `${name}: errors of the second arrive`)
    t.equal((await product.status()).counters.denied, before.denied + 2, `${name}: those of the first do not`)
  }
})

t.test('the pod is refused by its own address', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  const product = await run(lab, '--deny-with', 'reject')
  const first = await streams(lab, services.first)
  t.equal(await now(first), 'flows')
  const sniffer = await sniff(lab.network, 'far')
  await product.change(() => lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first))]))
  for (const i of families) {
    const at = i === 0 ? { source: 12, upper: 20 } : { source: 8, upper: 40 }
    const [source, destination] = [addressBytes(edge[i]), addressBytes(pods.first[i])]
    const isBetween = (packet: Buffer) =>
      packet.subarray(at.source, at.upper).equals(Buffer.concat([source, destination]))
    const protocolOf = (packet: Buffer) => packet[i === 0 ? 9 : 6]
    const reset = await sniffer.find((packet) => {
      return isBetween(packet) && protocolOf(packet) === numbers.tcp && (packet[at.upper + 13]! & 4) !== 0
    })
    t.equal(reset?.readUInt16BE(at.upper + 2), 8090, 'a reset')
    const error = await sniffer.find((packet) => {
      return isBetween(packet) && protocolOf(packet) === (i === 0 ? numbers.icmp : numbers.icmpv6)
    })
    t.same([...(error?.subarray(at.upper, at.upper + 2) ?? [])], i === 0 ? [3, 13] : [1, 1], 'an error')
    const quoted = error?.subarray(at.upper + 8)
    t.ok(
      quoted?.subarray(at.source, at.upper).equals(Buffer.concat([destination, source])),
      "about the pod's own packet",
    )
  }
  await sniffer.stop()
  t.equal(await now(first), 'nothing')
})

t.test('a machine that is not protected, and pods that are', { skip }, async (t) => {
  const denyFirst = networkPolicy('first', {
    podSelector: { matchLabels: { app: 'first' } },
    policyTypes: ['Ingress', 'Egress'],
  })
  for (const node of [undefined, 'another'] as const) {
    await t.test(node === undefined ? 'its own pods' : 'a gateway', async (t) => {
      const local = names.map((name) => pod({ name, addresses: pods[name], ...(node && { node }) }))
      const lab = await site(t, [
        ...local,
        networkPolicy('first', { podSelector: { matchLabels: { app: 'first' } }, ingress: [{}] }),
      ])
      const product = await run(lab)
      const [first, second] = [await streams(lab, services.first), await streams(lab, services.second)]
      t.same([await now(first), await now(second)], ['flows', 'flows'])
      await product.change(() => lab.folder.write('all.yaml', [...local, denyFirst]))
      const isReached = node === undefined
      t.same([await now(first), await now(second)], [isReached ? 'flows' : 'nothing', 'flows'])
      t.same(
        [await outcome(lab, services.first, 80), await outcome(lab, [...pods.first], 8080)],
        isReached ? ['reached', 'reached'] : ['timeout', 'timeout'],
        'by its service as by its own address',
      )
      t.equal(await outcome(lab, services.second, 80), 'reached')
    })
  }
})
