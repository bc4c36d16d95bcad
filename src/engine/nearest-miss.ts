import { type Address, blockContains, formatAddress, formatBlock } from './address.ts'
import type { NearestChange, NearestMiss } from './evaluator.ts'
import type { Identity } from './identity.ts'
import type { Labels } from './objects.ts'
import type { Packet } from './packet.ts'
import { ANY_PROTOCOL, type PeerMatch, type Policy, type PortMatch, type Rule } from './policy.ts'
import { formatPort, protocolName } from './protocol.ts'
import { formatRequirement, isMet, type Requirement } from './selector.ts'
import type { World } from './world.ts'

/** A flow that was denied, as the tier that denied it saw it. */
export interface Denied {
  readonly packet: Packet
  /** The other end; `undefined` outside the cluster. */
  readonly peer: Identity | undefined
  readonly peerAddress: Address | undefined
  /** Labels of the nodes that the other end is; empty where it is none. */
  readonly peerNodeLabels: readonly Labels[]
  /** The end whose named ports count. */
  readonly destination: Identity | undefined
  readonly world: World
}

/** A rule that would have let it through if it had matched. */
export interface Candidate {
  readonly policy: Policy
  readonly rule: Rule
  readonly index: number
}

/** What would have to be different for a rule, a peer or a port to match. */
interface Difference {
  /** How much: 1 for a label, 2 for a port; more for several labels, another place, another kind of peer. */
  readonly distance: number
  readonly text: string
  readonly change: NearestChange
}

/** The rule that came closest to letting the flow through, and the difference; `undefined` where none came near. */
export function describeMiss(denied: Denied, candidates: readonly Candidate[]): NearestMiss | undefined {
  let nearest: (Difference & Candidate) | undefined
  for (const candidate of candidates) {
    if (candidate.rule.action === 'Deny') continue
    const difference = differenceOf(denied, candidate)
    if (difference && (nearest === undefined || difference.distance < nearest.distance)) {
      nearest = { ...candidate, ...difference }
    }
  }
  if (!nearest) return undefined
  const { policy, index, text, change } = nearest
  return { policy: policy.ref, rule: index, difference: text, change }
}

function differenceOf(denied: Denied, { policy, rule, index }: Candidate): Difference | undefined {
  if (rule.failsClosed !== undefined) return undefined
  const port = portDifference(denied, rule.ports)
  const peer = peerDifference(denied, policy, rule.peers)
  if (port === 'none' || peer === 'none') return undefined
  const { protocol, destination } = denied.packet
  const asked = formatPort(protocol, destination.port)
  const deed = rule.action === 'Pass' ? 'passes' : 'allows'
  const name = `rule ${index}${rule.name === undefined ? '' : ` "${rule.name}"`}`
  if (port && peer) {
    const text = `${name} ${deed} ${port.text}, not ${asked}, and ${peer.text}`
    return { distance: port.distance + peer.distance, text, change: peer.change }
  }
  if (port) return { ...port, text: `${name} ${deed} this peer on ${port.text}, not on ${asked}` }
  if (peer) return { ...peer, text: `${name} ${deed} ${asked}, ${peer.text}` }
  return undefined
}

/** Whether a rule is about the flow's port. */
export function matchesPorts(denied: Denied, ports: readonly PortMatch[] | undefined): boolean {
  return portDifference(denied, ports) === undefined
}

/** `undefined`: the ports match. `none`: no port would. */
function portDifference(
  { packet, destination }: Denied,
  ports: readonly PortMatch[] | undefined,
): Difference | 'none' | undefined {
  if (!ports) return undefined
  const {
    protocol,
    destination: { port },
  } = packet
  const named = ({ portName, protocol: wanted }: PortMatch) =>
    destination?.ports.filter(
      (each) => each.name === portName && (wanted === ANY_PROTOCOL || each.protocol === wanted),
    ) ?? []
  const isAllowed = ports.some((match) => {
    if (match.portName !== undefined) {
      return named(match).some((each) => each.protocol === protocol && each.port === port)
    }
    return match.protocol === protocol && port >= match.first && port <= match.last
  })
  if (isAllowed) return undefined
  const open = ports.flatMap((match) => {
    if (match.portName !== undefined) return named(match).map((each) => ({ protocol: each.protocol, port: each.port }))
    return [{ protocol: match.protocol, port: Math.max(1, match.first) }]
  })
  const [first] = [...open].sort((a, b) => Number(b.protocol === protocol) - Number(a.protocol === protocol))
  if (!first) return 'none'
  return {
    distance: first.protocol === protocol ? 2 : 3,
    text: ports.map(formatPortMatch).join(', '),
    change: { type: 'port', protocol: first.protocol, port: first.port },
  }
}

function formatPortMatch({ protocol, first, last, portName }: PortMatch): string {
  if (portName !== undefined) {
    return `port "${portName}"${protocol === ANY_PROTOCOL ? '' : `/${protocolName(protocol)}`}`
  }
  if (first === 0) return `every ${protocolName(protocol)} port`
  return first === last ? formatPort(protocol, first) : `port ${first}-${last}/${protocolName(protocol)}`
}

