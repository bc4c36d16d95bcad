import { type Address, isIPv4 } from '../../src/engine/address.ts'
import type { Engine, Generation, PacketDecoder, Verdict } from '../../src/engine/index.ts'
import { createEngine, type Flow, HOOK_FORWARD, type PolicyEvaluator } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { SCTP, TCP, UDP } from '../../src/engine/packet.ts'
import { ANY_PROTOCOL, type PeerMatch, type PodsMatch, type Policy, type Rule } from '../../src/engine/policy.ts'
import { selects } from '../../src/engine/selector.ts'
import { EGRESS, INGRESS, LIST_COLUMNS } from '../../src/engine/tier-evaluator.ts'
import { v4, v6 } from './cluster.ts'
import { Random } from './random.ts'
import type { BenchWorld } from './worlds.ts'

/** Flows as rows of FLOW_WORDS words: source address, destination address, destination port, protocol. */
export type Flows = Int32Array

export const FLOW_WORDS = 10

const outsideCount = 20_000
const outsideShare = 0.1
const ipv6Share = 0.1
const allowedShare = 0.5
const commonPorts = [80, 443, 53, 5432, 6379, 8080, 8443, 3000, 50_051, 9090, 22, 3306, 27_017, 9200, 8000, 8050]
const knownTries = 40

/** Somebody at one end: the number of a workload, or behind these of an outside address. */
type End = number

/** Makes flows that are all different, each with an end that some NetworkPolicy selects. */
export class FlowMaker {
  readonly #world: BenchWorld
  readonly #random = new Random(7)
  readonly #namespaceStart = new Map<string, number>()
  readonly #selected: End[] = []
  readonly #selectedIPv6: End[] = []
  /** Whom policies were found to select, and whom rules to match. */
  readonly #members = new Map<Policy, readonly End[]>()
  readonly #peers = new Map<PeerMatch, readonly End[]>()
  readonly #seen = new Set<number>()

