import type { FirewallStatus } from '../../src/firewall-status.ts'
import type { FlowEvent } from '../../src/flows/event.ts'

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

const packetThread = {
  queued: 9,
  allowed: 7,
  denied: 1,
  unreadable: 1,
  failed: 0,
  batches: 4,
  overflows: 0,
  answerErrors: 0,
  audited: 0,
  rounds: 20,
  held: 0,
  holding: 0,
  unknownAllowed: 0,
  unknownDenied: 0,
}

/** A healthy firewall's status; `counts` are its counters. */
export function status(
  counts: Partial<FirewallStatus['counters']> = {},
  parts: Partial<FirewallStatus> = {},
): FirewallStatus {
  return {
    mode: 'enforce',
    enforcing: true,
    generation: 3,
    nodeName: 'n1',
    isGateway: false,
    pipeline: ['Admin', 'NetworkPolicy', 'Baseline'],
    policies: 2,
    workloads: { known: 9, selected: 4, protected: 3 },
    subjects: 6,
    onFailure: 'closed',
    denyWith: 'drop',
    remember: { allowedMs: 30_000, deniedMs: 5000, size: 65_536, isLogged: true },
    divertRule: 'nft queue',
    queue: { number: 100, count: 2, length: 8192 },
    queues: [
      { number: 100, packetThread, statistics: queueStatistics(100, 3, 0) },
      { number: 101, packetThread, statistics: queueStatistics(101, 0, 7) },
    ],
    failsafe: { inbound: ['tcp/22'], outbound: ['udp/53'] },
    warnings: [],
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
    packetThread,
    repairs: 0,
    sources: [{ name: 'files policies/', isCurrent: true, syncedAtMs: T0 - 60_000, notes: [] }],
    problems: [],
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
