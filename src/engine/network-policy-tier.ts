import { type Address, type Block, isIPv4, matchesPrefix } from './address.ts'
import {
  type CompiledTier,
  type Direction,
  type PolicyEvaluator,
  type PolicyKind,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type TierTables,
  type Trace,
  type Verdict,
} from './evaluator.ts'
import type { Flow } from './flow.ts'
import { type Identities, type IdentityTables, OUTSIDE } from './identity.ts'
import { Int32List, sharedInt32 } from './int32-list.ts'
import type { NetworkPolicy, NetworkPolicyRule, PeerMatch } from './network-policy.ts'
import { describeDenial } from './network-policy-denial.ts'
import { isNamedBy } from './network-set.ts'
import type { NetworkSet } from './objects.ts'
import { type LabelSelector, selectorKey, selects } from './selector.ts'
import type { Snapshot } from './snapshot.ts'

/** The tables of the tier; every list is how many, then the items. */
export interface NetworkPolicyTables extends TierTables {
  /** Per identity, for egress then ingress: where its list of rules starts in `lists`; NOT_ISOLATED where no policy selects it. */
  readonly isolation: Int32Array<SharedArrayBuffer>
  readonly lists: Int32Array<SharedArrayBuffer>
  /** Per rule: policy, index in the policy, start of its ports and of its peers in `matches` (ANY: no restriction). */
  readonly rules: Int32Array<SharedArrayBuffer>
  /** Lists of ports (protocol, first, last, port name or NO_NAME) and of peers (SET, start in `sets`; or BLOCK or OUTSIDE_BLOCK, prefix, address, list of exceptions). */
  readonly matches: Int32Array<SharedArrayBuffer>
  /** Sets of identities, one bit each. */
  readonly sets: Int32Array<SharedArrayBuffer>
}

const NOT_ISOLATED = -1
const ANY = -1
const NO_NAME = -1
const SET = 0
const BLOCK = 1
/** Like BLOCK, for addresses that no workload owns: a NetworkSet's. */
const OUTSIDE_BLOCK = 2
const RULE_WORDS = 4

/** networking.k8s.io/v1 NetworkPolicy: the tier between Admin and Baseline. */
export const networkPolicies: PolicyKind = {
  name: 'NetworkPolicy',
  compile: compileNetworkPolicies,
  evaluate: (tables, identities) => new NetworkPolicyEvaluator(tables as NetworkPolicyTables, identities),
}

class NetworkPolicyEvaluator implements PolicyEvaluator {
  readonly name = 'NetworkPolicy'
  readonly #tables: NetworkPolicyTables
  readonly #identities: IdentityTables
  /** Names for traces; `undefined` on the packet path. */
  readonly #names: { readonly snapshot: Snapshot; readonly identities: Identities } | undefined

  constructor(
    tables: NetworkPolicyTables,
    identities: IdentityTables,
    names?: { snapshot: Snapshot; identities: Identities },
  ) {
    this.#tables = tables
    this.#identities = identities
    this.#names = names
  }

  evaluateEgress(flow: Flow, trace?: Trace): Verdict {
    const { packet, destinationIdentity } = flow
    const list = this.#tables.isolation[flow.sourceIdentity * 2]!
    const verdict = this.#evaluate(list, flow, destinationIdentity, packet.destination, flow.hasDestinationAddress)
    // "Traffic to and from the node where a Pod is running is always allowed" (concept page).
    const isOwnNode = verdict === 'deny' && flow.isToOwnNode
    if (trace) this.#explain('egress', flow, isOwnNode ? 'accept' : verdict, list, trace)
    return isOwnNode ? 'accept' : verdict
  }

  evaluateIngress(flow: Flow, trace?: Trace): Verdict {
    const { packet, sourceIdentity } = flow
    const list = this.#tables.isolation[flow.destinationIdentity * 2 + 1]!
    const verdict = this.#evaluate(list, flow, sourceIdentity, packet.source, flow.hasSourceAddress)
    if (trace) this.#explain('ingress', flow, verdict, list, trace)
    return verdict
  }

  #evaluate(list: number, flow: Flow, peer: number, address: Address, hasAddress: boolean): Verdict {
    if (list === NOT_ISOLATED) return 'next'
    const { lists } = this.#tables
    const end = list + 1 + lists[list]!
    for (let at = list + 1; at < end; at++) {
      if (this.#matches(lists[at]!, flow, peer, address, hasAddress)) return 'accept'
    }
    return 'deny'
  }

