import type { Block } from './address.ts'
import type { ObjectRef } from './objects.ts'
import type { LabelSelector } from './selector.ts'

/** The tiers of the pipeline, in their order. */
export type TierName = 'Admin' | 'NetworkPolicy' | 'Baseline'

/** What a rule does with what it matches; `Pass` ends its tier in its direction and asks the next tier. */
export type Action = 'Accept' | 'Deny' | 'Pass'

/** In `PortMatch.protocol`: whatever protocol the packet has. Only with a port name. */
export const ANY_PROTOCOL = -1

/** Ports of a rule: a range of one protocol, or a name that the destination workload gives a port. */
export interface PortMatch {
  /** IP protocol number, or ANY_PROTOCOL. */
  readonly protocol: number
  /** Inclusive; 0-65535 where the policy names no port. */
  readonly first: number
  readonly last: number
  /** Where set, `first` and `last` are not used. */
  readonly portName?: string
}

/** Workloads by their labels and their namespace's. */
export interface PodsMatch {
  /** `undefined`: the policy's own namespace. */
  readonly namespaceSelector: LabelSelector | undefined
  readonly podSelector: LabelSelector
}

/** Who may be at the other end. */
export type PeerMatch =
  | ({ readonly type: 'pods' } & PodsMatch)
  /** The addresses of nodes, by the nodes' labels. */
  | { readonly type: 'nodes'; readonly selector: LabelSelector }
  /** Every address in the block, whoever owns it. */
  | { readonly type: 'block'; readonly cidr: Block; readonly except: readonly Block[] }
  /** What a DNS name resolves to: in lower case, without a trailing dot; `*.` stands for one or more labels. */
  | { readonly type: 'domainName'; readonly pattern: string }

/** One rule. `undefined` ports or peers are no restriction; an empty list matches nothing. */
export interface Rule {
  readonly name?: string
  readonly action: Action
  readonly ports: readonly PortMatch[] | undefined
  readonly peers: readonly PeerMatch[] | undefined
  /**
   * Why the rule is not what it was meant to be: a peer could not be understood. `action`, `ports` and `peers` are what
   * is in force instead: an Accept that matches nothing, or a Deny of everything.
   */
  readonly failsClosed?: string
}

/** A policy of any kind, with its API's defaults applied: the one form that is compiled. */
export interface Policy {
  readonly type: 'Policy'
  readonly ref: ObjectRef
  readonly tier: TierName
  /** The lower is asked first, within its tier; equal ones by kind, then by name. Always 0 in the NetworkPolicy tier. */
  readonly priority: number
  /** The namespace of a NetworkPolicy; `undefined` for what has none. */
  readonly namespace: string | undefined
  /** Whose traffic the policy is about. */
  readonly subject: PodsMatch
  /** Rules of a direction that the policy says nothing about are `undefined`. */
  readonly ingress: readonly Rule[] | undefined
  readonly egress: readonly Rule[] | undefined
  /** Decided and recorded, never enforced (`knp.dev/mode: audit`). */
  readonly isAudited: boolean
  /** What a person should know about it, one sentence each; it is in force all the same. */
  readonly problems: readonly string[]
}

/**
 * The priority of a BaselineAdminNetworkPolicy, which has none: behind every ClusterNetworkPolicy of the Baseline tier
 * (0-1000).
 */
export const LAST_PRIORITY = 1001

const tierOrder: Record<TierName, number> = { Admin: 0, NetworkPolicy: 1, Baseline: 2 }

/** The order in which policies are asked: by tier, priority, kind, namespace, name. */
export function comparePolicies(a: Policy, b: Policy): number {
  return (
    tierOrder[a.tier] - tierOrder[b.tier] ||
    a.priority - b.priority ||
    compareTexts(a.ref.kind, b.ref.kind) ||
    compareTexts(a.namespace ?? '', b.namespace ?? '') ||
    compareTexts(a.ref.name, b.ref.name)
  )
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
