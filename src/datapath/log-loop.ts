import type { PacketLog } from '../native/packet-log.ts'
import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_LENGTH,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  PACKET_FIELDS,
  STATE_RECEIVED_EPOCH_MS,
} from '../native/queue.ts'
import { type FlowWriter, flowOrigins } from './flow-ring.ts'
import type { PacketJudge } from './judge.ts'
import { type Counters, noteLogCounters } from './packet-loop.ts'

/**
 * Writes down the batch of `count` that was received last: what the kernel has answered by what it remembers, and who had
 * decided it. The packets are decided once more, to no effect.
 */
export function noteBatch(
  log: PacketLog,
  judge: PacketJudge,
  counters: Counters,
  flows: FlowWriter,
  count: number,
): void {
  if (count === 0) return
  const { packets, bytes, denied } = log
  flows.begin(log.state[STATE_RECEIVED_EPOCH_MS]!)
  for (let i = 0; i < count; i++) {
    const row = i * PACKET_FIELDS
    try {
      judge.note(
        bytes,
        packets[row + FIELD_OFFSET]!,
        packets[row + FIELD_LENGTH]!,
        packets[row + FIELD_ORIGINAL_LENGTH]!,
        packets[row + FIELD_FAMILY]!,
        packets[row + FIELD_HOOK]!,
        denied[i] === 1,
      )
    } catch {
      // An evaluator's defect, which has shown where a packet was judged.
    }
    judge.record(flows, judge.outcome, flowOrigins.REMEMBERED)
  }
  flows.publish()
  noteLogCounters(counters, count, log.lost())
}
