import { formatBlock } from '../engine/address.ts'
import type { PeerMatch, PodsMatch, Policy, PortMatch, Rule } from '../engine/policy.ts'
import { selectorKey } from '../engine/selector.ts'
import { type LintFinding, policyText } from './finding.ts'
import type { LintWorld } from './lint-world.ts'
import { inOrder } from './order.ts'

const check = 'duplicate-policy'

/** Policies that say what another says already, about the same subjects. */
export function duplicatePolicy({ input }: LintWorld): LintFinding[] {
  return [...duplicatesIn(input.policies)].map(([policy, original]) => ({
    check,
    severity: 'note',
    object: policy.ref,
    message: `has the subjects and rules of ${policyText(original)}`,
    hint: 'remove one of the two, or correct what they were to differ in',
  }))
}

/** Each policy that says the same as one that is asked before it, with that one. */
export function duplicatesIn(policies: readonly Policy[]): ReadonlyMap<Policy, Policy> {
  const originals = new Map<string, Policy>()
  const duplicates = new Map<Policy, Policy>()
  for (const policy of inOrder(policies)) {
    if (policy.ingress === undefined && policy.egress === undefined) continue
    const key = policyKey(policy)
    const original = originals.get(key)
    if (original) duplicates.set(policy, original)
    else originals.set(key, policy)
  }
  return duplicates
}

function policyKey({ tier, namespace, isAudited, subject, ingress, egress }: Policy): string {
  // Rules of a NetworkPolicy add up: their order says nothing.
  const rules = (list: readonly Rule[] | undefined) => {
    const keys = list?.map(ruleKey)
    return (tier === 'NetworkPolicy' ? keys?.sort() : keys) ?? null
  }
  return JSON.stringify([tier, namespace, isAudited, podsKey(subject), rules(ingress), rules(egress)])
}

function ruleKey({ action, ports, peers, failsClosed }: Rule): string {
  // `null`: no restriction.
  return JSON.stringify([
    action,
    ports?.map(portKey).sort() ?? null,
    peers?.map(peerKey).sort() ?? null,
    failsClosed ?? null,
  ])
}

function portKey({ protocol, first, last, portName }: PortMatch): string {
  return JSON.stringify(portName === undefined ? [protocol, first, last] : [protocol, portName])
}

function podsKey({ namespaceSelector, podSelector }: PodsMatch): string {
  return JSON.stringify([namespaceSelector ? selectorKey(namespaceSelector) : null, selectorKey(podSelector)])
}

function peerKey(peer: PeerMatch): string {
  switch (peer.type) {
    case 'pods':
      return `pods ${podsKey(peer)}`
    case 'nodes':
      return `nodes ${selectorKey(peer.selector)}`
    case 'block':
      return `block ${formatBlock(peer.cidr)} ${peer.except.map(formatBlock).sort().join()}`
    case 'domainName':
      return `domainName ${peer.pattern}`
  }
}
