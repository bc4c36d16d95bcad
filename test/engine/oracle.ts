/**
 * NetworkPolicy v1, for pods and hosts, read word by word: slow, obvious, and without a line of the program's own. It takes API objects as they
 * are in JSON and looks at all of them for every question. What the program decides must be what this says.
 */

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
    readonly labels: Readonly<Record<string, string>>
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
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> }
}

export interface PlainNode {
  readonly apiVersion: string
  readonly kind: 'Node'
  readonly metadata: { readonly name: string }
  readonly status: { readonly addresses: readonly { readonly type: string; readonly address: string }[] }
}

export interface PlainSelector {
  readonly matchLabels?: Readonly<Record<string, string>>
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

export interface PlainRule {
  readonly from?: readonly PlainPeer[]
  readonly to?: readonly PlainPeer[]
  readonly ports?: readonly { readonly protocol?: string; readonly port?: number | string; readonly endPort?: number }[]
}

export interface PlainPolicy {
  readonly apiVersion: string
  readonly kind: 'NetworkPolicy'
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly spec: {
    readonly podSelector: PlainSelector
    readonly policyTypes?: readonly string[]
    readonly ingress?: readonly PlainRule[] | null
    readonly egress?: readonly PlainRule[] | null
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
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly labels: Readonly<Record<string, string>>
  }
  readonly spec: { readonly networks: readonly string[] }
}

/** Who can be the subject of a policy. */
type PlainWorkload = PlainPod | PlainHost

export interface OracleWorld {
  readonly namespaces: readonly PlainNamespace[]
  readonly nodes: readonly PlainNode[]
  readonly pods: readonly PlainPod[]
  /** At most one for a node. */
  readonly hosts: readonly PlainHost[]
  readonly networkSets: readonly PlainNetworkSet[]
  readonly policies: readonly PlainPolicy[]
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

/** `exempt`: no policy is asked. `default`: no policy selects an end. */
export type OracleVerdict = 'exempt' | 'default' | 'allow' | 'deny'

/** @param localNode the node that decides packets */
export function oracle(world: OracleWorld, flow: OracleFlow, localNode: string): OracleVerdict {
  const thisHost = world.hosts.find(({ spec }) => spec.node === localNode)
  const source = (flow.hook === 'output' && thisHost) || ownerOf(world, flow.source)
  const destination =
    (flow.hook === 'input' && thisHost) || ownerOf(world, flow.destination) || hostBefore(world, flow, source, thisHost)
  if (isNeverJudged(flow)) return 'exempt'
  // What is forwarded does not come from this machine, whatever address it carries.
  const isSpoofed = flow.hook === 'forward' && source !== undefined && source === thisHost
  if (source && source === destination && !isSpoofed) return 'exempt'
  if (destination?.kind === 'Pod' && isItsNode(world, flow, 'source', source, destination, localNode)) return 'exempt'

  let egress = source ? judge(world, flow, 'Egress', source, destination, flow.destination, destination) : 'next'
  if (egress === 'deny' && source?.kind === 'Pod') {
    if (isItsNode(world, flow, 'destination', destination, source, localNode)) egress = 'accept'
  }
  const ingress = destination ? judge(world, flow, 'Ingress', destination, source, flow.source, destination) : 'next'
  if (egress === 'deny' || ingress === 'deny') return 'deny'
  return egress === 'accept' || ingress === 'accept' ? 'allow' : 'default'
}

/** Neighbour discovery, MLD and path-MTU errors. */
function isNeverJudged({ protocol, source, icmpType, icmpCode }: OracleFlow): boolean {
  if (protocol !== 'ICMP') return false
  if (!isV6(source)) return icmpType === 3 && icmpCode === 4
  return [2, 130, 131, 132, 133, 134, 135, 136, 137, 143].includes(icmpType)
}

/**
 * The workload that owns an address: Running wins over Pending, then the younger; host-network and finished pods own none.
 * A host runs.
 */
function ownerOf({ pods, hosts }: OracleWorld, address: string): PlainWorkload | undefined {
  const podClaims = pods.filter(
    ({ spec, status }) =>
      spec.hostNetwork !== true &&
      status.phase !== 'Succeeded' &&
      status.phase !== 'Failed' &&
      status.podIPs?.some(({ ip }) => ip === address),
  )
  const running = podClaims.filter(({ status }) => status.phase === 'Running')
  const best = [...running, ...hosts.filter(({ spec }) => spec.addresses?.includes(address))]
  return (best.length > 0 ? best : podClaims).toSorted((a, b) =>
    a.metadata.creationTimestamp < b.metadata.creationTimestamp ? 1 : -1,
  )[0]
}

/**
 * The host that a destination lies behind. On its way a packet is forwarded by this machine or to nobody's account; what
 * the host itself sends there is not forwarded at all.
 */
function hostBefore(
  { hosts }: OracleWorld,
  { destination, hook }: OracleFlow,
  source: PlainWorkload | undefined,
  thisHost: PlainHost | undefined,
): PlainHost | undefined {
  if (hook === 'input' || hook === 'output') return undefined
  const asked = hook === 'forward' ? hosts.filter((host) => host === thisHost) : hosts
  const host = asked
    .flatMap((each) =>
      (each.spec.forwards ?? []).map((block) => ({ each, block, prefix: Number(block.split('/')[1]) })),
    )
    .filter(({ block }) => inBlock(destination, block))
    // The narrower block, and of equal ones the first host by name.
    .toSorted((a, b) => b.prefix - a.prefix || (nameOf(a.each) < nameOf(b.each) ? -1 : 1))[0]?.each
  return hook === 'none' && host === source ? undefined : host
}

function nameOf({ metadata: { namespace, name } }: PlainHost): string {
  return `${namespace}/${name}`
}

/**
 * Whether an end that is no pod is the node that the pod runs on. Without a hook a node is known by its addresses; on a
 * hook, by being this machine.
 */
function isItsNode(
  world: OracleWorld,
  flow: OracleFlow,
  end: 'source' | 'destination',
  workload: PlainWorkload | undefined,
  pod: PlainPod,
  localNode: string,
): boolean {
  if (workload?.kind === 'Pod') return false
  const { nodeName } = pod.spec
  if (flow.hook !== 'none') {
    const isThisMachine = flow.hook === (end === 'source' ? 'output' : 'input')
    return isThisMachine && (nodeName === undefined || nodeName === localNode)
  }
  // Behind a host is not the host.
  if (workload) return ownerOf(world, flow[end]) === workload && workload.spec.node === nodeName
  const node = world.nodes.find(({ status }) => status.addresses.some(({ address }) => address === flow[end]))
  return node !== undefined && node.metadata.name === nodeName
}

function judge(
  world: OracleWorld,
  flow: OracleFlow,
  direction: 'Ingress' | 'Egress',
  subject: PlainWorkload,
  peer: PlainWorkload | undefined,
  peerAddress: string,
  destination: PlainWorkload | undefined,
): 'accept' | 'deny' | 'next' {
  const selecting = world.policies.filter(
    (policy) =>
      namespaceOf(policy) === subject.metadata.namespace &&
      selectorMatches(policy.spec.podSelector, subject.metadata.labels) &&
      directionsOf(policy).includes(direction),
  )
  if (selecting.length === 0) return 'next'
  for (const policy of selecting) {
    for (const rule of (direction === 'Ingress' ? policy.spec.ingress : policy.spec.egress) ?? []) {
      const peers = (direction === 'Ingress' ? rule.from : rule.to) ?? []
      const ports = rule.ports ?? []
      const matchesPeer =
        peers.length === 0 || peers.some((each) => peerMatches(world, each, namespaceOf(policy), peer, peerAddress))
      const matchesPort = ports.length === 0 || ports.some((each) => portMatches(each, flow, destination))
      if (matchesPeer && matchesPort) return 'accept'
    }
  }
  return 'deny'
}

function namespaceOf({ metadata }: PlainPolicy): string {
  return metadata.namespace ?? 'default'
}

/** Missing or empty: Ingress, and Egress if there is an egress rule. */
function directionsOf({ spec }: PlainPolicy): readonly string[] {
  if (spec.policyTypes && spec.policyTypes.length > 0) return spec.policyTypes
  return spec.egress && spec.egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress']
}

function peerMatches(
  { namespaces, networkSets }: OracleWorld,
  { podSelector, namespaceSelector, ipBlock }: PlainPeer,
  policyNamespace: string,
  workload: PlainWorkload | undefined,
  address: string,
): boolean {
  if (ipBlock) {
    return inBlock(address, ipBlock.cidr) && !ipBlock.except?.some((block) => inBlock(address, block))
  }
  const isSelected = ({ namespace, labels }: PlainNetworkSet['metadata']) => {
    if (podSelector && !selectorMatches(podSelector, labels)) return false
    if (!namespaceSelector) return namespace === policyNamespace
    const written = namespaces.find(({ metadata }) => metadata.name === namespace)?.metadata.labels
    return selectorMatches(namespaceSelector, { ...written, 'kubernetes.io/metadata.name': namespace })
  }
  if (workload) return isSelected(workload.metadata)
  // Addresses that nobody owns, where the peer asks for a label that one of their sets has.
  const asksForLabels =
    Object.keys(podSelector?.matchLabels ?? {}).length > 0 ||
    podSelector?.matchExpressions?.some(({ operator }) => operator === 'In' || operator === 'Exists')
  if (!asksForLabels) return false
  return networkSets.some(({ metadata, spec }) => {
    return isSelected(metadata) && spec.networks.some((block) => inBlock(address, block))
  })
}

function portMatches(
  { protocol = 'TCP', port, endPort }: NonNullable<PlainRule['ports']>[number],
  flow: OracleFlow,
  destination: PlainWorkload | undefined,
): boolean {
  if (protocol !== flow.protocol) return false
  if (port === undefined) return true
  if (typeof port === 'number') return flow.port >= port && flow.port <= (endPort ?? port)
  if (!destination) return false
  if (destination.kind === 'HostEndpoint') {
    return (destination.spec.ports ?? []).some(
      (each) => each.name === port && each.port === flow.port && (each.protocol ?? 'TCP') === flow.protocol,
    )
  }
  const { containers, initContainers } = destination.spec
  const serving = [...containers, ...initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always')]
  return serving.some(({ ports }) =>
    ports?.some(
      (each) => each.name === port && each.containerPort === flow.port && (each.protocol ?? 'TCP') === flow.protocol,
    ),
  )
}

function selectorMatches(
  { matchLabels, matchExpressions }: PlainSelector,
  labels: Readonly<Record<string, string>>,
): boolean {
  for (const [key, value] of Object.entries(matchLabels ?? {})) if (labels[key] !== value) return false
  for (const { key, operator, values } of matchExpressions ?? []) {
    const value = labels[key]
    if (operator === 'In' && !(value !== undefined && values!.includes(value))) return false
    if (operator === 'NotIn' && value !== undefined && values!.includes(value)) return false
    if (operator === 'Exists' && value === undefined) return false
    if (operator === 'DoesNotExist' && value !== undefined) return false
  }
  return true
}

function inBlock(address: string, cidr: string): boolean {
  const [base, length] = cidr.split('/')
  return isV6(address) === isV6(base!) && bitsOf(address).startsWith(bitsOf(base!).slice(0, Number(length)))
}

function isV6(address: string): boolean {
  return address.includes(':')
}

function bitsOf(address: string): string {
  if (!isV6(address))
    return address
      .split('.')
      .map((part) => binary(Number(part), 8))
      .join('')
  const [head, tail] = address.split('::').map((half) => half.split(':').filter((group) => group !== ''))
  const zeros = tail ? Array.from({ length: 8 - head!.length - tail.length }, () => '0') : []
  return [...head!, ...zeros, ...(tail ?? [])].map((group) => binary(Number.parseInt(group, 16), 16)).join('')
}

function binary(value: number, width: number): string {
  return value.toString(2).padStart(width, '0')
}