/** `undefined`: a peer matches. `none`: there is no peer that could. */
function peerDifference(
  denied: Denied,
  policy: Policy,
  peers: readonly PeerMatch[] | undefined,
): Difference | 'none' | undefined {
  if (!peers) return undefined
  let nearest: Difference | undefined
  for (const peer of peers) {
    const difference = differenceOfPeer(denied, policy, peer)
    if (difference === undefined) return undefined
    if (difference !== 'none' && (!nearest || difference.distance < nearest.distance)) nearest = difference
  }
  return nearest ?? 'none'
}

function differenceOfPeer(denied: Denied, policy: Policy, peer: PeerMatch): Difference | 'none' | undefined {
  switch (peer.type) {
    case 'pods':
      return podsDifference(denied, policy, peer)
    case 'nodes':
      return nodesDifference(denied, peer)
    case 'block':
      return blockDifference(denied, peer)
    case 'domainName':
      return nameDifference(denied, peer.pattern)
  }
}

function podsDifference(
  { peer, peerAddress, world }: Denied,
  policy: Policy,
  match: Extract<PeerMatch, { type: 'pods' }>,
): Difference | 'none' | undefined {
  const { namespaceSelector, podSelector } = match
  if (!peer) {
    const networks = world.networksOf(match, policy.namespace)
    if (peerAddress && networks.some((network) => blockContains(network, peerAddress))) return undefined
    const [first] = networks
    if (!first) return { distance: 6, text: `peer ${address(peerAddress)} is no pod`, change: { type: 'allow' } }
    return {
      distance: 5,
      text: `peer ${address(peerAddress)} is outside ${world.setNamesOf(match, policy.namespace).join(', ')}`,
      change: { type: 'address', block: formatBlock(first) },
    }
  }
  const unmetPod = podSelector.requirements.filter((requirement) => !isMet(requirement, peer.labels))
  const unmetNamespace =
    namespaceSelector?.requirements.filter((requirement) => !isMet(requirement, peer.namespaceLabels)) ?? []
  const isElsewhere = !namespaceSelector && peer.namespace !== policy.namespace
  // A peer in another namespace would have to be another peer.
  const parts: string[] = []
  if (unmetPod.length > 0) parts.push(`peer ${lacks(unmetPod)}`)
  if (unmetNamespace.length > 0) parts.push(`peer's namespace ${peer.namespace} ${lacks(unmetNamespace)}`)
  if (isElsewhere) parts.push(`peer is in namespace ${peer.namespace}, the rule means ${policy.namespace}`)
  if (parts.length === 0) return undefined
  const { namespace } = peer
  const change: NearestChange = isElsewhere
    ? { type: 'allow' }
    : unmetPod[0]
      ? { type: 'label', of: 'peer', ...wanted(unmetPod[0]) }
      : { type: 'namespaceLabel', namespace, ...wanted(unmetNamespace[0]!) }
  return {
    distance: unmetPod.length + unmetNamespace.length * 1.5 + (isElsewhere ? 2 : 0),
    text: parts.join(' and '),
    change,
  }
}

/** The label that would meet a requirement; without a value, none by this key. */
function wanted({ key, operator, values }: Requirement): { key: string; value?: string } {
  if (operator === 'In') return { key, value: values[0]! }
  return operator === 'Exists' ? { key, value: '' } : { key }
}

function nodesDifference(
  { peer, peerAddress, peerNodeLabels }: Denied,
  { selector }: Extract<PeerMatch, { type: 'nodes' }>,
): Difference | 'none' | undefined {
  const unmets = peerNodeLabels.map((labels) => selector.requirements.filter((each) => !isMet(each, labels)))
  const [unmet] = unmets.toSorted((a, b) => a.length - b.length)
  if (!unmet) return 'none'
  if (unmet.length === 0) return undefined
  const name = peer ? 'peer' : `peer ${address(peerAddress)}`
  return { distance: 4 + unmet.length, text: `node of ${name} ${lacks(unmet)}`, change: { type: 'allow' } }
}

function blockDifference(
  { peerAddress }: Denied,
  { cidr, except }: Extract<PeerMatch, { type: 'block' }>,
): Difference | 'none' | undefined {
  const change: NearestChange = { type: 'address', block: formatBlock(cidr) }
  if (!peerAddress) return { distance: 5, text: `peer has no address to be in ${formatBlock(cidr)}`, change }
  if (!blockContains(cidr, peerAddress)) {
    return { distance: 5, text: `peer ${address(peerAddress)} is outside ${formatBlock(cidr)}`, change }
  }
  const exception = except.find((block) => blockContains(block, peerAddress))
  if (!exception) return undefined
  const text = `peer ${address(peerAddress)} is excepted by ${formatBlock(exception)} of ${formatBlock(cidr)}`
  return { distance: 3, text, change }
}

function nameDifference({ peerAddress, world }: Denied, pattern: string): Difference | 'none' | undefined {
  const resolved = world.addressesOf(pattern)
  const [first] = resolved
  if (!first) return 'none'
  if (peerAddress && resolved.some((each) => formatAddress(each) === formatAddress(peerAddress))) return undefined
  const text = `peer ${address(peerAddress)} is none of the addresses of ${pattern}`
  return { distance: 5, text, change: { type: 'address', block: formatBlock({ address: first, prefix: 128 }) } }
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
