import { constants } from 'node:os'
import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_ID,
  FIELD_IN_INTERFACE,
  FIELD_LENGTH,
  FIELD_MARK,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  FIELD_OUT_INTERFACE,
  PACKET_FIELDS,
  type PacketQueue,
  type QueueCounters,
  STATE_ANSWERED_MS,
  STATE_RECEIVED_EPOCH_MS,
  STATE_RECEIVED_MS,
  STATES,
} from './queue.ts'

/** A packet for a {@link FakeQueue}. */
export interface FakePacket {
  /** From its IP header on. */
  readonly bytes: Uint8Array
  readonly family: 0 | 4 | 6
  /** As in FIELD_HOOK; 2 (forward) when left out. */
  readonly hook?: number
  /** 0 when left out. */
  readonly mark?: number
  /** What the packet had before it was cut; the number of `bytes` when left out. */
  readonly originalLength?: number
}

/** What a {@link FakeQueue} was told about a packet. */
export interface FakeAnswer {
  readonly packet: FakePacket
  /** Unsigned. */
  readonly mark: number
}

/** How {@link FakeQueue} behaves; the same words as for the real one. */
export interface FakeQueueOptions {
  readonly copyBytes: number
  readonly capacity: number
  readonly maxLength: number
}

/**
 * A {@link PacketQueue} in memory: packets are put in with `push`, answers are kept. It keeps the real one's contract,
 * but does not block: a receive with nothing to return returns 0 at once.
 */
export class FakeQueue implements PacketQueue {
  readonly capacity: number
  readonly packets: Int32Array
  readonly bytes: Uint8Array
  readonly marks: Int32Array
  readonly held: Uint8Array
  readonly state = new Float64Array(STATES)
  /** No descriptor. */
  readonly wakeFd = -1
  /** In the order in which they were given. */
  readonly answers: FakeAnswer[] = []
  readonly #copyBytes: number
  readonly #maxLength: number
  readonly #waiting: FakePacket[] = []
  #received: FakePacket[] = []
  readonly #held = new Map<number, FakePacket>()
  #lastId = 0
  #passed = 0
  #answerErrors = 0
  #closed = false

  constructor(options: FakeQueueOptions) {
    this.capacity = options.capacity
    this.#copyBytes = options.copyBytes
    this.#maxLength = options.maxLength
    this.packets = new Int32Array(options.capacity * PACKET_FIELDS)
    this.bytes = new Uint8Array(options.capacity * options.copyBytes)
    this.marks = new Int32Array(options.capacity)
    this.held = new Uint8Array(options.capacity)
  }

  /** How many packets have not been received yet. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** How many packets were not queued, because it was full: they went on unanswered. */
  get passed(): number {
    return this.#passed
  }

  push(...packets: readonly FakePacket[]): void {
    for (const packet of packets) {
      if (this.#waiting.length + this.#received.length + this.#held.size < this.#maxLength) this.#waiting.push(packet)
      else this.#passed++
    }
  }

  receive(_timeoutMs: number): number {
    if (this.#closed) throw systemError('EBADF', 'receive')
    if (this.#received.length > 0) throw systemError('EBUSY', 'receive')
    this.#received = this.#waiting.splice(0, this.capacity)
    for (const [row, packet] of this.#received.entries()) this.#fill(row, packet)
    this.state[STATE_RECEIVED_MS] = performance.now()
    this.state[STATE_RECEIVED_EPOCH_MS] = Date.now()
    return this.#received.length
  }

  answer(count: number): void {
    if (this.#closed) throw systemError('EBADF', 'answer')
    if (count !== this.#received.length) throw systemError('ERANGE', 'answer')
    for (const [row, packet] of this.#received.entries()) {
      if (this.held[row]! !== 0) this.#held.set(this.packets[row * PACKET_FIELDS + FIELD_ID]!, packet)
      else this.answers.push({ packet, mark: this.marks[row]! >>> 0 })
    }
    this.held.fill(0)
    this.#received = []
    this.state[STATE_ANSWERED_MS] = performance.now()
  }

  answerLate(ids: Int32Array, marks: Int32Array, count: number): void {
    if (this.#closed) throw systemError('EBADF', 'answer late')
    if (count > this.capacity || count > ids.length || count > marks.length) throw systemError('ERANGE', 'answer late')
    for (let i = 0; i < count; i++) {
      const packet = this.#held.get(ids[i]!)
      this.#held.delete(ids[i]!)
      if (packet) this.answers.push({ packet, mark: marks[i]! >>> 0 })
      else this.#answerErrors++
    }
  }

  counters(): QueueCounters {
    return { overflows: 0, answerErrors: this.#answerErrors, truncated: 0 }
  }

  close(): void {
    this.#closed = true
    this.#waiting.length = 0
    this.#received = []
    this.#held.clear()
  }

  #fill(row: number, packet: FakePacket): void {
    const copied = packet.bytes.subarray(0, this.#copyBytes)
    const offset = row * this.#copyBytes
    this.bytes.set(copied, offset)
    const at = row * PACKET_FIELDS
    this.packets[at + FIELD_FAMILY] = packet.family
    this.packets[at + FIELD_HOOK] = packet.hook ?? 2
    this.packets[at + FIELD_MARK] = packet.mark ?? 0
    this.packets[at + FIELD_OFFSET] = offset
    this.packets[at + FIELD_LENGTH] = copied.length
    this.packets[at + FIELD_ORIGINAL_LENGTH] = packet.originalLength ?? packet.bytes.length
    this.packets[at + FIELD_IN_INTERFACE] = 0
    this.packets[at + FIELD_OUT_INTERFACE] = 0
    this.packets[at + FIELD_ID] = ++this.#lastId
  }
}

function systemError(code: 'EBADF' | 'EBUSY' | 'ERANGE', operation: string): Error {
  return Object.assign(new Error(`${operation}: ${code}`), { errno: constants.errno[code], code, operation })
}
