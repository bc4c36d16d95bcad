import type { Namespace, NetworkPolicy, NetworkSet, Node, Snapshot, Workload } from '../engine/index.ts'
import { impliedNamespace } from '../engine/workload.ts'
import type { Picture } from './last-good.ts'
import { type Delta, objectKey, type PolicyObject } from './source.ts'

/** The objects of all sources; turns deltas into snapshots. Where two sources have one object, the later source wins. */
export class ObjectStore {
  /** By source, in the order of their names' first mention. */
  readonly #sources = new Map<string, Map<string, PolicyObject>>()
  /** Sources whose objects are an earlier run's: their first delta replaces them all. */
  readonly #restored = new Set<string>()
  readonly #localNode: string | undefined
  /** A picture on trial, which stands for one source's own. */
  #trial: { readonly source: string; readonly objects: ReadonlyMap<string, PolicyObject> } | undefined
  #generation = 0

  /** @param localNode the name of this machine's node, where it decides packets */
  constructor(localNode?: string) {
    this.#localNode = localNode
  }

  /** Applies a change of one source's picture. */
  apply(source: string, { upserts, deletes }: Delta): void {
    // The source keeps its place among the others.
    if (this.#restored.delete(source)) this.#sources.get(source)?.clear()
    const objects = this.#sources.get(source) ?? new Map<string, PolicyObject>()
    this.#sources.set(source, objects)
    for (const key of deletes) objects.delete(key)
    for (const object of upserts) objects.set(objectKey(object), object)
  }

  /** Takes an earlier run's picture of a source that cannot be read, until the source delivers one. */
  restore(source: string, objects: readonly PolicyObject[]): void {
    this.apply(source, { upserts: objects, deletes: [] })
    this.#restored.add(source)
  }

  /** Whether an earlier run's picture stands for a source still. */
  get hasRestored(): boolean {
    return this.#restored.size > 0
  }

  /** Puts other objects in one source's place until `endTrial`; what the source delivers meanwhile is kept. */
  beginTrial(source: string, objects: readonly PolicyObject[]): void {
    this.#trial = { source, objects: new Map(objects.map((object) => [objectKey(object), object])) }
  }

  /** The picture as it would be with other objects in one source's place; nothing changes. */
  snapshotWith(source: string, objects: readonly PolicyObject[]): Snapshot {
    const former = this.#trial
    this.beginTrial(source, objects)
    try {
      return this.snapshot()
    } finally {
      this.#trial = former
    }
  }

  endTrial(): void {
    this.#trial = undefined
  }

  /** The objects of each source as they are now, without what is on trial. */
  picture(): Picture {
    return new Map([...this.#sources].map(([source, objects]) => [source, [...objects.values()]]))
  }

  /** The picture as it is now, as a new generation. */
  snapshot(): Snapshot {
    const workloads: Workload[] = []
    const nodes: Node[] = []
    const networkPolicies: NetworkPolicy[] = []
    const networkSets: NetworkSet[] = []
    const namespaces = new Map<string, Namespace>()
    for (const object of this.#merged()) {
      if (object.type === 'Workload') workloads.push(object)
      else if (object.type === 'Node') nodes.push(object)
      else if (object.type === 'NetworkPolicy') networkPolicies.push(object)
      else if (object.type === 'NetworkSet') networkSets.push(object)
      else if (object.type === 'Namespace') namespaces.set(object.name, object)
    }
    for (const { namespace } of [...workloads, ...networkSets]) {
      if (!namespaces.has(namespace)) namespaces.set(namespace, impliedNamespace(namespace))
    }
    networkPolicies.sort(compareNames)
    const generation = ++this.#generation
    return { generation, workloads, nodes, networkPolicies, networkSets, namespaces, localNode: this.#localNode }
  }

  #merged(): Iterable<PolicyObject> {
    const [first, ...others] = [...this.#sources].map(([source, objects]) => {
      return this.#trial?.source === source ? this.#trial.objects : objects
    })
    if (!first) return []
    if (others.length === 0) return first.values()
    const merged = new Map(first)
    for (const objects of others) for (const [key, object] of objects) merged.set(key, object)
    return merged.values()
  }
}

/** By namespace and name: decisions and explanations do not depend on the order of arrival. */
function compareNames(a: NetworkPolicy, b: NetworkPolicy): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1
  return a.ref.name < b.ref.name ? -1 : 1
}
