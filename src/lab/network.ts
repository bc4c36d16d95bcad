import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { isIPv4, isIPv6 } from 'node:net'
import { KnpError } from '../errors.ts'

/** A machine of the network: a network namespace with one interface, `eth0`, to the router. */
export interface HostSpec {
  /** Lower-case letters, digits and dashes, at most 15 characters: it also names the router's interface to the host. */
  readonly name: string
  /** IPv4 and IPv6 addresses without a prefix length. Each is routed on its own, so hosts may share a subnet. */
  readonly addresses: readonly string[]
}

export interface NetworkSpec {
  /** Starts every namespace's name: `<prefix>-<pid>-<number>-<host>`. Default `knp`. */
  readonly prefix?: string
  /** Default `{name: 'router', addresses: ['10.77.0.1', 'fd77::1']}`: one address of each family the hosts use. */
  readonly router?: HostSpec
  readonly hosts: readonly HostSpec[]
}

export interface ExecOptions {
  /** Written to standard input, which is then closed. Default empty. */
  readonly input?: string
  /** The process is killed after this long. Default 10 000. */
  readonly timeoutMs?: number
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
}

export interface ExecResult {
  /** Exit status, or undefined when a signal ended the process. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
  /** Killed because `timeoutMs` had passed. */
  readonly timedOut: boolean
}

