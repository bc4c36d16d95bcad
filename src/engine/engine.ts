import type { Address } from './address.ts'
import { OUTSIDE } from './address-map.ts'
import { NO_POLICY, type PolicyEvaluator, type Trace } from './evaluator.ts'
import { ANY_HOOK, type Flow, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, MutableFlow } from './flow.ts'
import {
  forwardingHost,
  hostNodeOf,
  type IdentityTables,
  identityOf,
  isLocal,
  NO_NODE,
  nodeOf,
  nodeOfWorkload,
  workloadOf,
} from './identity.ts'
import { isNeverJudged, type Packet } from './packet.ts'

/** Why no policy is asked. */
export type Exemption = 'none' | 'never judged' | 'own address' | 'own node'

/** In place of a tier: no policy was asked, or none of those asked decided. */
export const EXEMPT = -1
export const UNDECIDED = -2

/** What decided a flow, in numbers. */
export interface Decided {
  /** Which of the evaluators, EXEMPT or UNDECIDED. */
  readonly tier: number
  /** Of a tier's decision: whether it was that of the destination's policies, not the source's. */
  readonly isIngress: boolean
  /** The policy's number in its tier; NO_POLICY where it was none. See `PolicyEvaluator.decidedPolicy`. */
  readonly policy: number
}

/** Decides flows by one generation. Pure and synchronous; not reentrant: it reuses its Flow. */
export interface Engine {
  readonly evaluators: readonly PolicyEvaluator[]
  /** What decided last, where there was no trace; the same object each time. */
  readonly decided: Decided
  /** Decides a packet in its connection's original direction. @param hook netfilter hook number, or ANY_HOOK */
  decide(packet: Packet, hook: number): 'accept' | 'deny'
  /** Whether somebody has this address: a workload, a node, or who is behind this machine's HostEndpoint. */
  knows(address: Address): boolean
  /** What `decide` would have answered last if audited policies were enforced. Then `decided` says who would have. */
  decideAudited(): 'accept' | 'deny'
  /**
   * Who the ends are; with ANY_HOOK nodes are told by their addresses. The answer is overwritten by the next call.
   * @param source index of the workload that is meant, OUTSIDE for none; who owns the address where it is left out
   * @param destination likewise
   */
  identify(packet: Packet, hook: number, source?: number, destination?: number): MutableFlow
  /** The decision itself; with a trace both stages are walked to the end. */
  decideFlow(flow: Flow, trace?: Trace): 'accept' | 'deny'
}

