import { cpus } from 'node:os'
import { KnpError } from '../src/errors.ts'
import { createNetwork, type Network } from '../src/lab/network.ts'
import { isQuiet, type Load, LoadRunner, type Measurement, PORTS } from './datapath/measure.ts'
import { type Ends, POLICIES, WORKLOADS } from './datapath/world.ts'
import { nativeProgram } from './native.ts'
import { product } from './product.ts'
import { type Judge, type Report, type Row, relateTo, summarize } from './rows.ts'
import {
  endProcess,
  names,
  type Product,
  type Reading,
  type Scenario,
  type Setup,
  type Site,
  setupsOf,
  startReady,
} from './scenarios.ts'

export interface DatapathOptions {
  /** Length of each single run. */
  readonly seconds: number
  /** How often the whole series of scenarios is gone through. */
  readonly repetitions: number
  /** How many queues there are where packets are queued. */
  readonly queues: number
  /** Left out: everything. Otherwise only what is started together with a scenario of one of these names. */
  readonly only?: readonly string[]
  /** Left out: every load. Otherwise those of these names. */
  readonly loads?: readonly string[]
  /** Told what is being done. */
  readonly progress?: (line: string) => void
}

/**
 * With the ports 1,048,576 tuples. A tuple is remembered for 30 s, and one that comes back sooner is not queued. So they
 * must suffice for all that new ones are used for between a ruleset and its removal: two runs of TCP as fast as it goes
 * and one at a fixed rate; what UDP remembers is apart. At 40,000 connections a second, as many as there ever were, these
 * are 250,000 for runs of 3 s. Runs so long that tuples come back are reported. A set holds 65,536 of them and learns no
 * more when it is full: then what is queued costs less by the learning, with the C loop as with knp.
 */
const ends: Ends = {
  clients: Array.from({ length: 16 }, (_, i) => `10.77.1.${i + 2}`),
  servers: Array.from({ length: 16 }, (_, i) => `10.77.2.${i + 2}`),
}

const firstQueue = 100

/** What each scenario is compared with. */
const references: Readonly<Record<string, string>> = {
  [names.withoutQueue]: names.free,
  [names.warm]: names.withoutQueue,
  [names.unlogged]: names.withoutQueue,
  [names.cold]: names.loop,
  [names.updated]: names.idle,
}

const perCPUSecond = 'per CPU second'
const slowest = 'p99'

/** What is asked of the data path. */
export const judgeDatapath: Judge = ({ scenario, metric, ratioTo }) => {
  if (!ratioTo) return undefined
  if ((scenario === names.warm || scenario === names.unlogged) && / (connections|answered packets)$/.test(metric))
    return ratioTo.value >= 0.95
  if (scenario === names.cold && metric.endsWith(perCPUSecond)) return ratioTo.value >= 0.9
  if (scenario === names.updated && metric.endsWith(slowest)) return ratioTo.value <= 1.5
  return undefined
}

/**
 * Measures traffic through a router under each scenario, in turn and repeatedly, with real packets. Needs root, and a
 * machine that does nothing else. Prints nothing.
 */
export async function runDatapath(options: DatapathOptions, tested: Product = product): Promise<Report> {
  const network = await createNetwork({
    prefix: 'knpb',
    hosts: [
      { name: 'client', addresses: ends.clients },
      { name: 'server', addresses: ends.servers },
    ],
  })
  try {
    await prepare(network)
    const server = await nativeProgram('server')
    const servers = await Promise.all(
      [[], ['--udp']].map((kind) => startReady(network, 'server', [server, PORTS.join('-'), ...kind])),
    )
    const site: Site = {
      network,
      namespace: network.namespaceOf(network.router),
      ends,
      queues: { first: firstQueue, count: options.queues },
    }
    const { only } = options
    const all = setupsOf(site, tested)
    const known = all.flatMap(({ scenarios }) => scenarios.map(({ name }) => name))
    requireKnown('--only', 'scenario', known, only)
    const knownLoads = new Set(all.flatMap(({ scenarios }) => scenarios.flatMap(({ loads }) => loads)))
    requireKnown(
      '--load',
      'load',
      [...knownLoads].map(({ name }) => name),
      options.loads,
    )
    const setups = all.filter(
      ({ scenarios }) => only === undefined || scenarios.some(({ name }) => only.includes(name)),
    )
    const series = await measureAll(site, setups, options)
    await Promise.all(servers.map(endProcess))
    const rows = relateTo(({ scenario }) => references[scenario], toRows(series))
    if (!rows.some((row) => row.metric.endsWith(perCPUSecond) && judgeDatapath(row) !== undefined)) {
      options.progress?.(`${names.cold}: what it does ${perCPUSecond} is not judged: the machine was never at rest`)
    }
    return { schema: 'knp.bench/v1', rows }
  } finally {
    await network.destroy()
  }
}

function requireKnown(flag: string, what: string, known: readonly string[], asked: readonly string[] = []): void {
  const unknown = asked.find((name) => !known.includes(name))
  if (unknown === undefined) return
  throw new KnpError(
    'USAGE',
    `${flag}: there is no ${what} "${unknown}", only ${known.map((name) => `"${name}"`).join(', ')}`,
  )
}

