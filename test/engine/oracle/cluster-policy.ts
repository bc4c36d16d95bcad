import type { Ends } from './ends.ts'
import { hasNamedPort, inBlock, isPositive, namespaceMatches, sameAddress, selectorMatches } from './matching.ts'
import type { RuleRef } from './network-policy.ts'
import type {
  OracleFlow,
  OracleWorld,
  PlainAdminPort,
  PlainClusterPeer,
  PlainClusterPolicy,
  PlainClusterRule,
  PlainNamespacedPods,
  PlainProtocol,
  PlainTransport,
  PlainWorkload,
} from './objects.ts'

/** The first rule that matches, and what it does; `deny` for a Deny or Pass that fails closed. */
export interface ClusterVerdict {
  readonly verdict: 'accept' | 'deny' | 'pass'
  readonly by: RuleRef
}

/** The policies of a tier in the order in which they are asked. */
export function policiesOfTier(policies: readonly PlainClusterPolicy[], tier: 'Admin' | 'Baseline') {
  return policies
    .filter((policy) => tierOf(policy) === tier)
    .toSorted((a, b) => {
      if (priorityOf(a) !== priorityOf(b)) return priorityOf(a) - priorityOf(b)
      if (a.kind !== b.kind) return a.kind < b.kind ? -1 : 1
      return a.metadata.name < b.metadata.name ? -1 : 1
    })
}

function tierOf({ kind, spec }: PlainClusterPolicy): string | undefined {
  if (kind === 'AdminNetworkPolicy') return 'Admin'
  return kind === 'BaselineAdminNetworkPolicy' ? 'Baseline' : spec.tier
}

/** The Baseline one has none: it comes after every ClusterNetworkPolicy of its tier. */
function priorityOf({ kind, spec }: PlainClusterPolicy): number {
  return kind === 'BaselineAdminNetworkPolicy' ? Number.POSITIVE_INFINITY : spec.priority!
}

/** The text of policy.networking.k8s.io, for one subject. `undefined`: no rule matches. @param policies in their order */
export function judgeByClusterPolicies(
  world: OracleWorld,
  policies: readonly PlainClusterPolicy[],
  flow: OracleFlow,
  direction: 'ingress' | 'egress',
  ends: Ends,
): ClusterVerdict | undefined {
  const subject = direction === 'ingress' ? ends.destination! : ends.source!
  for (const policy of policies) {
    if (!isSubject(world, policy, subject)) continue
    for (const [i, rule] of (policy.spec[direction] ?? []).entries()) {
      const by = { kind: policy.kind, name: policy.metadata.name, rule: i }
      const isAccept = rule.action === 'Accept' || rule.action === 'Allow'
      if (failsClosed(policy, rule, direction)) {
        if (isAccept) continue
        return { verdict: 'deny', by }
      }
      if (!ruleMatches(world, rule, flow, direction, ends)) continue
      if (isAccept) return { verdict: 'accept', by }
      return { verdict: rule.action === 'Deny' ? 'deny' : 'pass', by }
    }
  }
  return undefined
}

function isSubject(world: OracleWorld, { spec: { subject } }: PlainClusterPolicy, workload: PlainWorkload): boolean {
  if (subject.namespaces) return namespaceMatches(world, subject.namespaces, workload.metadata.namespace)
  return isAmong(world, subject.pods!, workload.metadata)
}

/** An empty peer, one with a field that is not known where it stands, or domain names in anything but an Accept. */
function failsClosed({ kind }: PlainClusterPolicy, rule: PlainClusterRule, direction: 'ingress' | 'egress'): boolean {
  const known = ['namespaces', 'pods']
  if (direction === 'egress') known.push('networks', 'nodes')
  if (direction === 'egress' && kind !== 'BaselineAdminNetworkPolicy') known.push('domainNames')
  return peersOf(rule, direction).some((peer) => {
    const fields = Object.keys(peer)
    if (fields.length === 0) return true
    if (fields.some((field) => !known.includes(field))) return true
    return fields.includes('domainNames') && (rule.action === 'Deny' || rule.action === 'Pass')
  })
}

function peersOf(rule: PlainClusterRule, direction: 'ingress' | 'egress'): readonly PlainClusterPeer[] {
  return (direction === 'ingress' ? rule.from : rule.to) ?? []
}