  #matches(rule: number, flow: Flow, peer: number, address: Address, hasAddress: boolean): boolean {
    const { rules } = this.#tables
    const at = rule * RULE_WORDS
    return this.#matchesPorts(rules[at + 2]!, flow) && this.#matchesPeers(rules[at + 3]!, peer, address, hasAddress)
  }

  #matchesPorts(at: number, flow: Flow): boolean {
    if (at === ANY) return true
    const { matches } = this.#tables
    const { protocol, destination } = flow.packet
    const end = at + 1 + matches[at]! * 4
    for (let port = at + 1; port < end; port += 4) {
      if (matches[port] !== protocol) continue
      const name = matches[port + 3]!
      if (name === NO_NAME) {
        if (destination.port >= matches[port + 1]! && destination.port <= matches[port + 2]!) return true
      } else if (this.#hasPort(flow.destinationIdentity, name, protocol, destination.port)) return true
    }
    return false
  }

  /** Whether the identity gives this port this name. */
  #hasPort(identity: number, name: number, protocol: number, port: number): boolean {
    if (identity === OUTSIDE) return false
    const { ports, identityPorts } = this.#identities
    const list = identityPorts[identity]!
    const end = list + 1 + ports[list]! * 3
    for (let at = list + 1; at < end; at += 3) {
      if (ports[at] === name && ports[at + 1] === protocol && ports[at + 2] === port) return true
    }
    return false
  }

  #matchesPeers(start: number, peer: number, address: Address, hasAddress: boolean): boolean {
    if (start === ANY) return true
    const { matches, sets } = this.#tables
    let at = start + 1
    for (let left = matches[start]!; left > 0; left--) {
      if (matches[at] === SET) {
        if (peer !== OUTSIDE && (sets[matches[at + 1]! + (peer >>> 5)]! & (1 << (peer & 31))) !== 0) return true
        at += 2
      } else {
        const exceptions = matches[at + 6]!
        const isMeant = hasAddress && (matches[at] === BLOCK || peer === OUTSIDE)
        if (isMeant && this.#inBlock(at + 1, address) && !this.#inAnyBlock(at + 7, exceptions, address)) return true
        at += 7 + exceptions * 5
      }
    }
    return false
  }

  #inAnyBlock(start: number, count: number, address: Address): boolean {
    for (let i = 0; i < count; i++) if (this.#inBlock(start + i * 5, address)) return true
    return false
  }

  #inBlock(at: number, address: Address): boolean {
    const { matches } = this.#tables
    const prefix = matches[at]!
    // A short prefix is one of IPv6: it would cover the v4-mapped form too.
    if (prefix < 96 && isIPv4(address)) return false
    return matchesPrefix(matches[at + 1]!, matches[at + 2]!, matches[at + 3]!, matches[at + 4]!, prefix, address)
  }

  #explain(direction: Direction, flow: Flow, verdict: Verdict, list: number, trace: Trace): void {
    if (!this.#names) throw new Error('this evaluator was made for the packet path and has no names')
    const { snapshot, identities } = this.#names
    const { networkPolicies: policies, networkSets, namespaces } = snapshot
    const step = { direction, tier: this.name, verdict }
    const [peer, address, hasAddress] =
      direction === 'egress'
        ? [flow.destinationIdentity, flow.packet.destination, flow.hasDestinationAddress]
        : [flow.sourceIdentity, flow.packet.source, flow.hasSourceAddress]
    const { lists, rules } = this.#tables
    if (list === NOT_ISOLATED) {
      trace.push({
        ...step,
        reason: `no NetworkPolicy selects the ${direction === 'egress' ? 'source for egress' : 'destination for ingress'}`,
      })
      return
    }
    const candidates = [...lists.subarray(list + 1, list + 1 + lists[list]!)]
    const matching = candidates.find((rule) => this.#matches(rule, flow, peer, address, hasAddress))
    if (matching !== undefined) {
      const policy = policies[rules[matching * RULE_WORDS]!]!
      const rule = rules[matching * RULE_WORDS + 1]!
      trace.push({ ...step, policy: policy.ref, rule, reason: `${direction} rule ${rule} allows it` })
      return
    }
    if (verdict === 'accept') {
      trace.push({ ...step, reason: 'a pod always reaches the node it runs on' })
      return
    }
    const subject = direction === 'egress' ? flow.sourceIdentity : flow.destinationIdentity
    const isolating = policies.filter((policy) => policy[direction] && isSubject(policy, identities, subject))
    trace.push({
      ...step,
      ...describeDenial({
        direction,
        policies: isolating,
        packet: flow.packet,
        peer: peer === OUTSIDE ? undefined : identities.identities[peer],
        destination: flow.destinationIdentity === OUTSIDE ? undefined : identities.identities[flow.destinationIdentity],
        peerAddress: hasAddress ? address : undefined,
        networkSets,
        namespaces,
      }),
    })
  }
}

function isSubject(policy: NetworkPolicy, { identities }: Identities, identity: number): boolean {
  const { namespace, labels } = identities[identity]!
  return namespace === policy.namespace && selects(policy.podSelector, labels)
}

