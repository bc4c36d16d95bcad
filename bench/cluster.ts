import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ask } from '../src/control/socket.ts'
import type { FirewallStatus } from '../src/firewall-status.ts'
import { createNetwork } from '../src/lab/network.ts'
import { readAccess } from '../src/sources/kubernetes/credentials.ts'
import type { ChangePhase } from './cluster/change-phases.ts'
import { monotonicMs } from './cluster/clock.ts'
import type { SubjectEvent } from './cluster/elements.ts'
import { cpuSecondsOf, memoryOf } from './cluster/proc.ts'
import { Talker } from './cluster/processes.ts'
import { LOCAL_NODE } from './cluster/world.ts'
import { type Judge, type Report, type Row, summarize } from './rows.ts'

export interface ClusterOptions {
  /** How many pods the clusters have. */
  readonly sizes: readonly number[]
  /** Length of each time of changes. */
  readonly seconds: number
  readonly repetitions: number
  /** The API server is a real one, of a cluster without nodes that is started for it. */
  readonly isReal?: boolean
  readonly progress?: (line: string) => void
}

const CHANGES_PER_SECOND = 100
/** So long nothing happens before what is resident is read. */
const SETTLE_MS = 10_000
/** What was written last is in force after so long, or is counted as missing. */
const GRACE_MS = 1000
/** Where there are so many pods the marks hold. */
const LARGEST = 100_000

const program = fileURLToPath(new URL('../bin/run.js', import.meta.url))
const scriptOf = (name: string) => fileURLToPath(new URL(`./cluster/${name}.ts`, import.meta.url))

const names = {
  read: 'bytes read',
  discard: 'a reader that discards',
  discardJSON: 'a reader that discards, JSON',
  first: 'first enforcement',
  ratio: 'first enforcement, in readings',
  resident: 'resident memory',
  peak: 'most resident memory',
  stateCPU: 'CPU, 100 pod states a second',
  stateGenerations: 'generations by those',
  residentAfter: 'resident memory after changes',
  podCPU: 'CPU, 100 pod changes a second',
  podGenerations: 'generations by those changes',
  p50: 'event to enforcement, p50',
  p99: 'event to enforcement, p99',
  missing: 'events that were not enforced',
} as const

/** What is asked of a firewall in a large cluster. */
export const judgeCluster: Judge = ({ scenario, metric, value }) => {
  if (metric === names.missing) return value === 0
  if (metric === names.stateGenerations) return value === 0
  if (scenario !== scenarioOf(LARGEST)) return undefined
  if (metric === names.resident || metric === names.residentAfter) return value <= 300
  if (metric === names.ratio) return value <= 2
  if (metric === names.p99) return value < 100
  return undefined
}

/** One measured value. */
interface Reading {
  readonly metric: string
  readonly unit: string
  readonly value: number
}

/**
 * Starts `knp run` on a node of clusters of several sizes and measures it from outside: how soon it enforces, what it
 * takes, and how soon a pod's change is in force. Needs root, and Go where the API server is real. Prints nothing.
 */
