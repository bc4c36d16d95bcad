import type { PolicyEvaluator, Trace } from './evaluator.ts'
import { ANY_HOOK, type Flow, HOOK_INPUT, HOOK_OUTPUT, MutableFlow } from './flow.ts'
import { type IdentityTables, isLocal, NO_NODE, nodeOf, OUTSIDE, workloadOf } from './identity.ts'
import { isNeverJudged, type Packet } from './packet.ts'

/** Why no policy is asked. */
export type Exemption = 'none' | 'never judged' | 'own address' | 'own node'

/** Decides flows by one generation. Pure and synchronous; not reentrant: it reuses its Flow. */
export interface Engine {
  readonly evaluators: readonly PolicyEvaluator[]
  /** Decides a packet in its connection's original direction. @param hook netfilter hook number, or ANY_HOOK */
  decide(packet: Packet, hook: number): 'accept' | 'deny'
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

  function identify(
    packet: Packet,
    hook: number,
    source = workloadOf(tables, packet.source),
    destination = workloadOf(tables, packet.destination),
  ): MutableFlow {
    flow ??= new MutableFlow(packet)
    flow.packet = packet
    flow.hook = hook
    flow.sourceWorkload = source
    flow.destinationWorkload = destination
    flow.sourceIdentity = source === OUTSIDE ? OUTSIDE : tables.workloadIdentity[source]!
    flow.destinationIdentity = destination === OUTSIDE ? OUTSIDE : tables.workloadIdentity[destination]!
    flow.isToItself = source !== OUTSIDE && source === destination
    flow.isFromOwnNode =
      destination !== OUTSIDE && source === OUTSIDE && isOwnNode(packet.source, destination, hook, HOOK_OUTPUT)
    flow.isToOwnNode =
      source !== OUTSIDE && destination === OUTSIDE && isOwnNode(packet.destination, source, hook, HOOK_INPUT)
    flow.hasSourceAddress = true
    flow.hasDestinationAddress = true
    return flow
  }

  /**
   * On the packet path it is the hook that tells: the node's end of a connection is a socket of this machine, whatever
   * address it has. A forwarded packet that carries the node's address is none of it.
   */
  function isOwnNode(address: Packet['source'], workload: number, hook: number, localHook: number): boolean {
    if (hook !== ANY_HOOK) return hook === localHook && isLocal(tables, workload)
    const node = nodeOf(tables, address)
    return node !== NO_NODE && node === tables.workloadNode[workload]
  }

  function decideFlow(asked: Flow, trace?: Trace): 'accept' | 'deny' {
    if (exemptionOf(asked) !== 'none') return 'accept'
    const egress = asked.sourceWorkload === OUTSIDE ? 'accept' : decideEgress(evaluators, asked, trace)
    if (egress === 'deny' && !trace) return 'deny'
    const ingress = asked.destinationWorkload === OUTSIDE ? 'accept' : decideIngress(evaluators, asked, trace)
    return egress === 'deny' ? 'deny' : ingress
  }

  return { evaluators, identify, decideFlow, decide: (packet, hook) => decideFlow(identify(packet, hook)) }
}

/** Traffic that is accepted before any policy is asked. */
export function exemptionOf(flow: Flow): Exemption {
  if (isNeverJudged(flow.packet)) return 'never judged'
  if (flow.isToItself) return 'own address'
  return flow.isFromOwnNode ? 'own node' : 'none'
}

function decideEgress(evaluators: readonly PolicyEvaluator[], flow: Flow, trace: Trace | undefined): 'accept' | 'deny' {
  for (let i = 0; i < evaluators.length; i++) {
    const verdict = evaluators[i]!.evaluateEgress(flow, trace)
    if (verdict !== 'next') return verdict
  }
  return 'accept'
}

function decideIngress(
  evaluators: readonly PolicyEvaluator[],
  flow: Flow,
  trace: Trace | undefined,
): 'accept' | 'deny' {
  for (let i = 0; i < evaluators.length; i++) {
    const verdict = evaluators[i]!.evaluateIngress(flow, trace)
    if (verdict !== 'next') return verdict
  }
  return 'accept'
}
