import type { Policy, PortMatch, Rule } from '../engine/policy.ts'
import { protocolNumbers } from '../engine/workload.ts'
import { isWide } from './cover.ts'
import { type LintFinding, listed, policyText } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'dns-forgotten'
const DNS_PORT = 53

/**
 * Workloads that NetworkPolicies isolate for egress and let reach what is found by name, while nothing lets them ask for
 * a name: no UDP or TCP port 53 to anyone. A workload that may open nothing, or only connections to given addresses, is
 * taken to be meant so. Hosts ask by the failsafe.
 */
export function dnsForgotten(world: LintWorld): LintFinding[] {
  const namedPorts = world.groups.flatMap(({ ports }) => ports)
  const names = new Set(namedPorts.map(({ name }) => name))
  const dnsNames = new Set(namedPorts.filter(({ port }) => port === DNS_PORT).map(({ name }) => name))
  // A name that nobody here has belongs to somebody outside the sources: perhaps to the DNS server.
  const isDnsName = (name: string) => dnsNames.has(name) || !names.has(name)
  const canAsk = (rule: Rule) => allowsDns(rule, isDnsName)
  const answered = new Uint8Array(world.groups.length)
  /** Per group, which isolating policy first lets it reach something by name; and which policies isolate at all. */
  const firstUser = new Map<number, Policy>()
  const isolating = world.input.policies.filter(({ tier, egress }) => tier === 'NetworkPolicy' && egress !== undefined)
  for (const policy of world.input.policies) {
    if (policy.tier === 'Baseline' || !policy.egress?.some(canAsk)) continue
    for (const group of world.select(policy.subject, policy.namespace)) answered[group] = 1
  }
  for (const policy of isolating) {
    if (!policy.egress!.some(needsNames)) continue
    for (const group of world.select(policy.subject, policy.namespace)) {
      if (answered[group] === 0 && !world.groups[group]!.isHost && !firstUser.has(group)) firstUser.set(group, policy)
    }
  }
  const affected = Map.groupBy(firstUser, ([, policy]) => policy)
  const isolatingIn = Map.groupBy(isolating, ({ namespace }) => namespace)
  return [...affected].map(([policy, entries]): LintFinding => {
    const groups = entries.map(([group]) => group)
    const others = (isolatingIn.get(policy.namespace) ?? []).filter((other) => {
      return other !== policy && groups.slice(0, 3).some((group) => world.isSelected(other, group))
    })
    const together = others.length === 0 ? '' : ` together with ${listed(others.map(policyText))}`
    return {
      check,
      severity: 'warning',
      object: policy.ref,
      direction: 'egress',
      message: `isolates ${listed(world.namesOf(groups))}${together}, and nothing allows UDP or TCP port 53: no name can be looked up there`,
      hint: 'allow port 53, UDP and TCP, to the DNS servers',
    }
  })
}

function allowsDns({ action, ports, peers }: Rule, isDnsName: (name: string) => boolean): boolean {
  if (action !== 'Accept' || peers?.length === 0) return false
  return !ports || ports.some((port) => (port.portName === undefined ? isDnsPort(port) : isDnsName(port.portName)))
}

function isDnsPort({ protocol, first, last }: PortMatch): boolean {
  return (protocol === protocolNumbers.UDP || protocol === protocolNumbers.TCP) && first <= DNS_PORT && last >= DNS_PORT
}

/** Whether a rule allows what is reached by name: workloads (by a Service), names, or everything. */
function needsNames({ action, peers, ports }: Rule): boolean {
  if (action !== 'Accept' || ports?.length === 0) return false
  return (
    peers === undefined || peers.some((peer) => peer.type !== 'nodes' && (peer.type !== 'block' || isWide(peer.cidr)))
  )
}
