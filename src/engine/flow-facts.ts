import { type Address, blockContains, sameAddress } from './address.ts'
import type { Identity } from './identity.ts'
import { isNamedBy } from './network-set.ts'
import type { Labels, NamedPort, NetworkSet } from './objects.ts'
import { ANY_PROTOCOL, type PeerMatch, type Policy, type PortMatch, type Rule } from './policy.ts'
import { selects } from './selector.ts'
import type { World } from './world.ts'

/**
 * What the rules of one direction look at, as plain data that may be changed: a flow that was decided, or one that is like
 * it but for a label, a port, an address. Packets are decided by RuleMatcher.
 */
export interface FlowFacts {
  readonly protocol: number
  readonly port: number
  /** The other end; `undefined` outside the cluster. */
  readonly peer: Identity | undefined
  /** `undefined` where only its name is known. */
  readonly peerAddress: Address | undefined
  /** Labels of the nodes that the other end is; empty where it is none. */
  readonly peerNodeLabels: readonly Labels[]
  /** The NetworkSets that the other end is in; empty for a workload. */
  readonly peerSets: readonly NetworkSet[]
  /** The ports that the destination gives names. */
  readonly namedPorts: readonly NamedPort[]
  readonly world: World
}

/** Whether a rule is about a flow. */
export function matchesRule(facts: FlowFacts, policy: Policy, { ports, peers }: Rule): boolean {
  const numbered = ports?.filter(({ portName }) => portName === undefined)
  // In cluster-wide policies a named port means workloads alone.
  const portsOf = (peer: PeerMatch) =>
    policy.tier !== 'NetworkPolicy' && (peer.type !== 'pods' || !facts.peer) ? numbered : ports
  if (!peers) return matchesPorts(facts, ports)
  return peers.some((peer) => matchesPeer(facts, policy, peer) && matchesPorts(facts, portsOf(peer)))
}

/** Whether a rule with these ports is about the flow's. */
export function matchesPorts(facts: FlowFacts, ports: readonly PortMatch[] | undefined): boolean {
  const { protocol, port } = facts
  if (!ports) return true
  return ports.some((match) => {
    if (match.portName === undefined) {
      return match.protocol === protocol && port >= match.first && port <= match.last
    }
    return portsByName(facts, match).some((each) => each.protocol === protocol && each.port === port)
  })
}

/** The destination's ports that a match by name means. */
export function portsByName({ namedPorts }: FlowFacts, { portName, protocol }: PortMatch): NamedPort[] {
  return namedPorts.filter(
    (each) => each.name === portName && (protocol === ANY_PROTOCOL || each.protocol === protocol),
  )
}

/** Whether a peer of a rule is the other end. */
export function matchesPeer(facts: FlowFacts, { namespace }: Policy, match: PeerMatch): boolean {
  const { peer, peerAddress, peerNodeLabels, peerSets, world } = facts
  switch (match.type) {
    case 'pods':
      if (!peer) return peerSets.some((set) => isNamedBy(set, match, namespace, world.labelsOf(set.namespace)))
      return (
        (match.namespaceSelector
          ? selects(match.namespaceSelector, peer.namespaceLabels)
          : peer.namespace === namespace) && selects(match.podSelector, peer.labels)
      )
    case 'nodes':
      return peerNodeLabels.some((labels) => selects(match.selector, labels))
    case 'block':
      return (
        peerAddress !== undefined &&
        blockContains(match.cidr, peerAddress) &&
        !match.except.some((block) => blockContains(block, peerAddress))
      )
    case 'domainName':
      return (
        peerAddress !== undefined && world.addressesOf(match.pattern).some((each) => sameAddress(each, peerAddress))
      )
  }
}
