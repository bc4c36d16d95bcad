import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_LENGTH,
  FIELD_MARK,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  PACKET_FIELDS,
  type PacketQueue,
} from '../native/queue.ts'
import type { FlowWriter } from './flow-ring.ts'
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

/**
 * Receives one batch and answers every packet of it once, whatever happens while judging: what cannot be judged is
 * denied. Answers how many packets there were. Counts a round also where there were none: the thread is at work.
 */
export function judgeBatch(
  queue: PacketQueue,
  judge: PacketJudge,
  counters: Counters,
  flows: FlowWriter,
  timeoutMs: number,
  times?: PacketTimes,
): number {
  const count = queue.receive(timeoutMs)
  counters[ROUNDS]!++
  if (count === 0) return 0
  times?.received(count)
  const { packets, bytes, marks } = queue
  flows.begin(Date.now())
  for (let i = 0; i < count; i++) {
    const row = i * PACKET_FIELDS
    const mark = packets[row + FIELD_MARK]!
    let outcome: number = outcomes.FAILED
    try {
      marks[i] = judge.judge(
        bytes,
        packets[row + FIELD_OFFSET]!,
        packets[row + FIELD_LENGTH]!,
        packets[row + FIELD_ORIGINAL_LENGTH]!,
        packets[row + FIELD_FAMILY]!,
        packets[row + FIELD_HOOK]!,
        mark,
      )
      outcome = judge.outcome
    } catch {
      marks[i] = judge.denial(mark)
    }
    counters[FIRST_OUTCOME + outcome]!++
    judge.record(flows, outcome)
  }
  queue.answer(count)
  times?.answered(count)
  flows.publish()
  counters[QUEUED]! += count
  counters[BATCHES]!++
  return count
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
