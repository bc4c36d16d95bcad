import type { RememberConfig } from './config.ts'
import type { UnknownLocal } from './datapath/judge.ts'
import type { PacketCounters } from './datapath/threads.ts'
import type { Mode } from './mode.ts'
import type { QueueStatistics } from './native/queue-statistics.ts'
import type { RulesetCounters } from './ruleset/ruleset.ts'
import type { DenyWith, OnFailure } from './ruleset/text.ts'
import type { SourceHealth } from './sources/source.ts'

/** The state of a running firewall at one instant. */
export interface FirewallStatus {
  /** Under `audit` nothing is denied: `counters.audited` packets would have been. */
  readonly mode: Mode
  /** Whether the kernel holds our rules and the packet threads answer. */
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
  readonly remember: RememberConfig
  /** Pods that run here and that no source knows; absent where no address is taken for a pod's. */
  readonly unknownPods?: {
    /** What becomes of their packets after `holdMs`. */
    readonly unknownLocal: UnknownLocal
    readonly holdMs: number
    /** Addresses with a route of their own that nobody has now. */
    readonly addresses: number
    /** In which pods here get their addresses: what nobody has of these is such a pod's too. */
    readonly blocks: readonly string[]
    /** Packets that wait now; that had to wait; that have waited in vain or found no room, by what became of them. */
    readonly holding: number
    readonly held: number
    readonly allowed: number
    readonly denied: number
  }
  readonly divertRule: 'nft queue' | 'xt target' | 'missing'
  readonly queue: {
    /** The first one's. */
    readonly number: number
    /** How many there are, their numbers following each other. */
    readonly count: number
    /** How many packets may wait in each. */
    readonly length: number
    /** Of queue `number`. */
    readonly statistics?: QueueStatistics
  }
  /** Each queue with what its thread has counted, in the order of their numbers. */
  readonly queues: readonly {
    readonly number: number
    readonly statistics?: QueueStatistics
    readonly packetThread: PacketCounters
  }[]
  readonly counters: RulesetCounters
  /** Of all packet threads together. */
  readonly packetThread: PacketCounters
  /** How often the rules were put back after another program had changed or removed them. */
  readonly repairs: number
  readonly sources: readonly SourceHealth[]
  /** Whatever keeps the firewall from doing what the sources say; empty when it is healthy. */
  readonly problems: readonly string[]
  /** When the picture in force was saved last for a start whose sources cannot be read; left out before. */
  readonly savedAtMs?: number
  /** Where /metrics, /healthz and /readyz are served, as `127.0.0.1:9080`; left out where they are not. */
  readonly metricsAddress?: string
  /** Policies that go back by themselves unless confirmed before then. */
  readonly trial?: { readonly folder: string; readonly endsAtMs: number }
  /** When the picture was saved that stands for a source that could not be read since the start. */
  readonly restoredFromMs?: number
  readonly startedAtMs: number
}
