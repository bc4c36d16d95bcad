import { setTimeout as sleep } from 'node:timers/promises'
import { ask, follow } from '../control/socket.ts'
import type { DeciderTotal } from '../decider-totals.ts'
import type { Decision } from '../engine/index.ts'
import { hasPorts, protocolName } from '../engine/protocol.ts'
import { KnpError } from '../errors.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import type { FlowEvent } from '../flows/event.ts'
import { type FlowsItem, type FlowsParams, MAX_PAST } from '../flows/stream.ts'
import { formatDecision } from '../output/decision.ts'
import type { Report } from './state.ts'
import { targetAddress } from './text.ts'

/** What brings the firewall's word to the dashboard. */
export interface Feed {
  /** What the firewall says of a decision now, for people. Never rejects. */
  explain(event: FlowEvent): Promise<string>
  close(): void
}

/** Begins to bring reports. */
export type Connect = (report: (report: Report) => void) => Feed

const STATUS_INTERVAL_MS = 1000
const RECONNECT_MS = 500
/** Flows are brought together: a screen need not change more often. */
const FLOWS_INTERVAL_MS = 200

/** Asks the firewall at `path` for its status once a second, follows its flows, and begins again where either breaks off. */
export function connectFeed(path: string): Connect {
  return (report) => {
    const ending = new AbortController()
    const { signal } = ending
    void repeat(signal, () => bringStatus(path, report, signal))
    void repeat(signal, bringFlows(path, report, signal))
    return { explain: (event) => explainBy(path, event), close: () => ending.abort() }
  }
}

/** The firewall's word on a decision, as `knp explain` prints it, or why there is none. */
export async function explainBy(path: string, event: FlowEvent): Promise<string> {
  const { source, destination, protocol } = event
  if (!source || !destination) return 'The packet could not be read: no policy was asked.'
  if (!hasPorts(protocol) && protocolName(protocol) !== 'icmp') {
    return `Of ${protocolName(protocol)} nothing can be asked: policies name TCP, UDP, SCTP and ICMP.`
  }
  try {
    const question = { from: source.address, to: targetAddress(event) }
    return formatDecision((await ask(path, 'explain', question)) as Decision)
  } catch (error) {
    return messageOf(error)
  }
}

async function repeat(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) await work()
}

async function bringStatus(path: string, report: (report: Report) => void, signal: AbortSignal): Promise<void> {
  try {
    const status = (await ask(path, 'status')) as FirewallStatus
    if (signal.aborted) return
    report({ type: 'status', status, atMs: Date.now() })
    await bringDeciders(path, report, signal)
    await pause(STATUS_INTERVAL_MS, signal)
  } catch (error) {
    if (signal.aborted) return
    report({ type: 'lost', reason: messageOf(error), atMs: Date.now() })
    await pause(RECONNECT_MS, signal)
  }
}

/** A firewall of another version may not count them. */
async function bringDeciders(path: string, report: (report: Report) => void, signal: AbortSignal): Promise<void> {
  const deciders = (await ask(path, 'deciders').catch(() => undefined)) as readonly DeciderTotal[] | undefined
  if (deciders && !signal.aborted) report({ type: 'deciders', deciders })
}

/** @returns what follows the flows until they break off */
function bringFlows(path: string, report: (report: Report) => void, signal: AbortSignal): () => Promise<void> {
  let newestMs = 0
  return async () => {
    const batch = new Batch((items) => {
      if (!signal.aborted) report({ type: 'flows', items })
    })
    // After an interruption the firewall tells again of what it still holds.
    const knownMs = newestMs
    try {
      const params: FlowsParams = { last: MAX_PAST, follow: true }
      for await (const item of follow(path, 'flows', { ...params }, signal)) {
        const flow = item as FlowsItem
        if (!('missed' in flow)) {
          if (flow.timeMs <= knownMs) continue
          newestMs = Math.max(newestMs, flow.timeMs)
        }
        batch.add(flow)
      }
    } catch (error) {
      // Where there is no firewall, the status says so.
      const isRefused = error instanceof KnpError && error.code !== 'UNREACHABLE'
      if (isRefused && !signal.aborted) report({ type: 'flows-refused', reason: messageOf(error) })
    }
    batch.flush()
    await pause(RECONNECT_MS, signal)
  }
}

/** Passes on what comes, together. */
class Batch {
  readonly #pass: (items: readonly FlowsItem[]) => void
  #items: FlowsItem[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(pass: (items: readonly FlowsItem[]) => void) {
    this.#pass = pass
  }

  add(item: FlowsItem): void {
    this.#items.push(item)
    this.#timer ??= setTimeout(() => this.flush(), FLOWS_INTERVAL_MS)
  }

  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const items = this.#items
    this.#items = []
    if (items.length > 0) this.#pass(items)
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {})
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
