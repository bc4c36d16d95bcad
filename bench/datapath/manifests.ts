import { formatAddress, formatBlock } from '../../src/engine/index.ts'
import type { Labels, NamedPort, Namespace, Node, Workload } from '../../src/engine/objects.ts'
import { SCTP, TCP, UDP } from '../../src/engine/packet.ts'
import type { PeerMatch, Policy, PortMatch, Rule } from '../../src/engine/policy.ts'
import type { LabelSelector } from '../../src/engine/selector.ts'

/** An object of the Kubernetes API as JSON has it. */
export type Manifest = Readonly<Record<string, unknown>>

const protocolNames = new Map([
  [TCP, 'TCP'],
  [UDP, 'UDP'],
  [SCTP, 'SCTP'],
])

/** The manifest that an object of the engine bench's worlds could have been read from. */
export function manifestOf(object: Namespace | Node | Workload | Policy): Manifest {
  switch (object.type) {
    case 'Namespace':
      return { apiVersion: 'v1', kind: 'Namespace', metadata: { name: object.name, labels: plain(object.labels) } }
    case 'Node':
      return nodeManifest(object)
    case 'Workload':
      return podManifest(object)
    case 'Policy':
      return object.tier === 'NetworkPolicy' ? networkPolicyManifest(object) : clusterPolicyManifest(object)
  }
}

function plain(labels: Labels): Manifest {
  return Object.fromEntries(labels)
}

function nodeManifest({ name, labels, addresses }: Node): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: plain(labels) },
    status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address: formatAddress(address) })) },
  }
}

function podManifest({ namespace, name, labels, node, ports, addresses, phase }: Workload): Manifest {
  const containerPort = ({ name, protocol, port }: NamedPort) => {
    return { name, protocol: protocolNames.get(protocol), containerPort: port }
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels: plain(labels) },
    spec: { nodeName: node, containers: [{ name: 'main', ports: ports.map(containerPort) }] },
    status: { phase, podIPs: addresses.map((address) => ({ ip: formatAddress(address) })) },
  }
}

function selector({ requirements }: LabelSelector): Manifest {
  return { matchExpressions: requirements }
}

function networkPolicyManifest({ ref, subject, ingress, egress }: Policy): Manifest {
  const rule = ({ ports, peers }: Rule, peersField: string) => ({
    ...(ports && { ports: ports.map(networkPolicyPort) }),
    ...(peers && { [peersField]: peers.map(networkPolicyPeer) }),
  })
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: ref.namespace, name: ref.name },
    spec: {
      podSelector: selector(subject.podSelector),
      policyTypes: [...(ingress ? ['Ingress'] : []), ...(egress ? ['Egress'] : [])],
      ...(ingress && { ingress: ingress.map((each) => rule(each, 'from')) }),
      ...(egress && { egress: egress.map((each) => rule(each, 'to')) }),
    },
  }
}

function networkPolicyPort({ protocol, first, last, portName }: PortMatch): Manifest {
  const common = { protocol: protocolNames.get(protocol) }
  if (portName !== undefined) return { ...common, port: portName }
  return { ...common, port: first, ...(last > first && { endPort: last }) }
}

function networkPolicyPeer(peer: PeerMatch): Manifest {
  if (peer.type === 'block') {
    return { ipBlock: { cidr: formatBlock(peer.cidr), except: peer.except.map(formatBlock) } }
  }
  if (peer.type !== 'pods') throw new TypeError(`a peer of a NetworkPolicy: ${peer.type}`)
  const { namespaceSelector, podSelector } = peer
  return {
    ...(namespaceSelector && { namespaceSelector: selector(namespaceSelector) }),
    podSelector: selector(podSelector),
  }
}

function clusterPolicyManifest({ ref, tier, priority, subject, ingress, egress }: Policy): Manifest {
  const rules = (of: readonly Rule[], peersField: string) =>
    of.map(({ action, peers, ports }) => ({
      action,
      [peersField]: peers?.map(clusterPolicyPeer),
      ...(ports && { protocols: ports.map(clusterPolicyPort) }),
    }))
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: ref.name },
    spec: {
      tier,
      priority,
      subject: { pods: podsOf(subject) },
      // The API has no networks among the peers of ingress.
      ...(ingress && {
        ingress: rules(
          ingress.filter(({ peers }) => peers?.every(isPods)),
          'from',
        ),
      }),
      ...(egress && { egress: rules(egress, 'to') }),
    },
  }
}

function isPods({ type }: PeerMatch): boolean {
  return type === 'pods'
}

function podsOf({ namespaceSelector, podSelector }: Policy['subject']): Manifest {
  return { namespaceSelector: selector(namespaceSelector!), podSelector: selector(podSelector) }
}

function clusterPolicyPeer(peer: PeerMatch): Manifest {
  if (peer.type === 'block') return { networks: [formatBlock(peer.cidr)] }
  if (peer.type !== 'pods') throw new TypeError(`a peer of a ClusterNetworkPolicy: ${peer.type}`)
  return { pods: podsOf(peer) }
}

function clusterPolicyPort({ protocol, first, last, portName }: PortMatch): Manifest {
  if (portName !== undefined) return { destinationNamedPort: portName }
  const destinationPort = last > first ? { range: { start: first, end: last } } : { number: first }
  return { [protocolNames.get(protocol)!.toLowerCase()]: { destinationPort } }
}
