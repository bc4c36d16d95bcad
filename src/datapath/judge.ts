import { sameAddress } from '../engine/address.ts'
import type { Decided } from '../engine/engine.ts'
import {
  type Address,
  type Engine,
  type Generation,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  PacketDecoder,
  packetProblems,
} from '../engine/index.ts'
import { isNeverJudged, TCP } from '../engine/packet.ts'
import type { Mode } from '../mode.ts'
import type { DecisionTally } from './decision-tally.ts'
import { type FlowWriter, flowOrigins, packetForms } from './flow-ring.ts'
import { type LocalPods, noLocalPods } from './local-pods.ts'
import { type MarkLayout, NO_STAMP, PICKED_UP } from './marks.ts'

/** What a packet was found to be; written to the counters. HELD: it is not decided yet. */
export const outcomes = { ALLOWED: 0, DENIED: 1, UNREADABLE: 2, FAILED: 3, HELD: 4 } as const

/** What becomes of the traffic of a local pod that no source has come to know in time. */
export type UnknownLocal = 'deny' | 'allow'

const SYN = 2
const CONNECTION_FLAGS = 0x17 // ACK, RST, SYN, FIN

/** What deciding by a generation needs to know of it. */
export type JudgedGeneration = Pick<Generation, 'number' | 'hasAudited'>

/** Turns one queued packet into the mark that answers it. Allocates nothing. */
export class PacketJudge {
  /** What the last packet was found to be. */
  outcome: number = outcomes.DENIED
  /** Whether it would have been another one if what is audited were enforced. */
  isAudited = false
  /** What it was in its connection: one of `packetForms`. */
  form: number = packetForms.FIRST
  /** The hook at which its connection was decided. */
  hook = 0
  /** The last packet as it was decided: as if it went from client to server. */
  readonly packet = new PacketDecoder()
  readonly #marks: MarkLayout
  readonly #unknownLocal: UnknownLocal
  #engine: Engine
  #generation: JudgedGeneration
  #stamp: number
  readonly #isAudit: boolean
  #tally: DecisionTally | undefined
  /** Of the last packet: whether it was the engine that decided. */
  #isDecided = false
  #pods: LocalPods
  /** Whether what nobody can decide is decided now, as `unknownLocal` says. */
  #isLast = false
  /** Of the last packet: an end of it is unknown. What is decided of it must not be remembered. */
  #isOfUnknown = false
  /** Of the last packet: it cannot be decided before that end is known. */
  #mustWait = false
  #hasUnknownSource = false

  /**
   * @param generation the engine's
   * @param stamp its stamp
   * @param mode audit: nothing is denied, and what would be is said
   * @param unknownLocal for `judgeLast`
   */
  constructor(
    engine: Engine,
    generation: JudgedGeneration,
    stamp: number,
    marks: MarkLayout,
    {
      mode = 'enforce',
      pods = noLocalPods,
      unknownLocal = 'deny',
    }: { mode?: Mode; pods?: LocalPods; unknownLocal?: UnknownLocal } = {},
  ) {
    this.#engine = engine
    this.#generation = generation
    this.#stamp = stamp
    this.#marks = marks
    this.#isAudit = mode === 'audit'
    this.#pods = pods
    this.#unknownLocal = unknownLocal
  }

  /** From the next packet on, decides by another generation. */
  swap(engine: Engine, generation: JudgedGeneration, stamp: number): void {
    this.#engine = engine
    this.#generation = generation
    this.#stamp = stamp
  }

  /** From the next packet on, decisions are counted there. It must be of the engine's generation. */
  setTally(tally: DecisionTally): void {
    this.#tally = tally
  }

  /** From the next packet on, these are the pods of this machine, known or not. */
  setLocalPods(pods: LocalPods): void {
    this.#pods = pods
  }

  /** Of a packet that was HELD: whether it is its source that nobody knows; its destination otherwise. */
  get hasUnknownSource(): boolean {
    return this.#hasUnknownSource
  }

  /** Of a packet that was HELD: the address that nobody knows. Overwritten by the next one. */
  get unknownAddress(): Address {
    return this.#hasUnknownSource ? this.packet.source : this.packet.destination
  }

