import { readFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { createNetwork, type Network } from '../src/lab/network.ts'
import { nativeProgram } from './native.ts'
import { product } from './product.ts'
import { median, type Report, type Row, relateTo, summarize } from './rows.ts'
import {
  endProcess,
  type Product,
  reference,
  type Scenario,
  type Site,
  scenariosOf,
  startReady,
  withoutQueue,
} from './scenarios.ts'

export interface DatapathOptions {
  /** Length of each single run; there are three to a scenario and repetition. */
  readonly seconds: number
  /** How often the whole series of scenarios is gone through. */
  readonly repetitions: number
  /** How many queues there are where packets are queued. */
  readonly queues: number
  /** Told what is being done. */
  readonly progress?: (line: string) => void
}

/** One way of opening connections. */
interface Load {
  /** As it stands in the metrics. */
  readonly name: string
  readonly concurrency: number
  /** Connections per second; undefined is as many as will go. */
  readonly rate?: number
}

/** What bench/native/load prints: times in µs. */
interface LoadResult {
  readonly connections: number
  readonly failures: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
}

interface Measurement extends LoadResult {
  /** CPU time of the whole machine above its idle baseline, in µs. */
  readonly cpuUs: number
  /** Packets that went through the queue. */
  readonly queued: number
  /** Processors at work before the load or after it, whichever is more. */
  readonly base: number
}

const loads: readonly Load[] = [
  { name: '1 at a time', concurrency: 1 },
  { name: '64 at a time', concurrency: 64 },
  { name: 'at 2000/s', concurrency: 64, rate: 2000 },
]

/** A tuple of addresses and port that comes back while it is remembered is not queued: so there are a million. */
const tuples = {
  clients: Array.from({ length: 16 }, (_, i) => `10.77.1.${i + 2}`),
  servers: Array.from({ length: 16 }, (_, i) => `10.77.2.${i + 2}`),
  ports: [20_001, 24_096],
} as const

const firstQueue = 100
const jiffyUs = 10_000
const baselineMs = 300
/** Processors that may be at work when nothing is measured; a run amid more has no CPU time. */
const maxBase = 0.1

/**
 * Measures connections through a router under each scenario, in turn and repeatedly, with real packets. Needs root, and
 * a machine that does nothing else. Prints nothing.
 */
export async function runDatapath(options: DatapathOptions, tested: Product = product): Promise<Report> {
  const network = await createNetwork({
    prefix: 'knpb',
    hosts: [
      { name: 'client', addresses: tuples.clients },
      { name: 'server', addresses: tuples.servers },
    ],
  })
  try {
    await prepare(network)
    const server = await startReady(network, 'server', [await nativeProgram('server'), tuples.ports.join('-')])
    const site: Site = {
      network,
      namespace: network.namespaceOf(network.router),
      servers: tuples.servers,
      clients: tuples.clients,
      queues: { first: firstQueue, count: options.queues },
    }
    const measurements = await measureAll(site, scenariosOf(site, tested), options)
    await endProcess(server)
    return { schema: 'knp.bench/v1', rows: relateTo(reference, toRows(measurements)) }
  } finally {
    await network.destroy()
  }
}

/** Closed connections must not fill the connection table, which is as large in the lab as on the machine. */
async function prepare(network: Network): Promise<void> {
  const script = 'cd /proc/sys/net/netfilter && echo 1 >nf_conntrack_tcp_timeout_close'
  const { code, stderr } = await network.exec(network.router, ['sh', '-c', script])
  if (code !== 0) throw new Error(`conntrack timeouts: ${stderr.trim()}`)
  for (const host of network.hosts) {
    await network.exec(host, ['sh', '-c', 'echo 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range'])
  }
}

type Series = Map<Scenario, Map<Load, Measurement[]>>

async function measureAll(site: Site, scenarios: readonly Scenario[], options: DatapathOptions): Promise<Series> {
  const series: Series = new Map(scenarios.map((scenario) => [scenario, new Map(loads.map((load) => [load, []]))]))
  let offset = 0
  for (let repetition = 1; repetition <= options.repetitions; repetition++) {
    for (const scenario of scenarios) {
      options.progress?.(`repetition ${repetition} of ${options.repetitions}: ${scenario.name}`)
      await scenario.start()
      try {
        for (const load of loads) {
          const measured = await measure(site, load, options.seconds, offset)
          offset += measured.connections + measured.failures
          for (const complaint of complaints(measured)) {
            options.progress?.(`${scenario.name}, ${load.name}: ${complaint}`)
          }
          series.get(scenario)?.get(load)?.push(measured)
        }
      } finally {
        await scenario.stop()
      }
    }
  }
  return series
}

async function measure(site: Site, load: Load, seconds: number, offset: number): Promise<Measurement> {
  const argv = [
    await nativeProgram('load'),
    ...['--source', tuples.clients.join(','), '--destination', tuples.servers.join(',')],
    ...['--ports', tuples.ports.join('-')],
    ...['--concurrency', `${load.concurrency}`, '--seconds', `${seconds}`, '--offset', `${offset}`],
    ...(load.rate === undefined ? [] : ['--rate', `${load.rate}`]),
  ]
  const base = await baseLoad()
  const [workedBefore, queuedBefore, start] = [await workedUs(), await queueSequence(site), performance.now()]
  const { code, stdout, stderr } = await site.network.exec('client', argv, { timeoutMs: seconds * 1000 + 20_000 })
  const [workedAfter, queuedAfter, end] = [await workedUs(), await queueSequence(site), performance.now()]
  if (code !== 0) throw new Error(`load: ${stderr.trim()}`)
  const baseAfter = await baseLoad()
  const result: LoadResult = JSON.parse(stdout)
  return {
    ...result,
    cpuUs: workedAfter - workedBefore - ((base + baseAfter) / 2) * (end - start) * 1000,
    queued: queuedAfter - queuedBefore,
    base: Math.max(base, baseAfter),
  }
}

/** What makes a measurement doubtful. */
function complaints(measured: Measurement): readonly string[] {
  const { failures, base } = measured
  return [
    ...(failures > 0 ? [`${failures} connections failed`] : []),
    ...(!isQuiet(measured)
      ? [`the machine does other work (${base.toFixed(2)} processors): its CPU time is left out`]
      : []),
  ]
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

/** How much work the machine does by itself, in processors. */
async function baseLoad(): Promise<number> {
  const [before, start] = [await workedUs(), performance.now()]
  await new Promise((resolve) => setTimeout(resolve, baselineMs))
  return ((await workedUs()) - before) / ((performance.now() - start) * 1000)
}

/** How many packets the router's queues have been given. 0 without a listener. */
async function queueSequence(site: Site): Promise<number> {
  const { stdout } = await site.network.exec(site.network.router, ['cat', '/proc/net/netfilter/nfnetlink_queue'])
  return stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[7]), 0)
}