  constructor(world: BenchWorld) {
    this.#world = world
    for (const [i, { namespace }] of world.workloads.entries()) {
      if (!this.#namespaceStart.has(namespace)) this.#namespaceStart.set(namespace, i)
    }
    const selected = new Set(world.networkPolicies.flatMap((policy) => this.#membersOf(policy)))
    this.#selected = world.target === undefined ? [...selected] : [world.target]
    this.#selectedIPv6 = this.#selected.filter((end) => this.#hasIPv6(end))
  }

  /** How many workloads a NetworkPolicy selects. */
  get selectedCount(): number {
    return this.#selected.length
  }

  make(count: number): Flows {
    const flows = new Int32Array(count * FLOW_WORDS)
    for (let at = 0; at < flows.length; ) {
      const flow = this.#random.isIn(allowedShare) ? this.#allowedFlow() : this.#anyFlow()
      if (flow && this.#write(flows, at, flow)) at += FLOW_WORDS
    }
    return flows
  }

  #anyFlow(): NewFlow {
    const random = this.#random
    const isIPv6 = this.#selectedIPv6.length > 0 && random.isIn(ipv6Share)
    const subject = random.of(isIPv6 ? this.#selectedIPv6 : this.#selected)
    const peer = random.isIn(outsideShare) ? this.#outside() : this.#anyWorkload(isIPv6)
    const isEgress = this.#world.target === undefined && random.isIn(0.5)
    return { subject, peer, isEgress, isIPv6, port: this.#anyPort(), protocol: random.isIn(0.9) ? TCP : UDP }
  }

  /** A flow that some rule is about; another policy may deny it all the same. */
  #allowedFlow(): NewFlow | undefined {
    const random = this.#random
    const policy = random.of(this.#world.networkPolicies)
    const isEgress = this.#world.target === undefined && policy.ingress === undefined
    const rule = this.#ruleOf(isEgress ? policy.egress : policy.ingress)
    const subject = this.#world.target ?? this.#subjectOf(policy)
    if (!rule || subject === undefined) return undefined
    const found = rule.peers ? this.#peerOf(random.of(rule.peers), policy) : this.#anyWorkload(false)
    if (found === undefined) return undefined
    const isIPv6 = random.isIn(ipv6Share * 4) && this.#hasIPv6(subject) && this.#hasIPv6(found)
    return { subject, peer: found, isEgress, isIPv6, ...this.#portOf(rule, isEgress ? found : subject) }
  }

  #ruleOf(rules: readonly Rule[] | undefined): Rule | undefined {
    return rules && rules.length > 0 ? this.#random.of(rules) : undefined
  }

  #portOf({ ports }: Rule, destination: End): Pick<NewFlow, 'port' | 'protocol'> {
    if (!ports) return { port: this.#anyPort(), protocol: TCP }
    const { protocol, first, last, portName } = this.#random.of(ports)
    const named = this.#world.workloads[destination]?.ports.find(({ name }) => name === portName)
    if (named) return named
    if (portName !== undefined) return { port: this.#anyPort(), protocol: TCP }
    return { port: first + this.#random.below(last - first + 1), protocol: protocol === ANY_PROTOCOL ? TCP : protocol }
  }

  #peerOf(peer: PeerMatch, policy: Policy): End | undefined {
    if (peer.type === 'block') return this.#outside()
    if (peer.type !== 'pods') return undefined
    let found = this.#peers.get(peer)
    if (!found) {
      found = this.#search(peer, policy)
      this.#peers.set(peer, found)
    }
    return found.length === 0 ? undefined : this.#random.of(found)
  }

  #search(peer: PodsMatch, policy: Policy): End[] {
    const { namespaces } = this.#world
    const { namespaceSelector } = peer
    const meant = namespaceSelector
      ? namespaces.filter(({ labels }) => selects(namespaceSelector, labels)).map(({ name }) => name)
      : [policy.namespace!]
    // Some are as good as all.
    const some = Array.from({ length: Math.min(meant.length, knownTries) }, () => this.#random.of(meant))
    return some.flatMap((namespace) => this.#inNamespace(namespace, peer))
  }

  #subjectOf(policy: Policy): End | undefined {
    const members = this.#membersOf(policy)
    return members.length === 0 ? undefined : this.#random.of(members)
  }

  #membersOf(policy: Policy): readonly End[] {
    const known = this.#members.get(policy)
    if (known) return known
    const found = this.#inNamespace(policy.namespace!, policy.subject)
    this.#members.set(policy, found)
    return found
  }

  #inNamespace(namespace: string, { podSelector }: PodsMatch): End[] {
    const start = this.#namespaceStart.get(namespace)!
    const { workloads, workloadsPerNamespace } = this.#world
    const all = Array.from({ length: workloadsPerNamespace }, (_, i) => start + i)
    return all.filter((end) => selects(podSelector, workloads[end]!.labels))
  }

  #anyWorkload(isIPv6: boolean): End {
    const { length } = this.#world.workloads
    for (;;) {
      const end = this.#random.below(length)
      if (!isIPv6 || this.#hasIPv6(end)) return end
    }
  }

  #anyPort(): number {
    return this.#random.isIn(0.6) ? this.#random.of(commonPorts) : 1 + this.#random.below(65_535)
  }

  #outside(): End {
    return this.#world.workloads.length + this.#random.below(outsideCount)
  }

  #hasIPv6(end: End): boolean {
    const workload = this.#world.workloads[end]
    return workload === undefined || workload.addresses.length > 1
  }

  /** Answers false for a flow that is there already, or that goes nowhere. */
  #write(flows: Flows, at: number, { subject, peer, isEgress, isIPv6, port, protocol }: NewFlow): boolean {
    const [source, destination] = isEgress ? [subject, peer] : [peer, subject]
    const key = (((source * 2 ** 17 + destination) * 65_536 + port) * 4 + kindOf(protocol)) * 2 + (isIPv6 ? 1 : 0)
    if (source === destination || this.#seen.has(key)) return false
    this.#seen.add(key)
    this.#writeAddress(flows, at, source, isIPv6)
    this.#writeAddress(flows, at + 4, destination, isIPv6)
    flows[at + 8] = port
    flows[at + 9] = protocol
    return true
  }

  #writeAddress(flows: Flows, at: number, end: End, isIPv6: boolean): void {
    const { w0, w1, w2, w3 } = this.#addressOf(end, isIPv6)
    flows.set([w0, w1, w2, w3], at)
  }

