import { type Load, LoadRunner, type Measurement, type Tuples } from './datapath/measure.ts'
import { createPlace, type Place, type PlaceName, PROBE, pathNames, placeNames } from './node/places.ts'
import { product } from './product.ts'
import { type Judge, type Report, type Row, relateTo, summarize } from './rows.ts'
import type { Site } from './scenarios.ts'

export interface NodeOptions {
  /** Length of each single run. */
  readonly seconds: number
  /** How often all is gone through. */
  readonly repetitions: number
  readonly progress?: (line: string) => void
}

const QUEUES = { first: 100, count: 1 }

/** One of the world's; the bench's own pods name none, and so run there. */
const NODE = 'node-0'

/** One at a time: what somebody who connects waits for. */
const load: Load = { name: 'TCP, 1 at a time', unit: 'connection', concurrency: 1, kind: [] }

/** What a node's connections meet. */
const states = { free: 'no firewall', known: 'knp, known', fresh: 'knp, new' } as const
type State = (typeof states)[keyof typeof states]

const failures = 'failures'
const queued = 'queued per connection'

/** Every connection is made, for all are allowed; nobody is asked about what is known, or about what the node sends to its pods. */
export const judgeNode: Judge = ({ scenario, metric, value }) => {
  if (metric.endsWith(failures)) return value === 0
  if (!metric.endsWith(queued)) return undefined
  const isAsked = scenario.endsWith(states.fresh) && !metric.startsWith(PROBE)
  return isAsked ? value >= 1 : value === 0
}

/**
 * Measures what connections of a node's pods cost: to each other, to services that are translated, and the node's own probes;
 * on routed interfaces and on a bridge, without and with knp and a large world, where what is decided is known to the
 * kernel and where each connection is the first of its kind. Needs root. Prints nothing.
 */
export async function runNode({ seconds, repetitions, progress }: NodeOptions): Promise<Report> {
  const rows: Row[] = []
  for (const name of placeNames) {
    const place = await createPlace(name)
    try {
      const measured = new Map<string, Measurement[]>()
      const note = (metric: string, state: State, measurement: Measurement) => {
        const key = `${state}\n${metric}`
        measured.set(key, [...(measured.get(key) ?? []), measurement])
      }
      const runners = pathNames.map((path) => [path, new LoadRunner(place.paths[path], seconds)] as const)
      const measure = async (state: State, tuples: Tuples) => {
        for (const [path, runner] of runners) note(path, state, await runner.measure(load, tuples))
      }
      for (let repetition = 1; repetition <= repetitions; repetition++) {
        progress?.(`${name}: repetition ${repetition} of ${repetitions}`)
        await measure(states.free, 'new')
        const stop = await product.startFirewall(siteOf(place), { isLogged: true, nodeName: NODE })
        try {
          await measure(states.known, 'few')
          await measure(states.fresh, 'new')
        } finally {
          await stop()
        }
      }
      rows.push(...[...measured].flatMap(([key, all]) => rowsOf(name, key.split('\n') as [State, string], all)))
    } finally {
      await place.destroy()
    }
  }
  const related = relateTo(({ scenario }) => {
    const [place] = scenario.split(': ')
    return `${place}: ${states.free}`
  }, rows)
  return { schema: 'knp.bench/v1', rows: related }
}

function siteOf({ network, ends }: Place): Site {
  return { network, ends, namespace: network.namespaceOf(network.router), queues: QUEUES }
}

function rowsOf(place: PlaceName, [state, path]: readonly [State, string], all: readonly Measurement[]): Row[] {
  const row = (metric: string, unit: string, value: (run: Measurement) => number) =>
    summarize(`${place}: ${state}`, `${path}: ${metric}`, unit, all.map(value))
  return [
    row('connections', '1/s', (run) => run.completed / run.seconds),
    row('p50', 'µs', (run) => run.p50),
    row('p99', 'µs', (run) => run.p99),
    row(queued, '', (run) => run.queued / run.completed),
    row(failures, '', (run) => run.failures),
  ]
}
