import { type ClusterPolicyApi, type Limits, readClusterPolicy } from './cluster-policy-reader.ts'
import type { ObjectReader } from './object-reader.ts'
import { ANY_PROTOCOL, LAST_PRIORITY, type Policy, type PortMatch } from './policy.ts'
import { protocolNumbers } from './workload.ts'

/** AdminNetworkPolicy v1alpha1 (network-policy-api, `apis/v1alpha1`). */
export const adminNetworkPolicyApi: ClusterPolicyApi = {
  kind: 'AdminNetworkPolicy',
  versions: ['policy.networking.k8s.io/v1alpha1'],
  placeFields: ['priority'],
  tier: () => 'Admin',
  priority: (spec) => spec('priority').integer(0, 1000),
  actions: { Allow: 'Accept', Deny: 'Deny', Pass: 'Pass' },
  requiredOfPods: ['namespaceSelector', 'podSelector'],
  egressPeers: ['namespaces', 'pods', 'networks', 'nodes', 'domainNames'],
  portsField: 'ports',
  readPort,
  limits: { rules: 100, peers: 100, ports: 100, entries: 25, ruleName: 100 },
}

/** BaselineAdminNetworkPolicy v1alpha1: one object, `default`, without priority, Pass and domain names. */
export const baselineAdminNetworkPolicyApi: ClusterPolicyApi = {
  ...adminNetworkPolicyApi,
  kind: 'BaselineAdminNetworkPolicy',
  placeFields: [],
  tier: () => 'Baseline',
  priority: () => LAST_PRIORITY,
  singleton: 'default',
  actions: { Allow: 'Accept', Deny: 'Deny' },
  egressPeers: ['namespaces', 'pods', 'networks', 'nodes'],
}

/**
 * Reads an AdminNetworkPolicy (policy.networking.k8s.io/v1alpha1) as the API server would; throws InvalidObject. A rule
 * with a peer that cannot be understood fails closed, and `problems` names it.
 * @param limits how much it may hold; the API's own where left out
 */
export function readAdminNetworkPolicy(object: ObjectReader, limits: Limits = adminNetworkPolicyApi.limits): Policy {
  return readClusterPolicy(object, adminNetworkPolicyApi, limits)
}

/** The same for the BaselineAdminNetworkPolicy, behind every other policy of the Baseline tier. */
export function readBaselineAdminNetworkPolicy(
  object: ObjectReader,
  limits: Limits = baselineAdminNetworkPolicyApi.limits,
): Policy {
  return readClusterPolicy(object, baselineAdminNetworkPolicyApi, limits)
}

function readPort(item: ObjectReader): PortMatch {
  const known = ['portNumber', 'portRange', 'namedPort'] as const
  const field = item.fields(known)
  const [name, second] = known.filter((name) => field(name).isPresent)
  if (name === undefined || second !== undefined) item.fail(`a port has exactly one of ${known.join(', ')}`)
  switch (name) {
    case 'namedPort': {
      const portName = field(name).string()
      if (portName === '') field(name).fail('an empty port name')
      return { protocol: ANY_PROTOCOL, first: 0, last: 0, portName }
    }
    case 'portNumber': {
      const part = field(name).fields(['protocol', 'port'])
      const port = part('port').integer(1, 65535)
      return { protocol: readProtocol(part('protocol')), first: port, last: port }
    }
    case 'portRange': {
      const part = field(name).fields(['protocol', 'start', 'end'])
      const first = part('start').integer(1, 65535)
      const last = part('end').integer(1, 65535)
      // Unlike ClusterNetworkPolicy's, this CRD takes a range of one port, whose meaning is plain.
      if (first > last) field(name).fail(`start ${first} is above end ${last}`)
      return { protocol: readProtocol(part('protocol')), first, last }
    }
  }
}

function readProtocol(reader: ObjectReader): number {
  return protocolNumbers[reader.isPresent ? reader.oneOf(['TCP', 'UDP', 'SCTP']) : 'TCP']
}