  #addressOf(end: End, isIPv6: boolean): Address {
    const workload: Workload | undefined = this.#world.workloads[end]
    if (workload) return workload.addresses[isIPv6 ? 1 : 0]!
    const number = end - this.#world.workloads.length
    if (isIPv6) return v6(0x20010db8, number)
    // 203.0.0.0/16, which policies name, and 198.18.0.0/15, which some deny.
    return v4((number % 2 === 0 ? 0xcb000000 : 0xc6120000) + (number >> 1) * 6)
  }
}

interface NewFlow {
  /** Whom the NetworkPolicy selects. */
  readonly subject: End
  readonly peer: End
  readonly isEgress: boolean
  readonly isIPv6: boolean
  readonly port: number
  readonly protocol: number
}

function kindOf(protocol: number): number {
  return protocol === TCP ? 0 : protocol === UDP ? 1 : protocol === SCTP ? 2 : 3
}

/** Decides all flows, one after the other, into one packet, as the packet thread does. Answers how many are allowed. */
export function decideAll(flows: Flows, engine: Engine, packet: PacketDecoder): number {
  const { source, destination } = packet
  let allowed = 0
  for (let at = 0; at < flows.length; at += FLOW_WORDS) {
    source.w0 = flows[at]!
    source.w1 = flows[at + 1]!
    source.w2 = flows[at + 2]!
    source.w3 = flows[at + 3]!
    destination.w0 = flows[at + 4]!
    destination.w1 = flows[at + 5]!
    destination.w2 = flows[at + 6]!
    destination.w3 = flows[at + 7]!
    destination.port = flows[at + 8]!
    packet.protocol = flows[at + 9]!
    packet.family = isIPv4(source) ? 4 : 6
    if (engine.decide(packet, HOOK_FORWARD) === 'accept') allowed++
  }
  return allowed
}

/** What a pass over the flows meets. */
export interface FlowStatistics {
  readonly allowed: number
  /** How many flows ask so many tiers that have rules for them; a tier counts once for each direction. */
  readonly byTiers: readonly number[]
  /** By the name of the tier that had the last word. */
  readonly decidedBy: Readonly<Record<string, number>>
}

/** Decides all flows by evaluators that count: a pass of its own, apart from those that are timed. */
export function countFlows(
  flows: Flows,
  generation: Generation,
  engine: Engine,
  packet: PacketDecoder,
): FlowStatistics {
  const byTiers = new Array<number>(7).fill(0)
  const decidedBy: Record<string, number> = { 'no policy': 0 }
  let met = 0
  let last: string | undefined
  const counting = engine.evaluators.map((evaluator, i): PolicyEvaluator => {
    const { selections, lists } = generation.tiers[i]!
    const count = (verdict: Verdict, identity: number, column: number) => {
      const hasRules = lists![selections![identity]! * LIST_COLUMNS + column] !== 0
      if (hasRules) met++
      if (verdict !== 'next') last = evaluator.name
      return verdict
    }
    return {
      name: evaluator.name,
      evaluateEgress: (flow: Flow) => count(evaluator.evaluateEgress(flow), flow.sourceIdentity, EGRESS),
      evaluateIngress: (flow: Flow) => count(evaluator.evaluateIngress(flow), flow.destinationIdentity, INGRESS),
    }
  })
  const counter = createEngine(generation.identities, counting)
  let allowed = 0
  for (let at = 0; at < flows.length; at += FLOW_WORDS) {
    met = 0
    last = undefined
    allowed += decideAll(flows.subarray(at, at + FLOW_WORDS), counter, packet)
    byTiers[met]!++
    decidedBy[last ?? 'no policy'] = (decidedBy[last ?? 'no policy'] ?? 0) + 1
  }
  return { allowed, byTiers, decidedBy }
}
