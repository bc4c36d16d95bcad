import type { FirewallStatus } from '../../src/firewall-status.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { healthyStatus } from '../fixtures/firewall-status.ts'

/** When everything in these tests happens. */
export const T0 = Date.UTC(2026, 0, 2, 3, 4, 5)

/** A denied connection of shop/web to shop/db:5432. */
export function flow(parts: Partial<FlowEvent> = {}): FlowEvent {
  return {
    timeMs: T0,
    count: 1,
    verdict: 'deny',
    protocol: 6,
    source: { name: 'shop/web', address: '10.0.0.2', port: 40000 },
    destination: { name: 'shop/db', address: '10.0.0.3', port: 5432 },
    hook: 'forward',
    decidedBy: {
      direction: 'ingress',
      tier: 'NetworkPolicy',
      policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-only' },
      reason: 'selects shop/db',
    },
    isRemembered: false,
    generation: 3,
    ...parts,
  }
}

/** An allowed one of a visitor without a name to shop/web:8080. */
export function allowed(parts: Partial<FlowEvent> = {}): FlowEvent {
  return flow({
    verdict: 'allow',
    source: { address: '198.51.100.7', port: 50000 },
    destination: { name: 'shop/web', address: '10.0.0.2', port: 8080 },
    decidedBy: {
      direction: 'ingress',
      tier: 'NetworkPolicy',
      policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'web-open' },
      rule: 0,
      reason: 'rule 0 matches',
    },
    ...parts,
  })
}

/** One that an audited policy would deny. */
export function audited(parts: Partial<FlowEvent> = {}): FlowEvent {
  return allowed({ audit: { verdict: 'deny', decidedBy: flow().decidedBy }, ...parts })
}

/** A healthy firewall's status; `counts` are its counters. */
export function status(
  counts: Partial<FirewallStatus['counters']> = {},
  parts: Partial<FirewallStatus> = {},
): FirewallStatus {
  const { packetThread } = healthyStatus
  return {
    ...healthyStatus,
    workloads: { known: 9, selected: 4, protected: 3 },
    subjects: 6,
    queue: { number: 100, count: 2, length: 8192 },
    queues: [
      { number: 100, packetThread, statistics: queueStatistics(100, 3, 0) },
      { number: 101, packetThread, statistics: queueStatistics(101, 0, 7) },
    ],
    counters: {
      rememberedAllowed: 0,
      rememberedDenied: 0,
      limited: 0,
      queued: 0,
      allowed: 0,
      denied: 0,
      audited: 0,
      unanswered: 0,
      ...counts,
    },
    sources: [{ name: 'files policies/', isCurrent: true, syncedAtMs: T0 - 60_000, notes: [] }],
    startedAtMs: T0 - 60_000,
    ...parts,
  }
}

function queueStatistics(queue: number, waiting: number, dropped: number) {
  return {
    queue,
    portId: 4711,
    waiting,
    copyMode: 'packet' as const,
    copyRange: 256,
    dropped,
    userDropped: 0,
    idSequence: 40,
  }
}