  /** Writes down how the last packet was decided. Answers whether it passed though it would have been denied. */
  record(flows: FlowWriter, outcome: number, origin: number = flowOrigins.ASKED): boolean {
    const packet = this.packet.hasAddresses ? this.packet : undefined
    // What could not be judged passes under audit only.
    const isAudited = outcome === outcomes.ALLOWED || outcome === outcomes.DENIED ? this.isAudited : this.#isAudit
    flows.write(packet, this.#generation.number, outcome, this.form, origin, this.hook, isAudited)
    return isAudited && outcome !== outcomes.DENIED
  }

  /** Finds out who decides the first packet of a connection that the kernel has answered by itself, and counts it. */
  note(
    bytes: Uint8Array,
    start: number,
    captured: number,
    length: number,
    family: number,
    hook: number,
    isDenied: boolean,
  ): void {
    this.outcome = isDenied ? outcomes.DENIED : outcomes.ALLOWED
    this.isAudited = false
    this.form = packetForms.FIRST
    this.hook = hook
    if (this.packet.decode(bytes, start, captured, length, family) !== packetProblems.NONE) return
    this.#decide(hook, 0)
    this.#count(!isDenied)
  }

  /**
   * The answer that denies a packet with this mark, and teaches nothing: what every packet gets that cannot be judged. Under
   * audit it passes, and teaches nothing.
   */
  denial(mark: number): number {
    return this.#isAudit ? this.#audited(mark, NO_STAMP) : this.#answer(mark, this.#marks.denied, NO_STAMP)
  }

  /**
   * What `judge` answers, but that nothing is HELD: what depends on an end that nobody knows is allowed or denied as
   * `unknownLocal` says. Allowed means that the other end's policies decide, for which such an address is one outside.
   */
  judgeLast(...packet: Parameters<PacketJudge['judge']>): number {
    this.#isLast = true
    try {
      return this.judge(...packet)
    } finally {
      this.#isLast = false
    }
  }