function toRows(series: Series): readonly Row[] {
  const baseline = [...series].find(([scenario]) => scenario.name === withoutQueue)?.[1]
  const perConnection = (run: Measurement) => run.cpuUs / run.connections
  return [...series].flatMap(([scenario, byLoad]) =>
    [...byLoad].flatMap(([load, all]) => {
      const quiet = all.filter(isQuiet)
      const without = baseline?.get(load)?.filter(isQuiet).map(perConnection) ?? []
      const row = (metric: string, unit: string, runs: readonly Measurement[], value: (run: Measurement) => number) =>
        runs.length === 0 ? [] : [summarize(scenario.name, `${metric}, ${load.name}`, unit, runs.map(value))]
      const queued = scenario.isQueued ? all : []
      const quietQueued = scenario.isQueued ? quiet : []
      return [
        ...row('connections', '1/s', load.rate === undefined ? all : [], (run) => run.connections / run.seconds),
        ...row('p50', 'µs', all, (run) => run.p50),
        ...row('p99', 'µs', all, (run) => run.p99),
        ...row('failures', '', all, (run) => run.failures),
        ...row('queued per connection', '', queued, (run) => run.queued / run.connections),
        ...row('CPU per connection', 'µs', quiet, perConnection),
        ...row('CPU per queued packet', 'µs', quietQueued, (run) => run.cpuUs / run.queued),
        ...row('CPU the queue adds per queued packet', 'µs', without.length === 0 ? [] : quietQueued, (run) => {
          return (run.cpuUs - median(without) * run.connections) / run.queued
        }),
      ]
    }),
  )
}

function isQuiet(run: Measurement): boolean {
  return run.base <= maxBase
}

/** What a reader needs to know to compare two reports. */
export function machine(): string {
  const all = cpus()
  return `${all.length} × ${all[0]?.model.trim() ?? 'unknown processor'}, Node ${process.version}`
}
