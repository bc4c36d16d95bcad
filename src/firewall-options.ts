import type { RememberConfig } from './config.ts'
import type { MarkLayout } from './datapath/marks.ts'
import type { EvaluatorModule } from './evaluators.ts'
import type { FirewallStatus } from './firewall-status.ts'
import type { Mode } from './mode.ts'
import type { UnknownPodOptions } from './pod-addresses.ts'
import type { Failsafe } from './ruleset/failsafe.ts'
import type { GuardEvent } from './ruleset/guard.ts'
import type { DenyWith, OnFailure } from './ruleset/text.ts'
import type { Source } from './sources/source.ts'

export interface FirewallOptions {
  readonly sources: readonly Source[]
  /** Which node of the picture this machine is. */
  readonly nodeName: string
  /** Where the last good picture is kept. */
  readonly stateDir: string
  /** Enforce where it is left out. */
  readonly mode?: Mode
  readonly onFailure: OnFailure
  readonly denyWith: DenyWith
  readonly failsafe: Failsafe
  /** Whether the API servers of the sources are in the failsafe, wherever they are at the moment. */
  readonly reachesApiServers?: boolean
  readonly remember: RememberConfig
  /** The first queue's number. */
  readonly queueNumber: number
  /** How many queues there are, each with a packet thread. */
  readonly queueCount: number
  /** How many packets may wait for a verdict in each. */
  readonly queueLength: number
  /** Sockets of queues that an earlier process had bound, by queue: they are taken over with what waits in them. */
  readonly keptSockets?: ReadonlyMap<number, number>
  readonly marks: MarkLayout
  /** Pods that run here and that no source knows. */
  readonly unknownPods?: UnknownPodOptions
  /** Whether this process gives way to other programs, but for its threads that decide packets or watch the kernel. */
  readonly givesWay?: boolean
  /** Evaluators of third parties. */
  readonly evaluators?: readonly EvaluatorModule[]
  readonly observe: (event: FirewallEvent) => void
}

/** What happens to a running firewall, for whoever tells people. */
export type FirewallEvent = { readonly type: 'applied'; readonly status: FirewallStatus } | GuardEvent

/** Under audit nothing is dropped, also for want of a verdict. */
export function onFailureOf({ mode, onFailure }: FirewallOptions): OnFailure {
  return mode === 'audit' ? 'open' : onFailure
}

/** Whether what runs here may be a pod that no source knows. */
export function followsPods({ sources, unknownPods }: FirewallOptions): boolean {
  if (!unknownPods) return false
  return unknownPods.podBlocks.length > 0 || sources.some(({ cluster }) => cluster !== undefined)
}
