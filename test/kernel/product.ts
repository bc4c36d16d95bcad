import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ask } from '../../src/control/socket.ts'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import type { ExecResult, Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'

const program = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

/** The command `knp` as people start it, to be run by a program that takes a command. */
export function knp(args: readonly string[], env: Readonly<Record<string, string>> = {}): string[] {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  return ['env', ...variables, process.execPath, program, ...args]
}

/** Why a test that needs namespaces does not run here; in CI it runs, and fails. */
export const skip: string | false =
  process.geteuid?.() === 0 || process.env.CI ? false : 'needs root: makes network namespaces'

/** Arguments with which each new connection is asked about: for tests that count them, or have nobody to ask. */
export const forgetful = ['--remember-allowed', '0s', '--remember-denied', '0s'] as const

/** What the tests read of what it says: lines, and no decisions. */
const plainLog = ['--log-format', 'text', '--log-flows', 'none'] as const

const START_TIMEOUT_MS = 20_000 * slow
const CHANGE_TIMEOUT_MS = 10_000 * slow
const STATUS_INTERVAL_MS = 5
const COMMAND_TIMEOUT_MS = 10_000 * slow

/** A folder of manifests. */
export interface Policies {
  readonly path: string
  /** Makes a file, or puts another one in its place, in one step: text as it is, or objects. */
  write(name: string, content: string | readonly object[]): Promise<void>
  /** Changes a file in its place, as a shell's `>` does. */
  overwrite(name: string, content: string | readonly object[]): Promise<void>
  remove(name: string): Promise<void>
  close(): Promise<void>
}

/** A new, empty folder. */
export async function policies(): Promise<Policies> {
  const path = await mkdtemp(join(tmpdir(), 'knp-policies-'))
  const textOf = (content: string | readonly object[]) =>
    typeof content === 'string' ? content : content.map((object) => `${JSON.stringify(object)}\n`).join('---\n')
  return {
    path,
    async write(name, content) {
      await writeFile(join(path, `.${name}`), textOf(content))
      await rename(join(path, `.${name}`), join(path, name))
    },
    overwrite: (name, content) => writeFile(join(path, name), textOf(content)),
    remove: (name) => rm(join(path, name)),
    async close() {
      await rm(path, { recursive: true, force: true })
      await rm(`${path}.state`, { recursive: true, force: true })
    },
  }
}

export interface ProductOptions {
  /** Further arguments of `knp run`. */
  readonly args?: readonly string[]
  /** What it says, and how; lines without decisions where it is left out. */
  readonly log?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** A file that it finds as /etc/hosts, and nobody else; changed in its place, it is read anew. */
  readonly hostsFile?: string
}

/** How a process ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** `knp run` in the router of a network. */
export class Product {
  /** Its end, however it comes. */
  readonly ended: Promise<Exit>
  /** The line that says that it enforces. */
  enforcingLine = ''
  readonly #network: Network
  readonly #socket: string
  readonly #child: ChildProcess
  readonly #watchers = new Set<() => void>()
  #stdout = ''
  #stderr = ''
  #generation = 1

  /** Starts it and waits until it enforces. Throws an error with all that it printed if it ends first. */
  static async start(network: Network, folder: Policies, options: ProductOptions = {}): Promise<Product> {
    const product = Product.launch(network, folder, options)
    const isUp = await product.#until(() => product.enforcingLine !== '', START_TIMEOUT_MS)
    if (!isUp) throw new Error(`knp run: not enforcing: ${product.stderr}`)
    return product
  }

  /** Starts it, and does not wait. */
  static launch(
    network: Network,
    folder: Policies,
    { args = [], log = plainLog, env = {}, hostsFile }: ProductOptions = {},
  ): Product {
    const socket = join(folder.path, '.control.sock')
    const argv = knp(
      [
        'run',
        '--source',
        folder.path,
        '--control-socket',
        socket,
        '--state-dir',
        `${folder.path}.state`,
        ...log,
        ...args,
      ],
      env,
    )
    // What `ip netns exec` starts has mounts of its own.
    const mounted = hostsFile ? ['sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hostsFile, ...argv] : argv
    return new Product(network, socket, network.spawn(network.router, mounted, { stdio: ['ignore', 'pipe', 'pipe'] }))
  }

  private constructor(network: Network, socket: string, child: ChildProcess) {
    this.#network = network
    this.#socket = socket
    this.#child = child
    createInterface({ input: child.stdout! }).on('line', (line) => {
      this.#stdout += `${line}\n`
      if (/^(enforcing|audit, NOTHING is enforced): /.test(line)) this.enforcingLine = line
      this.#notify()
    })
    createInterface({ input: child.stderr! }).on('line', (line) => {
      this.#stderr += `${line}\n`
      const applied = /^generation (\d+) in force/.exec(line)
      if (applied) this.#generation = Number(applied[1])
      this.#notify()
    })
    this.ended = once(child, 'close').then(([code, signal]) => {
      this.#notify()
      return { code, signal, stdout: this.#stdout, stderr: this.#stderr }
    })
  }

  /** The process itself: `ip netns exec` and `env` become it. */
  get pid(): number {
    return this.#child.pid!
  }

  /** What it has said so far beside its result. */
  get stderr(): string {
    return this.#stderr
  }

  /** The last generation that it said was in force. */
  get generation(): number {
    return this.#generation
  }

  async status(): Promise<FirewallStatus> {
    return (await ask(this.#socket, 'status')) as FirewallStatus
  }

  /** `knp status` as a person runs it. */
  statusCommand(...args: readonly string[]): Promise<ExecResult> {
    return this.command(['status', ...args])
  }

  /** A command of knp's that asks the running firewall, as a person runs it. */
  command(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<ExecResult> {
    const argv = knp([...args, '--control-socket', this.#socket], env)
    return this.#network.exec(this.#network.router, argv, { timeoutMs: COMMAND_TIMEOUT_MS })
  }

  /** Makes a change and waits until the generation that it brings is in force. Answers how long that took, in ms. */
  async change(make: () => Promise<void>): Promise<number> {
    const before = this.#generation
    const started = performance.now()
    await make()
    const isInForce = await this.#until(() => this.#generation > before, CHANGE_TIMEOUT_MS)
    if (!isInForce) throw new Error(`the change did not come into force: ${this.#stderr}`)
    return performance.now() - started
  }

  /** The same by its status, which is at once what its lines say once a second only while much changes. */
  async changeInStatus(make: () => Promise<void>): Promise<number> {
    const { generation: before } = await this.status()
    const started = performance.now()
    await make()
    for (let generation = before; generation <= before; { generation } = await this.status()) {
      if (performance.now() - started > CHANGE_TIMEOUT_MS) {
        throw new Error(`the change did not come into force: ${this.#stderr}`)
      }
      await sleep(STATUS_INTERVAL_MS)
    }
    return performance.now() - started
  }

  /** Waits until it has said something on stderr, so many times since its start. Answers how long that took, in ms. */
  async said(text: string, times = 1): Promise<number> {
    const started = performance.now()
    const isThere = await this.#until(() => this.#stderr.split(text).length > times, CHANGE_TIMEOUT_MS)
    if (!isThere) throw new Error(`knp run did not say "${text}": ${this.#stderr}`)
    return performance.now() - started
  }

  /** Asks it to end (SIGTERM), or kills it. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.#child.kill(signal)
    return this.ended
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }

  /** False when the time is over, or the process, before it is so. */
  #until(isSo: () => boolean, timeoutMs: number): Promise<boolean> {
    if (isSo()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const look = () => {
        const hasEnded = this.#child.exitCode !== null || this.#child.signalCode !== null
        if (!isSo() && !hasEnded) return
        settle()
      }
      const settle = () => {
        clearTimeout(timer)
        this.#watchers.delete(look)
        resolve(isSo())
      }
      const timer = setTimeout(settle, timeoutMs)
      this.#watchers.add(look)
    })
  }
}

export interface PodSpec {
  /** Default `shop`. */
  readonly namespace?: string
  readonly name: string
  readonly addresses: readonly string[]
  readonly labels?: Readonly<Record<string, string>>
  readonly ports?: readonly { readonly name: string; readonly containerPort: number; readonly protocol?: string }[]
  readonly node?: string
}

/** A running v1 Pod. */
export function pod({ namespace = 'shop', name, addresses, labels = {}, ports = [], node }: PodSpec): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels: { app: name, ...labels } },
    spec: { ...(node && { nodeName: node }), containers: [{ name: 'main', ports }] },
    status: { phase: 'Running', podIPs: addresses.map((ip) => ({ ip })) },
  }
}

/** A v1 NetworkPolicy of namespace `shop`. */
export function networkPolicy(name: string, spec: object): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'shop', name },
    spec: { podSelector: {}, ...spec },
  }
}

/** A v1 Namespace. */
export function namespace(name: string, labels: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
}

export interface HostEndpointSpec {
  readonly name: string
  readonly node: string
  readonly addresses?: readonly string[]
  readonly forwards?: readonly string[]
}

/** A HostEndpoint of namespace `shop`, with a label `app` that is its name. */
export function hostEndpoint({ name, ...spec }: HostEndpointSpec): object {
  return {
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'HostEndpoint',
    metadata: { namespace: 'shop', name, labels: { app: name } },
    spec,
  }
}

/** A NetworkSet of namespace `shop`, with a label `zone` that is its name. */
export function networkSet(name: string, networks: readonly string[]): object {
  return {
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'NetworkSet',
    metadata: { namespace: 'shop', name, labels: { zone: name } },
    spec: { networks },
  }
}