  /**
   * @param bytes holds the packet from `start`, `captured` bytes of `length`
   * @param family 4 or 6, as the kernel says
   * @param at netfilter hook number
   * @param mark the packet's mark, with the question
   * @returns the mark to answer with; none where the outcome is HELD
   */
  judge(
    bytes: Uint8Array,
    start: number,
    captured: number,
    length: number,
    family: number,
    at: number,
    mark: number,
  ): number {
    const decoder = this.packet
    const marks = this.#marks
    const isForwarded = (mark & marks.forwarded) !== 0
    // At output it would be taken for the node's own.
    const hook = isForwarded ? HOOK_FORWARD : at
    this.#isOfUnknown = false
    this.#mustWait = false
    const isReply = (mark & marks.reply) !== 0
    this.outcome = outcomes.UNREADABLE
    this.isAudited = false
    this.form = isReply ? packetForms.REPLY : packetForms.FIRST
    this.hook = hook
    if (decoder.decode(bytes, start, captured, length, family) !== packetProblems.NONE) return this.denial(mark)
    if ((mark & marks.related) !== 0) {
      this.form = packetForms.ERROR
      if (decoder.decodeQuoted(bytes) !== packetProblems.NONE) return this.denial(mark)
      // The error goes against the packet that it quotes: to the client it quotes the client's own, to the server a reply.
      if (!isReply) decoder.reverse()
      // What this machine itself reports may be about what it forwards, or about what it is sent.
      const isAllowed =
        this.#decide(isReply ? mirrored(hook) : hook, mark) ||
        (hook === HOOK_OUTPUT && this.#decide(HOOK_FORWARD, mark))
      return isAllowed ? this.#allow(mark, NO_STAMP) : this.#deny(mark)
    }
    // IPVS hides connections from conntrack, unless net.ipv4.vs.conntrack is 1; what it sends on is the client's all the same.
    if ((mark & marks.either) !== 0 && !isForwarded) {
      this.form = packetForms.MIDWAY
      return this.#judgeEither(isReply, hook, mark)
    }
    if (isReply) decoder.reverse()
    return this.#decide(isReply ? mirrored(hook) : hook, mark) ? this.#allow(mark, this.#stamp) : this.#deny(mark)
  }

  #judgeEither(isReply: boolean, hook: number, mark: number): number {
    const decoder = this.packet
    // Only a bare SYN says who begins.
    const isBeginning = decoder.protocol === TCP && (decoder.tcpFlags & CONNECTION_FLAGS) === SYN
    if (this.#decide(hook, mark)) return this.#allow(mark, isReply ? PICKED_UP : this.#stamp)
    if (isBeginning) return this.#deny(mark)
    decoder.reverse()
    return this.#decide(mirrored(hook), mark) ? this.#allow(mark, PICKED_UP) : this.#deny(mark)
  }

  #decide(hook: number, mark: number): boolean {
    const decoder = this.packet
    this.hook = hook
    this.#isDecided = false
    const isFromPod = hook !== HOOK_OUTPUT && this.isUnknown(decoder.source)
    const isToPod = hook !== HOOK_INPUT && this.isUnknown(decoder.destination)
    if (isFromPod || isToPod) {
      this.#isOfUnknown = true
      // As it will be when the pod is known: no policy is asked about what this machine sends to its own pods.
      const isExempt =
        hook === HOOK_OUTPUT || isNeverJudged(decoder) || sameAddress(decoder.source, decoder.destination)
      if (isExempt) return true
      // What was allowed when the pod was still known ends when a policy says so, not because its object is gone.
      const isDecidedSo =
        (mark & this.#marks.stamped) !== 0 || (this.#isLast && this.#unknownLocal === 'allow') || this.#isAudit
      if (!isDecidedSo) {
        this.#mustWait = true
        this.#hasUnknownSource = isFromPod
        return false
      }
    }
    this.#isDecided = true
    const verdict = this.#engine.decide(decoder, hook)
    return (this.#isAudit && this.#generation.hasAudited ? this.#engine.decideAudited() : verdict) === 'accept'
  }

  /** Whether an address is that of a pod of this machine, and nobody's. */
  isUnknown(address: Address): boolean {
    return !this.#pods.isEmpty && this.#pods.has(address) && !this.#engine.knows(address)
  }

  #allow(mark: number, stamp: number): number {
    this.outcome = outcomes.ALLOWED
    this.#count(true)
    const learnt = this.#isOfUnknown ? NO_STAMP : stamp
    return this.#wouldBe('deny') ? this.#audited(mark, learnt) : this.#answer(mark, this.#marks.allowed, learnt)
  }

  #deny(mark: number): number {
    if (this.#mustWait && !this.#isLast) {
      this.outcome = outcomes.HELD
      return 0
    }
    if (this.#isAudit) {
      this.outcome = outcomes.ALLOWED
      this.isAudited = true
      this.#tally?.noteUnenforced()
      this.#tally?.noteAudited(this.#decided())
      return this.#audited(mark, this.form === packetForms.ERROR ? NO_STAMP : this.#stamp)
    }
    this.outcome = outcomes.DENIED
    this.#count(false)
    if (this.#mustWait) return this.#answer(mark, this.#marks.dropped, NO_STAMP)
    const teaches = !this.#isOfUnknown && !this.#wouldBe('accept')
    return this.#answer(mark, this.#marks.denied, teaches ? this.#stamp : NO_STAMP)
  }

  /** Whether audited policies would have changed the last decision to this one; counts denials that are only audited. */
  #wouldBe(verdict: 'accept' | 'deny'): boolean {
    if (this.#isAudit || !this.#generation.hasAudited || !this.#isDecided) return false
    this.isAudited = this.#engine.decideAudited() === verdict
    if (this.isAudited && verdict === 'deny') this.#tally?.noteAudited(this.#decided())
    return this.isAudited
  }

  /** Passes, and the connection with it; nothing is learnt about others like it, so that each of them is seen. */
  #audited(mark: number, stamp: number): number {
    return this.#answer(mark, this.#marks.audited, stamp)
  }

  #answer(mark: number, verdict: number, stamp: number): number {
    return (mark & ~this.#marks.packetMask) | verdict | (stamp << this.#marks.stampShift)
  }

  /** Of several decisions about a packet the last one is what it got. */
  #count(isAllowed: boolean): void {
    this.#tally?.note(this.#decided(), isAllowed)
  }

  #decided(): Decided | undefined {
    return this.#isDecided ? this.#engine.decided : undefined
  }
}

/** The hook that the packet in the other direction passes. */
function mirrored(hook: number): number {
  if (hook === HOOK_INPUT) return HOOK_OUTPUT
  return hook === HOOK_OUTPUT ? HOOK_INPUT : hook
}
