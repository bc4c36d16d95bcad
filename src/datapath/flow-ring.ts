import type { Address } from '../engine/index.ts'

/**
 * The latest decisions of one thread, in shared memory. The thread writes each decision over the oldest one and waits for
 * nobody; whoever reads takes what is there, and is told how many it came too late for.
 */
export interface FlowRing {
  /** One int32: how many decisions were written, modulo 2^32. */
  readonly cursor: Int32Array<SharedArrayBuffer>
  /** RECORD_WORDS int32 for each decision. */
  readonly words: Int32Array<SharedArrayBuffer>
}

/** Which packet of a connection was decided about. */
export const packetForms = { FIRST: 0, REPLY: 1, ERROR: 2, MIDWAY: 3 } as const

/** Who acted on a decision: the packet thread, or the kernel by what it remembers. */
export const flowOrigins = { ASKED: 0, REMEMBERED: 1 } as const

/** What is written of a decision; a connection's own direction, client to server. */
export interface DecidedPacket {
  readonly family: 4 | 6
  readonly protocol: number
  readonly source: Address & { readonly port: number }
  readonly destination: Address & { readonly port: number }
  readonly icmpType: number
  readonly icmpCode: number
}

/** One decision as it was read. */
export interface FlowRecord {
  /** Since 1970. */
  readonly timeMs: number
  readonly generation: number
  /** Absent where nothing could be read of the packet. */
  readonly packet: DecidedPacket | undefined
  /** One of `outcomes`. */
  readonly outcome: number
  /** One of `packetForms`. */
  readonly form: number
  /** One of `flowOrigins`. */
  readonly origin: number
  /** Netfilter hook at which the connection was decided. */
  readonly hook: number
  /** Whether it would have been decided otherwise if what is audited were enforced. */
  readonly isAudited: boolean
}

/** Whether a record is wanted: as in `FlowRecord`. */
export type FlowTest = (outcome: number, isAudited: boolean) => boolean

const RECORD_WORDS = 16
// The first two words are the time, a float64.
const GENERATION = 2
const BITS = 3
const SOURCE = 4
const DESTINATION = 8
const PORTS = 12
const ICMP = 13

const BIT_IPV6 = 1
const BIT_READABLE = 2
const BIT_REMEMBERED = 4
const BIT_AUDITED = 8
const SHIFT_OUTCOME = 4
const SHIFT_FORM = 8
const SHIFT_HOOK = 12
const SHIFT_PROTOCOL = 16

const CAPACITY = 16_384
/** What is being written and not yet told is never read: more than a batch has. */
const MARGIN = 1024
const READABLE = CAPACITY - MARGIN

/** A ring for `CAPACITY` decisions; memory that is not written yet costs nothing. */
export function createFlowRing(): FlowRing {
  return {
    cursor: new Int32Array(new SharedArrayBuffer(4)),
    words: new Int32Array(new SharedArrayBuffer(CAPACITY * RECORD_WORDS * 4)),
  }
}

/** The only writer of a ring. Allocates nothing. */
export class FlowWriter {
  readonly #cursor: Int32Array
  readonly #words: Int32Array
  readonly #times: Float64Array
  #written: number
  #timeMs = 0

  constructor({ cursor, words }: FlowRing) {
    this.#cursor = cursor
    this.#words = words
    this.#times = new Float64Array(words.buffer)
    this.#written = Atomics.load(cursor, 0)
  }

  /** What follows is decided at this time. */
  begin(timeMs: number): void {
    this.#timeMs = timeMs
  }

  /** To be told by `publish`, after at most MARGIN of them. @param packet `undefined` where nothing could be read */
  write(
    packet: DecidedPacket | undefined,
    generation: number,
    outcome: number,
    form: number,
    origin: number,
    hook: number,
    isAudited = false,
  ): void {
    const words = this.#words
    const slot = this.#written & (CAPACITY - 1)
    this.#written = (this.#written + 1) | 0
    const at = slot * RECORD_WORDS
    this.#times[timeAt(slot)] = this.#timeMs
    words[at + GENERATION] = generation
    let bits = (outcome << SHIFT_OUTCOME) | (form << SHIFT_FORM) | (hook << SHIFT_HOOK)
    if (origin === flowOrigins.REMEMBERED) bits |= BIT_REMEMBERED
    if (isAudited) bits |= BIT_AUDITED
    if (packet !== undefined) {
      bits |= BIT_READABLE | (packet.protocol << SHIFT_PROTOCOL)
      if (packet.family === 6) bits |= BIT_IPV6
      const { source, destination } = packet
      words[at + SOURCE] = source.w0
      words[at + SOURCE + 1] = source.w1
      words[at + SOURCE + 2] = source.w2
      words[at + SOURCE + 3] = source.w3
      words[at + DESTINATION] = destination.w0
      words[at + DESTINATION + 1] = destination.w1
      words[at + DESTINATION + 2] = destination.w2
      words[at + DESTINATION + 3] = destination.w3
      words[at + PORTS] = (source.port << 16) | destination.port
      words[at + ICMP] = (packet.icmpType << 8) | packet.icmpCode
    }
    words[at + BITS] = bits
  }

