import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { type ApiObject, certificate } from '../sources/kubernetes/api-server.ts'
import { namespace, networkPolicy } from '../sources/kubernetes/follow.ts'
import { until } from '../until.ts'
import type { ApiServerCommand } from './children/api-server.ts'
import { hostEndpoint, type Policies, Product, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1'] as const
const api = ['10.77.1.2', 'fd77:1::2'] as const
/** Where the API server moves to. */
const moved = ['10.77.2.2', 'fd77:2::2'] as const
/** The Service `kubernetes`, and another one. */
const service = ['10.96.0.1', 'fd96::1'] as const
const otherService = ['10.96.0.2', 'fd96::2'] as const
const SERVICE_PORT = 443

const PORT = 6443
/** Its name in the kubeconfig. */
const NAME = 'api.knp.example'
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
/** Names are looked up every 10 s. */
const LOOKED_UP_MS = 15_000 * slow

const denyEgress = networkPolicy('edge', {
  podSelector: { matchLabels: { app: 'edge' } },
  policyTypes: ['Egress'],
  egress: [],
})
/** Another policy of the node, with which it reaches these ports. */
const allowEgress = (...ports: readonly number[]) =>
  networkPolicy('edge-more', {
    podSelector: { matchLabels: { app: 'edge' } },
    policyTypes: ['Egress'],
    egress: [{ ports: ports.map((port) => ({ port })) }],
  })

/** An API server in a host of a network. */
class RemoteApiServer {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  static async start(network: Network, host: string): Promise<RemoteApiServer> {
    const script = fileURLToPath(new URL('./children/api-server.ts', import.meta.url))
    const argv = [process.execPath, '--no-warnings', script, String(PORT)]
    const server = new RemoteApiServer(network.spawn(host, argv, { stdio: ['pipe', 'pipe', 'inherit'] }))
    await server.#lines.next()
    await server.put(namespace('shop'), denyEgress)
    return server
  }

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  async put(...objects: readonly ApiObject[]): Promise<void> {
    for (const object of objects) await this.#do({ op: 'put', object })
  }

  /** Ends all of its connections. Answers how many there were. */
  async dropConnections(): Promise<number> {
    return (await this.#do({ op: 'dropConnections' })) as number
  }

  /** Ends, and its connections with it. */
  async end(): Promise<void> {
    const ended = once(this.#child, 'exit')
    this.#child.stdin!.end()
    await ended
  }

  async #do(command: ApiServerCommand): Promise<unknown> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`)
    const { value } = await this.#lines.next()
    if (value === undefined) throw new Error(`the API server ended at ${command.op}`)
    return JSON.parse(value)
  }
}

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly server: RemoteApiServer
  readonly router: Agent
  /** In the host of the API server, and in the one that it moves to. */
  readonly there: Agent
  readonly elsewhere: Agent
  run(...args: readonly string[]): Promise<Product>
  /** Has the API server's name mean these addresses. */
  name(addresses: readonly string[]): Promise<void>
}

/**
 * The router is a node of a cluster, and all that it sends is denied.
 * @param port the API server's in the kubeconfig
 */
async function site(t: Test, port = PORT): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'api', addresses: api },
      { name: 'moved', addresses: moved },
    ],
  })
  t.after(() => network.destroy())
  for (const [dev, addresses] of Object.entries({ api, moved })) {
    for (const address of addresses) await routeNetwork(network, dev, address)
  }
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('edge.yaml', [hostEndpoint({ name: 'edge', node: 'edge' })])
  const [server, router, there, elsewhere] = await Promise.all([
    RemoteApiServer.start(network, 'api'),
    Agent.start(network, 'router'),
    Agent.start(network, 'api'),
    Agent.start(network, 'moved'),
  ])
  const directory = t.testdir({ kubeconfig: JSON.stringify(kubeconfig(`https://${NAME}:${port}`)) })
  const hostsFile = join(directory, 'hosts')
  const name = (addresses: readonly string[]) =>
    writeFile(hostsFile, addresses.map((address) => `${address} ${NAME}\n`).join(''))
  await name(api)
  const run = (...args: readonly string[]) =>
    Product.start(network, folder, {
      args: ['--node-name', 'edge', '--source', 'kubernetes', '--kubeconfig', join(directory, 'kubeconfig'), ...args],
      hostsFile,
    })
  return { network, folder, server, router, there, elsewhere, run, name }
}

