import { formatAddress, parseAddress } from '../../src/engine/address.ts'
import { type CompiledPolicy, Compiler } from '../../src/engine/compile.ts'
import { type Engine, EXEMPT, exemptionOf, UNDECIDED } from '../../src/engine/engine.ts'
import { ANY_HOOK, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import type { Packet, Trace, TraceStep } from '../../src/engine/index.ts'
import { refName } from '../../src/engine/objects.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { readPlain } from '../fixtures/read-plain.ts'
import { packet } from '../fixtures/world.ts'
import { endsOf } from './oracle/ends.ts'
import { type OracleFlow, type OracleWorld, objectsOf, type PlainObject, worldFrom } from './oracle/objects.ts'
import { type OracleAnswer, type OracleDecision, type OracleVerdict, oracle } from './oracle.ts'

/** What the engine says of a flow, in the oracle's words. */
export interface FoundDecision {
  readonly verdict: OracleVerdict
  readonly decidedBy?: Pick<TraceStep, 'direction' | 'tier' | 'policy' | 'rule'>
}

export interface FoundAnswer {
  readonly enforced: FoundDecision
  readonly complete: FoundDecision
}

/** A flow of which the engine and the oracle say different things; `found` is text where the engine failed. */
export interface Difference {
  readonly flow: OracleFlow
  readonly expected: OracleAnswer
  readonly found: FoundAnswer | string
}

const hooks = { none: ANY_HOOK, input: HOOK_INPUT, forward: HOOK_FORWARD, output: HOOK_OUTPUT }
const protocolNumbers: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132, ESP: 50 }

/** The policy of objects that a new compiler sees for the first time. */
export function compileAfresh(objects: readonly PlainObject[], localNode: string): CompiledPolicy {
  return new Compiler(policyKinds, localNode).update({ upserts: objects.map(readPlain), deletes: [] })
}

/** Throws where the engine says one thing with a trace and another without, be it the verdict or what decided. */
export function decidedBy(compiled: CompiledPolicy, flow: OracleFlow): FoundAnswer {
  const asked = packetOf(flow)
  const enforced = decideWith(compiled, asked, flow, false)
  const plain = packetVerdict(compiled.engine, flow)
  if ((plain === 'deny') !== (enforced.verdict === 'deny')) {
    throw new Error(`decide() says ${plain}, the trace ${enforced.verdict}`)
  }
  const [counted, traced] = [countedAs(compiled), tracedAs(enforced)]
  // Of several policies that isolate the trace names the one that came closest, and the counter the first.
  const isIsolated = enforced.verdict === 'deny' && enforced.decidedBy?.rule === undefined
  const isSame = isIsolated ? sortOf(counted) === sortOf(traced) : counted === traced
  if (!isSame) throw new Error(`counted as ${counted}, the trace says ${traced}`)
  return { enforced, complete: decideWith(compiled, asked, flow, true) }
}

/** What the last decision of a packet is counted as. */
function countedAs({ engine, policyNames }: CompiledPolicy): string {
  const { tier, isIngress, policy } = engine.decided
  if (tier === EXEMPT) return 'exempt'
  if (tier === UNDECIDED) return 'default'
  const name = policyNames[tier]![policy]
  const text = name === undefined ? 'none' : `${name.kind} ${refName(name)}`
  return `${isIngress ? 'ingress' : 'egress'} ${engine.evaluators[tier]!.name} ${text}`
}

function tracedAs({ verdict, decidedBy: by }: FoundDecision): string {
  if (!by) return verdict
  return `${by.direction} ${by.tier} ${by.policy ? `${by.policy.kind} ${refName(by.policy)}` : 'none'}`
}

/** Without the policy's name. */
function sortOf(text: string): string {
  return text.replace(/ \S+$/, '')
}

/** What an engine does with a flow's packet, as the packet thread asks it. */
export function packetVerdict(engine: Engine, flow: OracleFlow): 'accept' | 'deny' {
  return engine.decide(packetOf(flow), hooks[flow.hook])
}

function packetOf({ source, destination, port, icmpType, icmpCode, protocol }: OracleFlow): Packet {
  const number = protocolNumbers[protocol] ?? (destination.includes(':') ? 58 : 1)
  return packet({ source, destination, protocol: number, port, icmpType, icmpCode })
}

function decideWith(
  { engine }: CompiledPolicy,
  asked: Packet,
  { hook }: OracleFlow,
  includesAudited: boolean,
): FoundDecision {
  const flow = Object.assign(engine.identify(asked, hooks[hook]), { includesAudited })
  const trace: Trace = []
  const traced = engine.decideFlow(flow, trace)
  const untraced = engine.decideFlow(flow)
  flow.includesAudited = false
  if (traced !== untraced) throw new Error(`${untraced} without a trace, ${traced} with one`)
  if (exemptionOf(flow) !== 'none') return { verdict: 'exempt' }
  const lastSteps = (['egress', 'ingress'] as const).flatMap(
    (direction) => trace.findLast((step) => step.direction === direction) ?? [],
  )
  const denial = lastSteps.find(({ verdict }) => verdict === 'deny')
  const acceptance = lastSteps.findLast(({ verdict }) => verdict === 'accept')
  if ((traced === 'deny') !== (denial !== undefined)) throw new Error(`${traced}, which no step of the trace says`)
  if (denial) return { verdict: 'deny', decidedBy: denial }
  return acceptance ? { verdict: 'allow', decidedBy: acceptance } : { verdict: 'default' }
}

