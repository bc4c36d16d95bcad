import type { LogState, PacketCounters } from '../datapath/threads.ts'
import type { DecisionCount } from '../decision-totals.ts'
import type { FirewallFigures } from '../firewall-figures.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import type { QueueStatistics } from '../native/queue-statistics.ts'
import type { RulesetCounters } from '../ruleset/ruleset.ts'
import type { SourceHealth } from '../sources/source.ts'
import { histogram, type MetricDefinition, type Sample, single } from './reading.ts'

const MS_PER_SECOND = 1000
const origins = ['asked', 'remembered'] as const

const state: readonly MetricDefinition[] = [
  {
    name: 'knp_build_info',
    type: 'gauge',
    help: 'Always 1; the version of knp.',
    labels: ['version'],
    read: ({ version }) => [{ labels: { version }, value: 1 }],
  },
  {
    name: 'knp_config_info',
    type: 'gauge',
    help: 'Always 1; what becomes of packets without a verdict, and of those that policies deny.',
    labels: ['mode', 'on_failure', 'deny_with'],
    read: ofStatus(({ mode, onFailure, denyWith }) => [
      { labels: { mode, on_failure: onFailure, deny_with: denyWith }, value: 1 },
    ]),
  },
  single(
    {
      name: 'knp_enforcing',
      type: 'gauge',
      help: 'Whether the kernel holds the rules and packet threads answer; 0 before the first picture of policies too.',
    },
    ({ status, stalledQueues }) => (status?.enforcing === true && stalledQueues.length === 0 ? 1 : 0),
  ),
  status(
    'knp_problems',
    'gauge',
    'How many things keep the firewall from doing what its sources say.',
    (s) => s.problems.length,
  ),
  status(
    'knp_warnings',
    'gauge',
    'How many policies and objects are doubtful, and in force all the same.',
    (s) => s.warnings.length,
  ),
  single(
    {
      name: 'knp_stalled_packet_threads',
      type: 'gauge',
      help: 'Packet threads that have stood still for ten seconds: what waits in their queues gets no verdict.',
    },
    ({ stalledQueues }) => stalledQueues.length,
  ),
  status(
    'knp_repairs_total',
    'counter',
    'How often the rules were put back after another program had changed them.',
    (s) => s.repairs,
  ),
  status(
    'knp_generation',
    'gauge',
    'The generation of policies in force; begins again with each start.',
    (s) => s.generation,
  ),
  status('knp_policies', 'gauge', 'Policies of all kinds, audited ones too.', (s) => s.policies),
  {
    name: 'knp_workloads',
    type: 'gauge',
    help: 'Workloads: all that are known, those that policies select, those of them that are protected by this machine.',
    labels: ['state'],
    read: ofStatus(({ workloads }) =>
      Object.entries(workloads).map(([state, value]) => ({ labels: { state }, value })),
    ),
  },
  status(
    'knp_subject_addresses',
    'gauge',
    'Addresses whose connections are decided by this machine.',
    (s) => s.subjects,
  ),
  status(
    'knp_last_good_saved_timestamp_seconds',
    'gauge',
    'When the picture in force was saved last for a start whose sources cannot be read, since 1970.',
    ({ savedAtMs }) => seconds(savedAtMs),
  ),
  status(
    'knp_restored_picture_timestamp_seconds',
    'gauge',
    'When the picture was saved that stands for a source not read since the start, since 1970; missing where none does.',
    ({ restoredFromMs }) => seconds(restoredFromMs),
  ),
]

/** Among those allowed too. */
const isAudit = ({ verdict }: DecisionCount) => verdict === 'audit'

