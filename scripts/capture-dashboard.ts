// Writes into docs/dashboard.md what the dashboard shows of a small shop, so that no screen is ever typed by hand: `knp run` and
// `knp dashboard` on real packets, in network namespaces and terminals of their own. Needs root and tmux.
//
//   npm run build:js && node scripts/capture-dashboard.ts
//
// A fenced block behind a line `<!-- screen: NAME -->` is filled.
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { formatAddress } from '../src/engine/index.ts'
import { Agent } from '../src/lab/agent.ts'
import { createNetwork, type Network } from '../src/lab/network.ts'
import { loadSnapshot } from '../src/sources/load.ts'
import { knp } from '../test/kernel/product.ts'
import { Terminal } from '../test/kernel/terminal.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const document = join(root, 'docs/dashboard.md')
const small = [80, 24] as const
const large = [160, 50] as const
/** Long enough for bars to be seen. */
const TRAFFIC_MS = 45_000
const visitors = Array.from({ length: 60 }, (_, i) => `198.51.100.${i + 10}`)
const neighbour = '198.51.100.200'

/** What goes on in the shop: who connects to whom, and how many such rounds one is left out of. */
const habits = [
  { from: 'web', to: 'api', protocol: 'tcp', port: 9005, every: 2 },
  { from: 'web', to: 'api', protocol: 'udp', port: 9005, every: 3 },
  { from: 'api', to: 'db', protocol: 'tcp', port: 5432, every: 2 },
  { from: 'web', to: 'db', protocol: 'tcp', port: 5432, every: 9 },
  { from: 'db', to: 'web', protocol: 'tcp', port: 8080, every: 14 },
] as const

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'shop-'))
  await cp(join(root, 'demo/shop'), join(folder, 'policies'), { recursive: true })
  const { snapshot } = await loadSnapshot([{ files: { path: join(folder, 'policies') } }])
  const pods = snapshot.workloads.map(({ name, addresses }) => ({ name, addresses: addresses.map(formatAddress) }))
  const strangers = [
    { name: 'visitors', addresses: visitors },
    { name: 'neighbour', addresses: [neighbour] },
  ]
  const network = await createNetwork({ prefix: 'knp-screens', hosts: [...pods, ...strangers] })
  try {
    const socket = join(folder, 'control.sock')
    const args = ['--source', 'policies', '--control-socket', socket, '--state-dir', join(folder, 'state')]
    // Short, so that decisions of every kind are among the latest.
    const memory = ['--remember-allowed', '2s', '--remember-denied', '1s']
    const firewall = network.spawn(network.router, knp(['run', ...args, '--node-name', 'gw', ...memory]), {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(firewall.stdout!, 'data')
    const screens = await capture(network, socket)
    firewall.kill('SIGTERM')
    await once(firewall, 'exit')
    await writeFile(document, fill(await readFile(document, 'utf8'), screens))
  } finally {
    await network.destroy()
    await rm(folder, { recursive: true, force: true })
  }
}

async function capture(network: Network, socket: string): Promise<ReadonlyMap<string, string>> {
  const argv = knp(['dashboard', '--control-socket', socket], { NO_COLOR: '1' })
  const [narrow, wide] = [new Terminal(argv, small), new Terminal(argv, large)]
  const ended = new AbortController()
  try {
    await Promise.all([narrow, wide].map((terminal) => terminal.shows(/^ENFORCING/)))
    const running = traffic(network, ended.signal)
    await Promise.race([sleep(TRAFFIC_MS), running])
    const screens = new Map([
      ['80x24', narrow.screen()],
      ['160x50', wide.screen()],
    ])
    narrow.press('/denied', 'Enter')
    await narrow.shows(/filter "denied"/)
    narrow.press('Down')
    screens.set('filter', await narrow.shows(/PAUSED/))
    narrow.press('Enter')
    screens.set('explanation', await narrow.shows(/^DENIED /m))
    narrow.press('Escape')
    await narrow.shows(/PAUSED/)
    narrow.press('?')
    screens.set('help', await narrow.shows(/^ queues/m))
    ended.abort()
    await running
    return screens
  } finally {
    ended.abort()
    narrow.close()
    wide.close()
  }
}

async function traffic(network: Network, signal: AbortSignal): Promise<void> {
  const names = ['web', 'api', 'db', 'visitors', 'neighbour']
  const agents = new Map(
    await Promise.all(names.map(async (name) => [name, await Agent.start(network, name)] as const)),
  )
  const [web] = network.addressesOf('web')
  for (const { to, protocol, port } of habits) {
    if (to !== 'web') {
      for (const address of network.addressesOf(to))
        await agents
          .get(to)!
          .listen({ protocol, address, port })
          .catch(() => {})
    }
  }
  await agents.get('web')!.listen({ protocol: 'tcp', address: web!, port: 8080 })
  const pending: Promise<unknown>[] = []
  const connect = (
    from: string,
    probe: { protocol: 'tcp' | 'udp'; address: string; port: number; sourceAddress: string },
  ) => pending.push(agents.get(from)!.probe({ ...probe, timeoutMs: 400 }))
  for (let round = 0; !signal.aborted; round++) {
    const visitor = visitors[(round * 7) % visitors.length]!
    connect('visitors', { protocol: 'tcp', address: web!, port: 8080, sourceAddress: visitor })
    if (round % 6 === 0) connect('neighbour', { protocol: 'tcp', address: web!, port: 8080, sourceAddress: neighbour })
    for (const { from, to, protocol, port, every } of habits) {
      const [sourceAddress] = network.addressesOf(from)
      const [address] = network.addressesOf(to)
      if (round % every === 0) connect(from, { protocol, address: address!, port, sourceAddress: sourceAddress! })
    }
    // More and less of it, as the day goes.
    await sleep(120 + 100 * Math.sin(round / 20))
  }
  await Promise.all(pending)
}

/** The document with every marked block filled. */
function fill(text: string, screens: ReadonlyMap<string, string>): string {
  const filled = text.replace(
    /^(<!-- screen: (\S+) -->\n```text\n)[\s\S]*?^```$/gm,
    (_, head: string, name: string) => {
      const screen = screens.get(name)
      if (screen === undefined) throw new Error(`${document}: there is no screen "${name}"`)
      return `${head}${screen.trimEnd()}\n\`\`\``
    },
  )
  for (const name of screens.keys()) {
    if (!filled.includes(`<!-- screen: ${name} -->`)) throw new Error(`${document}: no place for screen "${name}"`)
  }
  return filled
}

await main()
