import type { FirewallFigures } from '../firewall-figures.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import { liveness, probeAnswer, readiness } from '../health.ts'
import { formatListenAddress, parseListenAddress } from '../listen-address.ts'
import type { Exporter } from '../metrics/exporter.ts'
import type { Reading } from '../metrics/reading.ts'
import type { Source } from '../sources/source.ts'
import { HttpServer } from './http.ts'

/** What is asked of a running firewall. */
export interface Monitored {
  status(): FirewallStatus
  figures(): FirewallFigures
  /** Queues whose packet threads stand still. */
  stalledQueues(): readonly number[]
}

export interface MonitoringOptions {
  /** `parseListenAddress` reads it; `none` for no server. */
  readonly address: string
  /** Asked until there is a firewall. */
  readonly sources: readonly Source[]
  /** Of knp, for monitoring systems. */
  readonly version: string
  /** Where it cannot listen, why not; `undefined` when it can after all. */
  readonly onProblem: (problem: string | undefined) => void
}

/** /metrics, /healthz and /readyz, from before the first picture is there until the process ends. */
export class Monitoring {
  readonly #server: HttpServer | undefined
  readonly #state: { firewall?: Monitored }

  static async start({ address, sources, version, onProblem }: MonitoringOptions): Promise<Monitoring> {
    const endpoint = parseListenAddress(address)
    const state: { firewall?: Monitored } = {}
    if (!endpoint) return new Monitoring(state)
    const stalledQueues = () => state.firewall?.stalledQueues() ?? []
    const read = (): Reading => {
      const { firewall } = state
      const status = firewall?.status()
      return {
        ...(firewall && status && { status, figures: firewall.figures() }),
        sources: status?.sources ?? sources.map((source) => source.health()),
        stalledQueues: stalledQueues(),
        version,
      }
    }
    let exporter: Promise<Exporter> | undefined
    const routes = {
      '/metrics': async () => {
        // Nobody else needs it: it is loaded for the first who asks.
        exporter ??= import('../metrics/exporter.ts').then(({ Exporter }) => Exporter.create(read))
        const metrics = await exporter
        return { status: 200, type: metrics.type, body: await metrics.text() }
      },
      '/healthz': () => probeAnswer(liveness(stalledQueues())),
      '/readyz': () => {
        const { firewall } = state
        return probeAnswer(readiness(firewall?.status(), firewall ? [] : sources.map((source) => source.health())))
      },
    }
    return new Monitoring(state, await HttpServer.start({ address: endpoint, routes, onProblem }))
  }

  private constructor(state: { firewall?: Monitored }, server?: HttpServer) {
    this.#state = state
    this.#server = server
  }

  /** From now on a firewall enforces. */
  watch(firewall: Monitored): void {
    this.#state.firewall = firewall
  }

  /**
   * With the firewall's status, where this is served, or why it is not: a warning, since nothing of it keeps packets from being
   * judged.
   */
  complete(status: FirewallStatus): FirewallStatus {
    const { problem, address } = this.#server ?? {}
    return {
      ...status,
      ...(problem !== undefined && { warnings: [...status.warnings, problem] }),
      ...(address && { metricsAddress: formatListenAddress(address) }),
    }
  }

  async close(): Promise<void> {
    await this.#server?.close()
  }
}
