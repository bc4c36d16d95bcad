import { type Generation, HOOK_FORWARD, someIPv4 } from '../engine/index.ts'
import { createFlowRing, FlowWriter } from './flow-ring.ts'
import type { PacketJudge } from './judge.ts'

/** After so many decisions V8 has compiled nearly all that decides: it compiles what runs often, each part for itself. */
export const WARM_UP_DECISIONS = 20_000
/** Between so many addresses they are made up. */
const ADDRESSES = 256
/** So many take less than a millisecond once that has begun: a packet that comes meanwhile waits no longer. */
const STEP = 100

const SYN = Uint8Array.of(
  // IPv4 without options, 40 bytes, TCP; the addresses are put in.
  ...[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  // TCP: ports, numbers, a header of 20 bytes, SYN.
  ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0],
)
const SOURCE = 12
const DESTINATION = 16
const SOURCE_PORT = 20
const DESTINATION_PORT = 22
const FIRST_PORT = 1024
const PORTS = 64_000

/**
 * Decides made-up connections while no packet waits. Otherwise the first thousands of real ones pay for what V8 has not
 * compiled yet, and for its compiling.
 */
export class WarmUp {
  readonly #judgeOf: (generation: Generation) => PacketJudge
  readonly #bytes = Uint8Array.from(SYN)
  readonly #view = new DataView(this.#bytes.buffer)
  #left: number
  #isUnderWay = false
  #generation: Generation | undefined
  #judge: PacketJudge | undefined
  /** Which nobody reads. */
  #flows: FlowWriter | undefined
  #addresses: readonly number[] = []

  /** @param decisions how many @param judgeOf makes one for this alone: what it decides counts nowhere */
  constructor(decisions: number, judgeOf: (generation: Generation) => PacketJudge) {
    this.#left = decisions
    this.#judgeOf = judgeOf
  }

  /** Whether the next step is to follow soon. */
  get isUnderWay(): boolean {
    return this.#isUnderWay
  }

  /** Makes some of the decisions, by the generation in force: for less than a millisecond. */
  step(generation: Generation): void {
    if (this.#left === 0) return
    if (generation !== this.#generation) {
      this.#generation = generation
      this.#judge = this.#judgeOf(generation)
      this.#flows ??= new FlowWriter(createFlowRing())
      this.#addresses = someIPv4(generation.identities.addressWorkload, ADDRESSES)
    }
    // With no address there is nothing to decide yet.
    const count = this.#addresses.length > 0 ? Math.min(STEP, this.#left) : 0
    try {
      for (let i = 0; i < count; i++) this.#decide(--this.#left)
    } catch {
      // An evaluator's defect shows where a packet is judged.
      this.#left = 0
    }
    this.#isUnderWay = count > 0 && this.#left > 0
    if (this.#left > 0) return
    this.#judge = undefined
    this.#flows = undefined
  }

  #decide(number: number): void {
    const addresses = this.#addresses
    const view = this.#view
    const judge = this.#judge!
    view.setUint32(SOURCE, addresses[number % addresses.length]!)
    view.setUint32(DESTINATION, addresses[(number * 7 + 1) % addresses.length]!)
    view.setUint16(SOURCE_PORT, FIRST_PORT + (number % PORTS))
    view.setUint16(DESTINATION_PORT, FIRST_PORT + ((number * 3) % PORTS))
    const { length } = this.#bytes
    judge.judge(this.#bytes, 0, length, length, 4, HOOK_FORWARD, 0)
    judge.record(this.#flows!, judge.outcome)
  }
}
