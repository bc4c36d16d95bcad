import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Network } from '../src/lab/network.ts'
import { type QueueRange, queueNumbers } from '../src/queue-range.ts'
import type { Load, Tuples } from './datapath/measure.ts'
import type { Ends } from './datapath/world.ts'
import type { UpdatePhase } from './firewall.ts'
import { nativeProgram } from './native.ts'

/** What is between client and server while loads run. */
export interface Scenario {
  readonly name: string
  readonly loads: readonly Load[]
  readonly tuples: Tuples
  /** Whether somebody listens to a queue. */
  readonly isQueued: boolean
  /** Whether the machine has work to do that is not the traffic's, so that its CPU time says nothing of it. */
  readonly hasOtherWork?: boolean
  /** Before its loads, where more is needed than the setup's start. */
  begin?(): Promise<void>
  /** After its loads; answers what else was measured. */
  end?(): Promise<readonly Reading[]>
}

/** Something that a scenario measures besides its loads. */
export interface Reading {
  readonly metric: string
  readonly unit: string
  readonly value: number
}

/** Scenarios that are started as one. */
export interface Setup {
  readonly scenarios: readonly Scenario[]
  /** How often it goes through its scenarios in turn before it is stopped. */
  readonly rounds: number
  /** Resolves when new connections pass. */
  start(): Promise<void>
  /** Leaves the router as it was before `start`. */
  stop(): Promise<void>
}

/** Where the scenarios run, and what they must let through. */
export interface Site {
  /** Connections to all servers are judged, as part of the world of world.ts. */
  readonly ends: Ends
  readonly network: Network
  /** The router's network namespace, as in `ip netns`. */
  readonly namespace: string
  /** Who answers has a thread or a process for each of them. */
  readonly queues: QueueRange
}

/** The product, as far as the scenarios need it. Everything is done to the namespace of `site`. */
export interface Product {
  /**
   * Loads knp's ruleset with all subjects of the world. With `divert: false` without the rule that hands packets to the
   * queue: everything else is done, and what would be queued is allowed. With `divert: true` some listener answers.
   */
  installRuleset(site: Site, options: { readonly divert: boolean }): Promise<void>
  /** Removes it with everything it has remembered. */
  removeRuleset(site: Site): Promise<void>
  /** The answer to a queued packet that means ALLOW: the new mark is (mark & `and`) | `or`. */
  allowMark(site: Site): { readonly and: number; readonly or: number }
  /**
   * Starts the firewall as users run it, ruleset included, with the world's manifests; where it is not logged, without
   * `remember.log`. Resolves, when it judges packets,
   * to what stops it and removes its ruleset.
   */
  startFirewall(site: Site, options: FirewallChoice): Promise<() => Promise<void>>
  /** The same with the world in memory, where it can be changed. */
  startChanging(site: Site): Promise<ChangingFirewall>
}

export interface FirewallChoice {
  readonly isLogged: boolean
  /** Which of the world's nodes the router is; left out: none, a gateway, which decides for every workload. */
  readonly nodeName?: string
}

/** A firewall whose workloads get other labels. */
export interface ChangingFirewall {
  /** How many a second from now on; answers what happened since the last call. */
  setRate(perSecond: number): Promise<UpdatePhase>
  stop(): Promise<void>
}

/** Names of the scenarios, by which others judge them. */
export const names = {
  free: 'no firewall',
  withoutQueue: 'ruleset without queue',
  warm: 'knp warm',
  /** Without being told what the kernel answers by itself. */
  unlogged: 'knp warm unlogged',
  cold: 'knp cold',
  /** The least a queue listener can do. */
  loop: 'C loop',
  idle: 'knp idle',
  updated: 'knp updated',
} as const

const UPDATES_PER_SECOND = 200
const SETTLE_MS = 8000

