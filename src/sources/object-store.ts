import type { Namespace, NetworkPolicy, NetworkSet, Node, Snapshot, Workload } from '../engine/index.ts'
import { impliedNamespace } from '../engine/workload.ts'
import { type Delta, objectKey, type PolicyObject } from './source.ts'

/** The objects of all sources; turns deltas into snapshots. Where two sources have one object, the later delta wins. */
export class ObjectStore {
  readonly #objects = new Map<string, PolicyObject>()
  readonly #localNode: string | undefined
  #generation = 0

  /** @param localNode the name of this machine's node, where it decides packets */
  constructor(localNode?: string) {
    this.#localNode = localNode
  }

  apply({ upserts, deletes }: Delta): void {
    for (const key of deletes) this.#objects.delete(key)
    for (const object of upserts) this.#objects.set(objectKey(object), object)
  }

  /** The picture as it is now, as a new generation. */
  snapshot(): Snapshot {
    const workloads: Workload[] = []
    const nodes: Node[] = []
    const networkPolicies: NetworkPolicy[] = []
    const networkSets: NetworkSet[] = []
    const namespaces = new Map<string, Namespace>()
    for (const object of this.#objects.values()) {
      if (object.type === 'Workload') workloads.push(object)
      else if (object.type === 'Node') nodes.push(object)
      else if (object.type === 'NetworkPolicy') networkPolicies.push(object)
      else if (object.type === 'NetworkSet') networkSets.push(object)
      else namespaces.set(object.name, object)
    }
    for (const { namespace } of [...workloads, ...networkSets]) {
      if (!namespaces.has(namespace)) namespaces.set(namespace, impliedNamespace(namespace))
    }
    networkPolicies.sort((a, b) => compareNames(a, b))
    this.#generation++
    return {
      generation: this.#generation,
      workloads,
      nodes,
      networkPolicies,
      networkSets,
      namespaces,
      localNode: this.#localNode,
    }
  }
}

/** By namespace and name: decisions and explanations do not depend on the order of arrival. */
function compareNames(a: NetworkPolicy, b: NetworkPolicy): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1
  return a.ref.name < b.ref.name ? -1 : 1
}
