import type { HistogramReading } from '../datapath/histogram.ts'
import type { FirewallFigures } from '../firewall-figures.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import type { SourceHealth } from '../sources/source.ts'

/** The running firewall at one instant; `status` and `figures` are missing until it enforces. */
export interface Reading {
  readonly status?: FirewallStatus
  readonly figures?: FirewallFigures
  readonly sources: readonly SourceHealth[]
  readonly stalledQueues: readonly number[]
  readonly version: string
}

/** One line of a metric. */
export interface Sample {
  readonly labels?: Readonly<Record<string, string | number>>
  readonly value: number
  /** Of a histogram: the metric's name and what follows it. */
  readonly metricName?: string
}

/** A metric: what it is called and means, and what it is at an instant. */
export interface MetricDefinition {
  /** Ends in its unit; that of a counter in `_total`. */
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  /** The names of its labels. */
  readonly labels: readonly string[]
  readonly read: (reading: Reading) => readonly Sample[]
}

/** A metric of one value; none while there is none. */
export function single(
  definition: Omit<MetricDefinition, 'labels' | 'read'>,
  read: (reading: Reading) => number | undefined,
): MetricDefinition {
  return {
    ...definition,
    labels: [],
    read: (reading) => {
      const value = read(reading)
      return value === undefined ? [] : [{ value }]
    },
  }
}

/** Times that were observed. */
export function histogram(
  definition: Omit<MetricDefinition, 'type' | 'labels' | 'read'>,
  read: (figures: FirewallFigures) => HistogramReading,
): MetricDefinition {
  return {
    ...definition,
    type: 'histogram',
    labels: [],
    read: ({ figures }) => (figures ? histogramSamples(definition.name, read(figures)) : []),
  }
}

function histogramSamples(name: string, { bounds, counts, sum }: HistogramReading): Sample[] {
  let total = 0
  const buckets = counts.map((count, i) => {
    total += count
    const le = i < bounds.length ? bounds[i]! : '+Inf'
    return { metricName: `${name}_bucket`, labels: { le }, value: total }
  })
  return [...buckets, { metricName: `${name}_sum`, value: sum }, { metricName: `${name}_count`, value: total }]
}
