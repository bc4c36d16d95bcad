import type { UnknownLocal } from './datapath/judge.ts'
import { noPodPlaces, type PodPlaces } from './datapath/local-pods.ts'
import { addressSet } from './engine/address.ts'
import { workloadOf } from './engine/identity.ts'
import {
  type Address,
  type Block,
  blockContains,
  type CompiledPolicy,
  formatAddress,
  formatBlock,
  type SubjectChange,
} from './engine/index.ts'

/** How packets of a pod are treated that runs on this machine while no source knows it. */
export interface UnknownPodOptions {
  /** How long they wait for it to become known. */
  readonly holdMs: number
  /** What becomes of them then. */
  readonly unknownLocal: UnknownLocal
  /**
   * In which pods of this machine get their addresses, besides what its Node object says. Where there are none, and no source
   * is a cluster, no address is taken for a pod's.
   */
  readonly podBlocks: readonly Block[]
}

/** What the data path is to know of this machine's pods: those above all that no source knows. */
export interface PodView {
  readonly places: PodPlaces
  /** Addresses with a route of their own that nobody has: subjects until somebody does. */
  readonly unknown: readonly Address[]
  /** Of the addresses in `places.blocks` those that somebody has. */
  readonly known: readonly Address[]
  /** An address of this machine's own is a pod's: what is sent from it may be the pod's. */
  readonly isOwnTaken: boolean
}

/** A view, and how it differs from the one before. */
export interface PodChange {
  readonly view: PodView
  /** The packet threads are to be told. */
  readonly hasOtherPlaces: boolean
  /** `isOwnTaken` is not what it was. */
  readonly hasOtherOwn: boolean
  readonly unknown: SubjectChange
  readonly known: SubjectChange
}

const noView: PodView = { places: noPodPlaces, unknown: [], known: [], isOwnTaken: false }

/**
 * Keeps in mind which addresses are those of this machine's pods, and which of them no source knows: a pod runs for up to
 * some seconds before its object says where.
 */
export class PodAddresses {
  readonly #configured: readonly Block[]
  readonly #isNeeded: (compiled: CompiledPolicy) => boolean
  #routed: readonly Address[] = []
  #own: readonly Address[] = []
  /** What the places were made of. */
  #madeOf: readonly unknown[] = []
  #places = noPodPlaces
  /** Those of them that have a route. */
  #routedPods: readonly Address[] = []
  #view = noView
  readonly #known = new Map<string, Address>()

  /**
   * @param configured blocks of the pods here, besides those of this machine's Node object
   * @param isNeeded whether a policy may be about a pod that becomes known
   */
  constructor(configured: readonly Block[], isNeeded: (compiled: CompiledPolicy) => boolean) {
    this.#configured = configured
    this.#isNeeded = isNeeded
  }

  get view(): PodView {
    return this.#view
  }

  /** To which addresses there are routes of their own now. */
  setRouted(addresses: readonly Address[]): void {
    this.#routed = addresses
  }

  /** This machine's own addresses. */
  setOwn(addresses: readonly Address[]): void {
    this.#own = addresses
  }

  /**
   * Brings the view up to date.
   * @param changed whose owners may be others than at the last call; `undefined` where that is not known
   */
  settle(compiled: CompiledPolicy, changed: readonly Address[] | undefined): PodChange {
    const former = this.#view
    this.#settlePlaces(compiled)
    const places = this.#places
    const hasOtherPlaces = former.places !== places
    const knownChange = this.#settleKnown(compiled, hasOtherPlaces ? undefined : changed)
    const unknown = this.#routedPods.filter((address) => !compiled.engine.knows(address))
    const known = this.#known
    const isOwnTaken = this.#own.some((address) => isPods(compiled, address))
    this.#view = {
      places,
      unknown,
      isOwnTaken,
      get known() {
        return [...known.values()]
      },
    }
    return {
      view: this.#view,
      hasOtherPlaces,
      hasOtherOwn: former.isOwnTaken !== isOwnTaken,
      unknown: difference(former.unknown, unknown),
      known: knownChange,
    }
  }

  /** Most changes leave them as they are. */
  #settlePlaces(compiled: CompiledPolicy): void {
    const madeOf = this.#isNeeded(compiled) ? [this.#routed, this.#own, compiled.podBlocks] : []
    if (madeOf.length === this.#madeOf.length && madeOf.every((part, i) => part === this.#madeOf[i])) return
    this.#madeOf = madeOf
    const isNeeded = madeOf.length > 0
    const blocks = new Map([...this.#configured, ...compiled.podBlocks].map((block) => [formatBlock(block), block]))
    const isOwn = addressSet(this.#own)
    this.#places = isNeeded ? { routed: this.#routed, blocks: [...blocks.values()], own: this.#own } : noPodPlaces
    this.#routedPods = this.#places.routed.filter((address) => !isOwn(address))
  }

  /** Those of a large cluster are looked at once; after that, those that changed. */
  #settleKnown(compiled: CompiledPolicy, changed: readonly Address[] | undefined): SubjectChange {
    const places = this.#places
    const former = changed ? undefined : new Map(this.#known)
    if (former) this.#known.clear()
    const added: Address[] = []
    const removed: Address[] = []
    const isOwn = addressSet(places.own)
    for (const address of changed ?? everyAddress(compiled, places)) {
      if (!isPlaced(places, address)) continue
      const text = formatAddress(address)
      const isKnown = isOwn(address) || compiled.engine.knows(address)
      if (isKnown === this.#known.has(text)) continue
      if (isKnown) this.#known.set(text, address)
      else this.#known.delete(text)
      if (!former) (isKnown ? added : removed).push(address)
    }
    return former ? difference([...former.values()], [...this.#known.values()]) : { added, removed }
  }
}

/** What both changes do together: an address that one removes and the other adds stays. */
export function joinChanges(...changes: readonly SubjectChange[]): SubjectChange {
  const sums = new Map<string, { readonly address: Address; sum: number }>()
  const count = (addresses: readonly Address[], by: 1 | -1) => {
    for (const address of addresses) {
      const text = formatAddress(address)
      const entry = sums.get(text)
      if (entry) entry.sum += by
      else sums.set(text, { address, sum: by })
    }
  }
  for (const { added, removed } of changes) {
    count(added, 1)
    count(removed, -1)
  }
  const of = (sign: number) => [...sums.values()].filter(({ sum }) => sum * sign > 0).map(({ address }) => address)
  return { added: of(1), removed: of(-1) }
}

/** Of very many those that count. */
function everyAddress({ identities }: CompiledPolicy, places: PodPlaces): Address[] {
  const addresses = [...places.own]
  if (places.blocks.length === 0) return addresses
  for (const workload of identities.workloads) {
    if (!workload) continue
    for (const address of workload.addresses) if (isPlaced(places, address)) addresses.push(address)
  }
  return addresses
}

function isPods({ identities: { tables, workloads } }: CompiledPolicy, address: Address): boolean {
  return workloads[workloadOf(tables, address)]?.isHost === false
}

function isPlaced({ blocks }: PodPlaces, address: Address): boolean {
  for (const block of blocks) if (blockContains(block, address)) return true
  return false
}

function difference(former: readonly Address[], latest: readonly Address[]): SubjectChange {
  return joinChanges({ added: latest, removed: former })
}