  /** Readers may take all that was written. */
  publish(): void {
    Atomics.store(this.#cursor, 0, this.#written)
  }
}

/** Any number of readers read a ring, each at its own pace. */
export class FlowReader {
  /** How many decisions were written over before this reader came to them. */
  missed = 0
  readonly #cursor: Int32Array
  readonly #words: Int32Array
  readonly #times: Float64Array
  #next: number

  /** Reads what is written from now on; of what was written before, the latest `past`. */
  constructor({ cursor, words }: FlowRing, past = 0) {
    this.#cursor = cursor
    this.#words = words
    this.#times = new Float64Array(words.buffer)
    const written = Atomics.load(cursor, 0)
    this.#next = (written - Math.min(past, READABLE)) | 0
    // Of a ring that is not full, what was never written has no time.
    while (past > 0 && this.#next !== written && this.#times[timeAt(this.#next)] === 0)
      this.#next = (this.#next + 1) | 0
  }

  /** How many have been written and not read. */
  get waiting(): number {
    return (Atomics.load(this.#cursor, 0) - this.#next) >>> 0
  }

  /** Of the next ones, at most so many, those that are wanted, in their order. The others cost next to nothing. */
  read(most: number, isWanted: FlowTest = () => true): FlowRecord[] {
    this.#skipLost(0)
    const first = this.#next
    const count = Math.min(this.waiting, most)
    const records: FlowRecord[] = []
    const places: number[] = []
    for (let i = 0; i < count; i++) {
      const slot = (first + i) & (CAPACITY - 1)
      const bits = this.#words[slot * RECORD_WORDS + BITS]!
      if (!isWanted(outcomeOf(bits), isAudited(bits))) continue
      records.push(recordAt(this.#words, slot, this.#times[timeAt(slot)]!))
      places.push(i)
    }
    // Meanwhile the writer may have come round to the first of them.
    const lost = this.#skipLost(count)
    this.#next = (this.#next + count - lost) | 0
    return lost === 0 ? records : records.filter((_, i) => places[i]! >= lost)
  }

  /** Answers how many of the next `taken` are lost. */
  #skipLost(taken: number): number {
    // Read and written, so that no read of a record is put off until after it.
    const written = Atomics.or(this.#cursor, 0, 0)
    const lost = ((written - this.#next) >>> 0) - READABLE
    if (lost <= 0) return 0
    this.missed += lost
    this.#next = (this.#next + lost) | 0
    return Math.min(lost, taken)
  }
}

/** Where the time of a record stands among float64s. */
function timeAt(position: number): number {
  return (position & (CAPACITY - 1)) * (RECORD_WORDS / 2)
}

function recordAt(words: Int32Array, slot: number, timeMs: number): FlowRecord {
  const at = slot * RECORD_WORDS
  const bits = words[at + BITS]!
  return {
    timeMs,
    generation: words[at + GENERATION]! >>> 0,
    packet: (bits & BIT_READABLE) === 0 ? undefined : packetAt(words, at, bits),
    outcome: outcomeOf(bits),
    form: (bits >>> SHIFT_FORM) & 15,
    origin: (bits & BIT_REMEMBERED) === 0 ? flowOrigins.ASKED : flowOrigins.REMEMBERED,
    hook: (bits >>> SHIFT_HOOK) & 15,
    isAudited: isAudited(bits),
  }
}

function outcomeOf(bits: number): number {
  return (bits >>> SHIFT_OUTCOME) & 15
}

function isAudited(bits: number): boolean {
  return (bits & BIT_AUDITED) !== 0
}

function packetAt(words: Int32Array, at: number, bits: number): DecidedPacket {
  const ports = words[at + PORTS]!
  const icmp = words[at + ICMP]!
  return {
    family: (bits & BIT_IPV6) === 0 ? 4 : 6,
    protocol: (bits >>> SHIFT_PROTOCOL) & 255,
    source: endAt(words, at + SOURCE, ports >>> 16),
    destination: endAt(words, at + DESTINATION, ports & 0xffff),
    icmpType: icmp >>> 8,
    icmpCode: icmp & 255,
  }
}

function endAt(words: Int32Array, at: number, port: number): DecidedPacket['source'] {
  return { w0: words[at]!, w1: words[at + 1]!, w2: words[at + 2]!, w3: words[at + 3]!, port }
}
