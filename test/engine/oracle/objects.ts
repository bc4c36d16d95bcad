/** API objects as they are in JSON, with the fields that policies read. */

export type PlainLabels = Readonly<Record<string, string>>

export interface PlainContainer {
  readonly name: string
  readonly restartPolicy?: string
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number; readonly protocol?: string }[]
}

export interface PlainPod {
  readonly apiVersion: string
  readonly kind: 'Pod'
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly labels: PlainLabels
    readonly creationTimestamp: string
  }
  readonly spec: {
    readonly nodeName?: string
    readonly hostNetwork?: boolean
    readonly containers: readonly PlainContainer[]
    readonly initContainers: readonly PlainContainer[]
  }
  readonly status: {
    readonly phase: string
    readonly podIP?: string
    readonly podIPs?: readonly { readonly ip: string }[]
  }
}

export interface PlainNamespace {
  readonly apiVersion: string
  readonly kind: 'Namespace'
  readonly metadata: { readonly name: string; readonly labels: PlainLabels }
}

export interface PlainNode {
  readonly apiVersion: string
  readonly kind: 'Node'
  readonly metadata: { readonly name: string; readonly labels: PlainLabels }
  readonly status: { readonly addresses: readonly { readonly type: string; readonly address: string }[] }
}

export interface PlainSelector {
  readonly matchLabels?: PlainLabels
  readonly matchExpressions?: readonly {
    readonly key: string
    readonly operator: string
    readonly values?: readonly string[]
  }[]
}

export interface PlainPeer {
  readonly podSelector?: PlainSelector
  readonly namespaceSelector?: PlainSelector
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] }
}

export interface PlainPort {
  readonly protocol?: string
  readonly port?: number | string
  readonly endPort?: number
}

export interface PlainRule {
  readonly from?: readonly PlainPeer[]
  readonly to?: readonly PlainPeer[]
  readonly ports?: readonly PlainPort[]
}

/** What `metadata` of a policy says; `knp.dev/mode: audit` among the annotations makes it an audited one. */
export interface PlainPolicyMetadata {
  readonly name: string
  readonly annotations?: PlainLabels
}

export interface PlainNetworkPolicy {
  readonly apiVersion: string
  readonly kind: 'NetworkPolicy'
  readonly metadata: PlainPolicyMetadata & { readonly namespace?: string }
  readonly spec: {
    readonly podSelector: PlainSelector
    readonly policyTypes?: readonly string[]
    readonly ingress?: readonly PlainRule[] | null
    readonly egress?: readonly PlainRule[] | null
  }
}

export interface PlainNamespacedPods {
  readonly namespaceSelector: PlainSelector
  readonly podSelector: PlainSelector
}

/** The other end in a rule of a policy for the whole cluster. It may hold fields that are not named here. */
export interface PlainClusterPeer {
  readonly namespaces?: PlainSelector
  readonly pods?: PlainNamespacedPods
  readonly networks?: readonly string[]
  readonly nodes?: PlainSelector
  readonly domainNames?: readonly string[]
}

interface PlainRange {
  readonly start: number
  readonly end: number
}

export interface PlainTransport {
  readonly destinationPort?: { readonly number?: number; readonly range?: PlainRange }
}

/** One of `protocols` of a ClusterNetworkPolicy. */
export interface PlainProtocol {
  readonly tcp?: PlainTransport
  readonly udp?: PlainTransport
  readonly sctp?: PlainTransport
  readonly destinationNamedPort?: string
}

/** One of `ports` of an AdminNetworkPolicy. */
export interface PlainAdminPort {
  readonly portNumber?: { readonly protocol?: string; readonly port: number }
  readonly portRange?: PlainRange & { readonly protocol?: string }
  readonly namedPort?: string
}

export interface PlainClusterRule {
  readonly name?: string
  readonly action: string
  readonly from?: readonly PlainClusterPeer[]
  readonly to?: readonly PlainClusterPeer[]
  /** Of a ClusterNetworkPolicy. */
  readonly protocols?: readonly PlainProtocol[]
  /** Of the other two kinds. */
  readonly ports?: readonly PlainAdminPort[]
}

