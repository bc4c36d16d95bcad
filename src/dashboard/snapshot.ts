import { setTimeout as sleep } from 'node:timers/promises'
import { ask, follow } from '../control/socket.ts'
import type { DeciderTotal } from '../decider-totals.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import { type FlowsItem, type FlowsParams, MAX_PAST } from '../flows/stream.ts'
import { flowJson } from '../output/flows.ts'
import { statusJson } from '../output/status.ts'
import { rateNames } from './rates.ts'
import { type DashboardState, initialState, rankedIn, reduce, shownFlows } from './state.ts'
import { type Row, totalOf } from './tally.ts'

/** Rates need two readings. */
const INTERVAL_MS = 1000

/** What the dashboard would show after a second. Throws KnpError UNREACHABLE. */
export async function takeSnapshot(path: string): Promise<DashboardState> {
  const first = await withStatus(path, initialState)
  await sleep(INTERVAL_MS)
  const items: FlowsItem[] = []
  const params: FlowsParams = { last: MAX_PAST, follow: false }
  for await (const item of follow(path, 'flows', { ...params })) items.push(item as FlowsItem)
  const deciders = (await ask(path, 'deciders')) as readonly DeciderTotal[]
  return withStatus(
    path,
    [{ type: 'flows', items } as const, { type: 'deciders', deciders } as const].reduce(reduce, first),
  )
}

async function withStatus(path: string, state: DashboardState): Promise<DashboardState> {
  const status = (await ask(path, 'status')) as FirewallStatus
  return reduce(state, { type: 'status', status, atMs: Date.now() })
}

/** `knp.dashboard/v1`: status, rates a second, the latest decisions, and what they add up to. */
export function snapshotJson(state: DashboardState): object {
  const { status, rates } = state
  return {
    schema: 'knp.dashboard/v1',
    ...(status && { status: statusJson(status) }),
    rates: rateNames.map((name) => ({
      name,
      perSecond: rates?.samples[name].at(-1) ?? null,
      total: rates?.totals[name] ?? null,
    })),
    flows: shownFlows(state).map(({ event }) => flowJson(event)),
    denied: rankedIn(state, 'pairs').map(pairJson),
    policies: state.deciders ?? [],
  }
}

function pairJson(tally: Row): object {
  return {
    count: totalOf(tally),
    verdict: tally.counts.AUDIT > 0 ? 'audit' : 'deny',
    ...(tally.last && { last: flowJson(tally.last) }),
  }
}
