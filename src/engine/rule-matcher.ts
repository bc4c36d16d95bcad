import { type Address, isIPv4, matchesPrefix } from './address.ts'
import { OUTSIDE } from './address-map.ts'
import { endOfTerms, hasTerm } from './facts.ts'
import type { Flow } from './flow.ts'
import { addressNodeOfDestination, hostNodeOfDestination, type IdentityTables, NO_NODE } from './identity.ts'
import { ANY_PROTOCOL } from './policy.ts'
import {
  ANY,
  CIDR_WORDS,
  NO_NAME,
  PEER_BLOCK,
  PEER_HEADER,
  PEER_LENGTH,
  PEER_NODES,
  PEER_OUTSIDE_BLOCK,
  PEER_TYPE,
  PEER_WORKLOADS,
  PORT_WORDS,
  RULE_HEADER,
  RULE_PORTS,
} from './rule-words.ts'
import type { Words } from './twin-words.ts'

/**
 * Says whether rules (see rule-words.ts) match one flow in one direction. It is told the flow once and then asked about
 * any number of rules; nothing is allocated.
 */
export class RuleMatcher {
  readonly #words: Words
  readonly #tables: IdentityTables
  #flow!: Flow
  #address!: Address
  #hasAddress = false
  /** The workload at the other end, or OUTSIDE. */
  #peer = OUTSIDE
  /** Start of the other end's facts; 0 outside. */
  #facts = 0

  constructor(words: Words, tables: IdentityTables) {
    this.#words = words
    this.#tables = tables
  }

  /** From now on it is asked about this flow's source, as the destination's policies see it. */
  takeIngress(flow: Flow): void {
    this.#flow = flow
    this.#address = flow.packet.source
    this.#hasAddress = flow.hasSourceAddress
    this.#peer = flow.sourceWorkload
    this.#facts = this.#factsOf(flow.sourceIdentity)
  }

  /** From now on it is asked about this flow's destination, as the source's policies see it. */
  takeEgress(flow: Flow): void {
    this.#flow = flow
    this.#address = flow.packet.destination
    this.#hasAddress = flow.hasDestinationAddress
    this.#peer = flow.destinationWorkload
    this.#facts = this.#factsOf(flow.destinationIdentity)
  }

  get address(): Address {
    return this.#address
  }

  /** Start of the other end's facts in the identities' lists; 0 outside. */
  get facts(): number {
    return this.#facts
  }

  /** @param rule where it starts */
  matches(rule: number): boolean {
    return this.matchesPorts(rule) && this.#matchesPeers(rule)
  }

  matchesPorts(rule: number): boolean {
    const words = this.#words
    const count = words[rule + RULE_PORTS]!
    if (count === ANY) return true
    const { protocol, destination } = this.#flow.packet
    const end = rule + RULE_HEADER + count * PORT_WORDS
    for (let port = rule + RULE_HEADER; port < end; port += PORT_WORDS) {
      const asked = words[port]!
      if (asked !== protocol && asked !== ANY_PROTOCOL) continue
      const name = words[port + 3]!
      if (name !== NO_NAME) {
        if (this.#hasPort(name, protocol, destination.port)) return true
      } else if (destination.port >= words[port + 1]! && destination.port <= words[port + 2]!) return true
    }
    return false
  }

  #matchesPeers(rule: number): boolean {
    const words = this.#words
    const ports = words[rule + RULE_PORTS]!
    const start = rule + RULE_HEADER + (ports === ANY ? 0 : ports * PORT_WORDS)
    const count = words[start]!
    if (count === ANY) return true
    let peer = start + 1
    for (let left = count; left > 0; left--) {
      if (this.matchesPeer(peer)) return true
      peer += words[peer + PEER_LENGTH]!
    }
    return false
  }

  /** @param peer where it starts */
  matchesPeer(peer: number): boolean {
    switch (this.#words[peer + PEER_TYPE]) {
      case PEER_WORKLOADS:
        return this.#facts !== 0 && this.#holds(peer + PEER_HEADER, this.#facts)
      case PEER_NODES:
        return this.#matchesNode(peer + PEER_HEADER)
      case PEER_BLOCK:
        return this.#hasAddress && this.#matchesBlock(peer + PEER_HEADER)
      case PEER_OUTSIDE_BLOCK:
        return this.#hasAddress && this.#peer === OUTSIDE && this.#matchesBlock(peer + PEER_HEADER)
      default:
        return false
    }
  }

  /** Start of the terms of the node whose host the flow goes to; 0 where it goes to none. Only egress rules ask. */
  hostNodeFacts(): number {
    return this.#nodeFacts(hostNodeOfDestination(this.#tables, this.#flow))
  }

  /** Likewise of the node whose address it is. */
  addressNodeFacts(): number {
    return this.#nodeFacts(addressNodeOfDestination(this.#tables, this.#flow))
  }

  #nodeFacts(node: number): number {
    return node === NO_NODE ? 0 : this.#tables.nodeFacts[node]!
  }

  #matchesNode(clauses: number): boolean {
    const host = this.hostNodeFacts()
    if (host !== 0 && this.#holds(clauses, host)) return true
    const address = this.addressNodeFacts()
    return address !== 0 && this.#holds(clauses, address)
  }

  /** Whether all clauses hold for these facts. */
  #holds(clauses: number, facts: number): boolean {
    const words = this.#words
    const { lists } = this.#tables
    let at = clauses + 1
    for (let left = words[clauses]!; left > 0; left--) {
      const count = words[at + 1]!
      let holds = false
      for (let term = at + 2; term < at + 2 + count && !holds; term++) holds = hasTerm(lists, facts, words[term]!)
      if (holds !== (words[at] === 1)) return false
      at += 2 + count
    }
    return true
  }

  /** Whether the destination gives this port this name. */
  #hasPort(name: number, protocol: number, port: number): boolean {
    const facts = this.#factsOf(this.#flow.destinationIdentity)
    if (facts === 0) return false
    const { lists } = this.#tables
    const start = endOfTerms(lists, facts)
    const end = start + 1 + lists[start]! * 3
    for (let at = start + 1; at < end; at += 3) {
      if (lists[at] === name && lists[at + 1] === protocol && lists[at + 2] === port) return true
    }
    return false
  }

  #matchesBlock(block: number): boolean {
    if (!this.#inBlock(block)) return false
    const exceptions = this.#words[block + CIDR_WORDS]!
    for (let i = 0; i < exceptions; i++) if (this.#inBlock(block + CIDR_WORDS + 1 + i * CIDR_WORDS)) return false
    return true
  }

  #inBlock(at: number): boolean {
    const words = this.#words
    const prefix = words[at]!
    // A short prefix is one of IPv6: it would cover the v4-mapped form too.
    if (prefix < 96 && isIPv4(this.#address)) return false
    return matchesPrefix(words[at + 1]!, words[at + 2]!, words[at + 3]!, words[at + 4]!, prefix, this.#address)
  }

  #factsOf(identity: number): number {
    return identity === OUTSIDE ? 0 : this.#tables.facts[identity]!
  }
}
