import type { readCounters } from './datapath/packet-loop.ts'
import type { QueueStatistics } from './native/queue-statistics.ts'
import type { RulesetCounters } from './ruleset/ruleset.ts'
import type { OnFailure } from './ruleset/text.ts'
import type { SourceHealth } from './sources/source.ts'

/** The state of a running firewall at one instant. */
export interface FirewallStatus {
  readonly mode: 'enforce'
  /** Whether the kernel holds our rules and the packet thread answers. */
  readonly enforcing: boolean
  readonly generation: number
  readonly nodeName: string
  /** The machine is none of the nodes known: it decides the traffic of every workload that passes. */
  readonly isGateway: boolean
  readonly policies: number
  readonly workloads: { readonly known: number; readonly selected: number; readonly protected: number }
  /** Addresses whose traffic is queued. */
  readonly subjects: number
  readonly onFailure: OnFailure
  readonly divertRule: 'nft queue' | 'xt target' | 'missing'
  readonly queue: { readonly number: number; readonly length: number; readonly statistics?: QueueStatistics }
  readonly counters: RulesetCounters
  readonly packetThread: ReturnType<typeof readCounters>
  /** How often the rules were put back after another program had changed or removed them. */
  readonly repairs: number
  readonly sources: readonly SourceHealth[]
  /** Whatever keeps the firewall from doing what the sources say; empty when it is healthy. */
  readonly problems: readonly string[]
  readonly startedAtMs: number
}