/** @param evaluators the tiers, in order of precedence */
export function createEngine(tables: IdentityTables, evaluators: readonly PolicyEvaluator[]): Engine {
  let flow: MutableFlow | undefined
  const decided = { tier: UNDECIDED, isIngress: false, policy: NO_POLICY }

  function identify(
    packet: Packet,
    hook: number,
    source = sourceOf(packet, hook),
    destination = destinationOf(packet, hook, source),
  ): MutableFlow {
    flow ??= new MutableFlow(packet)
    flow.packet = packet
    flow.hook = hook
    flow.sourceWorkload = source
    flow.destinationWorkload = destination
    flow.sourceIdentity = identityOf(tables, source)
    flow.destinationIdentity = identityOf(tables, destination)
    // What is forwarded does not come from this machine, whatever address it carries.
    const isSpoofed = hook === HOOK_FORWARD && source === tables.localHost
    flow.isToItself = source !== OUTSIDE && source === destination && !isSpoofed
    locateNodes(flow)
    flow.hasSourceAddress = true
    flow.hasDestinationAddress = true
    flow.includesAudited = false
    return flow
  }

  function sourceOf(packet: Packet, hook: number): number {
    return hook === HOOK_OUTPUT && tables.localHost !== OUTSIDE ? tables.localHost : workloadOf(tables, packet.source)
  }

  /** At this machine's own hooks the end is this machine, whatever address it has at the moment. */
  function destinationOf(packet: Packet, hook: number, source: number): number {
    const { localHost } = tables
    if (hook === HOOK_INPUT && localHost !== OUTSIDE) return localHost
    const workload = workloadOf(tables, packet.destination)
    if (workload !== OUTSIDE || hook === HOOK_OUTPUT || hook === HOOK_INPUT) return workload
    if (hook === HOOK_FORWARD && localHost === OUTSIDE) return OUTSIDE
    const host = forwardingHost(tables, packet.destination, hook === HOOK_FORWARD ? localHost : OUTSIDE)
    // What a host itself sends to those behind it is not forwarded.
    return hook === ANY_HOOK && host === source ? OUTSIDE : host
  }

  function locateNodes(flow: MutableFlow): void {
    const { packet, hook, sourceWorkload: source, destinationWorkload: destination } = flow
    flow.isFromOwnNode =
      isPod(destination) && !isPod(source) && isOwnNode(source, packet.source, destination, hook, HOOK_OUTPUT)
    flow.isToOwnNode =
      isPod(source) && !isPod(destination) && isOwnNode(destination, packet.destination, source, hook, HOOK_INPUT)
  }

  function isPod(workload: number): boolean {
    return workload !== OUTSIDE && !(tables.hasHosts && hostNodeOf(tables, workload) !== NO_NODE)
  }

  /**
   * On the packet path it is the hook that tells: the node's end of a connection is a socket of this machine, whatever
   * address it has. A forwarded packet that carries the node's address is none of it.
   */
  function isOwnNode(host: number, address: Packet['source'], pod: number, hook: number, localHook: number): boolean {
    if (hook !== ANY_HOOK) return hook === localHook && isLocal(tables, pod)
    if (host !== OUTSIDE && isBehind(host, address)) return false
    const node = host === OUTSIDE ? nodeOf(tables, address) : hostNodeOf(tables, host)
    return node !== NO_NODE && node === nodeOfWorkload(tables, pod)
  }

  /** An address that a host forwards to, and that is not its own. */
  function isBehind(host: number, address: Packet['source']): boolean {
    return workloadOf(tables, address) === OUTSIDE && forwardingHost(tables, address, host) !== OUTSIDE
  }

  function decideFlow(asked: Flow, trace?: Trace): 'accept' | 'deny' {
    decided.tier = UNDECIDED
    if (exemptionOf(asked) !== 'none') {
      decided.tier = EXEMPT
      return 'accept'
    }
    const egress = asked.sourceWorkload === OUTSIDE ? 'accept' : decideEgress(asked, trace)
    if (egress === 'deny' && !trace) return 'deny'
    const ingress = asked.destinationWorkload === OUTSIDE ? 'accept' : decideIngress(asked, trace)
    return egress === 'deny' ? 'deny' : ingress
  }

  function decideEgress(asked: Flow, trace: Trace | undefined): 'accept' | 'deny' {
    for (let i = 0; i < evaluators.length; i++) {
      const verdict = evaluators[i]!.evaluateEgress(asked, trace)
      if (verdict !== 'next') return note(verdict, i, false)
    }
    return 'accept'
  }

  function decideIngress(asked: Flow, trace: Trace | undefined): 'accept' | 'deny' {
    for (let i = 0; i < evaluators.length; i++) {
      const verdict = evaluators[i]!.evaluateIngress(asked, trace)
      if (verdict !== 'next') return note(verdict, i, true)
    }
    return 'accept'
  }

  function note<T>(verdict: T, tier: number, isIngress: boolean): T {
    decided.tier = tier
    decided.isIngress = isIngress
    decided.policy = evaluators[tier]!.decidedPolicy ?? NO_POLICY
    return verdict
  }

  function knows(address: Address): boolean {
    if (workloadOf(tables, address) !== OUTSIDE || nodeOf(tables, address) !== NO_NODE) return true
    return tables.localHost !== OUTSIDE && forwardingHost(tables, address, tables.localHost) !== OUTSIDE
  }

  function decideAudited(): 'accept' | 'deny' {
    if (flow === undefined) throw new Error('nothing was decided before')
    flow.includesAudited = true
    return decideFlow(flow)
  }

  const decide: Engine['decide'] = (packet, hook) => decideFlow(identify(packet, hook))
  return { evaluators, decided, identify, decideFlow, knows, decide, decideAudited }
}

/** Traffic that is accepted before any policy is asked. */
export function exemptionOf(flow: Flow): Exemption {
  if (isNeverJudged(flow.packet)) return 'never judged'
  if (flow.isToItself) return 'own address'
  return flow.isFromOwnNode ? 'own node' : 'none'
}
