import { type Address, isIPv4 } from './address.ts'
import type { CompiledPolicy } from './compile.ts'
import {
  type Endpoint,
  endpointText,
  pairAddresses,
  protocolNumber,
  type Question,
  QuestionError,
  resolveEndpoint,
  targetText,
} from './endpoint.ts'
import { type Engine, type Exemption, exemptionOf } from './engine.ts'
import type { Direction, NearestMiss, Trace, TraceStep } from './evaluator.ts'
import { ANY_HOOK, type Flow, HOOK_FORWARD } from './flow.ts'
import { type Identities, nodeOf, workloadOf } from './identity.ts'
import type { ObjectRef } from './objects.ts'
import type { Packet } from './packet.ts'
import { isPodTemplate } from './pod-template.ts'
import type { Snapshot } from './snapshot.ts'

/** What decided a flow. */
export interface DecidedBy {
  readonly direction?: Direction
  /** A tier's name, `Default` (no policy decided) or `Exempt` (no policy is asked). */
  readonly tier: string
  readonly policy?: ObjectRef
  readonly rule?: number
  readonly ruleName?: string
  readonly reason: string
}

/** One direction's walk through the tiers. */
export interface Stage {
  readonly direction: Direction
  /** The workload whose policies were asked. */
  readonly subject: string
  readonly verdict: 'allow' | 'deny'
  readonly tiers: readonly TraceStep[]
}

type WalkedStage = Omit<Stage, 'subject'>

/** The answer to a question, with everything that led to it. */
export interface Decision {
  readonly verdict: 'allow' | 'deny'
  readonly protocol: number
  /** 0 for protocols without ports. */
  readonly port: number
  readonly source: Endpoint
  readonly destination: Endpoint
  /** The addresses asked about; `undefined` where only a name is known. */
  readonly addresses: { readonly source: Address | undefined; readonly destination: Address | undefined }
  readonly decidedBy: DecidedBy
  readonly stages: readonly Stage[]
  readonly nearest?: NearestMiss
  /** What it would be if audited policies were enforced; only where that is another verdict. */
  readonly audit?: { readonly verdict: 'allow' | 'deny'; readonly decidedBy: DecidedBy }
  readonly generation: number
}

const exemptionReasons: Record<Exclude<Exemption, 'none'>, string> = {
  'never judged': 'neighbour discovery, MLD and path-MTU errors always pass',
  'own address': 'a workload always reaches itself',
  'own node': 'the node always reaches a pod that runs on it',
}

/**
 * Decides what a person asks, by the engine that decides packets, and keeps its trace. Throws QuestionError `unknown`
 * for a name that no source knows and where the answer hangs on an address that nobody knows.
 */
export function explain(question: Question, snapshot: Snapshot, compiled: CompiledPolicy): Decision {
  const { engine, identities } = compiled
  const source = resolveEndpoint(question.from, snapshot, identities)
  const destination = resolveEndpoint(question.to, snapshot, identities)
  const addresses = pairAddresses(source, destination)
  const known = addresses.source ?? addresses.destination
  const isV4 = known === undefined || isIPv4(known)
  const protocol = protocolNumber(question.protocol, isV4)
  const packet = makePacket(addresses, protocol, question.port, isV4)

  // A named workload is meant even where another one owns the address, or where it has none.
  const flow = engine.identify(packet, ANY_HOOK, source.workload, destination.workload)
  flow.hasSourceAddress = addresses.source !== undefined
  flow.hasDestinationAddress = addresses.destination !== undefined
  // One pod of a Deployment to another: the same name, but not the same address.
  if (flow.isToItself && isPodTemplate(identities.workloads[flow.sourceWorkload]!)) flow.isToItself = false

  const enforced = decide(engine, flow)
  const doubtful = enforced.stages.some(isCertainDenial) ? undefined : enforced.trace.find((step) => step.isUndecidable)
  if (doubtful) {
    const nameless = doubtful.direction === 'egress' ? destination : source
    const target = targetText(destination, protocol, question.port)
    throw new QuestionError(
      'unknown',
      `${endpointText(source)} -> ${target}: undecidable, a policy asks for the address of ${endpointText(nameless)}, which no source knows`,
    )
  }
  flow.includesAudited = true
  const complete = decide(engine, flow)
  const name = (direction: Direction) => endpointText(direction === 'egress' ? source : destination)
  return {
    verdict: enforced.verdict,
    protocol,
    port: question.port,
    source,
    destination,
    addresses,
    decidedBy: enforced.decidedBy,
    stages: enforced.stages.map(({ direction, verdict, tiers }) => ({
      direction,
      subject: name(direction),
      verdict,
      tiers,
    })),
    ...(enforced.nearest && { nearest: enforced.nearest }),
    ...(complete.verdict !== enforced.verdict && {
      audit: { verdict: complete.verdict, decidedBy: complete.decidedBy },
    }),
    generation: compiled.generation.number,
  }
}

