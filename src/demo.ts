import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ask } from './control/socket.ts'
import {
  type CompiledPolicy,
  compile,
  type Decision,
  explain,
  formatAddress,
  parseQuestion,
  type Snapshot,
} from './engine/index.ts'
import { policyKinds } from './engine/pipeline.ts'
import { KnpError } from './errors.ts'
import type { FirewallStatus } from './firewall-status.ts'
import { Agent } from './lab/agent.ts'
import { createNetwork, type Network } from './lab/network.ts'
import { loadSnapshot } from './sources/load.ts'

/** One connection of the demo: what policy says of it, and what became of its packets. */
export interface DemoFlow {
  readonly from: string
  readonly to: string
  readonly decision: Decision
  /** Whether the server's echo of a fresh nonce came back, before the firewall ran (the positive control) and while it did. */
  readonly wasOpen: boolean
  readonly isOpen: boolean
  /** How far the kernel's counters moved for it. */
  readonly counted: {
    readonly queued: number
    readonly allowed: number
    readonly denied: number
    readonly unanswered: number
  }
  /** The server answered before, and then exactly if policy allows; the kernel counted one packet, for that verdict. */
  readonly isAsExpected: boolean
}

export interface DemoReport {
  readonly flows: readonly DemoFlow[]
  /** From saving a changed policy until a connection it denied before was answered. */
  readonly editMs: number | undefined
  readonly enforcing: string
}

interface Attempt {
  readonly from: string
  readonly to: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
}

const CLIENTS = { visitor: ['198.51.100.7', '2001:db8:100::7'], 'bad-neighbour': ['198.51.100.200'] }
const SERVED = [
  { host: 'web', protocol: 'tcp', port: 8080 },
  { host: 'api', protocol: 'tcp', port: 9005 },
  { host: 'api', protocol: 'udp', port: 9005 },
  { host: 'db', protocol: 'tcp', port: 5432 },
] as const
const ATTEMPTS: readonly Attempt[] = [
  { from: 'visitor', to: 'web', protocol: 'tcp', port: 8080 },
  { from: 'bad-neighbour', to: 'web', protocol: 'tcp', port: 8080 },
  { from: 'web', to: 'api', protocol: 'tcp', port: 9005 },
  { from: 'web', to: 'api', protocol: 'udp', port: 9005 },
  { from: 'api', to: 'db', protocol: 'tcp', port: 5432 },
  { from: 'web', to: 'db', protocol: 'tcp', port: 5432 },
  { from: 'visitor', to: 'db', protocol: 'tcp', port: 5432 },
  { from: 'db', to: 'web', protocol: 'tcp', port: 8080 },
]
/** Shorter than TCP's first retransmission: a dropped SYN is one packet. */
const PROBE_TIMEOUT_MS = 500

