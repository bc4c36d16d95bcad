import type { Metric, Registry } from 'prom-client'
import { definitions } from './definitions.ts'
import type { Reading } from './reading.ts'

/** The event loop's delay is looked at so often: each look wakes the process. */
const LOOP_INTERVAL_MS = 100

/** Of prom-client 15: gauges under the names of counters. What they count is in `nodejs_active_resources` too. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** Everything that is measured, as a monitoring system reads it. */
export class Exporter {
  readonly #registry: Registry
  readonly #read: () => Reading
  #reading: Reading

  /** Loads what only this needs. @param read what there is at this instant */
  static async create(read: () => Reading): Promise<Exporter> {
    const { Registry, collectDefaultMetrics } = await import('prom-client')
    const registry = new Registry()
    const exporter = new Exporter(registry, read)
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_INTERVAL_MS })
    for (const name of misnamed) registry.removeSingleMetric(name)
    return exporter
  }

  private constructor(registry: Registry, read: () => Reading) {
    this.#registry = registry
    this.#read = read
    this.#reading = read()
    for (const { name, type, help, read } of definitions) {
      // What is counted in packet threads and in the kernel is read, not observed: for that prom-client has no class, but it
      // prints whatever answers `get` like one of its own.
      const metric = { name, type, help, get: async () => ({ name, type, help, values: read(this.#reading) }) }
      registry.registerMetric(metric as unknown as Metric)
    }
  }

  /** The content type of `text`. */
  get type(): string {
    return this.#registry.contentType
  }

  /** All metrics in Prometheus' text format, of one instant. */
  async text(): Promise<string> {
    this.#reading = this.#read()
    return this.#registry.metrics()
  }
}