/** What is over must not fill the connection table, which is as large in the lab as on the machine. */
async function prepare(network: Network): Promise<void> {
  const timeouts = ['tcp_timeout_close', 'udp_timeout', 'udp_timeout_stream']
  const script = ['cd /proc/sys/net/netfilter', ...timeouts.map((name) => `echo 1 >nf_conntrack_${name}`)].join(' && ')
  const { code, stderr } = await network.exec(network.router, ['sh', '-c', script])
  if (code !== 0) throw new Error(`conntrack timeouts: ${stderr.trim()}`)
  for (const host of network.hosts) {
    await network.exec(host, ['sh', '-c', 'echo 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range'])
  }
}

/** What was measured of one scenario. */
interface Measured {
  readonly byLoad: ReadonlyMap<Load, Measurement[]>
  readonly readings: Reading[]
}

type Series = ReadonlyMap<Scenario, Measured>

async function measureAll(site: Site, setups: readonly Setup[], options: DatapathOptions): Promise<Series> {
  const series = new Map<Scenario, Measured>()
  for (const scenario of setups.flatMap(({ scenarios }) => scenarios)) {
    const loads = scenario.loads.filter(({ name }) => options.loads?.includes(name) ?? true)
    series.set(scenario, { byLoad: new Map(loads.map((load) => [load, []])), readings: [] })
  }
  const runner = new LoadRunner(site, options.seconds)
  for (let repetition = 1; repetition <= options.repetitions; repetition++) {
    const progress = (line: string) => options.progress?.(`repetition ${repetition} of ${options.repetitions}: ${line}`)
    for (const setup of setups) {
      const title = setup.scenarios.map(({ name }) => name).join(', ')
      progress(`${title}: starts, with ${WORKLOADS} workloads and ${POLICIES} policies`)
      await setup.start()
      const usedBefore = runner.used
      try {
        for (let round = 1; round <= setup.rounds; round++) {
          for (const scenario of setup.scenarios) {
            await measureScenario(scenario, runner, series.get(scenario)!, progress)
          }
        }
        if (runner.used - usedBefore > runner.known) progress(`${title}: tuples came back: the runs are too long`)
      } finally {
        await setup.stop()
      }
    }
  }
  return series
}

async function measureScenario(
  scenario: Scenario,
  runner: LoadRunner,
  { byLoad, readings }: Measured,
  progress: (line: string) => void,
): Promise<void> {
  progress(scenario.name)
  await scenario.begin?.()
  for (const [load, runs] of byLoad) {
    const measured = await runner.measure(load, scenario.tuples)
    runs.push(measured)
    const { failures, base } = measured
    if (failures > 0) progress(`${scenario.name}, ${load.name}: ${failures} failed`)
    if (!scenario.hasOtherWork && !isQuiet(measured)) {
      const others = `the machine does other work (${base.toFixed(2)} processors)`
      progress(`${scenario.name}, ${load.name}: ${others}: its CPU time is left out`)
    }
  }
  readings.push(...((await scenario.end?.()) ?? []))
}

/** The rows of a load stand together, of all scenarios. */
function toRows(series: Series): readonly Row[] {
  const loads = new Set([...series.keys()].flatMap((scenario) => scenario.loads))
  const rows = [...loads].flatMap((load) =>
    [...series].flatMap(([scenario, { byLoad }]) => loadRows(scenario, load, byLoad.get(load) ?? [])),
  )
  const others = [...series].flatMap(([scenario, { readings }]) =>
    [...Map.groupBy(readings, ({ metric }) => metric)].map(([metric, all]) => {
      const values = all.map(({ value }) => value)
      return summarize(scenario.name, metric, all[0]!.unit, values)
    }),
  )
  return [...rows, ...others]
}

function loadRows(scenario: Scenario, load: Load, all: readonly Measurement[]): Row[] {
  const quiet = scenario.hasOtherWork ? [] : all.filter(isQuiet)
  const row = (metric: string, unit: string, runs: readonly Measurement[], value: (run: Measurement) => number) =>
    runs.length === 0 ? [] : [summarize(scenario.name, `${load.name}: ${metric}`, unit, runs.map(value))]
  const [unpaced, unpacedQuiet] = load.rate === undefined ? [all, quiet] : [[], []]
  const isEachQueued = scenario.isQueued && scenario.tuples === 'new'
  return [
    ...row(`${load.unit}s`, '1/s', unpaced, (run) => run.completed / run.seconds),
    ...row('p50', 'µs', all, (run) => run.p50),
    ...row(slowest, 'µs', all, (run) => run.p99),
    ...row('failures', '', all, (run) => run.failures),
    ...row(`${load.unit}s ${perCPUSecond}`, '1/s', unpacedQuiet, (run) => run.completed / (run.cpuUs / 1e6)),
    ...row(`queued per ${load.unit}`, '', scenario.isQueued ? all : [], (run) => run.queued / run.completed),
    ...row('CPU per queued packet', 'µs', isEachQueued ? quiet : [], (run) => run.cpuUs / run.queued),
  ]
}

/** What a reader needs to know to compare two reports. */
export function machine(): string {
  const all = cpus()
  return `${all.length} × ${all[0]?.model.trim() ?? 'unknown processor'}, Node ${process.version}`
}
