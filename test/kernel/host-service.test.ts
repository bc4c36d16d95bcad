import t, { type Test } from 'tap'
import { Agent, type Stream } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { hostEndpoint, networkPolicy, type Policies, Product, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
/** Two pods, each behind a service with its port plus 8000 as the pod's. */
const pods = { first: ['10.77.2.2', 'fd77:2::2'], second: ['10.77.2.3', 'fd77:2::3'] } as const
const services = { first: ['10.96.0.1', 'fd96::1'], second: ['10.96.0.2', 'fd96::2'] } as const
type Name = keyof typeof pods
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
    ...names.flatMap((name) =>
      [80, 81, 82, 90].flatMap((port) =>
        protocols.flatMap((protocol) => [
          `ip daddr ${services[name][0]} ${protocol} dport ${port} dnat ip to ${pods[name][0]}:80${port}`,
          `ip6 daddr ${services[name][1]} ${protocol} dport ${port} dnat ip6 to [${pods[name][1]}]:80${port}`,
        ]),
      ),
    ),
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

/** Streams to the host through a service, both families; the server of UDP is never asked again. */
async function streams({ router }: Site, name: Name): Promise<Readonly<Record<string, Stream>>> {
  const opened = families.map(async (i) => {
    const target = { address: services[name][i], port: 90, durationMs: STREAM_MS }
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
t.jobs = 2

t.test('a deny of the pod ends what the host has open through its service', { skip }, async (t) => {
  const lab = await site(t, [self, egress(everything)])
  const product = await run(lab)
  const [first, second] = [await streams(lab, 'first'), await streams(lab, 'second')]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await product.change(() => lab.folder.write('all.yaml', [self, egress(everythingBut(pods.first))]))
  t.same([await now(first), await now(second)], ['nothing', 'flows'], 'of the one pod, and not of the other')
  t.same([await outcome(lab, services.first, 80), await outcome(lab, services.second, 80)], ['timeout', 'reached'])
})

t.test('what the pod alone is allowed goes on, also where the server is the first to speak', { skip }, async (t) => {
  const lab = await site(t, [self, egress(only(...pods.first, ...pods.second))])
  const product = await run(lab)
  const [first, second] = [await streams(lab, 'first'), await streams(lab, 'second')]
  t.same([await now(first), await now(second)], ['flows', 'flows'])
  await product.change(() => lab.folder.write('all.yaml', [self, egress(only(...pods.first, ...services.second))]))
  t.same([await now(first), await now(second)], ['flows', 'nothing'], "the service's address is nobody's")
})
