import type { Address, Block } from './address.ts'
import { coversName, type DomainName } from './domain-name.ts'
import { isNamedBy, selectsSet } from './network-set.ts'
import { type Labels, type Namespace, type NetworkSet, type Node, refName, type Workload } from './objects.ts'
import { comparePolicies, type PeerMatch, type PodsMatch, type Policy } from './policy.ts'
import { type Delta, objectKey, type PolicyObject, type Snapshot } from './snapshot.ts'
import { impliedNamespace } from './workload.ts'

/** What a delta does to policies. */
export interface WorldChange {
  readonly policies: readonly { readonly former: Policy | undefined; readonly latest: Policy | undefined }[]
  /** Whether a policy's peers mean other addresses now, though it is the same; left out where none can. */
  readonly refersTo?: (policy: Policy) => boolean
}

/** A workload of the world: the same entry from when it comes until it goes, whatever becomes of it meanwhile. */
export class WorkloadEntry {
  /** As it is now; `undefined` where it is gone. */
  latest: Workload | undefined
  /** Where the identity index has it: a second table of all workloads would be as large as this one. */
  slot = NO_SLOT

  constructor(latest: Workload) {
    this.latest = latest
  }
}

export const NO_SLOT = -1

/** What a delta does to the world, apart from policies: objects as they are now, `undefined` where they are gone. */
export interface ObjectChange {
  /** Those that are new, different or gone; one may be among them twice. */
  readonly workloads: readonly WorkloadEntry[]
  readonly namespaces: ReadonlyMap<string, Labels | undefined>
  readonly nodes: ReadonlyMap<string, Node | undefined>
  /** What is in NetworkSets and names that changed, then and now. */
  readonly blocks: readonly Block[]
  readonly addresses: readonly Address[]
}

interface Change {
  readonly former: PolicyObject | undefined
  readonly latest: PolicyObject | undefined
}

const noBlocks: readonly Block[] = []

