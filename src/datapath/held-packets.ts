import type { Address } from '../engine/index.ts'
import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_ID,
  FIELD_LENGTH,
  FIELD_MARK,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  PACKET_FIELDS,
  type PacketQueue,
} from '../native/queue.ts'
import { outcomes, type PacketJudge } from './judge.ts'

/** How packets are held, in one queue. */
export interface HoldLimits {
  /** How long a packet is held at most. */
  readonly holdMs: number
  /** How many may be held: from addresses that nobody knows, and as many to such ones. */
  readonly capacity: number
  /** How many of them for one address. */
  readonly perAddress: number
  /**
   * Whether an address that was waited for in vain is not waited for again soon: where its packets pass in the end, each of
   * them would be late.
   */
  readonly isOnce: boolean
}

/** After so long it may be another pod that has the address. */
const ONCE_MS = 30_000
const MAX_IN_VAIN = 1024

interface Held {
  readonly id: number
  readonly bytes: Uint8Array
  readonly originalLength: number
  readonly family: number
  readonly hook: number
  readonly mark: number
  readonly address: Count
  readonly deadlineMs: number
}

/** What is held for one address, in one direction. */
interface Count {
  readonly key: string
  readonly address: Address
  readonly direction: Direction
  count: number
}

/** Of one direction, so that a scan of addresses that nobody has leaves room for the packets of pods that start. */
interface Direction {
  count: number
  readonly byAddress: Map<string, Count>
}

/** Told how held packets end. */
export interface HoldObserver {
  /** Some are being judged. */
  begin(): void
  /** The last one that was judged is answered: the judge has it still. */
  settled(outcome: number, isLast: boolean): void
  end(): void
}

/**
 * Packets that nobody can decide yet: one end is a pod of this machine that no source knows. They wait in the kernel until
 * the pod is known, and no longer than `holdMs`.
 */
export class HeldPackets {
  readonly #queue: PacketQueue
  readonly #judge: PacketJudge
  readonly #limits: HoldLimits
  readonly #observer: HoldObserver
  /** In the order of their deadlines. */
  #held: Held[] = []
  readonly #fromUnknown: Direction = { count: 0, byAddress: new Map() }
  readonly #toUnknown: Direction = { count: 0, byAddress: new Map() }
  /** Addresses that were waited for in vain, and until when they are not again. */
  readonly #inVain = new Map<string, { readonly address: Address; readonly untilMs: number }>()
  readonly #ids: Int32Array
  readonly #marks: Int32Array

  constructor(queue: PacketQueue, judge: PacketJudge, limits: HoldLimits, observer: HoldObserver) {
    this.#queue = queue
    this.#judge = judge
    this.#limits = limits
    this.#observer = observer
    this.#ids = new Int32Array(queue.capacity)
    this.#marks = new Int32Array(queue.capacity)
  }

  /** How many are held now. */
  get size(): number {
    return this.#held.length
  }

  /** When the first of them is over its time; `undefined` where none is held. */
  get deadlineMs(): number | undefined {
    return this.#held[0]?.deadlineMs
  }

  /**
   * Holds the packet of a row that the judge has just found to be HELD, and marks it in the queue. False where there is no
   * room for it.
   */
  take(row: number, nowMs: number): boolean {
    const { holdMs } = this.#limits
    const address = holdMs > 0 ? this.#roomFor(this.#judge.unknownAddress, nowMs) : undefined
    if (!address) return false
    const { packets, bytes, held } = this.#queue
    const at = row * PACKET_FIELDS
    const offset = packets[at + FIELD_OFFSET]!
    this.#held.push({
      id: packets[at + FIELD_ID]!,
      bytes: bytes.slice(offset, offset + packets[at + FIELD_LENGTH]!),
      originalLength: packets[at + FIELD_ORIGINAL_LENGTH]!,
      family: packets[at + FIELD_FAMILY]!,
      hook: packets[at + FIELD_HOOK]!,
      mark: packets[at + FIELD_MARK]!,
      address,
      deadlineMs: nowMs + holdMs,
    })
    address.count++
    address.direction.count++
    held[row] = 1
    return true
  }

  /** Judges all of them again, by what is known now, and answers those that are decided. */
  judgeAgain(): void {
    for (const [key, { address }] of this.#inVain) if (!this.#judge.isUnknown(address)) this.#inVain.delete(key)
    if (this.#held.length > 0) this.#settle(() => false)
  }

  /** Answers those whose time is over: they are judged a last time. */
  expire(nowMs: number): void {
    const first = this.#held[0]
    if (!first || first.deadlineMs > nowMs) return
    const isOver = ({ deadlineMs }: Held) => deadlineMs <= nowMs
    if (this.#limits.isOnce) this.#noteInVain(this.#held.filter(isOver), nowMs)
    this.#settle(isOver, true)
  }

  #settle(isOver: (packet: Held) => boolean, onlyThose = false): void {
    const rest: Held[] = []
    let count = 0
    this.#observer.begin()
    for (const packet of this.#held) {
      const isLast = isOver(packet)
      const answer = onlyThose && !isLast ? undefined : this.#answerFor(packet, isLast)
      if (answer === undefined) {
        rest.push(packet)
        continue
      }
      this.#release(packet.address)
      this.#ids[count] = packet.id
      this.#marks[count++] = answer
      if (count === this.#ids.length) {
        this.#queue.answerLate(this.#ids, this.#marks, count)
        count = 0
      }
    }
    this.#held = rest
    if (count > 0) this.#queue.answerLate(this.#ids, this.#marks, count)
    this.#observer.end()
  }

  /** The mark to answer with; `undefined` while nobody can tell. */
  #answerFor({ bytes, originalLength, family, hook, mark }: Held, isLast: boolean): number | undefined {
    const judge = this.#judge
    const packet = [bytes, 0, bytes.length, originalLength, family, hook, mark] as const
    try {
      const answer = isLast ? judge.judgeLast(...packet) : judge.judge(...packet)
      if (judge.outcome === outcomes.HELD) return undefined
      this.#observer.settled(judge.outcome, isLast)
      return answer
    } catch {
      this.#observer.settled(outcomes.FAILED, isLast)
      return judge.denial(mark)
    }
  }

  #noteInVain(packets: readonly Held[], nowMs: number): void {
    if (this.#inVain.size > MAX_IN_VAIN) this.#inVain.clear()
    for (const { address } of packets)
      this.#inVain.set(address.key, { address: address.address, untilMs: nowMs + ONCE_MS })
  }

  #roomFor({ w0, w1, w2, w3 }: Address, nowMs: number): Count | undefined {
    const { capacity, perAddress } = this.#limits
    const direction = this.#judge.hasUnknownSource ? this.#fromUnknown : this.#toUnknown
    if (direction.count >= capacity) return undefined
    const key = `${w0} ${w1} ${w2} ${w3}`
    if (nowMs < (this.#inVain.get(key)?.untilMs ?? 0)) return undefined
    const known = direction.byAddress.get(key)
    if (known) return known.count < perAddress ? known : undefined
    const count = { key, address: { w0, w1, w2, w3 }, direction, count: 0 }
    direction.byAddress.set(key, count)
    return count
  }

  #release(address: Count): void {
    address.count--
    address.direction.count--
    if (address.count === 0) address.direction.byAddress.delete(address.key)
  }
}
