import t, { type Test } from 'tap'
import { Agent, type Stream } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { counts, moved } from './counts.ts'
import { forgetful, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'
import { now } from './streams.ts'

const names = ['web', 'db', 'other'] as const
type Name = (typeof names)[number]
type Addresses = readonly [v4: string, v6: string]
const bridge: Addresses = ['10.88.0.1', 'fd88::1']
const pods: Readonly<Record<Name, Addresses>> = {
  web: ['10.88.0.2', 'fd88::2'],
  db: ['10.88.0.3', 'fd88::3'],
  /** A pod that may not reach db. */
  other: ['10.88.0.4', 'fd88::4'],
}
/** Behind the node's uplink. */
const far: Addresses = ['10.77.9.2', 'fd77:9::2']
/** Port 80 is db's 8080. */
const service: Addresses = ['10.96.0.1', 'fd96::1']
const families = [0, 1] as const
const protocols = ['tcp', 'udp'] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
const STREAM_MS = 60_000

const rules = (client: Name) => [
  ...names.map((name) => pod({ name, addresses: pods[name] })),
  networkPolicy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: client } } }] }],
  }),
]

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly agents: Readonly<Record<Name | 'far' | 'node', Agent>>
  readonly product: Product
}

/** Pods on one bridge of the node, as most plugins of CNI connect them, and a service as kube-proxy translates it. */
async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [...names.map((name) => ({ name, addresses: [] })), { name: 'far', addresses: far }],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', rules('web'))
  await run(network, network.router, [
    'ip link add br0 type bridge',
    'ip link set br0 up',
    ...families.map((i) => `ip addr add ${bridge[i]}/${i === 0 ? '24' : '64 nodad'} dev br0`),
    // A pod that reaches itself by its service comes back through its own port.
    ...names.flatMap((name) => [`ip link set ${name} master br0`, `ip link set ${name} type bridge_slave hairpin on`]),
  ])
  await hear(network, true)
  for (const name of names) {
    await run(network, name, [
      ...families.map((i) => `ip addr add ${pods[name][i]}/${i === 0 ? '24' : '64 nodad'} dev eth0`),
      ...families.map((i) => `ip ${i === 0 ? '-4' : '-6'} route replace default via ${bridge[i]} dev eth0`),
    ])
  }
  const translated = families.flatMap((i) => {
    const ip = i === 0 ? 'ip' : 'ip6'
    const to = i === 0 ? pods.db[i] : `[${pods.db[i]}]`
    return protocols.flatMap((protocol) => [
      `${ip} saddr ${pods.db[i]} ${ip} daddr ${service[i]} ${protocol} dport 80 meta mark set meta mark | 0x4000`,
      `${ip} daddr ${service[i]} ${protocol} dport 80 dnat ${ip} to ${to}:8080`,
    ])
  })
  const script = [
    'table inet services {',
    '  chain services {',
    ...translated,
    '  }',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }',
    '  chain output { type nat hook output priority -100; policy accept; jump services; }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
    '    meta mark & 0x4000 == 0x4000 masquerade',
    '  }',
    '}',
  ]
  const { code, stderr } = await network.exec('router', ['nft', '-f', '-'], { input: `${script.join('\n')}\n` })
  if (code !== 0) throw new Error(stderr)
  const started = await Promise.all(
    [...names, 'far', 'router'].map(async (name) => [
      name === 'router' ? 'node' : name,
      await Agent.start(network, name),
    ]),
  )
  const agents: Site['agents'] = Object.fromEntries(started)
  for (const address of pods.db) {
    for (const protocol of protocols) await agents.db.listen({ protocol, address, port: 8080 })
    await agents.db.push({ address, port: 8090, intervalMs: 20, durationMs: STREAM_MS })
    await agents.db.serve({ address, port: 8090, bytesPerSecond: 1_000_000 })
  }
  const product = await Product.start(network, folder, { args: forgetful })
  return { network, folder, agents, product }
}

async function run(network: Network, host: string, commands: readonly string[]): Promise<void> {
  const { code, stderr } = await network.exec(host, ['sh', '-ec', commands.join('\n')])
  if (code !== 0) throw new Error(stderr)
}

/** Whether packets between two ports of a bridge pass the firewall at all. */
async function hear(network: Network, isHeard: boolean): Promise<void> {
  const settings = ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables']
  const value = isHeard ? 1 : 0
  await run(
    network,
    network.router,
    settings.map((name) => `echo ${value} >/proc/sys/net/bridge/${name}`),
  )
}

/** What becomes of a new connection, by TCP and UDP, IPv4 and IPv6: one word where it is the same. */
async function outcome(agent: Agent, to: Addresses, port: number): Promise<string> {
  const answers = await Promise.all(
    to.flatMap((address) =>
      protocols.map((protocol) => agent.probe({ protocol, address, port, timeoutMs: DENIED_AFTER_MS * slow })),
    ),
  )
  return [...new Set(answers.map(({ ok, error }) => (ok ? 'reached' : error)))].join()
}

async function streams(agent: Agent): Promise<readonly Stream[]> {
  const target = (address: string) => ({ address, port: 8090, durationMs: STREAM_MS })
  return await Promise.all(
    pods.db.flatMap((address) => [agent.subscribe(target(address)), agent.download(target(address))]),
  )
}

t.test('pods on a bridge', { skip }, async (t) => {
  const { network, folder, agents, product } = await site(t)
  const { web, db, other, far: outside, node } = agents
  const reach = async () => ({
    'from a pod on the same bridge, allowed': await outcome(web, pods.db, 8080),
    'from a pod on the same bridge, denied': await outcome(other, pods.db, 8080),
    'by the service, allowed': await outcome(web, service, 80),
    'by the service, denied': await outcome(other, service, 80),
    'itself by the service': await outcome(db, service, 80),
    'from outside': await outcome(outside, pods.db, 8080),
    "the kubelet's probe": await outcome(node, pods.db, 8080),
  })

  await t.test('are judged among themselves, by address and by service', async (t) => {
    const before = await counts(product)
    t.same(await reach(), {
      'from a pod on the same bridge, allowed': 'reached',
      'from a pod on the same bridge, denied': 'timeout',
      'by the service, allowed': 'reached',
      'by the service, denied': 'timeout',
      'itself by the service': 'reached',
      'from outside': 'timeout',
      "the kubelet's probe": 'reached',
    })
    t.same(
      await moved(product, before),
      { queued: 24, allowed: 12, denied: 12 },
      'TCP and UDP, IPv4 and IPv6; one packet for each connection, but none of the probes',
    )
  })

  await t.test('a change ends what is open between them, and nothing else', async (t) => {
    const open = await streams(web)
    t.equal(await now(open), 'flows')
    await product.change(() => folder.write('all.yaml', rules('other')))
    t.equal(await now(open), 'nothing')
    t.equal(await outcome(other, pods.db, 8080), 'reached')
  })

  await t.test('status says it where the kernel does not hand their packets over', async (t) => {
    t.same((await product.status()).warnings, [])
    await hear(network, false)
    t.equal(await outcome(web, pods.db, 8080), 'reached', 'control: it is so')
    const { warnings } = await product.status()
    t.match(warnings, [/bridge.*br0.*bridge-nf-call-iptables/s])
    await hear(network, true)
    t.same((await product.status()).warnings, [])
  })
})