/** Everything that policies may refer to, as it is now; changed by deltas. */
export class World {
  readonly #objects = {
    Namespace: new Map<string, Namespace>(),
    Node: new Map<string, Node>(),
    NetworkSet: new Map<string, NetworkSet>(),
    Policy: new Map<string, Policy>(),
    DomainName: new Map<string, DomainName>(),
  }
  readonly #workloads = new Map<string, WorkloadEntry>()
  readonly #namespaces = new Map<string, Namespace>()
  /** How many objects name each node: itself, and what runs on it. */
  readonly #nodeMentions = new Map<string, { count: number }>()

  get counts(): { readonly workloads: number; readonly policies: number } {
    return { workloads: this.#workloads.size, policies: this.#objects.Policy.size }
  }

  get networkSets(): Iterable<NetworkSet> {
    return this.#objects.NetworkSet.values()
  }

  /** Whether the picture has a node of this name, be it only that something runs there. */
  knowsNode(name: string): boolean {
    return this.#nodeMentions.has(name)
  }

  /** In which the pods of a node have their addresses, as far as its object says so; the same list until that changes. */
  podBlocksOf(node: string): readonly Block[] {
    return this.#objects.Node.get(objectKey({ ref: { kind: 'Node', name: node } }))?.podBlocks ?? noBlocks
  }

  labelsOf(namespace: string): Labels {
    return (this.#namespaces.get(namespace) ?? impliedNamespace(namespace)).labels
  }

  /** The networks of the NetworkSets that a peer names. @param namespace the policy's own */
  networksOf(peer: PodsMatch, namespace: string | undefined): Block[] {
    const networks: Block[] = []
    for (const set of this.networkSets) {
      if (isNamedBy(set, peer, namespace, this.labelsOf(set.namespace))) networks.push(...set.networks)
    }
    return networks
  }

  /** The NetworkSets that a peer names, as people call them. */
  setNamesOf(peer: PodsMatch, namespace: string | undefined): string[] {
    return [...this.networkSets]
      .filter((set) => isNamedBy(set, peer, namespace, this.labelsOf(set.namespace)))
      .map(({ ref }) => `NetworkSet ${refName(ref)}`)
  }

  /** What the names that a pattern covers resolve to. */
  addressesOf(pattern: string): Address[] {
    const addresses: Address[] = []
    for (const { name, addresses: resolved } of this.#objects.DomainName.values()) {
      if (coversName(pattern, name)) addresses.push(...resolved)
    }
    return addresses
  }

  /** What has to change for this to be the whole picture that these objects are. */
  differenceTo({ upserts, keys = upserts.map(objectKey) }: Delta): Delta {
    const others: PolicyObject[] = []
    const otherKeys: string[] = []
    let known = 0
    for (let i = 0; i < upserts.length; i++) {
      const object = upserts[i]!
      const present = this.#find(object.type, keys[i]!)
      if (present) known++
      if (present === object) continue
      others.push(object)
      otherKeys.push(keys[i]!)
    }
    const all = [this.#workloads, ...Object.values(this.#objects)]
    const count = all.reduce((sum, { size }) => sum + size, 0)
    if (known === count) return { upserts: others, keys: otherKeys, deletes: [] }
    const kept = new Set(keys)
    const deletes = all.flatMap((objects) => [...objects.keys()].filter((key) => !kept.has(key)))
    return { upserts: others, keys: otherKeys, deletes }
  }

  /** Takes a change in; answers what it does to policies, and to everything else. */
  apply({ upserts, keys, deletes }: Delta): { policies: WorldChange; objects: ObjectChange } {
    const changes = new Map<string, Change>()
    const workloads: WorkloadEntry[] = []
    const note = (key: string, former: PolicyObject | undefined, latest: PolicyObject | undefined) =>
      changes.set(key, { former: changes.get(key)?.former ?? former, latest })
    for (const key of deletes) {
      const workload = this.#workloads.get(key)
      if (workload) workloads.push(this.#deleteWorkload(key, workload))
      for (const objects of Object.values(this.#objects)) {
        const former = objects.get(key)
        if (!former) continue
        objects.delete(key)
        this.#mentionNode(former, -1)
        if (former.type === 'Namespace') this.#namespaces.delete(former.name)
        note(key, former, undefined)
      }
    }
    // There may be very many workloads, and nobody asks what they were before.
    for (let i = 0; i < upserts.length; i++) {
      const latest = upserts[i]!
      const key = keys?.[i] ?? objectKey(latest)
      if (latest.type === 'Workload') {
        workloads.push(this.#upsertWorkload(key, latest))
        continue
      }
      // A key has the kind, and all objects of a kind are of one type.
      const ofType = this.#objects[latest.type] as Map<string, PolicyObject>
      const present = ofType.get(key)
      this.#mentionNode(present, -1)
      this.#mentionNode(latest, 1)
      ofType.set(key, latest)
      if (latest.type === 'Namespace') this.#namespaces.set(latest.name, latest)
      note(key, present, latest)
    }
    return this.#sort(changes, workloads)
  }

  #upsertWorkload(key: string, latest: Workload): WorkloadEntry {
    let entry = this.#workloads.get(key)
    if (entry) {
      this.#mentionNode(entry.latest, -1)
      entry.latest = latest
    } else {
      entry = new WorkloadEntry(latest)
      this.#workloads.set(key, entry)
    }
    this.#mentionNode(latest, 1)
    return entry
  }

  #deleteWorkload(key: string, entry: WorkloadEntry): WorkloadEntry {
    this.#workloads.delete(key)
    this.#mentionNode(entry.latest, -1)
    entry.latest = undefined
    return entry
  }

  #sort(
    changes: ReadonlyMap<string, Change>,
    workloads: readonly WorkloadEntry[],
  ): {
    policies: WorldChange
    objects: ObjectChange
  } {
    const policies: { former: Policy | undefined; latest: Policy | undefined }[] = []
    const sets: NetworkSet[] = []
    const names: DomainName[] = []
    const namespaces = new Map<string, Labels | undefined>()
    const nodes = new Map<string, Node | undefined>()
    for (const { former, latest } of changes.values()) {
      const object = (latest ?? former)!
      switch (object.type) {
        case 'Policy':
          policies.push({ former: former as Policy | undefined, latest: latest as Policy | undefined })
          break
        case 'Namespace':
          namespaces.set(object.name, latest && (latest as Namespace).labels)
          break
        case 'Node':
          nodes.set(object.name, latest as Node | undefined)
          break
        case 'NetworkSet':
          for (const set of [former, latest] as (NetworkSet | undefined)[]) if (set) sets.push(set)
          break
        case 'DomainName':
          for (const name of [former, latest] as (DomainName | undefined)[]) if (name) names.push(name)
      }
    }
    // Sets are found by their namespace's labels too.
    for (const set of this.networkSets) if (namespaces.has(set.namespace)) sets.push(set)
    return {
      policies: { policies, ...(sets.length + names.length > 0 && { refersTo: refersToAny(sets, names) }) },
      objects: {
        workloads,
        namespaces,
        nodes,
        blocks: sets.flatMap(({ networks }) => networks),
        addresses: names.flatMap(({ addresses }) => addresses),
      },
    }
  }

  /** The world at this moment, as lists. */
  snapshot(generation: number, localNode: string | undefined): Snapshot {
    const { NetworkSet: sets } = this.#objects
    const workloads = Array.from(this.#workloads.values(), ({ latest }) => latest!)
    const namespaces = new Map(this.#namespaces)
    for (const { namespace } of [...workloads, ...sets.values()]) {
      if (!namespaces.has(namespace)) namespaces.set(namespace, impliedNamespace(namespace))
    }
    return {
      generation,
      workloads,
      namespaces,
      nodes: [...this.#objects.Node.values()],
      networkSets: [...sets.values()],
      policies: [...this.#objects.Policy.values()].sort(comparePolicies),
      domainNames: [...this.#objects.DomainName.values()],
      localNode,
    }
  }

  #mentionNode(object: PolicyObject | undefined, change: 1 | -1): void {
    const name = object?.type === 'Node' ? object.name : object?.type === 'Workload' ? object.node : undefined
    if (name === undefined) return
    const mentions = this.#nodeMentions.get(name)
    if (!mentions) this.#nodeMentions.set(name, { count: 1 })
    else {
      mentions.count += change
      if (mentions.count === 0) this.#nodeMentions.delete(name)
    }
  }

  #find(type: PolicyObject['type'], key: string): PolicyObject | undefined {
    return type === 'Workload' ? this.#workloads.get(key)?.latest : this.#objects[type].get(key)
  }
}

/** Whether a policy says anything of these sets and names. */
function refersToAny(sets: readonly NetworkSet[], names: readonly DomainName[]): (policy: Policy) => boolean {
  const isMeant = (peer: PeerMatch) =>
    (peer.type === 'pods' && sets.some((set) => selectsSet(set, peer))) ||
    (peer.type === 'domainName' && names.some(({ name }) => coversName(peer.pattern, name)))
  return ({ ingress = [], egress = [] }) => [...ingress, ...egress].some(({ peers }) => peers?.some(isMeant))
}