const decisions: readonly MetricDefinition[] = [
  {
    name: 'knp_decisions_total',
    type: 'counter',
    help:
      'Packets by what decided them: whose policies (source: egress, destination: ingress), which tier; origin says whether a ' +
      'packet thread was asked, or the kernel answered by itself like one that was.',
    labels: ['direction', 'tier', 'verdict', 'origin'],
    read: ({ figures }) =>
      origins.flatMap((origin) =>
        (figures?.decisions[origin].tiers ?? [])
          .filter((count) => !isAudit(count))
          .map(({ direction, tier, verdict, count }) => ({
            labels: { direction, tier, verdict, origin },
            value: count,
          })),
      ),
  },
  {
    name: 'knp_policy_decisions_total',
    type: 'counter',
    help:
      'The same by policy, for the policies that there are and have decided anything, whatever the origin. A denial for want of a ' +
      'rule counts for the first by name of the NetworkPolicies that isolate the workload.',
    labels: ['direction', 'tier', 'policy_kind', 'policy_namespace', 'policy_name', 'verdict'],
    read: ({ figures }) => (figures ? policySamples(figures.decisions) : []),
  },
  {
    name: 'knp_audited_decisions_total',
    type: 'counter',
    help: 'Packets that were allowed and would have been denied if what is audited were enforced, by whose policies and by tier.',
    labels: ['direction', 'tier'],
    read: ({ figures }) =>
      (figures?.decisions.asked.tiers ?? []).filter(isAudit).map(({ direction, tier, count }) => ({
        labels: { direction, tier },
        value: count,
      })),
  },
  {
    name: 'knp_policy_audited_decisions_total',
    type: 'counter',
    help: 'The same by policy.',
    labels: ['direction', 'tier', 'policy_kind', 'policy_namespace', 'policy_name'],
    read: ({ figures }) =>
      (figures?.decisions.asked.policies ?? []).filter(isAudit).map(({ direction, tier, policy, count }) => ({
        labels: {
          direction,
          tier,
          policy_kind: policy.kind,
          policy_namespace: policy.namespace ?? '',
          policy_name: policy.name,
        },
        value: count,
      })),
  },
  {
    name: 'knp_remembered_packets_total',
    type: 'counter',
    help: 'First packets of connections that the kernel answered by itself, like one that was decided before.',
    labels: ['verdict'],
    read: ofStatus(({ counters }) => [
      { labels: { verdict: 'allow' }, value: counters.rememberedAllowed },
      { labels: { verdict: 'deny' }, value: counters.rememberedDenied },
    ]),
  },
  single(
    {
      name: 'knp_remembered_unknown_packets_total',
      type: 'counter',
      help: 'Those of them that are missing in knp_decisions_total: they came faster than they could be noted, or are not told.',
    },
    ({ figures, status }) => figures && status && unknownRemembered(figures.log, status.counters),
  ),
  kernel('knp_asked_packets_total', 'Packets that the kernel asked userspace about.', 'queued'),
  kernel(
    'knp_unanswered_packets_total',
    'Packets that got no verdict: dropped, or let pass where onFailure is open.',
    'unanswered',
  ),
  kernel(
    'knp_rate_limited_packets_total',
    'Packets dropped beyond the rate that one source may be asked about.',
    'limited',
  ),
  histogram(
    {
      name: 'knp_decision_duration_seconds',
      help:
        'How long packets were with their packet thread: from the receipt of a batch to the answers to it. Counts packets, ' +
        'those that were held for longer too. The time in the kernel is not in it.',
    },
    ({ decisionSeconds }) => decisionSeconds,
  ),
  histogram(
    {
      name: 'knp_queue_wait_seconds',
      help:
        'How long packets had waited for their packet thread at most: since it last found its queue empty, 0 where it was ' +
        'waiting for them. Counts packets. The time from the kernel to a thread that waits is not in it.',
    },
    ({ waitSeconds }) => waitSeconds,
  ),
]

const queues: readonly MetricDefinition[] = [
  ofKernelQueue('knp_queue_length_packets', 'gauge', 'Packets that wait for a verdict.', (s) => s.waiting),
  {
    name: 'knp_queue_capacity_packets',
    type: 'gauge',
    help: 'How many may.',
    labels: ['queue'],
    read: ofStatus(({ queues, queue }) =>
      queues.map(({ number }) => ({ labels: { queue: number }, value: queue.length })),
    ),
  },
  {
    name: 'knp_queue_dropped_packets_total',
    type: 'counter',
    help: 'Packets that the kernel dropped because the queue, or the socket of its packet thread, was full.',
    labels: ['queue', 'full'],
    read: ofStatus(({ queues }) =>
      queues.flatMap(({ number, statistics }) =>
        statistics
          ? [
              { labels: { queue: number, full: 'queue' }, value: statistics.dropped },
              { labels: { queue: number, full: 'socket' }, value: statistics.userDropped },
            ]
          : [],
      ),
    ),
  },
  ofThread('knp_queue_packets_total', 'Packets that the packet thread received.', 'queued'),
  ofThread('knp_queue_batches_total', 'How many batches they came in.', 'batches'),
  ofThread(
    'knp_queue_overflows_total',
    'How often the packet thread found that its socket had been full.',
    'overflows',
  ),
  ofThread('knp_queue_answer_errors_total', 'Verdicts that the kernel refused.', 'answerErrors'),
  ofThread('knp_unreadable_packets_total', 'Packets denied because their headers cannot be read.', 'unreadable'),
  ofThread('knp_failed_packets_total', 'Packets denied because an evaluator failed.', 'failed'),
]

const sources: readonly MetricDefinition[] = [
  source('knp_source_up', 'gauge', 'Whether what the source last delivered is what it reads now.', (s) =>
    s.isCurrent ? 1 : 0,
  ),
  source(
    'knp_source_synced_timestamp_seconds',
    'gauge',
    'When the picture in force was read, or was last known to be what there is, since 1970.',
    ({ syncedAtMs }) => seconds(syncedAtMs),
  ),
  source(
    'knp_source_lag_seconds',
    'gauge',
    'For how long a source that is told of changes has not been told that none were missed.',
    ({ lagMs }) => seconds(lagMs),
  ),
  source(
    'knp_source_last_event_timestamp_seconds',
    'gauge',
    'When something changed last, since 1970.',
    ({ lastEventAtMs }) => seconds(lastEventAtMs),
  ),
  source(
    'knp_source_watch_restarts_total',
    'counter',
    'How often being told of changes broke off and was begun again.',
    ({ restarts }) => restarts,
  ),
  source('knp_source_notes', 'gauge', 'Objects that were left out or are doubtful.', ({ notes }) => notes.length),
]

