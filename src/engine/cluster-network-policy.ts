import { type ClusterPolicyApi, type Limits, readClusterPolicy } from './cluster-policy-reader.ts'
import type { ObjectReader } from './object-reader.ts'
import { ANY_PROTOCOL, type Policy, type PortMatch } from './policy.ts'
import { protocolNumbers } from './workload.ts'

const protocols = { tcp: protocolNumbers.TCP, udp: protocolNumbers.UDP, sctp: protocolNumbers.SCTP } as const
const protocolNames = ['tcp', 'udp', 'sctp'] as const

/** ClusterNetworkPolicy, as v1alpha2 defines it (network-policy-api, `apis/v1alpha2`) and v1beta1 keeps it. */
export const clusterNetworkPolicyApi: ClusterPolicyApi = {
  kind: 'ClusterNetworkPolicy',
  versions: ['policy.networking.k8s.io/v1alpha2', 'policy.networking.k8s.io/v1beta1'],
  placeFields: ['tier', 'priority'],
  tier: (spec) => spec('tier').oneOf(['Admin', 'Baseline']),
  priority: (spec) => spec('priority').integer(0, 1000),
  actions: { Accept: 'Accept', Deny: 'Deny', Pass: 'Pass' },
  requiredOfPods: ['podSelector'],
  egressPeers: ['namespaces', 'pods', 'networks', 'nodes', 'domainNames'],
  portsField: 'protocols',
  readPort: readProtocol,
  limits: { rules: 25, peers: 25, ports: 25, entries: 25, ruleName: 100 },
}

/**
 * Reads a ClusterNetworkPolicy (policy.networking.k8s.io, v1alpha2 and v1beta1) as the API server would; throws
 * InvalidObject. A rule with a peer that cannot be understood fails closed, and `problems` names it.
 * @param limits how much it may hold; the API's own where left out
 */
export function readClusterNetworkPolicy(
  object: ObjectReader,
  limits: Limits = clusterNetworkPolicyApi.limits,
): Policy {
  return readClusterPolicy(object, clusterNetworkPolicyApi, limits)
}

function readProtocol(item: ObjectReader): PortMatch {
  const known = [...protocolNames, 'destinationNamedPort'] as const
  const field = item.fields(known)
  const [name, second] = known.filter((name) => field(name).isPresent)
  if (name === undefined || second !== undefined) item.fail(`a protocol has exactly one of ${known.join(', ')}`)
  if (name === 'destinationNamedPort') {
    const portName = field(name).string()
    if (portName === '') field(name).fail('an empty port name')
    return { protocol: ANY_PROTOCOL, first: 0, last: 0, portName }
  }
  const protocol = protocols[name]
  const destinationPort = field(name).fields(['destinationPort'])('destinationPort')
  // The CRD refuses `tcp: {}`; what arrives all the same can only mean any port.
  if (!destinationPort.isPresent) return { protocol, first: 0, last: 65535 }
  const port = destinationPort.fields(['number', 'range'])
  const range = port('range')
  if (port('number').isPresent === range.isPresent) destinationPort.fail('a port has exactly one of number and range')
  if (!range.isPresent) {
    const number = port('number').integer(1, 65535)
    return { protocol, first: number, last: number }
  }
  const bound = range.fields(['start', 'end'])
  const first = bound('start').integer(1, 65535)
  const last = bound('end').integer(1, 65535)
  if (first >= last) range.fail(`start ${first} is not below end ${last}`)
  return { protocol, first, last }
}
