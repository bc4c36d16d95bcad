import { hasNamedPort, inBlock, isPositive, namespaceMatches, selectorMatches } from './matching.ts'
import type { OracleFlow, OracleWorld, PlainNetworkPolicy, PlainPeer, PlainPort, PlainWorkload } from './objects.ts'

/** A rule, by its index among those of its direction, and the policy it is of. */
export interface RuleRef {
  readonly kind: string
  readonly namespace?: string
  readonly name: string
  readonly rule: number
}

/** The text of networking.k8s.io/v1, for one subject. `accepting`: all rules that accept. */
export function judgeByNetworkPolicies(
  world: OracleWorld,
  policies: readonly PlainNetworkPolicy[],
  flow: OracleFlow,
  direction: 'ingress' | 'egress',
  subject: PlainWorkload,
  peer: PlainWorkload | undefined,
  destination: PlainWorkload | undefined,
): { verdict: 'accept' | 'deny' | 'next'; accepting: readonly RuleRef[] } {
  const selecting = policies.filter(
    (policy) =>
      namespaceOf(policy) === subject.metadata.namespace &&
      selectorMatches(policy.spec.podSelector, subject.metadata.labels) &&
      directionsOf(policy).includes(direction === 'ingress' ? 'Ingress' : 'Egress'),
  )
  if (selecting.length === 0) return { verdict: 'next', accepting: [] }
  const peerAddress = direction === 'ingress' ? flow.source : flow.destination
  const accepting: RuleRef[] = []
  for (const policy of selecting) {
    for (const [i, rule] of (policy.spec[direction] ?? []).entries()) {
      const peers = (direction === 'ingress' ? rule.from : rule.to) ?? []
      const ports = rule.ports ?? []
      const matchesPeer =
        peers.length === 0 || peers.some((each) => peerMatches(world, each, namespaceOf(policy), peer, peerAddress))
      const matchesPort = ports.length === 0 || ports.some((each) => portMatches(each, flow, destination))
      if (matchesPeer && matchesPort) {
        accepting.push({ kind: policy.kind, namespace: namespaceOf(policy), name: policy.metadata.name, rule: i })
      }
    }
  }
  return { verdict: accepting.length > 0 ? 'accept' : 'deny', accepting }
}

function namespaceOf({ metadata }: PlainNetworkPolicy): string {
  return metadata.namespace ?? 'default'
}

/** Missing or empty: Ingress, and Egress if there is an egress rule. */
function directionsOf({ spec }: PlainNetworkPolicy): readonly string[] {
  if (spec.policyTypes && spec.policyTypes.length > 0) return spec.policyTypes
  return spec.egress && spec.egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress']
}

function peerMatches(
  world: OracleWorld,
  { podSelector, namespaceSelector, ipBlock }: PlainPeer,
  policyNamespace: string,
  workload: PlainWorkload | undefined,
  address: string,
): boolean {
  if (ipBlock) {
    return inBlock(address, ipBlock.cidr) && !ipBlock.except?.some((block) => inBlock(address, block))
  }
  const isSelected = ({ namespace, labels }: PlainWorkload['metadata'] | OracleWorld['networkSets'][0]['metadata']) => {
    if (podSelector && !selectorMatches(podSelector, labels)) return false
    if (!namespaceSelector) return namespace === policyNamespace
    return namespaceMatches(world, namespaceSelector, namespace)
  }
  if (workload) return isSelected(workload.metadata)
  // Addresses that nobody owns, where the peer asks for a label that one of their sets has.
  if (!podSelector || !isPositive(podSelector)) return false
  return world.networkSets.some(({ metadata, spec }) => {
    return isSelected(metadata) && spec.networks.some((block) => inBlock(address, block))
  })
}

function portMatches(
  { protocol = 'TCP', port, endPort }: PlainPort,
  flow: OracleFlow,
  destination: PlainWorkload | undefined,
): boolean {
  if (protocol !== flow.protocol) return false
  if (port === undefined) return true
  if (typeof port === 'number') return flow.port >= port && flow.port <= (endPort ?? port)
  return destination !== undefined && hasNamedPort(destination, port, flow)
}
