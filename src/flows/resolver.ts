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
import type { Mode } from '../mode.ts'
import type { FlowEnd, FlowEvent } from './event.ts'

/** What is kept of decisions that were explained. */
const MAX_KNOWN = 1024

const unreadable: DecidedBy = { tier: 'Unreadable', reason: 'the packet cannot be read' }
const unenforced: DecidedBy = { tier: 'Default', reason: 'nothing is enforced under audit' }
const failed: DecidedBy = { tier: 'Unreadable', reason: 'judging the packet failed' }

/** Says who the ends of a decision are and who decided, by the policies in force. */
export class FlowResolver {
  readonly #compiled: () => CompiledPolicy
  readonly #mode: Mode
  readonly #known = new Map<string, PacketDecision>()
  #generation = -1

  constructor(compiled: () => CompiledPolicy, mode: Mode = 'enforce') {
    this.#compiled = compiled
    this.#mode = mode
  }

  /** @param key `keyOf` the record */
  resolve(record: FlowRecord, key: string): FlowEvent {
    const { packet, form, origin, generation, timeMs } = record
    const decision = packet && this.#decide(packet, record.hook, key)
    const verdict = verdictOf(record)
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
      ...(this.#mode === 'audit' ? unenforcedBy(record, decision) : decidedByOf(record, decision)),
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
export function keyOf({ packet, outcome, isAudited, form, origin, hook, generation }: FlowRecord): string {
  const what = `${generation} ${outcome} ${isAudited} ${form} ${origin} ${hook}`
  if (!packet) return what
  const { source: s, destination: d, protocol, icmpType, icmpCode } = packet
  const ends = `${s.w0} ${s.w1} ${s.w2} ${s.w3} ${d.w0} ${d.w1} ${d.w2} ${d.w3} ${d.port}`
  return `${what} ${ends} ${protocol} ${icmpType} ${icmpCode}`
}

/** What became of the packet. */
export function verdictOf({ outcome, isAudited }: Pick<FlowRecord, 'outcome' | 'isAudited'>): 'allow' | 'deny' {
  if (outcome === outcomes.ALLOWED) return 'allow'
  // What could not be judged passes under audit.
  return isAudited && outcome !== outcomes.DENIED ? 'allow' : 'deny'
}

function decidedByOf(record: FlowRecord, decision: PacketDecision | undefined): Pick<FlowEvent, 'decidedBy' | 'audit'> {
  const verdict = verdictOf(record)
  const unjudged = unjudgedBy(record)
  if (unjudged || !decision) return { decidedBy: unjudged ?? unreadable }
  const isSame = decision.verdict === verdict && (decision.audit !== undefined) === record.isAudited
  if (isSame) return { decidedBy: decision.decidedBy, ...(decision.audit && { audit: decision.audit }) }
  const former = formerOf(record)
  return { decidedBy: former, ...(record.isAudited && { audit: { verdict: opposite(verdict), decidedBy: former } }) }
}

/** Under audit nobody denies; who would have is told. */
function unenforcedBy(
  record: FlowRecord,
  decision: PacketDecision | undefined,
): Pick<FlowEvent, 'decidedBy' | 'audit'> {
  const would = decision && (decision.audit ?? decision)
  if (!record.isAudited) return { decidedBy: would?.verdict === 'allow' ? would.decidedBy : formerOf(record) }
  const deniedBy = unjudgedBy(record) ?? (would?.verdict === 'deny' ? would.decidedBy : formerOf(record))
  return { decidedBy: unenforced, audit: { verdict: 'deny', decidedBy: deniedBy } }
}

function unjudgedBy({ outcome }: FlowRecord): DecidedBy | undefined {
  if (outcome === outcomes.FAILED) return failed
  return outcome === outcomes.UNREADABLE ? unreadable : undefined
}

function formerOf({ generation }: FlowRecord): DecidedBy {
  return { tier: 'Former', reason: `decided by generation ${generation}, which is no longer in force` }
}

function opposite(verdict: 'allow' | 'deny'): 'allow' | 'deny' {
  return verdict === 'allow' ? 'deny' : 'allow'
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