const one: Load = { name: 'TCP, 1 at a time', unit: 'connection', concurrency: 1, kind: [] }
const many: Load = { name: 'TCP, 64 at a time', unit: 'connection', concurrency: 64, kind: [] }
const fixed: Load = { name: 'TCP, 2000/s', unit: 'connection', concurrency: 64, rate: 2000, kind: [] }
const datagrams: Load = {
  name: 'UDP, a new socket each',
  unit: 'answered packet',
  concurrency: 64,
  kind: ['--udp'],
}
const streams: Load = {
  name: 'UDP, 64 sockets',
  unit: 'answered packet',
  concurrency: 64,
  kind: ['--udp', '--keep'],
}

/**
 * The scenarios in the order in which they are run. Those with few tuples are alike but for what stands between the ends,
 * and those with new tuples are: with few, the ends themselves are faster.
 */
export function setupsOf(site: Site, product: Product): readonly Setup[] {
  const few = { loads: [one, many, fixed, datagrams, streams], tuples: 'few' } as const
  // Of a socket that stays only the first packet is queued.
  const always = { loads: [one, many, fixed, datagrams], tuples: 'new', isQueued: true } as const
  let loops: readonly ChildProcess[] = []
  let stopFirewall: (() => Promise<void>) | undefined
  const stop = async () => {
    await stopFirewall?.()
    stopFirewall = undefined
  }
  return [
    {
      scenarios: [{ name: names.free, ...few, isQueued: false }],
      rounds: 1,
      start: async () => {},
      stop: async () => {},
    },
    {
      scenarios: [{ name: names.withoutQueue, ...few, isQueued: false }],
      rounds: 1,
      start: () => product.installRuleset(site, { divert: false }),
      stop: () => product.removeRuleset(site),
    },
    {
      // Warm first: what new tuples leave behind fills the sets.
      scenarios: [
        { name: names.warm, ...few, isQueued: true },
        { name: names.cold, ...always },
      ],
      rounds: 1,
      async start() {
        stopFirewall = await product.startFirewall(site, { isLogged: true })
      },
      stop,
    },
    {
      scenarios: [{ name: names.unlogged, ...few, isQueued: true }],
      rounds: 1,
      async start() {
        stopFirewall = await product.startFirewall(site, { isLogged: false })
      },
      stop,
    },
    {
      scenarios: [{ name: names.loop, ...always }],
      rounds: 1,
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
    changingSetup(site, product),
  ]
}

/** One process, which is given updates and is not, in turn. */
function changingSetup(site: Site, product: Product): Setup {
  let firewall: ChangingFirewall | undefined
  const scenario = { loads: [fixed], tuples: 'new', isQueued: true } as const
  return {
    scenarios: [
      { name: names.idle, ...scenario },
      {
        name: names.updated,
        ...scenario,
        hasOtherWork: true,
        async begin() {
          await firewall?.setRate(UPDATES_PER_SECOND)
        },
        async end() {
          const { updates, generations, seconds } = await firewall!.setRate(0)
          return [
            { metric: 'workload updates', unit: '1/s', value: updates / seconds },
            { metric: 'generations that come into force', unit: '1/s', value: generations / seconds },
          ]
        },
      },
    ],
    rounds: 4,
    async start() {
      firewall = await product.startChanging(site)
      // What goes on is measured: in its first seconds a change also waits for V8 to compile what it runs.
      await firewall.setRate(UPDATES_PER_SECOND)
      await sleep(SETTLE_MS)
      await firewall.setRate(0)
    },
    async stop() {
      await firewall?.stop()
      firewall = undefined
    },
  }
}

/** Starts a program that prints `ready` on a line of its own, and waits for that. */
export async function startReady(network: Network, host: string, argv: readonly string[]): Promise<ChildProcess> {
  const child = network.spawn(host, argv, { stdio: 'pipe' })
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const { stdout } = child
  if (!stdout) throw new Error(`${argv[0]}: started without pipes`)
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: stdout }).on('line', (line) => line === 'ready' && resolve())
    child.once('close', () => reject(new Error(`${argv.slice(0, 2).join(' ')}: ended at its start: ${stderr.trim()}`)))
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
