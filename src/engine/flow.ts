import { OUTSIDE } from './address-map.ts'
import type { Packet } from './packet.ts'

/** Netfilter hooks (linux/netfilter.h) at which a packet is decided; ANY_HOOK where there is no packet path (explain). */
export const ANY_HOOK = -1
export const HOOK_INPUT = 1
export const HOOK_FORWARD = 2
export const HOOK_OUTPUT = 3

/**
 * One connection to decide, in its original direction: client to server. The engine fills and reuses one object for all
 * packets; evaluators read it during the call only. Identities and workloads are indices of the generation in force.
 */
export interface Flow {
  readonly packet: Packet
  readonly hook: number
  /** Index of the workload, OUTSIDE for an address that none owns. */
  readonly sourceWorkload: number
  readonly destinationWorkload: number
  readonly sourceIdentity: number
  readonly destinationIdentity: number
  /** Source and destination are one workload's own addresses. */
  readonly isToItself: boolean
  /** The source is the node that the destination runs on. */
  readonly isFromOwnNode: boolean
  /** The destination is the node that the source runs on. */
  readonly isToOwnNode: boolean
  /** False where explain knows a workload by name only; rules about addresses are then undecidable. */
  readonly hasSourceAddress: boolean
  readonly hasDestinationAddress: boolean
  /** Audited policies are asked too: what would be decided if they were enforced. */
  readonly includesAudited: boolean
}

export class MutableFlow implements Flow {
  packet: Packet
  hook = ANY_HOOK
  sourceWorkload = OUTSIDE
  destinationWorkload = OUTSIDE
  sourceIdentity = OUTSIDE
  destinationIdentity = OUTSIDE
  isToItself = false
  isFromOwnNode = false
  isToOwnNode = false
  hasSourceAddress = true
  hasDestinationAddress = true
  includesAudited = false

  constructor(packet: Packet) {
    this.packet = packet
  }
}
