import { addressSet, blockContains } from '../engine/address.ts'
import type { Address, Block } from '../engine/index.ts'

/** Which addresses are those of this machine's pods, whether a source knows them or not. Plain data, for other threads. */
export interface PodPlaces {
  /** To which this machine has a route of their own. */
  readonly routed: readonly Address[]
  /** In which its pods get their addresses. */
  readonly blocks: readonly Block[]
  /** This machine's own addresses: never a pod's. */
  readonly own: readonly Address[]
}

/** The same, to be asked about each packet. */
export interface LocalPods {
  /** There are none at all. */
  readonly isEmpty: boolean
  has(address: Address): boolean
}

/** Where nothing is known to be local. */
export const noPodPlaces: PodPlaces = { routed: [], blocks: [], own: [] }

export function localPods({ routed, blocks, own }: PodPlaces): LocalPods {
  const isRouted = addressSet(routed)
  const isOwn = addressSet(own)
  return {
    isEmpty: routed.length + blocks.length === 0,
    has: (address) => (isRouted(address) || blocks.some((block) => blockContains(block, address))) && !isOwn(address),
  }
}

export const noLocalPods: LocalPods = localPods(noPodPlaces)