/** What has a route of its own is taken for a pod of this node, which the node may always reach. */
async function routeNetwork(network: Network, dev: string, address: string): Promise<void> {
  const net = address.replace(/2$/, isIPv4(address) ? '0' : '')
  const [whole, bits, source] = isIPv4(address) ? [24, 32, edge[0]] : [64, 128, edge[1]]
  await inRouter(network, `ip route add ${net}/${whole} dev ${dev} src ${source}`)
  await inRouter(network, `ip route del ${address}/${bits} dev ${dev}`)
}

async function inRouter(network: Network, command: string): Promise<void> {
  const { code, stderr } = await network.exec('router', command.split(' '))
  if (code !== 0) throw new Error(`${command}: ${stderr}`)
}

function kubeconfig(server: string): object {
  const cluster = {
    server,
    // The certificate has another name.
    'tls-server-name': 'localhost',
    'certificate-authority-data': certificate.toString('base64'),
  }
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster }],
    users: [{ name: 'reader', user: { token: 'secret' } }],
    contexts: [{ name: 'prod', context: { cluster: 'test', user: 'reader' } }],
    'current-context': 'prod',
  }
}

/** What becomes of new TCP connections to both addresses: one word where it is the same. */
async function connects(from: Agent, addresses: readonly string[], port = PORT): Promise<string> {
  const outcomes = addresses.map(async (address) => {
    const { error, connection } = await from.open({ protocol: 'tcp', address, port, timeoutMs: DENIED_AFTER_MS })
    await connection?.close()
    return connection ? 'reached' : `${error}`
  })
  return [...new Set(await Promise.all(outcomes))].join()
}

async function asksByUdp(from: Agent, addresses: readonly string[]): Promise<string> {
  const outcomes = addresses.map(async (address) => {
    const { ok, error } = await from.probe({ protocol: 'udp', address, port: PORT, timeoutMs: DENIED_AFTER_MS })
    return ok ? 'reached' : `${error}`
  })
  return [...new Set(await Promise.all(outcomes))].join()
}

/** What the node reaches. */
async function reach({ router }: Site) {
  const [server, port, udp, host] = await Promise.all([
    connects(router, api),
    connects(router, api, PORT + 1),
    asksByUdp(router, api),
    connects(router, moved),
  ])
  return { 'the API server': server, 'another port of it': port, 'its port by UDP': udp, 'another host': host }
}

/** Somebody listens wherever the node connects to: what is not reached is denied. */
async function listenBeside(lab: Site): Promise<void> {
  for (const address of api) {
    await lab.there.listen({ protocol: 'tcp', address, port: PORT + 1 })
    await lab.there.listen({ protocol: 'udp', address, port: PORT })
  }
  for (const address of moved) await lab.elsewhere.listen({ protocol: 'tcp', address, port: PORT })
}

const everything = {
  'the API server': 'reached',
  'another port of it': 'reached',
  'its port by UDP': 'reached',
  'another host': 'reached',
}
const nothing = {
  'the API server': 'timeout',
  'another port of it': 'timeout',
  'its port by UDP': 'timeout',
  'another host': 'timeout',
}
const onlyTheServer = { ...nothing, 'the API server': 'reached' }
const rulesFor = (addresses: readonly [string, string], port = PORT) =>
  `tcp/${port}@${addresses[0]}/32,${addresses[1]}/128`

t.setTimeout(120_000)
// Each in a network of its own.
t.jobs = 2

t.test('a node that may send nothing reaches its API server, and nothing else', { skip }, async (t) => {
  const lab = await site(t)
  await listenBeside(lab)
  t.same(await reach(lab), everything, 'without the firewall')
  const product = await lab.run('--on-failure', 'closed')
  t.match(await product.status(), { host: { name: 'shop/edge', egress: true } })
  t.same((await product.status()).failsafe.outbound.at(-1), rulesFor(api))
  t.same(await reach(lab), onlyTheServer)

  t.ok((await lab.server.dropConnections()) > 0, 'it was connected')
  await product.change(() => lab.server.put(allowEgress(PORT + 1)))
  t.same(await reach(lab), { ...onlyTheServer, 'another port of it': 'reached' }, 'and knows what changes there')

  await product.stop('SIGKILL')
  t.equal(await connects(lab.router, api), 'reached', 'also while the firewall is dead')
  t.equal(await connects(lab.router, api, PORT + 2), 'timeout')
})

