import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_LENGTH,
  FIELD_MARK,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  PACKET_FIELDS,
  type PacketQueue,
  STATE_ANSWERED_MS,
  STATE_RECEIVED_EPOCH_MS,
  STATE_RECEIVED_MS,
} from '../native/queue.ts'
import type { FlowWriter } from './flow-ring.ts'
import { HeldPackets, type HoldLimits } from './held-packets.ts'
import { outcomes, type PacketJudge } from './judge.ts'
import type { PacketTimes } from './packet-times.ts'

/** What the packet thread counts, in shared memory: single writer, one float64 each. */
export const counterNames = [
  'queued',
  'allowed',
  'denied',
  'unreadable',
  'failed',
  'batches',
  'overflows',
  'answerErrors',
  'rounds',
  /** Packets that had to wait for an end to become known; those that still do; and what became of those that waited in vain. */
  'held',
  'holding',
  'unknownAllowed',
  'unknownDenied',
  'audited',
] as const

export type Counters = Float64Array<SharedArrayBuffer>

export function createCounters(): Counters {
  return new Float64Array(new SharedArrayBuffer(counterNames.length * 8))
}

const QUEUED = 0
/** Counters of outcomes stand behind this one, in the order of `outcomes`. */
const FIRST_OUTCOME = 1
const BATCHES = 5
const OVERFLOWS = 6
const ANSWER_ERRORS = 7
const ROUNDS = 8
const HELD = 9
const HOLDING = 10
const UNKNOWN_ALLOWED = 11
const UNKNOWN_DENIED = 12
const AUDITED = 13

/**
 * Where packets are held whose ends nobody knows yet. They are counted as queued once, and counted and written down as what
 * they are in the end.
 */
export function holdPackets(
  queue: PacketQueue,
  judge: PacketJudge,
  limits: HoldLimits,
  { counters, flows }: { readonly counters: Counters; readonly flows: FlowWriter },
): HeldPackets {
  return new HeldPackets(queue, judge, limits, {
    begin: () => flows.begin(Date.now()),
    settled(outcome, isLast) {
      counters[FIRST_OUTCOME + outcome]!++
      if (isLast) countUnknown(counters, outcome)
      if (judge.record(flows, outcome)) counters[AUDITED]!++
    },
    end: () => flows.publish(),
  })
}

/** Notes how many packets are held. */
export function noteHeld(held: HeldPackets, counters: Counters): void {
  counters[HOLDING] = held.size
}

/**
 * Answers every packet of the batch of `count` that was received last once, whatever happens while judging: what cannot be
 * judged is denied. What nobody can decide yet is held, or judged a last time where that is not possible. Counts a round also
 * where there are none: the thread is at work.
 */
export function judgeBatch(
  queue: PacketQueue,
  judge: PacketJudge,
  counters: Counters,
  flows: FlowWriter,
  count: number,
  { times, held }: { readonly times?: PacketTimes; readonly held?: HeldPackets } = {},
): void {
  counters[ROUNDS]!++
  if (count === 0) return
  const { marks, state } = queue
  times?.received(count, state[STATE_RECEIVED_MS]!)
  flows.begin(state[STATE_RECEIVED_EPOCH_MS]!)
  for (let i = 0; i < count; i++) {
    let outcome: number = outcomes.FAILED
    try {
      marks[i] = judgeRow(queue, judge, i, false)
      if (judge.outcome === outcomes.HELD) {
        if (held?.take(i, performance.now())) {
          counters[HELD]!++
          continue
        }
        marks[i] = judgeRow(queue, judge, i, true)
        countUnknown(counters, judge.outcome)
      }
      outcome = judge.outcome
    } catch {
      marks[i] = judge.denial(queue.packets[i * PACKET_FIELDS + FIELD_MARK]!)
    }
    counters[FIRST_OUTCOME + outcome]!++
    if (judge.record(flows, outcome)) counters[AUDITED]!++
  }
  queue.answer(count)
  times?.answered(count, state[STATE_ANSWERED_MS]!)
  flows.publish()
  counters[QUEUED]! += count
  counters[BATCHES]!++
}

function judgeRow({ packets, bytes }: PacketQueue, judge: PacketJudge, i: number, isLast: boolean): number {
  const row = i * PACKET_FIELDS
  const offset = packets[row + FIELD_OFFSET]!
  const captured = packets[row + FIELD_LENGTH]!
  const length = packets[row + FIELD_ORIGINAL_LENGTH]!
  const family = packets[row + FIELD_FAMILY]!
  const hook = packets[row + FIELD_HOOK]!
  const mark = packets[row + FIELD_MARK]!
  return isLast
    ? judge.judgeLast(bytes, offset, captured, length, family, hook, mark)
    : judge.judge(bytes, offset, captured, length, family, hook, mark)
}

function countUnknown(counters: Counters, outcome: number): void {
  counters[outcome === outcomes.ALLOWED ? UNKNOWN_ALLOWED : UNKNOWN_DENIED]!++
}

/** Takes over what the queue itself counts. */
export function noteQueueCounters(queue: PacketQueue, counters: Counters): void {
  const { overflows, answerErrors } = queue.counters()
  counters[OVERFLOWS] = overflows
  counters[ANSWER_ERRORS] = answerErrors
}

/** The same words for a packet log: what it has handed out, and what it has lost. */
export function noteLogCounters(counters: Counters, count: number, lost: number): void {
  counters[QUEUED]! += count
  counters[OVERFLOWS] = lost
}

/** The counters as an object, for people and JSON. */
export function readCounters(counters: Counters): Record<(typeof counterNames)[number], number> {
  return Object.fromEntries(counterNames.map((name, i) => [name, counters[i]!])) as ReturnType<typeof readCounters>
}