const changes: readonly MetricDefinition[] = [
  histogram(
    { name: 'knp_compile_duration_seconds', help: 'From changed objects to a generation of policies.' },
    ({ compileSeconds }) => compileSeconds,
  ),
  histogram(
    {
      name: 'knp_apply_duration_seconds',
      help: 'The same until it is in force, in all packet threads and in the kernel. What waits its turn is not in it.',
    },
    ({ applySeconds }) => applySeconds,
  ),
]

const unknownPods: readonly MetricDefinition[] = [
  status(
    'knp_held_packets_total',
    'counter',
    'Packets that had to wait because one end was a pod of this machine that no source knew.',
    ({ unknownPods }) => unknownPods?.held,
  ),
  status('knp_holding_packets', 'gauge', 'Those that wait now.', ({ unknownPods }) => unknownPods?.holding),
  {
    name: 'knp_unknown_pod_packets_total',
    type: 'counter',
    help: 'Those that waited in vain, or found no room to wait, by what became of them.',
    labels: ['verdict'],
    read: ofStatus(({ unknownPods }) =>
      unknownPods
        ? [
            { labels: { verdict: 'allow' }, value: unknownPods.allowed },
            { labels: { verdict: 'deny' }, value: unknownPods.denied },
          ]
        : [],
    ),
  },
  status(
    'knp_unknown_pod_addresses',
    'gauge',
    'Addresses with a route of their own on this machine that nobody has now.',
    ({ unknownPods }) => unknownPods?.addresses,
  ),
]

/** All metrics of knp's own, in the order in which people read them. docs/metrics.md lists them. */
export const definitions: readonly MetricDefinition[] = [
  ...state,
  ...decisions,
  ...unknownPods,
  ...queues,
  ...sources,
  ...changes,
]

function policySamples({ asked, remembered }: FirewallFigures['decisions']): Sample[] {
  const samples = new Map<string, { labels: Readonly<Record<string, string>>; value: number }>()
  for (const { direction, tier, verdict, count, policy } of [...asked.policies, ...remembered.policies]) {
    if (verdict === 'audit') continue
    const labels = {
      direction,
      tier,
      policy_kind: policy.kind,
      policy_namespace: policy.namespace ?? '',
      policy_name: policy.name,
      verdict,
    }
    const key = Object.values(labels).join(' ')
    const sample = samples.get(key)
    if (sample) sample.value += count
    else samples.set(key, { labels, value: count })
  }
  return [...samples.values()]
}

/** Of connections that the kernel answered by itself: of how many nobody knows who decided. */
function unknownRemembered(log: LogState, { rememberedAllowed, rememberedDenied }: RulesetCounters): number {
  return log.isRead ? log.lost : rememberedAllowed + rememberedDenied
}

function ofStatus(read: (status: FirewallStatus) => readonly Sample[]): MetricDefinition['read'] {
  return ({ status }) => (status ? read(status) : [])
}

function status(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  read: (status: FirewallStatus) => number | undefined,
): MetricDefinition {
  return single({ name, type, help }, ({ status }) => status && read(status))
}

/** A counter of the table in the kernel. */
function kernel(name: string, help: string, counter: keyof RulesetCounters): MetricDefinition {
  return status(name, 'counter', help, ({ counters }) => counters[counter])
}

function ofKernelQueue(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  read: (statistics: QueueStatistics) => number,
): MetricDefinition {
  return {
    name,
    type,
    help,
    labels: ['queue'],
    read: ofStatus(({ queues }) =>
      queues.flatMap(({ number, statistics }) =>
        statistics ? { labels: { queue: number }, value: read(statistics) } : [],
      ),
    ),
  }
}

function ofThread(name: string, help: string, counter: keyof PacketCounters): MetricDefinition {
  return {
    name,
    type: 'counter',
    help,
    labels: ['queue'],
    read: ofStatus(({ queues }) =>
      queues.map(({ number, packetThread }) => ({ labels: { queue: number }, value: packetThread[counter] })),
    ),
  }
}

function source(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  read: (health: SourceHealth) => number | undefined,
): MetricDefinition {
  return {
    name,
    type,
    help,
    labels: ['source'],
    read: ({ sources }) => {
      // One that is named twice is one.
      const byName = new Map(sources.map((health) => [health.name, health]))
      return [...byName.values()].flatMap((health) => {
        const value = read(health)
        return value === undefined ? [] : { labels: { source: health.name }, value }
      })
    },
  }
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / MS_PER_SECOND
}