t.test('without the failsafe the API server is denied as all others', { skip }, async (t) => {
  const lab = await site(t)
  await listenBeside(lab)
  for (const address of api) await lab.there.listen({ protocol: 'tcp', address, port: 53 })
  const product = await lab.run('--no-failsafe-api-server')
  t.notMatch((await product.status()).failsafe.outbound.join(' '), `tcp/${PORT}`)
  t.same(await reach(lab), nothing)
  t.equal(await connects(lab.router, api, 53), 'reached', 'control: the rest of the failsafe is there')
  t.match(await product.stop(), { code: 0 })

  const listed = await lab.run('--failsafe-outbound', `tcp/53@${api[0]}/32`)
  t.same((await listed.status()).failsafe.outbound, [`tcp/53@${api[0]}/32`], 'a list that is set is all there is')
  t.same(await reach(lab), nothing)
  t.match(await listed.stop(), { code: 0 })

  const both = await lab.run('--failsafe-outbound', 'none', '--failsafe-api-server')
  t.same((await both.status()).failsafe.outbound, [rulesFor(api)])
  t.same(await reach(lab), onlyTheServer, 'but for what is asked for')
})

t.test('an API server that moves is followed by its name', { skip }, async (t) => {
  const lab = await site(t)
  const product = await lab.run()
  const next = await RemoteApiServer.start(lab.network, 'moved')
  t.equal(await connects(lab.router, api), 'reached')
  t.equal(await connects(lab.router, moved), 'timeout', 'it is not there yet')

  await lab.server.end()
  for (const address of api) await lab.there.listen({ protocol: 'tcp', address, port: PORT })
  await lab.name(moved)
  await until(async () => (await product.status()).failsafe.outbound.includes(rulesFor(moved)), LOOKED_UP_MS)
  await until(async () => (await connects(lab.router, moved)) === 'reached')
  t.equal(await connects(lab.router, api), 'timeout', 'the former address is no longer in the failsafe')
  t.equal(await connects(lab.elsewhere, api), 'reached', 'control: somebody listens there')
  for (const address of moved) await lab.elsewhere.listen({ protocol: 'tcp', address, port: PORT + 1 })
  t.equal(await connects(lab.router, moved, PORT + 1), 'timeout')
  await product.change(() => next.put(allowEgress(PORT + 1)))
  t.equal(await connects(lab.router, moved, PORT + 1), 'reached', 'the firewall reads what is new from where it is now')
})

t.test('connections to a former address are given up, though the API server is there still', { skip }, async (t) => {
  const lab = await site(t)
  const product = await lab.run()
  const next = await RemoteApiServer.start(lab.network, 'moved')
  await lab.name(moved)
  await until(async () => (await product.status()).failsafe.outbound.includes(rulesFor(moved)), LOOKED_UP_MS)
  await product.change(() => next.put(allowEgress(PORT)))
  t.notMatch(product.stderr, 'cannot be read')
})

t.test('an API server behind its Service is reached by that', { skip }, async (t) => {
  const lab = await site(t, SERVICE_PORT)
  await inRouter(lab.network, `ip route add 10.96.0.0/16 dev api src ${edge[0]}`)
  await inRouter(lab.network, `ip route add fd96::/16 dev api src ${edge[1]}`)
  // As kube-proxy has it: what a node sends to the Service goes to the server itself.
  const forwarded = [service, otherService].flatMap(([v4, v6]) => [
    `ip daddr ${v4} tcp dport ${SERVICE_PORT} dnat ip to ${api[0]}:${PORT}`,
    `ip6 daddr ${v6} tcp dport ${SERVICE_PORT} dnat ip6 to [${api[1]}]:${PORT}`,
  ])
  const chain = ['chain output { type nat hook output priority -100;', ...forwarded, '}']
  const input = ['table inet service {', ...chain, '}', ''].join('\n')
  const { code, stderr } = await lab.network.exec('router', ['nft', '-f', '-'], { input })
  t.equal(code, 0, stderr)
  await lab.name(service)
  for (const addresses of [service, otherService]) {
    t.equal(await connects(lab.router, addresses, SERVICE_PORT), 'reached', 'without the firewall')
  }
  const product = await lab.run()
  t.same((await product.status()).failsafe.outbound.at(-1), rulesFor(service, SERVICE_PORT))
  t.equal(await connects(lab.router, service, SERVICE_PORT), 'reached')
  t.equal(await connects(lab.router, otherService, SERVICE_PORT), 'timeout', 'by another one it is denied')
  t.equal(await connects(lab.router, api), 'timeout', 'and by its own address, which nobody has named')
  t.ok((await lab.server.dropConnections()) > 0)
  await product.change(() => lab.server.put(allowEgress(PORT)))
  t.equal(await connects(lab.router, api), 'reached', 'the firewall knows what changes there')
})