export interface PlainClusterPolicy {
  readonly apiVersion: string
  readonly kind: 'ClusterNetworkPolicy' | 'AdminNetworkPolicy' | 'BaselineAdminNetworkPolicy'
  readonly metadata: PlainPolicyMetadata
  readonly spec: {
    /** Of a ClusterNetworkPolicy: Admin or Baseline. */
    readonly tier?: string
    readonly priority?: number
    readonly subject: { readonly namespaces?: PlainSelector; readonly pods?: PlainNamespacedPods }
    readonly ingress?: readonly PlainClusterRule[]
    readonly egress?: readonly PlainClusterRule[]
  }
}

export interface PlainHost {
  readonly apiVersion: string
  readonly kind: 'HostEndpoint'
  readonly metadata: PlainPod['metadata']
  readonly spec: {
    readonly node: string
    readonly addresses?: readonly string[]
    readonly forwards?: readonly string[]
    readonly ports?: readonly { readonly name: string; readonly port: number; readonly protocol?: string }[]
  }
}

export interface PlainNetworkSet {
  readonly apiVersion: string
  readonly kind: 'NetworkSet'
  readonly metadata: { readonly name: string; readonly namespace: string; readonly labels: PlainLabels }
  readonly spec: { readonly networks: readonly string[] }
}

/** What a DNS name resolves to at the moment. */
export interface PlainDomainName {
  readonly apiVersion: string
  readonly kind: 'DomainName'
  readonly metadata: { readonly name: string }
  readonly spec: { readonly addresses: readonly string[] }
}

/** Who can be the subject of a policy. */
export type PlainWorkload = PlainPod | PlainHost

export type PlainPolicy = PlainNetworkPolicy | PlainClusterPolicy

export type PlainObject = PlainWorkload | PlainNamespace | PlainNode | PlainNetworkSet | PlainDomainName | PlainPolicy

export interface OracleWorld {
  readonly namespaces: readonly PlainNamespace[]
  readonly nodes: readonly PlainNode[]
  readonly pods: readonly PlainPod[]
  /** At most one for a node. */
  readonly hosts: readonly PlainHost[]
  readonly networkSets: readonly PlainNetworkSet[]
  readonly domainNames: readonly PlainDomainName[]
  readonly networkPolicies: readonly PlainNetworkPolicy[]
  readonly clusterPolicies: readonly PlainClusterPolicy[]
}

/** The world that objects make, whatever their order. */
export function worldFrom(objects: readonly PlainObject[]): OracleWorld {
  return {
    namespaces: objects.filter((object) => object.kind === 'Namespace'),
    nodes: objects.filter((object) => object.kind === 'Node'),
    pods: objects.filter((object) => object.kind === 'Pod'),
    hosts: objects.filter((object) => object.kind === 'HostEndpoint'),
    networkSets: objects.filter((object) => object.kind === 'NetworkSet'),
    domainNames: objects.filter((object) => object.kind === 'DomainName'),
    networkPolicies: objects.filter((object) => object.kind === 'NetworkPolicy'),
    clusterPolicies: objects.filter((object) => isClusterPolicy(object)),
  }
}

/** A policy for the whole cluster: of any kind but NetworkPolicy. */
export function isClusterPolicy(object: PlainObject): object is PlainClusterPolicy {
  const { kind } = object
  return kind === 'ClusterNetworkPolicy' || kind === 'AdminNetworkPolicy' || kind === 'BaselineAdminNetworkPolicy'
}

/** All objects of a world. */
export function objectsOf(world: OracleWorld): readonly PlainObject[] {
  return [
    ...world.namespaces,
    ...world.nodes,
    ...world.pods,
    ...world.hosts,
    ...world.networkSets,
    ...world.domainNames,
    ...world.networkPolicies,
    ...world.clusterPolicies,
  ]
}

/** Kind, namespace and name: what tells objects apart. Policies without a namespace in a file are in `default`. */
export function plainKey({ kind, metadata }: PlainObject): string {
  const isNamespaced = kind === 'Pod' || kind === 'HostEndpoint' || kind === 'NetworkSet' || kind === 'NetworkPolicy'
  const namespace = 'namespace' in metadata && metadata.namespace !== undefined ? metadata.namespace : 'default'
  return `${kind} ${isNamespaced ? namespace : ''}/${metadata.name}`
}

export interface OracleFlow {
  readonly source: string
  readonly destination: string
  /** TCP, UDP, SCTP, ICMP (of either family) or another without ports. */
  readonly protocol: string
  readonly port: number
  readonly icmpType: number
  readonly icmpCode: number
  /** Where on its way the packet is; `none`: nowhere, a question of a person. */
  readonly hook: 'none' | 'input' | 'forward' | 'output'
}
