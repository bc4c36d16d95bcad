import type { readCounters } from './datapath/packet-loop.ts'
import type { QueueStatistics } from './native/queue-statistics.ts'
import type { RulesetCounters } from './ruleset/ruleset.ts'
import type { DenyWith, OnFailure } from './ruleset/text.ts'
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
  /** The tiers in order of precedence: knp's own, and evaluators of third parties. */
  readonly pipeline: readonly string[]
  readonly policies: number
  readonly workloads: { readonly known: number; readonly selected: number; readonly protected: number }
  /** This machine itself, where a HostEndpoint says it is a workload: what of its traffic policies select. */
  readonly host?: {
    readonly name: string
    readonly ingress: boolean
    readonly egress: boolean
    readonly forwards: readonly string[]
  }
  /** What passes this machine without being judged, where the host is protected: `tcp/22`, `udp/53@10.0.0.0/8`. */
  readonly failsafe: { readonly inbound: readonly string[]; readonly outbound: readonly string[] }
  /** Doubtful policies and objects, in force all the same. */
  readonly warnings: readonly string[]
  /** Addresses whose traffic is queued. */
  readonly subjects: number
  readonly onFailure: OnFailure
  readonly denyWith: DenyWith
  readonly divertRule: 'nft queue' | 'xt target' | 'missing'
  readonly queue: { readonly number: number; readonly length: number; readonly statistics?: QueueStatistics }
  readonly counters: RulesetCounters
  readonly packetThread: ReturnType<typeof readCounters>
  /** How often the rules were put back after another program had changed or removed them. */
  readonly repairs: number
  readonly sources: readonly SourceHealth[]
  /** Whatever keeps the firewall from doing what the sources say; empty when it is healthy. */
  readonly problems: readonly string[]
  /** Policies that go back by themselves unless confirmed before then. */
  readonly trial?: { readonly folder: string; readonly endsAtMs: number }
  /** When the picture was saved that stands for a source that could not be read since the start. */
  readonly restoredFromMs?: number
  readonly startedAtMs: number
}
