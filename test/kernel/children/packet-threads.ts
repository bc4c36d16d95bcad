import t from 'tap'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../../src/datapath/marks.ts'
import { PacketThreads } from '../../../src/datapath/threads.ts'
import { Compiler } from '../../../src/engine/index.ts'
import { loadPipeline } from '../../../src/evaluators.ts'
import { openQueue } from '../../../src/native/queue.ts'
import { readQueueStatistics } from '../../../src/native/queue-statistics.ts'
import { queueNumbers } from '../../../src/queue-range.ts'

const compiler = new Compiler(await loadPipeline([]), 'n1')
const nothing = { upserts: [], deletes: [] }
const { generation } = compiler.update(nothing)

const bound = () => readQueueStatistics()?.map(({ queue }) => queue)
const queueOf = (number: number) => ({ number, maxLength: 8, copyBytes: 64, capacity: 8, receiveBufferBytes: 0 })
const start = (first: number, count: number) =>
  PacketThreads.start({
    queues: queueNumbers({ first, count }).map(queueOf),
    marks: layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!,
    generation,
    stamp: 1,
    evaluators: [],
  })

t.test('where one queue cannot be bound, none is', async (t) => {
  const taken = openQueue(queueOf(102))
  const listeners = process.listenerCount('exit')
  await t.rejects(start(100, 4), { code: 'QUEUE_TAKEN', message: /^queue 102: already bound by netlink port/ })
  t.same(bound(), [102])
  t.equal(process.listenerCount('exit'), listeners)
  taken.close()
  const threads = await start(100, 4)
  t.same(bound(), [100, 101, 102, 103], 'they are free')
  await threads.stop()
  t.same(bound(), [])
})

t.test('however many there are, the process has one listener for its end', async (t) => {
  const listeners = process.listenerCount('exit')
  const threads = await start(200, 12)
  t.equal(process.listenerCount('exit'), listeners + 1)
  t.same(
    threads.counters().map(({ queue }) => queue),
    queueNumbers({ first: 200, count: 12 }),
    'in the order of their numbers',
  )
  await threads.swap(compiler.update(nothing).generation, 2)
  await threads.stop()
  await threads.stop()
  t.equal(process.listenerCount('exit'), listeners)
  t.same(bound(), [])
})
