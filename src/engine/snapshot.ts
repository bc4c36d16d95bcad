import type { NetworkPolicy } from './network-policy.ts'
import type { Namespace, NetworkSet, Node, Workload } from './objects.ts'

/** Everything that a policy may refer to, at one instant. */
export interface Snapshot {
  /** Rises with every change. */
  readonly generation: number
  readonly workloads: readonly Workload[]
  /** By name; namespaces that only their pods mention are in it. */
  readonly namespaces: ReadonlyMap<string, Namespace>
  readonly nodes: readonly Node[]
  readonly networkSets: readonly NetworkSet[]
  readonly networkPolicies: readonly NetworkPolicy[]
  /** The name of the machine that decides; `undefined` where none does (explain). */
  readonly localNode: string | undefined
}