function compileNetworkPolicies(snapshot: Snapshot, identities: Identities): CompiledTier {
  const count = identities.identities.length
  const isolation = sharedInt32(count * 2).fill(NOT_ISOLATED)
  const compiler = new RuleCompiler(identities, snapshot)
  const ruleLists = new Map<number, number[]>()
  const selected = new Uint8Array(count)

  for (const [index, policy] of snapshot.networkPolicies.entries()) {
    const egress = policy.egress?.map((rule, i) => compiler.addRule(index, i, rule, policy.namespace))
    const ingress = policy.ingress?.map((rule, i) => compiler.addRule(index, i, rule, policy.namespace))
    for (const identity of identities.byNamespace.get(policy.namespace) ?? []) {
      if (!selects(policy.podSelector, identities.identities[identity]!.labels)) continue
      selected[identity]! |= (ingress ? SELECTS_INGRESS : 0) | (egress ? SELECTS_EGRESS : 0)
      for (const [slot, rules] of [
        [identity * 2, egress],
        [identity * 2 + 1, ingress],
      ] as const) {
        if (!rules) continue
        const list = ruleLists.get(slot)
        if (list) list.push(...rules)
        else ruleLists.set(slot, [...rules])
      }
    }
  }

  const lists = new Int32List()
  const known = new Map<string, number>()
  for (const [slot, rules] of ruleLists)
    isolation[slot] = intern(known, rules.join(), () => lists.push(rules.length, ...rules))

  const tables: NetworkPolicyTables = { isolation, lists: lists.toShared(), ...compiler.tables() }
  const evaluator = new NetworkPolicyEvaluator(tables, identities.tables, { snapshot, identities })
  return { tables, evaluator, selected, problems: [] }
}

/** Turns rules into words; equal ports, peers and selectors are compiled once. */
class RuleCompiler {
  readonly #identities: Identities
  readonly #setWords: number
  readonly #rules = new Int32List()
  readonly #matches = new Int32List()
  readonly #sets = new Int32List()
  readonly #ports = new Map<string, number>()
  readonly #peers = new Map<string, number>()
  readonly #selectors = new Map<string, number>()

  readonly #networkSets: readonly NetworkSet[]
  readonly #namespaces: Snapshot['namespaces']

  constructor(identities: Identities, { networkSets, namespaces }: Snapshot) {
    this.#identities = identities
    this.#networkSets = networkSets
    this.#namespaces = namespaces
    this.#setWords = Math.ceil(identities.identities.length / 32)
  }

  /** Answers the rule's number. */
  addRule(policy: number, index: number, rule: NetworkPolicyRule, namespace: string): number {
    return (
      this.#rules.push(policy, index, this.#addPorts(rule.ports), this.#addPeers(rule.peers, namespace)) / RULE_WORDS
    )
  }

  tables(): {
    rules: NetworkPolicyTables[string]
    matches: NetworkPolicyTables[string]
    sets: NetworkPolicyTables[string]
  } {
    return { rules: this.#rules.toShared(), matches: this.#matches.toShared(), sets: this.#sets.toShared() }
  }

  #addPorts(ports: NetworkPolicyRule['ports']): number {
    if (!ports) return ANY
    const words: number[] = []
    for (const { protocol, first, last, portName } of ports) {
      if (portName === undefined) words.push(protocol, first, last, NO_NAME)
      else {
        const name = this.#identities.portNames.get(portName)
        // A name that no workload gives a port matches nothing; without it the list still restricts.
        if (name !== undefined) words.push(protocol, 0, 0, name)
      }
    }
    return intern(this.#ports, words.join(), () => this.#matches.push(words.length / 4, ...words))
  }

  #addPeers(peers: NetworkPolicyRule['peers'], namespace: string): number {
    if (!peers) return ANY
    const items = peers.flatMap((peer) => this.#peerItems(peer, namespace))
    return intern(this.#peers, JSON.stringify(items), () => this.#matches.push(items.length, ...items.flat()))
  }

  #peerItems(peer: PeerMatch, namespace: string): number[][] {
    const block = ({ address: { w0, w1, w2, w3 }, prefix }: Block) => [prefix, w0, w1, w2, w3]
    if (peer.type === 'block') return [[BLOCK, ...block(peer.cidr), peer.except.length, ...peer.except.flatMap(block)]]
    const sets = this.#networkSets.filter((set) => isNamedBy(set, peer, namespace, this.#namespaces))
    return [
      [SET, this.#addSet(peer.namespaceSelector ?? namespace, peer.podSelector)],
      ...sets.flatMap(({ networks }) => networks.map((network) => [OUTSIDE_BLOCK, ...block(network), 0])),
    ]
  }

  /** Answers where the set of the identities selected starts. `namespaces` is a name or a selector. */
  #addSet(namespaces: string | LabelSelector, pods: LabelSelector): number {
    const isNamed = typeof namespaces === 'string'
    const key = JSON.stringify([isNamed ? namespaces : [selectorKey(namespaces)], selectorKey(pods)])
    return intern(this.#selectors, key, () => {
      const { identities, byNamespace } = this.#identities
      const words = new Array<number>(this.#setWords).fill(0)
      const add = (identity: number) => {
        if (selects(pods, identities[identity]!.labels)) words[identity >>> 5]! |= 1 << (identity & 31)
      }
      if (isNamed) for (const identity of byNamespace.get(namespaces) ?? []) add(identity)
      else {
        for (const members of byNamespace.values()) {
          if (selects(namespaces, identities[members[0]!]!.namespaceLabels))
            for (const identity of members) add(identity)
        }
      }
      return this.#sets.push(...words)
    })
  }
}

function intern(known: Map<string, number>, key: string, make: () => number): number {
  let at = known.get(key)
  if (at === undefined) {
    at = make()
    known.set(key, at)
  }
  return at
}
