import type { PolicyObject } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { makeWorld } from '../engine/worlds.ts'

/** How many policies there are of all kinds, whatever the number of pods. */
export const POLICIES = 1000
/** The node whose firewall is measured. */
export const LOCAL_NODE = 'node-0'

/** A cluster of the engine bench: a hundred pods a namespace and a node. */
export interface ClusterWorld {
  /** In the order in which an API server lists them. */
  readonly pods: readonly Workload[]
  readonly others: readonly PolicyObject[]
}

/** The cluster with so many pods; the same each time. */
export function clusterWorld(pods: number): ClusterWorld {
  const world = makeWorld({ name: 'cluster', workloads: pods, policies: POLICIES, isOnePod: false })
  const { namespaces, nodes, workloads, networkPolicies, clusterPolicies } = world
  const keyed = workloads.map((pod) => ({ pod, key: `${pod.namespace}/${pod.name}` }))
  return {
    pods: keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ pod }) => pod),
    others: [...namespaces, ...nodes, ...networkPolicies, ...clusterPolicies],
  }
}