export async function runCluster(options: ClusterOptions): Promise<Report> {
  const rows: Row[] = []
  for (const size of options.sizes) {
    const folder = await mkdtemp(join(tmpdir(), 'knp-bench-'))
    try {
      await (options.isReal ? atRealServer : atOwnServer)(folder, options, async ({ spawn, kubeconfig, script }) => {
        options.progress?.(`${size} pods: the API server gets them`)
        const server = await startReadyIn(spawn, [process.execPath, scriptOf(script), `${size}`, kubeconfig])
        const readings: Reading[] = []
        for (let repetition = 1; repetition <= options.repetitions; repetition++) {
          options.progress?.(`${size} pods: ${repetition} of ${options.repetitions}`)
          readings.push(...(await measure({ spawn, folder, kubeconfig, server, seconds: options.seconds })))
        }
        await server.end()
        for (const [metric, all] of Map.groupBy(readings, (reading) => reading.metric)) {
          const values = all.map(({ value }) => value)
          rows.push(summarize(scenarioOf(size, options.isReal), metric, all[0]!.unit, values))
        }
      })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  return { schema: 'knp.bench/v1', rows }
}

/** Starts a program on the network where the API server answers. */
type Spawn = (argv: readonly string[], options: SpawnOptions) => ChildProcess

interface Place {
  readonly spawn: Spawn
  readonly kubeconfig: string
  /** What the API server has its pods from. */
  readonly script: string
}

async function atOwnServer(folder: string, _: ClusterOptions, use: (place: Place) => Promise<void>): Promise<void> {
  const network = await createNetwork({ prefix: 'knpc', hosts: [] })
  try {
    await use({
      spawn: (argv, options) => network.spawn(network.router, argv, options),
      kubeconfig: join(folder, 'kubeconfig'),
      script: 'server',
    })
  } finally {
    await network.destroy()
  }
}

async function atRealServer(_: string, options: ClusterOptions, use: (place: Place) => Promise<void>): Promise<void> {
  const { inLan, startCluster, stopCluster } = await import('../test/cluster/cluster.ts')
  const say = (text: string) => options.progress?.(text)
  const cluster = await startCluster({ nodes: 0, kubeProxy: 'iptables' }, say)
  try {
    await use({
      spawn: (argv, options) => {
        const [program = '', ...args] = inLan(argv)
        return spawn(program, args, options)
      },
      kubeconfig: cluster.kubeconfig,
      script: 'filled-server',
    })
  } finally {
    await stopCluster()
  }
}

interface Site {
  readonly spawn: Spawn
  readonly folder: string
  readonly kubeconfig: string
  readonly server: Talker
  readonly seconds: number
}

async function measure(site: Site): Promise<Reading[]> {
  const { seconds: jsonSeconds } = await discard(site, 'json')
  const { bytes, seconds: discardSeconds } = await discard(site)
  const elements = await startReadyIn(site.spawn, [process.execPath, scriptOf('elements')])
  const { knp, socket, seconds: firstSeconds } = await startFirewall(site)
  try {
    const pid = knp.child.pid!
    await sleep(SETTLE_MS)
    const settled = memoryOf(pid)
    const state = await phaseOf(site, pid, socket, 'state')
    elements.takeAll()
    const pods = await phaseOf(site, pid, socket, 'pods')
    await sleep(GRACE_MS)
    const { delaysMs, missing } = delaysOf(pods.told, elements.takeAll())
    const after = memoryOf(pid)
    return [
      { metric: names.read, unit: 'MB', value: bytes / 1e6 },
      { metric: names.discard, unit: 's', value: discardSeconds },
      { metric: names.discardJSON, unit: 's', value: jsonSeconds },
      { metric: names.first, unit: 's', value: firstSeconds },
      { metric: names.ratio, unit: '', value: firstSeconds / discardSeconds },
      { metric: names.resident, unit: 'MB', value: settled.resident },
      { metric: names.residentAfter, unit: 'MB', value: after.resident },
      { metric: names.peak, unit: 'MB', value: after.peak },
      { metric: names.stateCPU, unit: '% of a processor', value: state.cpuPercent },
      { metric: names.stateGenerations, unit: '', value: state.generations },
      { metric: names.podCPU, unit: '% of a processor', value: pods.cpuPercent },
      { metric: names.podGenerations, unit: '1/s', value: pods.generations / pods.told.seconds },
      { metric: names.p50, unit: 'ms', value: percentile(delaysMs, 0.5) },
      { metric: names.p99, unit: 'ms', value: percentile(delaysMs, 0.99) },
      { metric: names.missing, unit: '', value: missing },
    ]
  } finally {
    await knp.end()
    await elements.end()
  }
}

/** CPU time and generations while the watches are told of changes. */
async function phaseOf({ server, seconds }: Site, pid: number, socket: string, kind: 'state' | 'pods') {
  const generation = await generationOf(socket)
  await server.ask(`${kind} ${CHANGES_PER_SECOND}`)
  const cpuBefore = cpuSecondsOf(pid)
  await sleep(seconds * 1000)
  const told = JSON.parse(await server.ask('none 0')) as ChangePhase
  const cpuPercent = ((cpuSecondsOf(pid) - cpuBefore) / told.seconds) * 100
  return { told, cpuPercent, generations: (await generationOf(socket)) - generation }
}

async function generationOf(socket: string): Promise<number> {
  return ((await ask(socket, 'status')) as FirewallStatus).generation
}

/** From each event that was written to the element of the kernel's set that follows from it. */
export function delaysOf({ measured }: ChangePhase, lines: readonly string[]) {
  const enforced = new Map(
    lines.map((line) => {
      const { address, isSubject, atMs } = JSON.parse(line) as SubjectEvent
      return [`${address} ${isSubject}`, atMs]
    }),
  )
  const delaysMs: number[] = []
  // An address may go again before it came into force, or come with the end of the time.
  for (const { address, isSubject, atMs } of measured) {
    const enforcedMs = enforced.get(`${address} ${isSubject}`)
    if (enforcedMs !== undefined) delaysMs.push(enforcedMs - atMs)
  }
  return { delaysMs, missing: measured.length - delaysMs.length }
}

/** @param encoding what knp asks for, or JSON alone */
async function discard(
  { spawn, kubeconfig }: Site,
  encoding: 'as knp' | 'json' = 'as knp',
): Promise<{ readonly bytes: number; readonly seconds: number }> {
  const { server, tls, headers } = await readAccess({ kubeconfig })
  const pem = Object.fromEntries(
    Object.entries(tls).map(([name, value]) => [name, Buffer.isBuffer(value) ? value.toString() : value]),
  )
  const begunMs = monotonicMs()
  const reader = new Talker(
    spawn([process.execPath, scriptOf('discard'), encoding], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  reader.child.stdin!.end(JSON.stringify({ server, tls: pem, headers }))
  const bytes = Number(await reader.next())
  return { bytes, seconds: (monotonicMs() - begunMs) / 1000 }
}

/** `knp run`; it enforces. */
async function startFirewall({ spawn, folder, kubeconfig }: Site) {
  const run = await mkdtemp(join(folder, 'run-'))
  const socket = join(run, 'socket')
  const argv = [process.execPath, program, 'run', '--json', '--source', 'kubernetes', '--kubeconfig', kubeconfig]
  const places = ['--control-socket', socket, '--state-dir', join(run, 'state')]
  const begunMs = monotonicMs()
  const child = spawn([...argv, '--node-name', LOCAL_NODE, ...places], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const knp = new Talker(child)
  while (JSON.parse(await knp.next()).event !== 'enforcing');
  return { knp, socket, seconds: (monotonicMs() - begunMs) / 1000 }
}

async function startReadyIn(spawn: Spawn, argv: readonly string[]): Promise<Talker> {
  const talker = new Talker(spawn(argv, { stdio: ['pipe', 'pipe', 'inherit'] }))
  while ((await talker.next()) !== 'ready');
  return talker
}

function scenarioOf(pods: number, isReal = false): string {
  return `${pods} pods${isReal ? ' of a real API server' : ''}`
}

function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}
