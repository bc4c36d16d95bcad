import { type Address, blockContains, formatAddress, formatBlock } from './address.ts'
import type { Direction, NearestMiss } from './evaluator.ts'
import type { Identity } from './identity.ts'
import type { NetworkPolicy, NetworkPolicyRule, PeerMatch, PortMatch } from './network-policy.ts'
import { isNamedBy } from './network-set.ts'
import { type NetworkSet, type ObjectRef, refName } from './objects.ts'
import type { Packet } from './packet.ts'
import { formatPort, protocolName } from './protocol.ts'
import { formatRequirement, isMet, type Requirement } from './selector.ts'
import type { Snapshot } from './snapshot.ts'

/** A flow that no rule allowed, with the names that tell why. */
export interface Denial {
  readonly direction: Direction
  /** The policies that isolate the subject; at least one. */
  readonly policies: readonly NetworkPolicy[]
  readonly packet: Packet
  /** The other end; `undefined` outside the cluster. */
  readonly peer: Identity | undefined
  readonly peerAddress: Address | undefined
  /** Sets of outside addresses, and the namespaces that selectors find them by. */
  readonly networkSets: readonly NetworkSet[]
  readonly namespaces: Snapshot['namespaces']
  /** The end whose named ports count. */
  readonly destination: Identity | undefined
}

/** What a denial's trace step says. */
export interface DenialDescription {
  readonly policy: ObjectRef
  readonly reason: string
  readonly nearest?: NearestMiss
  readonly isUndecidable?: boolean
}

/**
 * Says why nothing allowed the flow: names the policy whose rule came closest, and the difference. Works on the policies
 * themselves, not on the compiled tables; it runs only when somebody reads it.
 */
export function describeDenial(denial: Denial): DenialDescription {
  const { direction, policies, peerAddress } = denial
  const misses = policies
    .flatMap((policy) => policy[direction]!.map((rule, index) => missOf(denial, policy, rule, index)))
    .sort((a, b) => a.distance - b.distance)
  const nearest = misses[0]
  const policy = nearest?.policy ?? policies[0]!
  const others = policies.length - 1
  const reason =
    `${refName(policy.ref)} isolates the ${direction === 'egress' ? 'source' : 'destination'} for ${direction}` +
    (others > 0 ? ` (with ${others} other ${others === 1 ? 'policy' : 'policies'})` : '') +
    (misses.length === 0 ? ' and allows nothing' : ' and no rule allows this flow')
  const needsAddress = policies.some(({ [direction]: rules }) =>
    rules!.some(({ ports, peers }) => !portMiss(denial, ports) && peers?.some(({ type }) => type === 'block')),
  )
  return {
    policy: policy.ref,
    reason,
    ...(nearest && { nearest: { policy: policy.ref, rule: nearest.rule, difference: nearest.difference } }),
    ...(peerAddress === undefined && needsAddress && { isUndecidable: true }),
  }
}

interface Miss {
  readonly policy: NetworkPolicy
  readonly rule: number
  /** How much would have to change: 1 a port or one label; more for several labels, another protocol, another place. */
  readonly distance: number
  readonly difference: string
}

function missOf(denial: Denial, policy: NetworkPolicy, rule: NetworkPolicyRule, index: number): Miss {
  const port = portMiss(denial, rule.ports)
  const peer = peerMiss(denial, policy, rule.peers)
  const asked = formatPort(denial.packet.protocol, denial.packet.destination.port)
  const parts: string[] = []
  if (port && peer) parts.push(`rule ${index} allows ${port.allowed}, not ${asked}, and ${peer.text}`)
  else if (port) parts.push(`rule ${index} allows this peer on ${port.allowed}, not on ${asked}`)
  else if (peer) parts.push(`rule ${index} allows ${asked}, ${peer.text}`)
  return { policy, rule: index, distance: (port ? 2 : 0) + (peer?.distance ?? 0), difference: parts.join() }
}