/** Whether the engine found what the oracle says, the audited policies' part included. */
export function agrees(expected: OracleAnswer, { enforced, complete }: FoundAnswer): boolean {
  return decisionAgrees(expected, enforced) && decisionAgrees(expected.complete, complete)
}

function decisionAgrees({ verdict, decidedBy: by }: OracleDecision, found: FoundDecision): boolean {
  if (verdict !== found.verdict) return false
  if (!by || !found.decidedBy) return !by && !found.decidedBy
  const { direction, tier, policy, rule } = found.decidedBy
  if (direction !== by.direction || tier !== by.tier) return false
  // Several policies isolate: none of them is the one that denies.
  if (verdict === 'deny' && tier === 'NetworkPolicy') return true
  if (by.rules.length === 0) return policy === undefined
  return by.rules.some(
    (each) =>
      each.kind === policy?.kind &&
      each.namespace === policy.namespace &&
      each.name === policy.name &&
      each.rule === rule,
  )
}

/** The first flow that the engine decides otherwise than the oracle. @param count told each of the oracle's answers */
export function findDifference(
  objects: readonly PlainObject[],
  flows: readonly OracleFlow[],
  localNode: string,
  count: (answer: OracleAnswer) => void = () => {},
): Difference | undefined {
  const world = worldFrom(objects)
  const compiled = compileAfresh(objectsOf(world), localNode)
  const isProtected = protectionOf(world, compiled, localNode)
  for (const flow of flows) {
    const expected = oracle(world, flow, localNode)
    const found = textOfFailure(() => decidedBy(compiled, flow))
    if (typeof found === 'string' || !agrees(expected, found)) return { flow, expected, found }
    for (const { decidedBy: by } of [expected, expected.complete]) {
      if (by && !isProtected(flow, by.direction)) return { flow, expected, found: `no ${by.direction} is decided here` }
    }
    count(expected)
  }
  return undefined
}

/**
 * Whether a flow reaches the firewall: where policies decide for a workload whose traffic is decided on this node, the
 * ruleset has to know the workload. True where another node decides.
 */
function protectionOf(
  world: OracleWorld,
  { subjects, host }: CompiledPolicy,
  localNode: string,
): (flow: OracleFlow, direction: 'egress' | 'ingress') => boolean {
  const known = new Set(subjects.map(formatAddress))
  const { nodes, pods, hosts } = world
  const isNode =
    nodes.some(({ metadata }) => metadata.name === localNode) ||
    [...pods.map(({ spec }) => spec.nodeName), ...hosts.map(({ spec }) => spec.node)].includes(localNode)
  return (flow, direction) => {
    const { source, destination } = endsOf(world, flow, localNode)
    const subject = (direction === 'egress' ? source : destination)!
    const isPod = subject.kind === 'Pod'
    const node = isPod ? subject.spec.nodeName : subject.spec.node
    if (isNode && node !== undefined && node !== localNode) return true
    if (!isPod && node === localNode) return host?.[direction] === true
    const addresses = isPod ? (subject.status.podIPs ?? []).map(({ ip }) => ip) : (subject.spec.addresses ?? [])
    return addresses.every((address) => known.has(formatAddress(parseAddress(address)!)))
  }
}

function textOfFailure<T>(act: () => T): T | string {
  try {
    return act()
  } catch (error) {
    return String(error instanceof Error ? (error.stack ?? error) : error)
  }
}

/** What decided, as one line of text that is the same for answers that agree. */
export function decisionText({ verdict, decidedBy: by }: FoundDecision): string {
  if (!by) return verdict
  const { direction, tier, policy, rule } = by
  // Any of the rules that accept may be named, and any of the policies that isolate.
  const name = policy && tier !== 'NetworkPolicy' ? `: ${policy.kind} ${policy.name} rule ${rule}` : ''
  return `${verdict} by ${tier} (${direction})${name}`
}

/** The engine's answer as a line, and what the audited policies would make of it. */
export function answerText({ enforced, complete }: FoundAnswer): string {
  return `${decisionText(enforced)}; with audited policies ${decisionText(complete)}`
}

/** The oracle's answer as a line, likewise. */
export function expectedText(answer: OracleAnswer): string {
  return `${oracleText(answer)}; with audited policies ${oracleText(answer.complete)}`
}

function oracleText({ verdict, decidedBy: by }: OracleDecision): string {
  if (!by) return verdict
  const names = by.rules.map(({ kind, name, rule }) => `${kind} ${name} rule ${rule}`)
  return `${verdict} by ${by.tier} (${by.direction})${names.length > 0 ? `: ${names.join(' or ')}` : ''}`
}
