import type { Policy } from '../../src/engine/policy.ts'
import type { PolicyObject } from '../../src/engine/snapshot.ts'
import { type Cluster, makeCluster } from './cluster.ts'
import { makeAdminPolicies, makeBaselinePolicies, makeNetworkPolicies } from './policies.ts'
import { Random } from './random.ts'

/** A world to measure; the name is its column. */
export interface WorldShape {
  readonly name: string
  readonly workloads: number
  readonly policies: number
  /** All NetworkPolicies select one deployment, and all flows go to its first pod. */
  readonly isOnePod: boolean
}

export const shapes: readonly WorldShape[] = [
  { name: '10 policies', workloads: 100_000, policies: 10, isOnePod: false },
  { name: '1000 policies', workloads: 100_000, policies: 1000, isOnePod: false },
  { name: '10000 policies', workloads: 100_000, policies: 10_000, isOnePod: false },
  { name: '1000 on one pod', workloads: 100_000, policies: 1000, isOnePod: true },
  { name: '10000 workloads', workloads: 10_000, policies: 1000, isOnePod: false },
  { name: '100 workloads', workloads: 100, policies: 1000, isOnePod: false },
]

/** The world that the others' decisions are compared with, and the one that must not cost much more. */
export const FEWEST_POLICIES = '10 policies'
export const MOST_POLICIES = '10000 policies'

export interface BenchWorld extends Cluster {
  readonly networkPolicies: readonly Policy[]
  readonly clusterPolicies: readonly Policy[]
  /** Index of the only workload that flows go to. */
  readonly target?: number
}

export function makeWorld({ workloads, policies, isOnePod }: WorldShape): BenchWorld {
  const cluster = makeCluster(workloads)
  const random = new Random(policies)
  const adminCount = Math.min(20, Math.ceil(policies * 0.02))
  const baselineCount = Math.min(5, Math.ceil(policies * 0.01))
  const namespaces = cluster.namespaces.length
  const target = isOnePod ? 2 * cluster.workloadsPerNamespace + 1 : undefined
  const subject = target === undefined ? undefined : { namespace: 2, app: deploymentOf(cluster, target) }
  return {
    ...cluster,
    networkPolicies: makeNetworkPolicies(policies - adminCount - baselineCount, namespaces, random, subject),
    clusterPolicies: [...makeAdminPolicies(adminCount, random), ...makeBaselinePolicies(baselineCount)],
    ...(target !== undefined && { target }),
  }
}

export function objectsOf(world: BenchWorld): PolicyObject[] {
  const { namespaces, nodes, workloads, networkPolicies, clusterPolicies } = world
  return [...namespaces, ...nodes, ...workloads, ...networkPolicies, ...clusterPolicies]
}

/** Selects the workloads of the deployment that a workload belongs to. */
function deploymentOf({ workloads }: Cluster, workload: number) {
  const { labels } = workloads[workload]!
  const keys = ['app', 'pod-template-hash']
  return { requirements: keys.map((key) => ({ key, operator: 'In' as const, values: [labels.get(key)!] })) }
}
