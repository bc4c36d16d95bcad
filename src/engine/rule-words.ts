import type { Address, Block } from './address.ts'
import type { Action, PeerMatch, Policy, PortMatch, Rule } from './policy.ts'
import type { Terms } from './terms.ts'

/**
 * Rules as words, so that deciding reads numbers only. The rules of a policy for one direction are a block:
 *
 *     block: how many rules, the rules
 *     rule:  length in words, number of the policy, index in the policy, action, how many ports (ANY: no restriction),
 *            the ports, how many peers (ANY: no restriction), the peers
 *     port:  protocol, first, last, number of its name or NO_NAME
 *     peer:  type, length in words, and then
 *            WORKLOADS, NODES: how many clauses, the clauses (see `Terms`)
 *            BLOCK, OUTSIDE_BLOCK: prefix, address, how many exceptions, (prefix, address) each
 */
export const BLOCK_RULES = 0
export const BLOCK_HEADER = 1

export const RULE_LENGTH = 0
export const RULE_POLICY = 1
export const RULE_INDEX = 2
export const RULE_ACTION = 3
export const RULE_PORTS = 4
export const RULE_HEADER = 5

export const PORT_WORDS = 4
export const PEER_TYPE = 0
export const PEER_LENGTH = 1
export const PEER_HEADER = 2
/** A prefix and the four words of an address. */
export const CIDR_WORDS = 5

export const ANY = -1
export const NO_NAME = -1

export const PEER_WORKLOADS = 0
export const PEER_NODES = 1
export const PEER_BLOCK = 2
/** Like PEER_BLOCK, for addresses that no workload owns: a NetworkSet's. */
export const PEER_OUTSIDE_BLOCK = 3

export const ACCEPT = 1
export const DENY = 2
export const PASS = 3

const actions: Record<Action, number> = { Accept: ACCEPT, Deny: DENY, Pass: PASS }

/** What rules refer to by name, as numbers and blocks of one moment. */
export interface RuleContext {
  readonly terms: Terms
  portName(name: string): number
  /** The networks of the NetworkSets that a peer names. @param namespace the policy's own */
  networksOf(peer: Extract<PeerMatch, { type: 'pods' }>, namespace: string | undefined): readonly Block[]
  /** What the names that a pattern covers resolve to. */
  addressesOf(pattern: string): readonly Address[]
}

/** A policy's rules of one direction as a block. @param policy its number */
export function encodeRules(
  policy: number,
  { namespace, tier }: Policy,
  rules: readonly Rule[],
  context: RuleContext,
): number[] {
  const words = [0]
  for (const [index, rule] of rules.entries()) {
    for (const { ports, peers } of tier === 'NetworkPolicy' ? [rule] : splitByPorts(rule)) {
      const start = words.length
      words.push(0, policy, index, actions[rule.action])
      encodePorts(ports, words, context)
      encodePeers(peers, namespace, words, context)
      words[start + RULE_LENGTH] = words.length - start
      words[BLOCK_RULES]!++
    }
  }
  return words
}

/**
 * In cluster-wide policies a named port means workloads alone: at peers that are addresses it matches nothing, even where
 * a workload has the address. (In a NetworkPolicy it does.) Such a rule becomes two.
 */
function splitByPorts({ ports, peers }: Rule): Pick<Rule, 'ports' | 'peers'>[] {
  const numbered = ports?.filter(({ portName }) => portName === undefined)
  const addresses = peers?.filter(({ type }) => type !== 'pods')
  if (!addresses || addresses.length === 0 || numbered?.length === ports?.length) return [{ ports, peers }]
  return [
    { ports, peers: peers?.filter(({ type }) => type === 'pods') },
    { ports: numbered, peers: addresses },
  ]
}

/** Who is selected, as clauses: how many, then the clauses. @param namespace the policy's own */
export function encodePods(
  { namespaceSelector, podSelector }: Omit<Extract<PeerMatch, { type: 'pods' }>, 'type'>,
  namespace: string | undefined,
  terms: Terms,
): number[] {
  const words = [0]
  // Every namespace carries its name as a label.
  const ownNamespace = { key: 'kubernetes.io/metadata.name', operator: 'In' as const, values: [namespace ?? ''] }
  // What tells most others apart comes first.
  words[0] =
    terms.addClauses('workload', podSelector, words) +
    terms.addClauses('namespace', namespaceSelector ?? { requirements: [ownNamespace] }, words)
  return words
}

function encodePorts(ports: readonly PortMatch[] | undefined, words: number[], context: RuleContext): void {
  words.push(ports ? ports.length : ANY)
  for (const { protocol, first, last, portName } of ports ?? []) {
    words.push(protocol, first, last, portName === undefined ? NO_NAME : context.portName(portName))
  }
}

function encodePeers(
  peers: readonly PeerMatch[] | undefined,
  namespace: string | undefined,
  words: number[],
  context: RuleContext,
): void {
  const count = words.push(ANY) - 1
  if (!peers) return
  words[count] = 0
  const add = (type: number, body: readonly number[]) => {
    words.push(type, body.length + PEER_HEADER, ...body)
    words[count]!++
  }
  for (const peer of peers) {
    switch (peer.type) {
      case 'pods':
        add(PEER_WORKLOADS, encodePods(peer, namespace, context.terms))
        for (const network of context.networksOf(peer, namespace)) add(PEER_OUTSIDE_BLOCK, [...cidr(network), 0])
        break
      case 'nodes': {
        const clauses = [0]
        clauses[0] = context.terms.addClauses('node', peer.selector, clauses)
        add(PEER_NODES, clauses)
        break
      }
      case 'block':
        add(PEER_BLOCK, [...cidr(peer.cidr), peer.except.length, ...peer.except.flatMap(cidr)])
        break
      case 'domainName':
        for (const address of context.addressesOf(peer.pattern)) {
          add(PEER_BLOCK, [...cidr({ address, prefix: 128 }), 0])
        }
    }
  }
}

function cidr({ prefix, address: { w0, w1, w2, w3 } }: Block): number[] {
  return [prefix, w0, w1, w2, w3]
}
