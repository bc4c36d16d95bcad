import { type FlowRecord, flowOrigins, packetForms } from '../datapath/flow-ring.ts'
import { outcomes } from '../datapath/judge.ts'
import {
  type CompiledPolicy,
  type DecidedBy,
  decidePacket,
  formatAddress,
  HOOK_INPUT,
  HOOK_OUTPUT,
  type PacketDecision,
} from '../engine/index.ts'
import { hasPorts } from '../engine/protocol.ts'
import type { FlowEnd, FlowEvent } from './event.ts'

/** What is kept of decisions that were explained. */
const MAX_KNOWN = 4096

const unreadable: DecidedBy = { tier: 'Unreadable', reason: 'the packet cannot be read' }
const failed: DecidedBy = { tier: 'Unreadable', reason: 'judging the packet failed' }

/** Says who the ends of a decision are and who decided, by the policies in force. */
export class FlowResolver {
  readonly #compiled: () => CompiledPolicy
  readonly #known = new Map<string, PacketDecision>()
  #generation = -1

  constructor(compiled: () => CompiledPolicy) {
    this.#compiled = compiled
  }

  /** @param key `keyOf` the record */
  resolve(record: FlowRecord, key: string): FlowEvent {
    const { packet, outcome, form, origin, generation, timeMs } = record
    const decision = packet && this.#decide(packet, record.hook, key)
    const verdict = outcome === outcomes.ALLOWED ? 'allow' : 'deny'
    return {
      timeMs,
      count: 1,
      verdict,
      protocol: packet?.protocol ?? 0,
      ...(packet && {
        source: endOf(packet.source, packet.protocol, decision?.source),
        destination: endOf(packet.destination, packet.protocol, decision?.destination),
        ...(isIcmp(packet.protocol) && { icmp: { type: packet.icmpType, code: packet.icmpCode } }),
      }),
      hook: record.hook === HOOK_INPUT ? 'input' : record.hook === HOOK_OUTPUT ? 'output' : 'forward',
      ...(form !== packetForms.FIRST && { packet: formName(form) }),
      ...decidedByOf(outcome, verdict, generation, decision),
      isRemembered: origin === flowOrigins.REMEMBERED,
      generation,
    }
  }

  #decide(packet: NonNullable<FlowRecord['packet']>, hook: number, key: string): PacketDecision {
    const compiled = this.#compiled()
    if (compiled.generation.number !== this.#generation) {
      this.#known.clear()
      this.#generation = compiled.generation.number
    }
    const known = this.#known.get(key)
    if (known) return known
    const decision = decidePacket(compiled, { ...packet, tcpFlags: 0 }, hook)
    if (this.#known.size >= MAX_KNOWN) this.#known.clear()
    this.#known.set(key, decision)
    return decision
  }
}

/** The same for decisions that are alike but for their time and the client's port. */
export function keyOf({ packet, outcome, form, origin, hook, generation }: FlowRecord): string {
  const what = `${generation} ${outcome} ${form} ${origin} ${hook}`
  if (!packet) return what
  const { source: s, destination: d, protocol, icmpType, icmpCode } = packet
  const ends = `${s.w0} ${s.w1} ${s.w2} ${s.w3} ${d.w0} ${d.w1} ${d.w2} ${d.w3} ${d.port}`
  return `${what} ${ends} ${protocol} ${icmpType} ${icmpCode}`
}

function decidedByOf(
  outcome: number,
  verdict: 'allow' | 'deny',
  generation: number,
  decision: PacketDecision | undefined,
): Pick<FlowEvent, 'decidedBy' | 'audit'> {
  if (outcome === outcomes.FAILED) return { decidedBy: failed }
  if (outcome === outcomes.UNREADABLE || !decision) return { decidedBy: unreadable }
  if (decision.verdict === verdict) {
    return { decidedBy: decision.decidedBy, ...(decision.audit && { audit: decision.audit }) }
  }
  return { decidedBy: { tier: 'Former', reason: `decided by generation ${generation}, which is no longer in force` } }
}

function endOf(end: NonNullable<FlowRecord['packet']>['source'], protocol: number, name: string | undefined): FlowEnd {
  return {
    ...(name !== undefined && { name }),
    address: formatAddress(end),
    ...(hasPorts(protocol) && { port: end.port }),
  }
}

function isIcmp(protocol: number): boolean {
  return protocol === 1 || protocol === 58
}

function formName(form: number): 'reply' | 'error' | 'midway' {
  if (form === packetForms.REPLY) return 'reply'
  return form === packetForms.ERROR ? 'error' : 'midway'
}