/** Who the ends of a packet are, and why it is decided as it is. */
export interface PacketDecision extends Pick<Decision, 'verdict' | 'decidedBy' | 'audit'> {
  /** `namespace/name` of the workload or `node:NAME` whose packet it is; absent for any other address. */
  readonly source: string | undefined
  readonly destination: string | undefined
}

/** Decides a packet as the packet thread does, and says who decided. @param hook netfilter hook number */
export function decidePacket(
  { engine, identities, generation }: CompiledPolicy,
  packet: Packet,
  hook: number,
): PacketDecision {
  const flow = engine.identify(packet, hook)
  const { tables } = identities
  const source = nameOf(identities, flow.sourceWorkload, packet.source)
  // What lies behind a host that forwards to it is not the host.
  const isForwarded = hook === HOOK_FORWARD
  const owner = isForwarded ? workloadOf(tables, packet.destination) : flow.destinationWorkload
  const destination = nameOf(identities, owner, packet.destination)
  const { verdict, decidedBy } = decide(engine, flow)
  if (!generation.hasAudited) return { source, destination, verdict, decidedBy }
  flow.includesAudited = true
  const complete = decide(engine, flow)
  return {
    source,
    destination,
    verdict,
    decidedBy,
    ...(complete.verdict !== verdict && { audit: { verdict: complete.verdict, decidedBy: complete.decidedBy } }),
  }
}

function nameOf({ tables, workloads, nodeNames }: Identities, owner: number, address: Address): string | undefined {
  const workload = workloads[owner]
  if (workload) return `${workload.namespace}/${workload.name}`
  const node = nodeNames[nodeOf(tables, address)]
  return node === undefined ? undefined : `node:${node}`
}

/** The engine's decision with its trace. */
function decide(
  engine: Engine,
  flow: Flow,
): Pick<Decision, 'verdict' | 'decidedBy' | 'nearest'> & { stages: WalkedStage[]; trace: Trace } {
  const trace: Trace = []
  const verdict = engine.decideFlow(flow, trace) === 'accept' ? 'allow' : 'deny'
  const exemption = exemptionOf(flow)
  const stages = stagesOf(trace)
  const decisive = decisiveStep(stages)
  return {
    verdict,
    stages,
    trace,
    decidedBy:
      exemption !== 'none'
        ? { tier: 'Exempt', reason: exemptionReasons[exemption] }
        : decisive
          ? decidedBy(decisive)
          : { tier: 'Default', reason: 'no policy decides this flow, and what no policy decides is allowed' },
    ...(decisive?.nearest && { nearest: decisive.nearest }),
  }
}

function makePacket(
  { source, destination }: Decision['addresses'],
  protocol: number,
  port: number,
  isV4: boolean,
): Packet {
  const nowhere = { w0: 0, w1: 0, w2: 0, w3: 0 }
  return {
    family: isV4 ? 4 : 6,
    protocol,
    source: { ...(source ?? nowhere), port: 0 },
    destination: { ...(destination ?? nowhere), port },
    // An echo request: what people mean by ICMP.
    icmpType: protocol === 1 ? 8 : protocol === 58 ? 128 : 0,
    icmpCode: 0,
    tcpFlags: 0,
  }
}

function stagesOf(trace: Trace): WalkedStage[] {
  return (['egress', 'ingress'] as const).flatMap((direction) => {
    const tiers = trace.filter((step) => step.direction === direction)
    if (tiers.length === 0) return []
    return [{ direction, verdict: tiers.at(-1)!.verdict === 'deny' ? 'deny' : 'allow', tiers }]
  })
}

/** A denial that no address that is not known could have averted. */
function isCertainDenial({ verdict, tiers }: WalkedStage): boolean {
  return verdict === 'deny' && !tiers.some((step) => step.isUndecidable)
}

/** The denial that ended it, rather a certain one, else the last acceptance by a policy. */
function decisiveStep(stages: readonly WalkedStage[]): TraceStep | undefined {
  const denied = stages.find(isCertainDenial) ?? stages.find(({ verdict }) => verdict === 'deny')
  return (denied ?? stages.findLast(({ tiers }) => tiers.at(-1)!.verdict === 'accept'))?.tiers.at(-1)
}

function decidedBy({ direction, tier, policy, rule, ruleName, reason }: TraceStep): DecidedBy {
  return {
    direction,
    tier,
    ...(policy && { policy }),
    ...(rule !== undefined && { rule }),
    ...(ruleName !== undefined && { ruleName }),
    reason,
  }
}
