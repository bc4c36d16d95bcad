import type { DomainName } from './domain-name.ts'
import type { Namespace, NetworkSet, Node, Workload } from './objects.ts'
import type { Policy } from './policy.ts'

/** An object that policies are made of or refer to. */
export type PolicyObject = Workload | Namespace | Node | NetworkSet | DomainName | Policy

/** What tells objects of one picture apart: kind, namespace and name. */
export function objectKey({ ref }: Pick<PolicyObject, 'ref'>): string {
  return `${ref.kind} ${ref.namespace ?? ''}/${ref.name}`
}

/** A change of the picture: objects that are new or different, and keys (see `objectKey`) that are gone. */
export interface Delta {
  readonly upserts: readonly PolicyObject[]
  /** The keys of `upserts`, one by one, where whoever made the delta has them: of a large picture one string each is enough. */
  readonly keys?: readonly string[]
  readonly deletes: readonly string[]
}

/** Everything that a policy may refer to, at one instant. */
export interface Snapshot {
  /** Rises with every change. */
  readonly generation: number
  readonly workloads: readonly Workload[]
  /** By name; namespaces that only their pods mention are in it. */
  readonly namespaces: ReadonlyMap<string, Namespace>
  readonly nodes: readonly Node[]
  readonly networkSets: readonly NetworkSet[]
  /** What DNS names resolve to. */
  readonly domainNames: readonly DomainName[]
  /** In the order in which they are asked: by tier, priority, kind, namespace, name. */
  readonly policies: readonly Policy[]
  /** The name of the machine that decides; `undefined` where none does (explain). */
  readonly localNode: string | undefined
}
