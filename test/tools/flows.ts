import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { rawTool } from './raw.ts'

const program = fileURLToPath(new URL('../../build/tools/flows', import.meta.url))
const SETTLE_TIMEOUT_MS = 10_000 * slow

/**
 * `echo`: numbered messages that are answered; `push` and `download`: the server sends, by UDP or TCP; `idle`: one message,
 * then nothing until woken.
 */
export type FlowKind = 'echo' | 'push' | 'download' | 'idle'

export interface FlowsSpec {
  readonly group: string
  readonly kind: FlowKind
  readonly protocol: 'udp' | 'tcp'
  readonly source: string
  readonly destination: string
  readonly port: number
  readonly count: number
  /** Between two messages of one connection; of `echo` only. */
  readonly intervalMs?: number
}

export interface FlowsReport {
  readonly flows: number
  /** Those on which nothing has come back yet. */
  readonly silent: number
  readonly sent: number
  readonly answered: number
  /** Messages without an answer for 2 s. */
  readonly lost: number
  /** Segments that TCP sent again. */
  readonly retransmitted: number
  /** The longest time to an answer. */
  readonly slowestMs: number
  /** When anything came last, in ms since 1970; 0: never. */
  readonly lastAtMs: number
  /** Woken connections whose message was answered. */
  readonly woken: number
  /** When the last of those messages was sent, in ms since 1970; 0: none. */
  readonly lastWokenMs: number
}

/** Starts the server for lasting connections; it ends with the network. Resolves when it listens. */
export async function serveFlows(
  network: Network,
  host: string,
  addresses: readonly string[],
  ports: readonly number[],
): Promise<void> {
  await rawTool()
  const child = network.spawn(host, [program, 'server', addresses.join(), ports.join()], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once('data', () => resolve())
    child.once('close', () => reject(new Error('flows server: ended at its start')))
  })
}

/** Connections that last, thousands of them in one process. */
export class LastingFlows {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  static async start(network: Network, host: string): Promise<LastingFlows> {
    await rawTool()
    return new LastingFlows(network.spawn(host, [program, 'client'], { stdio: ['pipe', 'pipe', 'inherit'] }))
  }

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  /** Adds connections to a group, and does not wait for them. */
  async open({ group, kind, protocol, source, destination, port, count, intervalMs = 0 }: FlowsSpec): Promise<void> {
    const intervalUs = Math.round(intervalMs * 1000)
    await this.#do(['open', group, kind, protocol, source, destination, port, count, intervalUs])
  }

  /** Waits until something has come back on every connection of a group. */
  async settled(group: string): Promise<FlowsReport> {
    return await this.until(group, ({ silent }) => silent === 0, `all connections of ${group} are answered`)
  }

  /** Waits until a group's report is so. */
  async until(
    group: string,
    isSo: (report: FlowsReport) => boolean,
    what: string,
    timeoutMs = SETTLE_TIMEOUT_MS,
  ): Promise<FlowsReport> {
    const endMs = performance.now() + timeoutMs
    for (;;) {
      const report = await this.report(group)
      if (isSo(report)) return report
      if (performance.now() > endMs) throw new Error(`not so: ${what}: ${JSON.stringify(report)}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Idle connections send one message, one connection after the other. */
  async wake(group: string, intervalMs: number): Promise<void> {
    await this.#do(['wake', group, Math.round(intervalMs * 1000)])
  }

  async report(group: string): Promise<FlowsReport> {
    return JSON.parse(await this.#do(['report', group])) as FlowsReport
  }

  async close(group: string): Promise<void> {
    await this.#do(['close', group])
  }

  /** Ends the process, and with it all connections. */
  end(): void {
    this.#child.stdin!.end()
  }

  async #do(words: readonly (string | number)[]): Promise<string> {
    this.#child.stdin!.write(`${words.join(' ')}\n`)
    const { value } = await this.#lines.next()
    if (value === undefined) throw new Error(`flows client: ended at ${words.join(' ')}`)
    return value
  }
}