/** A running network. Everything in it ends with `destroy()`, or when this process ends in whatever way. */
export interface Network {
  /** Name of the router, as `exec` and `spawn` take it. */
  readonly router: string
  /** Names of the hosts, in the order they were given. */
  readonly hosts: readonly string[]
  /** The network namespace of the router or a host, as in `ip netns`. Throws UNKNOWN_NAME. */
  namespaceOf(host: string): string
  /** Addresses of the router or a host. Throws UNKNOWN_NAME. */
  addressesOf(host: string): readonly string[]
  /** Adds a host to the running network. */
  addHost(host: HostSpec): Promise<void>
  /** Runs a program to its end inside a host. Its failure is a result, not an error; UNSUPPORTED_HOST if it is missing. */
  exec(host: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>
  /** Starts a program inside a host. The process is the program itself, so its pid and signals are the program's. */
  spawn(host: string, argv: readonly string[], options?: SpawnOptions): ChildProcess
  /** Kills every process in the network's namespaces and deletes them. May be called again. */
  destroy(): Promise<void>
}

interface Host {
  readonly name: string
  readonly namespace: string
  readonly addresses: readonly string[]
}

/** How many networks this process has made: a name is never used twice while a process lives. */
let networks = 0

/**
 * Namespaces outlive the process that made them, and a process that is killed cannot delete them. So a shell in its own
 * session is told every name before the namespace is made, and does the deleting when its input ends, for whatever
 * reason. A process of ours that has itself entered a namespace is spared.
 */
const keeperScript = `
owner=$PPID
names=
while read -r name; do names="$names $name"; done
for name in $names; do
  [ -e /run/netns/$name ] || continue
  for pid in $(ip netns pids $name); do [ $pid = $owner ] || kill -9 $pid; done
  ip netns delete $name
done 2>/dev/null
`

/** The node's own addresses: hosts route through them, and what the router sends itself comes from them. */
const routerDefaults: HostSpec = { name: 'router', addresses: ['10.77.0.1', 'fd77::1'] }

/** Ready at once and quiet: no duplicate address detection, no router solicitation, an answer to every reject. */
const hostSettings = [
  ['net/ipv6/conf/default/accept_dad', 0],
  ['net/ipv6/conf/all/accept_dad', 0],
  ['net/ipv6/conf/default/router_solicitations', 0],
  ['net/ipv6/conf/default/accept_ra', 0],
  ['net/ipv6/icmp/ratelimit', 0],
  // Not icmp_ratelimit: 0 there leaves a peer without credit for the errors of routing.
  ['net/ipv4/icmp_ratemask', 0],
  ['net/ipv4/conf/all/rp_filter', 0],
  ['net/ipv4/conf/default/rp_filter', 0],
] as const

const routerSettings = [
  ...hostSettings,
  ['net/ipv4/ip_forward', 1],
  ['net/ipv6/conf/all/forwarding', 1],
  ['net/ipv4/conf/all/send_redirects', 0],
  ['net/ipv4/conf/default/send_redirects', 0],
] as const

/**
 * Makes a network of namespaces: hosts that reach each other through one router that forwards IPv4 and IPv6. Addresses
 * work, and neighbours are known, when the promise resolves; no ARP or neighbour discovery is needed for them.
 *
 * Throws PERMISSION without root, UNSUPPORTED_HOST where network namespaces or iproute2 are missing.
 */
export async function createNetwork(spec: NetworkSpec): Promise<Network> {
  if (process.platform !== 'linux') {
    throw new KnpError('UNSUPPORTED_HOST', `network namespaces: a feature of Linux, this is ${process.platform}`)
  }
  if (process.geteuid?.() !== 0) {
    throw new KnpError('PERMISSION', `network namespaces: need root, running as uid ${process.geteuid?.()}`, {
      hint: 'run as root or grant CAP_SYS_ADMIN and CAP_NET_ADMIN',
    })
  }
  const id = `${spec.prefix ?? 'knp'}-${process.pid}-${++networks}`
  const members = new Map<string, Host>()
  const children = new Set<ChildProcess>()
  const keeper = spawn('sh', ['-c', keeperScript], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  const keeperEnded = new Promise<void>((resolve) => {
    keeper.once('close', () => resolve())
    keeper.once('error', () => resolve())
  })
  keeper.stdin.on('error', () => {})
  keeper.unref()
  unrefStream(keeper.stdin)
  let destroyed: Promise<void> | undefined
  let interfaces = 0

  function member(name: string): Host {
    const found = members.get(name)
    if (!found) throw new KnpError('UNKNOWN_NAME', `host ${name}: not in this network`)
    return found
  }

  function admit(host: HostSpec): Host {
    if (!/^[a-z][a-z0-9-]{0,14}$/.test(host.name)) {
      throw new KnpError('USAGE', `host ${JSON.stringify(host.name)}: name is not 1 to 15 of a-z, 0-9 and -`)
    }
    if (members.has(host.name)) throw new KnpError('USAGE', `host ${host.name}: given twice`)
    const wrong = host.addresses.find((address) => !isIPv4(address) && !isIPv6(address))
    if (wrong !== undefined) throw new KnpError('USAGE', `host ${host.name}: ${wrong} is no IP address`)
    const admitted = { name: host.name, namespace: `${id}-${host.name}`, addresses: [...host.addresses] }
    members.set(host.name, admitted)
    keeper.stdin.write(`${admitted.namespace}\n`)
    return admitted
  }

  /** Makes the namespaces, then everything in them, with as few processes as the order allows. */
  async function build(hosts: readonly Host[], withRouter: boolean): Promise<void> {
    const made = withRouter ? [router, ...hosts] : hosts
    await ip([], [...made.flatMap(staleDeletion), ...made.map((host) => `netns add ${host.namespace}`)])
    const links = hosts.map((host) => ({ host, number: ++interfaces }))
    await Promise.all(hosts.map((host) => configure(host.namespace, hostSettings)))
    if (withRouter) await configure(router.namespace, routerSettings)
    await ip(
      ['-n', router.namespace],
      [
        ...(withRouter ? routerCommands(router) : []),
        ...links.flatMap(({ host, number }) => routerLinkCommands(router, host, number)),
      ],
    )
    await Promise.all(links.map(({ host, number }) => ip(['-n', host.namespace], hostCommands(router, host, number))))
  }

  function start(host: string, argv: readonly string[], options: SpawnOptions): ChildProcess {
    if (destroyed) throw new KnpError('UNKNOWN_NAME', `host ${host}: the network is destroyed`)
    const child = spawn('ip', ['netns', 'exec', member(host).namespace, ...argv], options)
    children.add(child)
    child.once('close', () => children.delete(child))
    child.once('error', () => children.delete(child))
    return child
  }

  const router = admit(spec.router ?? routerDefaults)
  const network: Network = {
    router: router.name,
    get hosts() {
      return [...members.keys()].filter((name) => name !== router.name)
    },
    namespaceOf: (host) => member(host).namespace,
    addressesOf: (host) => member(host).addresses,
    addHost: (host) => build([admit(host)], false),
    spawn: (host, argv, options = {}) => start(host, argv, options),
    async exec(host, argv, options = {}) {
      const child = start(host, argv, { stdio: 'pipe', env: { ...process.env, ...options.env } })
      return await complete(child, argv[0] ?? 'ip', options.input ?? '', options.timeoutMs ?? 10_000)
    },
    destroy() {
      destroyed ??= (async () => {
        for (const child of children) child.kill('SIGKILL')
        // Waiting for it must keep this process alive again.
        keeper.ref()
        keeper.stdin.end()
        await keeperEnded
      })()
      return destroyed
    },
  }
  try {
    await build(spec.hosts.map(admit), true)
  } catch (error) {
    await network.destroy()
    throw error
  }
  return network
}

/** A namespace that carries our process id and is not ours was left by a process that is dead. */
function staleDeletion(host: Host): string[] {
  return existsSync(`/run/netns/${host.namespace}`) ? [`netns delete ${host.namespace}`] : []
}

/** Locally administered addresses, the same in every run. */
function hardwareAddress(link: number, side: 1 | 2): string {
  const hex = link.toString(16).padStart(4, '0')
  return `02:00:00:0${side}:${hex.slice(0, 2)}:${hex.slice(2)}`
}

function prefixed(address: string): string {
  return isIPv4(address) ? `${address}/32` : `${address}/128`
}

function routerCommands(router: Host): string[] {
  return [
    'link set lo up',
    ...router.addresses.map((address) => `addr add ${prefixed(address)} dev lo${isIPv6(address) ? ' nodad' : ''}`),
  ]
}

function routerLinkCommands(router: Host, host: Host, number: number): string[] {
  const near = hardwareAddress(number, 1)
  const far = hardwareAddress(number, 2)
  return [
    `link add ${host.name} address ${near} type veth peer name eth0 address ${far} netns ${host.namespace}`,
    `link set ${host.name} up`,
    ...host.addresses.flatMap((address) => {
      const source = router.addresses.find((own) => isIPv4(own) === isIPv4(address))
      return [
        `neigh replace ${address} lladdr ${far} nud permanent dev ${host.name}`,
        `route replace ${prefixed(address)} dev ${host.name}${source === undefined ? '' : ` src ${source}`}`,
      ]
    }),
  ]
}

function hostCommands(router: Host, host: Host, number: number): string[] {
  const families = [isIPv4, isIPv6].flatMap((isFamily) => {
    const own = host.addresses.find((address) => isFamily(address))
    const gateway = router.addresses.find((address) => isFamily(address))
    return own === undefined || gateway === undefined ? [] : [{ own, gateway }]
  })
  return [
    'link set lo up',
    'link set eth0 up',
    ...host.addresses.map((address) => `addr add ${prefixed(address)} dev eth0${isIPv6(address) ? ' nodad' : ''}`),
    ...families.flatMap(({ own, gateway }) => [
      `neigh replace ${gateway} lladdr ${hardwareAddress(number, 1)} nud permanent dev eth0`,
      `route replace ${isIPv4(own) ? '0.0.0.0/0' : '::/0'} via ${gateway} dev eth0 onlink src ${own}`,
    ]),
  ]
}

/** Writes sysctls from within a namespace: /proc/sys/net shows the namespace of whoever opens it. */
async function configure(namespace: string, settings: readonly (readonly [string, number])[]): Promise<void> {
  const script = settings.map(([path, value]) => `[ ! -e /proc/sys/${path} ] || echo ${value} >/proc/sys/${path}`)
  const argv = ['netns', 'exec', namespace, 'sh', '-ec', script.join('\n')]
  const result = await complete(spawn('ip', argv), 'sh', '', 10_000)
  if (result.code !== 0) throw commandFailure('ip netns exec', result)
}

async function ip(options: readonly string[], commands: readonly string[]): Promise<void> {
  const child = spawn('ip', [...options, '-batch', '-'])
  const result = await complete(child, 'ip', `${commands.join('\n')}\n`, 10_000)
  if (result.code !== 0) throw commandFailure('ip -batch', result)
}

function commandFailure(command: string, result: ExecResult): KnpError {
  const said = result.timedOut ? 'timed out' : result.stderr.trim()
  if (/not permitted|Permission denied/.test(said)) {
    return new KnpError('PERMISSION', `${command}: ${said}`, { hint: 'run as root or grant CAP_SYS_ADMIN' })
  }
  return new KnpError('UNSUPPORTED_HOST', `${command}: ${said}`, {
    hint: 'the kernel needs network namespaces, veth and IPv6',
  })
}

/** Waits for a process and collects what it prints. */
function complete(child: ChildProcess, program: string, input: string, timeoutMs: number): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    let stdout = ''
    let stderr = ''
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
      // A grandchild may hold the pipes open: what has been read is the result.
      child.stdout?.destroy()
      child.stderr?.destroy()
    }, timeoutMs)
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.once('error', (cause) => {
      clearTimeout(timer)
      reject(
        new KnpError('UNSUPPORTED_HOST', `ip: cannot be started${program === 'ip' ? '' : `, needed for ${program}`}`, {
          hint: 'install iproute2',
          cause,
        }),
      )
    })
    child.once('close', (code) => {
      clearTimeout(timer)
      if (code !== 0 && /^exec of ".*" failed/.test(stderr)) {
        reject(new KnpError('UNSUPPORTED_HOST', `${program}: cannot be started: ${stderr.trim()}`))
      } else {
        resolve({ code: code ?? undefined, stdout, stderr, timedOut })
      }
    })
    // The program may end before it has read everything.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

/** Child pipes are sockets, which the types of `ChildProcess` do not say. */
function unrefStream(stream: object): void {
  if ('unref' in stream && typeof stream.unref === 'function') stream.unref()
}
