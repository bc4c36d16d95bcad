import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Network } from '../src/lab/network.ts'
import { type QueueRange, queueNumbers } from '../src/queue-range.ts'
import { nativeProgram } from './native.ts'

/** What is between client and server while a load runs. */
export interface Scenario {
  readonly name: string
  /** Whether first packets of connections go through a queue. */
  readonly isQueued: boolean
  /** Resolves when new connections pass. */
  start(): Promise<void>
  /** Leaves the router as it was before `start`. */
  stop(): Promise<void>
}

/** Where the scenarios run, and what they must let through. */
export interface Site {
  readonly network: Network
  /** The router's network namespace, as in `ip netns`. */
  readonly namespace: string
  /** Addresses that are to be protected: connections to all of them are first judged. */
  readonly servers: readonly string[]
  readonly clients: readonly string[]
  /** Who answers has a thread or a process for each of them. */
  readonly queues: QueueRange
}

/** The product, as far as the scenarios need it. Everything is done to the namespace of `site`. */
export interface Product {
  /**
   * Loads knp's ruleset with the servers as subjects. With `divert: false` without the rule that hands packets to the
   * queue, and in the open mode: everything else is done, and what would be queued passes. With `divert: true` some
   * listener answers.
   */
  installRuleset(site: Site, options: { readonly divert: boolean }): Promise<void>
  /** Removes it with everything it has remembered. */
  removeRuleset(site: Site): Promise<void>
  /** The answer to a queued packet that means ALLOW: the new mark is (mark & `and`) | `or`. */
  allowMark(site: Site): { readonly and: number; readonly or: number }
  /**
   * Starts the firewall as users run it, ruleset included, with policies by which the clients may reach the servers.
   * Resolves, when it judges packets, to what stops it and removes its ruleset.
   */
  startFirewall(site: Site): Promise<() => Promise<void>>
}

/** What all is compared with: the least a queue listener can do. */
export const reference = 'C loop'

/** What the cost of the queue is counted from. */
export const withoutQueue = 'ruleset without queue'

/** The scenarios in the order in which they are run. */
export function scenariosOf(site: Site, product: Product): readonly Scenario[] {
  const free: Scenario = {
    name: 'no firewall',
    isQueued: false,
    start: async () => {},
    stop: async () => {},
  }
  let loops: readonly ChildProcess[] = []
  let stopFirewall: (() => Promise<void>) | undefined
  return [
    free,
    {
      name: withoutQueue,
      isQueued: false,
      start: () => product.installRuleset(site, { divert: false }),
      stop: () => product.removeRuleset(site),
    },
    {
      name: reference,
      isQueued: true,
      async start() {
        const { and, or } = product.allowMark(site)
        const program = await nativeProgram('accept-all')
        await product.installRuleset(site, { divert: true })
        const starts = queueNumbers(site.queues).map((queue) => {
          const argv = [program, `${queue}`, '--mark-and', `${and}`, '--mark-or', `${or}`]
          return startReady(site.network, site.network.router, argv)
        })
        loops = await Promise.all(starts)
      },
      async stop() {
        await Promise.all(loops.map(endProcess))
        await product.removeRuleset(site)
      },
    },
    {
      name: 'knp',
      isQueued: true,
      async start() {
        stopFirewall = await product.startFirewall(site)
      },
      async stop() {
        await stopFirewall?.()
        stopFirewall = undefined
      },
    },
  ]
}

/** Starts a program that prints `ready` on a line of its own, and waits for that. */
export async function startReady(network: Network, host: string, argv: readonly string[]): Promise<ChildProcess> {
  const child = network.spawn(host, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const { stdout } = child
  if (!stdout) throw new Error(`${argv[0]}: started without pipes`)
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: stdout }).on('line', (line) => line === 'ready' && resolve())
    child.once('close', () => reject(new Error(`${argv.join(' ')}: ended at its start: ${stderr.trim()}`)))
  })
  return child
}

/** Ends a program and waits until it is gone. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  child.kill('SIGTERM')
  await ended
}