/** What the live edit puts beside the shop's policies. */
const OPEN_DATABASE = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
`

/**
 * Runs the firewall on real packets: a small shop in network namespaces of its own, `knp run` in the router's. Touches
 * nothing else of the machine. Throws KnpError PERMISSION, UNSUPPORTED_HOST.
 * @param progress told what happens, a line at a time
 */
export async function runDemo(progress: (line: string) => void): Promise<DemoReport> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-demo-'))
  const policies = join(folder, 'policies')
  await cp(fileURLToPath(new URL('../demo/shop', import.meta.url)), policies, { recursive: true })
  const { snapshot } = await loadSnapshot([{ files: { path: policies } }])
  const compiled = compile(snapshot, policyKinds)
  const network = await createNetwork({ prefix: 'knp-demo', hosts: hostsOf(snapshot) })
  try {
    progress(`made ${network.hosts.length} network namespaces and a router: ${network.hosts.join(', ')}`)
    const agents = new Map(
      await Promise.all(network.hosts.map(async (host) => [host, await Agent.start(network, host)] as const)),
    )
    await serve(network, agents)
    const attempts = ATTEMPTS.flatMap((attempt) => familiesOf(network, attempt))
    const before: boolean[] = []
    for (const attempt of attempts) before.push(await isAnswered(agents, attempt))
    progress(`without a firewall ${before.filter(Boolean).length} of ${attempts.length} connections are answered`)

    const socket = join(folder, 'control.sock')
    const firewall = await startFirewall(network, policies, socket)
    progress(`knp run: ${firewall.enforcing}`)
    const flows: DemoFlow[] = []
    for (const [i, attempt] of attempts.entries()) {
      flows.push(await tryFlow({ agents, attempt, wasOpen: before[i]!, socket, snapshot, compiled }))
    }
    const editMs = await editPolicy(
      join(policies, 'edit.yaml'),
      agents,
      attempts.find(({ from, to }) => from === 'web' && to === 'db')!,
    )
    await firewall.stop()
    return { flows, editMs, enforcing: firewall.enforcing }
  } finally {
    await network.destroy()
    await rm(folder, { recursive: true, force: true })
  }
}

type Addressed = Attempt & { readonly address: string; readonly sourceAddress: string }

function hostsOf(snapshot: Snapshot): { name: string; addresses: string[] }[] {
  const pods = snapshot.workloads.map(({ name, addresses }) => ({ name, addresses: addresses.map(formatAddress) }))
  return [...pods, ...Object.entries(CLIENTS).map(([name, addresses]) => ({ name, addresses: [...addresses] }))]
}

/** The attempt once for each address family that both ends have. */
function familiesOf(network: Network, attempt: Attempt): Addressed[] {
  const isV6 = (address: string) => address.includes(':')
  return network.addressesOf(attempt.to).flatMap((address) => {
    const sourceAddress = network.addressesOf(attempt.from).find((own) => isV6(own) === isV6(address))
    return sourceAddress === undefined ? [] : [{ ...attempt, address, sourceAddress }]
  })
}

async function serve(network: Network, agents: ReadonlyMap<string, Agent>): Promise<void> {
  for (const { host, protocol, port } of SERVED) {
    for (const address of network.addressesOf(host)) await agents.get(host)!.listen({ protocol, address, port })
  }
}

async function isAnswered(agents: ReadonlyMap<string, Agent>, attempt: Addressed): Promise<boolean> {
  const { from, protocol, address, port, sourceAddress } = attempt
  return (await agents.get(from)!.probe({ protocol, address, port, sourceAddress, timeoutMs: PROBE_TIMEOUT_MS })).ok
}

async function tryFlow(parts: {
  agents: ReadonlyMap<string, Agent>
  attempt: Addressed
  wasOpen: boolean
  socket: string
  snapshot: Snapshot
  compiled: CompiledPolicy
}): Promise<DemoFlow> {
  const { agents, attempt, wasOpen, socket, snapshot, compiled } = parts
  const { from, to, protocol, port, address, sourceAddress } = attempt
  const decision = explain(parseQuestion(sourceAddress, `[${address}]:${port}/${protocol}`), snapshot, compiled)
  const earlier = await countersOf(socket)
  const isOpen = await isAnswered(agents, attempt)
  const later = await countersOf(socket)
  const counted = {
    queued: later.queued - earlier.queued,
    allowed: later.allowed - earlier.allowed,
    denied: later.denied - earlier.denied,
    unanswered: later.unanswered - earlier.unanswered,
  }
  const isAllowed = decision.verdict === 'allow'
  const isCounted =
    counted.queued === 1 &&
    counted.unanswered === 0 &&
    counted.allowed === Number(isAllowed) &&
    counted.denied === Number(!isAllowed)
  return {
    from,
    to: `${to} ${address}`,
    decision,
    wasOpen,
    isOpen,
    counted,
    isAsExpected: wasOpen && isOpen === isAllowed && isCounted,
  }
}

async function countersOf(socket: string): Promise<FirewallStatus['counters']> {
  return ((await ask(socket, 'status')) as FirewallStatus).counters
}

async function startFirewall(
  network: Network,
  policies: string,
  socket: string,
): Promise<{ enforcing: string; stop(): Promise<void> }> {
  const program = fileURLToPath(new URL('../bin/run.js', import.meta.url))
  const child = network.spawn(
    network.router,
    [
      process.execPath,
      program,
      'run',
      '--source',
      policies,
      '--control-socket',
      socket,
      '--state-dir',
      join(policies, '..', 'state'),
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  let errors = ''
  child.stderr?.on('data', (chunk) => {
    errors += String(chunk)
  })
  const enforcing = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk) => resolve(String(chunk).trim()))
    child.once('exit', () =>
      reject(new KnpError('UNSUPPORTED_HOST', errors.trim() || 'knp run ended at once', { hint: 'see `knp doctor`' })),
    )
  })
  return {
    enforcing,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

/** Saves a policy that allows what was denied, and tries until it is. */
async function editPolicy(
  file: string,
  agents: ReadonlyMap<string, Agent>,
  attempt: Addressed,
): Promise<number | undefined> {
  const saved = performance.now()
  await writeFile(file, OPEN_DATABASE)
  while (performance.now() - saved < 5000) {
    const { protocol, address, port, sourceAddress } = attempt
    const answer = await agents.get(attempt.from)!.probe({ protocol, address, port, sourceAddress, timeoutMs: 50 })
    if (answer.ok) return performance.now() - saved
  }
  return undefined
}
