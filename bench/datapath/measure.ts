import { readFile } from 'node:fs/promises'
import type { Network } from '../../src/lab/network.ts'
import { nativeProgram } from '../native.ts'
import type { Ends } from './world.ts'

/** One way of making traffic. */
export interface Load {
  /** With which its metrics begin. */
  readonly name: string
  /** What is counted, in the singular. */
  readonly unit: 'connection' | 'answered packet'
  readonly concurrency: number
  /** How many a second; undefined is as many as will go. */
  readonly rate?: number
  /** Arguments of bench/native/load that make it of this kind. */
  readonly kind: readonly string[]
}

/** Which tuples of source, destination and port the traffic has: ever new ones, or few that come again and again. */
export type Tuples = 'new' | 'few'

/** What bench/native/load prints: times in µs. */
interface LoadResult {
  readonly completed: number
  readonly failures: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
}

export interface Measurement extends LoadResult {
  /** CPU time of the whole machine above its idle baseline, in µs. */
  readonly cpuUs: number
  /** Packets that went through the queue. */
  readonly queued: number
  /** Processors at work before the load or after it, whichever is more. */
  readonly base: number
}

export const PORTS = [20_001, 24_096] as const

/**
 * As many as there are sources, each with a destination of its own: what limits one source or one destination limits
 * none of them.
 */
const FEW_TUPLES = 16
/** Long enough for each of the few tuples to be met once, by one that is not measured. */
const FIRST_PASS_SECONDS = 0.1

const jiffyUs = 10_000
const baselineMs = 300
/** How often it is waited for the machine to come to rest: what has started may have something left to do. */
const baselineTries = 4
/** Processors that may be at work when nothing is measured; a run amid more has no CPU time. */
const maxBase = 0.1

/** Between which ends traffic is made. */
export interface Path {
  readonly network: Network
  readonly ends: Ends
  /** Which machine has the clients' addresses; left out: `client`. */
  readonly from?: string
  /** First and last of the servers' ports; left out: all that there are. */
  readonly ports?: readonly [first: number, last: number]
}

/** Makes traffic between two ends and measures it. */
export class LoadRunner {
  readonly #path: Path
  readonly #ports: readonly [first: number, last: number]
  readonly #seconds: number
  #next = FEW_TUPLES

  constructor(path: Path, seconds: number) {
    this.#path = path
    this.#ports = path.ports ?? PORTS
    this.#seconds = seconds
  }

  /** How many new tuples were used so far. */
  get used(): number {
    return this.#next - FEW_TUPLES
  }

  /** How many there are; after that they come again. */
  get known(): number {
    const { clients, servers } = this.#path.ends
    return clients.length * servers.length * (this.#ports[1] - this.#ports[0] + 1)
  }

  async measure(load: Load, tuples: Tuples): Promise<Measurement> {
    const seconds = this.#seconds
    if (tuples === 'few') await this.#run(load, tuples, Math.min(seconds, FIRST_PASS_SECONDS))
    const base = await restLoad()
    const [workedBefore, queuedBefore, start] = [await workedUs(), await this.#queueSequence(), performance.now()]
    const result = await this.#run(load, tuples, seconds)
    const [workedAfter, queuedAfter, end] = [await workedUs(), await this.#queueSequence(), performance.now()]
    const baseAfter = await baseLoad()
    if (tuples === 'new') this.#next += result.completed + result.failures
    return {
      ...result,
      cpuUs: workedAfter - workedBefore - ((base + baseAfter) / 2) * (end - start) * 1000,
      queued: queuedAfter - queuedBefore,
      base: Math.max(base, baseAfter),
    }
  }

  async #run({ concurrency, rate, kind }: Load, tuples: Tuples, seconds: number): Promise<LoadResult> {
    const { network, from = 'client' } = this.#path
    const { clients, servers } = this.#path.ends
    const argv = [
      await nativeProgram('load'),
      ...['--source', clients.join(','), '--destination', servers.join(','), '--ports', this.#ports.join('-')],
      ...(tuples === 'few' ? ['--tuples', `${FEW_TUPLES}`] : ['--offset', `${this.#next}`]),
      ...['--concurrency', `${concurrency}`, '--seconds', `${seconds}`, ...kind],
      ...(rate === undefined ? [] : ['--rate', `${rate}`]),
    ]
    const { code, stdout, stderr } = await network.exec(from, argv, { timeoutMs: seconds * 1000 + 20_000 })
    if (code !== 0) throw new Error(`load: ${stderr.trim()}`)
    return JSON.parse(stdout)
  }

  /** How many packets the router's queues have been given. 0 without a listener. */
  async #queueSequence(): Promise<number> {
    const { network } = this.#path
    const { stdout } = await network.exec(network.router, ['cat', '/proc/net/netfilter/nfnetlink_queue'])
    return stdout
      .split('\n')
      .filter((line) => line.trim() !== '')
      .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[7]), 0)
  }
}

/** Whether the machine did nothing else: only then is its CPU time the traffic's. */
export function isQuiet(run: Measurement): boolean {
  return run.base <= maxBase
}

/**
 * Time all processors have worked, in µs from some moment on. It is the time they have not idled: the kernel measures
 * idling, but only samples working, and misses much of it under a load that a timer paces.
 */
async function workedUs(): Promise<number> {
  const lines = (await readFile('/proc/stat', 'utf8')).split('\n')
  const wallUs = performance.now() * 1000 * lines.filter((line) => /^cpu\d/.test(line)).length
  const columns = lines[0]?.split(/\s+/).slice(1).map(Number) ?? []
  const [, , , idle = 0, ioWait = 0, , , steal = 0] = columns
  return wallUs - (idle + ioWait + steal) * jiffyUs
}

/** The same as soon as it is little, or the last of some tries. */
async function restLoad(): Promise<number> {
  let base = await baseLoad()
  for (let tries = 1; tries < baselineTries && base > maxBase; tries++) base = await baseLoad()
  return base
}

/** How much work the machine does by itself, in processors. */
async function baseLoad(): Promise<number> {
  const [before, start] = [await workedUs(), performance.now()]
  await new Promise((resolve) => setTimeout(resolve, baselineMs))
  return ((await workedUs()) - before) / ((performance.now() - start) * 1000)
}