function portMiss(
  { packet, destination }: Denial,
  ports: readonly PortMatch[] | undefined,
): { allowed: string } | undefined {
  if (!ports) return undefined
  const {
    protocol,
    destination: { port },
  } = packet
  const isAllowed = ports.some((match) => {
    if (match.protocol !== protocol) return false
    if (match.portName === undefined) return port >= match.first && port <= match.last
    return destination?.ports.some(
      (named) => named.name === match.portName && named.protocol === protocol && named.port === port,
    )
  })
  return isAllowed ? undefined : { allowed: ports.map(formatPortMatch).join(', ') }
}

function formatPortMatch({ protocol, first, last, portName }: PortMatch): string {
  if (portName !== undefined) return `port "${portName}"/${protocolName(protocol)}`
  if (first === 0) return `every ${protocolName(protocol)} port`
  return first === last ? formatPort(protocol, first) : `port ${first}-${last}/${protocolName(protocol)}`
}

function peerMiss(
  denial: Denial,
  policy: NetworkPolicy,
  peers: readonly PeerMatch[] | undefined,
): { distance: number; text: string } | undefined {
  if (!peers) return undefined
  const misses = peers.map((peer) => (peer.type === 'pods' ? podsMiss(denial, policy, peer) : blockMiss(denial, peer)))
  if (misses.some((miss) => miss === undefined)) return undefined
  return misses.sort((a, b) => a!.distance - b!.distance)[0]
}

function podsMiss(
  { peer, peerAddress, networkSets, namespaces }: Denial,
  policy: NetworkPolicy,
  match: Extract<PeerMatch, { type: 'pods' }>,
): { distance: number; text: string } | undefined {
  const { namespaceSelector, podSelector } = match
  if (!peer && peerAddress) {
    const sets = networkSets.filter((set) => isNamedBy(set, match, policy.namespace, namespaces))
    if (sets.some(({ networks }) => networks.some((network) => blockContains(network, peerAddress)))) return undefined
    const names = sets.map(({ ref }) => `NetworkSet ${refName(ref)}`).join(', ')
    if (names !== '') return { distance: 5, text: `peer ${address(peerAddress)} is outside ${names}` }
  }
  if (!peer) return { distance: 6, text: `peer ${address(peerAddress)} is no pod` }
  const unmetPod = podSelector.requirements.filter((requirement) => !isMet(requirement, peer.labels))
  const unmetNamespace =
    namespaceSelector?.requirements.filter((requirement) => !isMet(requirement, peer.namespaceLabels)) ?? []
  const isElsewhere = !namespaceSelector && peer.namespace !== policy.namespace
  const parts: string[] = []
  if (unmetPod.length > 0) parts.push(`peer ${lacks(unmetPod)}`)
  if (unmetNamespace.length > 0) parts.push(`peer's namespace ${peer.namespace} ${lacks(unmetNamespace)}`)
  if (isElsewhere) parts.push(`peer is in namespace ${peer.namespace}, the rule means ${policy.namespace}`)
  if (parts.length === 0) return undefined
  return { distance: unmetPod.length + unmetNamespace.length + (isElsewhere ? 2 : 0), text: parts.join(' and ') }
}

function blockMiss(
  { peerAddress }: Denial,
  { cidr, except }: Extract<PeerMatch, { type: 'block' }>,
): { distance: number; text: string } | undefined {
  if (!peerAddress) return { distance: 5, text: `peer has no address to be in ${formatBlock(cidr)}` }
  if (!blockContains(cidr, peerAddress))
    return { distance: 5, text: `peer ${address(peerAddress)} is outside ${formatBlock(cidr)}` }
  const exception = except.find((block) => blockContains(block, peerAddress))
  if (!exception) return undefined
  return {
    distance: 3,
    text: `peer ${address(peerAddress)} is excepted by ${formatBlock(exception)} of ${formatBlock(cidr)}`,
  }
}

function lacks(requirements: readonly Requirement[]): string {
  const missing = requirements.filter(({ operator }) => operator === 'In' || operator === 'Exists')
  const excluded = requirements.filter((requirement) => !missing.includes(requirement))
  const parts: string[] = []
  if (missing.length > 0) parts.push(`lacks ${missing.map(formatRequirement).join(', ')}`)
  if (excluded.length > 0) parts.push(`is excluded by ${excluded.map(formatRequirement).join(', ')}`)
  return parts.join(' and ')
}

function address(value: Address | undefined): string {
  return value ? formatAddress(value) : '(no address)'
}