/** A peer that matches, with a port that matches there. */
function ruleMatches(
  world: OracleWorld,
  rule: PlainClusterRule,
  flow: OracleFlow,
  direction: 'ingress' | 'egress',
  ends: Ends,
): boolean {
  return peersOf(rule, direction).some((peer) => {
    if (!peerMatches(world, peer, flow, direction, ends)) return false
    if (!rule.protocols?.length && !rule.ports?.length) return true
    // Names are for ports of workloads: at other peers they never resolve.
    const isWorkloadPeer = peer.namespaces !== undefined || peer.pods !== undefined
    const named = isWorkloadPeer ? ends.destination : undefined
    if (rule.protocols?.some((protocol) => protocolMatches(protocol, flow, named))) return true
    return rule.ports?.some((port) => adminPortMatches(port, flow, named)) ?? false
  })
}

function peerMatches(
  world: OracleWorld,
  { namespaces, pods, networks, nodes, domainNames }: PlainClusterPeer,
  flow: OracleFlow,
  direction: 'ingress' | 'egress',
  ends: Ends,
): boolean {
  const [workload, address] =
    direction === 'ingress' ? [ends.source, flow.source] : [ends.destination, flow.destination]
  if (namespaces) return workload !== undefined && namespaceMatches(world, namespaces, workload.metadata.namespace)
  if (pods) {
    if (workload) return isAmong(world, pods, workload.metadata)
    if (!isPositive(pods.podSelector)) return false
    return world.networkSets.some(
      ({ metadata, spec }) => isAmong(world, pods, metadata) && spec.networks.some((block) => inBlock(address, block)),
    )
  }
  if (networks) return networks.some((block) => inBlock(address, block))
  if (nodes) {
    return world.nodes.some(({ metadata, status }) => {
      if (!selectorMatches(nodes, metadata.labels)) return false
      if (status.addresses.some((each) => each.address === address)) return true
      // A host that is the destination itself is its node, whatever addresses the Node is known to have.
      const { destination, isDestinationItself } = ends
      return destination?.kind === 'HostEndpoint' && isDestinationItself && destination.spec.node === metadata.name
    })
  }
  return world.domainNames.some(
    ({ metadata, spec }) =>
      domainNames!.some((pattern) => domainMatches(pattern, metadata.name)) &&
      spec.addresses.some((each) => sameAddress(each, address)),
  )
}

function isAmong(
  world: OracleWorld,
  { namespaceSelector, podSelector }: PlainNamespacedPods,
  { namespace, labels }: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> },
): boolean {
  return namespaceMatches(world, namespaceSelector, namespace) && selectorMatches(podSelector, labels)
}

/** `*.` stands for one or more labels, and never for none. Case does not matter, nor does the dot at the end. */
function domainMatches(pattern: string, name: string): boolean {
  const wanted = pattern.toLowerCase().replace(/\.$/, '')
  const found = name.toLowerCase().replace(/\.$/, '')
  if (!wanted.startsWith('*.')) return wanted === found
  return found.endsWith(wanted.slice(1))
}

function protocolMatches(
  { tcp, udp, sctp, destinationNamedPort }: PlainProtocol,
  flow: OracleFlow,
  named: PlainWorkload | undefined,
): boolean {
  if (destinationNamedPort !== undefined) return named !== undefined && hasNamedPort(named, destinationNamedPort, flow)
  if (tcp) return flow.protocol === 'TCP' && transportMatches(tcp, flow)
  if (udp) return flow.protocol === 'UDP' && transportMatches(udp, flow)
  return flow.protocol === 'SCTP' && transportMatches(sctp!, flow)
}

function transportMatches({ destinationPort }: PlainTransport, { port }: OracleFlow): boolean {
  if (!destinationPort) return true
  const { number, range } = destinationPort
  return range ? port >= range.start && port <= range.end : port === number
}

function adminPortMatches(
  { portNumber, portRange, namedPort }: PlainAdminPort,
  flow: OracleFlow,
  named: PlainWorkload | undefined,
): boolean {
  if (namedPort !== undefined) return named !== undefined && hasNamedPort(named, namedPort, flow)
  if (portNumber) return (portNumber.protocol ?? 'TCP') === flow.protocol && portNumber.port === flow.port
  const { protocol = 'TCP', start, end } = portRange!
  return protocol === flow.protocol && flow.port >= start && flow.port <= end
}
