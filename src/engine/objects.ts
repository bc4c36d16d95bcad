import type { Address, Block } from './address.ts'

/** Which object of the Kubernetes API something comes from; `file` and `line` where it was read from a file. */
export interface ObjectRef {
  readonly kind: string
  readonly namespace?: string
  readonly name: string
  readonly file?: string
  readonly line?: number
}

export type Labels = ReadonlyMap<string, string>

/** A port that a workload gives a name: `protocol` is the IP protocol number. */
export interface NamedPort {
  readonly name: string
  readonly protocol: number
  readonly port: number
}

/** A pod or a host as policies see it, or the pods that one template makes. */
export interface Workload {
  readonly type: 'Workload'
  readonly ref: ObjectRef
  /** A HostEndpoint: the node itself. */
  readonly isHost: boolean
  readonly namespace: string
  readonly name: string
  readonly labels: Labels
  /** The node it runs on, or is; `undefined` where no node is named. */
  readonly node: string | undefined
  /** Shares its node's addresses: then it is never subject or peer of a policy by its labels. */
  readonly hostNetwork: boolean
  /** Own addresses; empty for a finished pod, a host-network pod, or one that has none yet. */
  readonly addresses: readonly Address[]
  readonly ports: readonly NamedPort[]
  /** Addresses behind a host, whose incoming traffic its policies judge too: containers, virtual machines. */
  readonly forwards: readonly Block[]
  readonly phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
  /** `metadata.creationTimestamp` in milliseconds since 1970; 0 where there is none. */
  readonly createdMs: number
}

/** Outside addresses under a name and labels. */
export interface NetworkSet {
  readonly type: 'NetworkSet'
  readonly ref: ObjectRef
  readonly namespace: string
  readonly labels: Labels
  readonly networks: readonly Block[]
}

export interface Namespace {
  readonly type: 'Namespace'
  readonly ref: ObjectRef
  readonly name: string
  /** Always carries `kubernetes.io/metadata.name`. */
  readonly labels: Labels
}

export interface Node {
  readonly type: 'Node'
  readonly ref: ObjectRef
  readonly name: string
  readonly labels: Labels
  readonly addresses: readonly Address[]
  /** Of its pods, as far as they are known (`spec.podCIDRs`); absent where they are not. */
  readonly podBlocks?: readonly Block[]
}

/** The label that every namespace carries, with its name (Kubernetes: "automatic labelling"). */
export const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name'

/** The annotation that makes a policy an audited one; its values are `enforce` and `audit`. */
export const MODE_ANNOTATION = 'knp.dev/mode'

/** `namespace/name`, or the name alone for what has no namespace. */
export function refName(ref: Pick<ObjectRef, 'namespace' | 'name'>): string {
  return ref.namespace === undefined ? ref.name : `${ref.namespace}/${ref.name}`
}

/** `file:line: Kind namespace/name`, as messages name an object; without its place where it was not read from a file. */
export function placedName(ref: ObjectRef): string {
  const name = `${ref.kind} ${refName(ref)}`
  return ref.file === undefined ? name : `${ref.file}:${ref.line}: ${name}`
}
