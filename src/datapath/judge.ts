import { type Engine, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, PacketDecoder, packetProblems } from '../engine/index.ts'
import { TCP } from '../engine/packet.ts'
import type { DecisionTally } from './decision-tally.ts'
import { type FlowWriter, flowOrigins, packetForms } from './flow-ring.ts'
import { type MarkLayout, NO_STAMP, PICKED_UP } from './marks.ts'

/** What a packet was found to be; written to the counters. */
export const outcomes = { ALLOWED: 0, DENIED: 1, UNREADABLE: 2, FAILED: 3 } as const

const SYN = 2
const CONNECTION_FLAGS = 0x17 // ACK, RST, SYN, FIN

/** Turns one queued packet into the mark that answers it. Allocates nothing. */
export class PacketJudge {
  /** What the last packet was found to be. */
  outcome: number = outcomes.DENIED
  /** What it was in its connection: one of `packetForms`. */
  form: number = packetForms.FIRST
  /** The hook at which its connection was decided. */
  hook = 0
  /** The last packet as it was decided: as if it went from client to server. */
  readonly packet = new PacketDecoder()
  readonly #marks: MarkLayout
  #engine: Engine
  #generation: number
  #stamp: number
  #tally: DecisionTally | undefined
  /** Of the last packet: whether it was the engine that decided. */
  #isDecided = false

  /**
   * @param generation the number of the engine's generation
   * @param stamp its stamp
   */
  constructor(engine: Engine, generation: number, stamp: number, marks: MarkLayout) {
    this.#engine = engine
    this.#generation = generation
    this.#stamp = stamp
    this.#marks = marks
  }

  /** From the next packet on, decides by another generation. */
  swap(engine: Engine, generation: number, stamp: number): void {
    this.#engine = engine
    this.#generation = generation
    this.#stamp = stamp
  }

  /** From the next packet on, decisions are counted there. It must be of the engine's generation. */
  setTally(tally: DecisionTally): void {
    this.#tally = tally
  }

  /** Writes down how the last packet was decided. */
  record(flows: FlowWriter, outcome: number, origin: number = flowOrigins.ASKED): void {
    const packet = this.packet.hasAddresses ? this.packet : undefined
    flows.write(packet, this.#generation, outcome, this.form, origin, this.hook)
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
    this.form = packetForms.FIRST
    this.hook = hook
    if (this.packet.decode(bytes, start, captured, length, family) !== packetProblems.NONE) return
    this.#decide(hook)
    this.#count(!isDenied)
  }

  /** The answer that denies a packet with this mark, and teaches nothing: what every packet gets that cannot be judged. */
  denial(mark: number): number {
    return (mark & ~this.#marks.packetMask) | this.#marks.denied
  }

  /**
   * @param bytes holds the packet from `start`, `captured` bytes of `length`
   * @param family 4 or 6, as the kernel says
   * @param at netfilter hook number
   * @param mark the packet's mark, with the question
   * @returns the mark to answer with
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
    const isReply = (mark & marks.reply) !== 0
    this.outcome = outcomes.UNREADABLE
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
        this.#decide(isReply ? mirrored(hook) : hook) || (hook === HOOK_OUTPUT && this.#decide(HOOK_FORWARD))
      return isAllowed ? this.#allow(mark, NO_STAMP) : this.#deny(mark)
    }
    // IPVS hides connections from conntrack, unless net.ipv4.vs.conntrack is 1; what it sends on is the client's all the same.
    if ((mark & marks.either) !== 0 && !isForwarded) {
      this.form = packetForms.MIDWAY
      return this.#judgeEither(isReply, hook, mark)
    }
    if (isReply) decoder.reverse()
    return this.#decide(isReply ? mirrored(hook) : hook) ? this.#allow(mark, this.#stamp) : this.#deny(mark)
  }

  #judgeEither(isReply: boolean, hook: number, mark: number): number {
    const decoder = this.packet
    // Only a bare SYN says who begins.
    const isBeginning = decoder.protocol === TCP && (decoder.tcpFlags & CONNECTION_FLAGS) === SYN
    if (this.#decide(hook)) return this.#allow(mark, isReply ? PICKED_UP : this.#stamp)
    if (isBeginning) return this.#deny(mark)
    decoder.reverse()
    return this.#decide(mirrored(hook)) ? this.#allow(mark, PICKED_UP) : this.#deny(mark)
  }

  #decide(hook: number): boolean {
    this.#isDecided = true
    this.hook = hook
    return this.#engine.decide(this.packet, hook) === 'accept'
  }

  #allow(mark: number, stamp: number): number {
    this.outcome = outcomes.ALLOWED
    this.#count(true)
    return (mark & ~this.#marks.packetMask) | this.#marks.allowed | (stamp << this.#marks.stampShift)
  }

  #deny(mark: number): number {
    this.outcome = outcomes.DENIED
    this.#count(false)
    return this.denial(mark) | (this.#stamp << this.#marks.stampShift)
  }

  /** Of several decisions about a packet the last one is what it got. */
  #count(isAllowed: boolean): void {
    this.#tally?.note(this.#isDecided ? this.#engine.decided : undefined, isAllowed)
  }
}

/** The hook that the packet in the other direction passes. */
function mirrored(hook: number): number {
  if (hook === HOOK_INPUT) return HOOK_OUTPUT
  return hook === HOOK_OUTPUT ? HOOK_INPUT : hook
}
