import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { openQueue, type QueueCounters } from '../../../src/native/queue.ts'
import { packetAt } from '../../conformance/queue.ts'
import { QUEUE } from './traffic.ts'

/** What it prints at its end, as JSON. */
export interface TakeOver {
  readonly isTakenOver: boolean
  /** The numbers of the packets that it was given, in their order. */
  readonly numbers: readonly number[]
  readonly counters: QueueCounters
}

// Has a socket as descriptor 3, and does nothing with it until it is told to. Then takes over the queue, and answers all.
const mark = Number(process.argv[2])
process.stdout.write('ready\n')
await once(process.stdin, 'data')
const keptFd = 3
// A number that was closed is the next one's.
const socketAt = (fd: number) => readlinkSync(`/proc/self/fd/${fd}`)
const kept = socketAt(keptFd)
const queue = openQueue({
  number: QUEUE,
  copyBytes: 128,
  capacity: 4,
  maxLength: 64,
  receiveBufferBytes: 1 << 20,
  keptFd,
})
const isTakenOver = socketAt(queue.socketFd) === kept
const numbers: number[] = []
for (let count = queue.receive(100); count > 0; count = queue.receive(100)) {
  for (let row = 0; row < count; row++) numbers.push(packetAt(queue, row).at(-1)!)
  queue.marks.fill(mark)
  queue.answer(count)
}
process.stdout.write(`${JSON.stringify({ isTakenOver, numbers, counters: queue.counters() } satisfies TakeOver)}\n`)
queue.close()
process.exit()
