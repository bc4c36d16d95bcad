import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { openNetlink } from '../../../src/native/netlink.ts'
import {
  FIELD_FAMILY,
  FIELD_IN_INTERFACE,
  FIELD_OUT_INTERFACE,
  openQueue,
  wakeQueue,
} from '../../../src/native/queue.ts'
import { readQueueStatistics } from '../../../src/native/queue-statistics.ts'
import { ANSWERS, DIVERTED, numbered, packetAt } from '../../conformance/queue.ts'
import { slow } from '../../slow.ts'
import type { WorkerReport } from './blocked-worker.ts'
import { installDivert, installTable, nft, openDiverted, openSender, QUEUE, TABLE } from './traffic.ts'

const options = { number: QUEUE, copyBytes: 128, capacity: 16, maxLength: 64, receiveBufferBytes: 1 << 20 }
const size = { copyBytes: 128, capacity: 16, maxLength: 2000 }

t.test('a bound queue is in the statistics, as it was asked for, and a closed one is not', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  const statistics = () => readQueueStatistics()?.find(({ queue }) => queue === QUEUE)
  t.match(statistics(), { copyMode: 'packet', copyRange: 128, waiting: 0, dropped: 0, idSequence: 0 })
  await subject.send(numbered(3))
  t.match(statistics(), { waiting: 3, idSequence: 3 })
  t.equal(subject.queue.receive(1000), 3)
  subject.queue.answer(3)
  t.match(statistics(), { waiting: 0, idSequence: 3 })
  subject.queue.close()
  t.equal(statistics(), undefined)
})

t.test('options that make no sense are refused', async (t) => {
  for (const wrong of [{ number: 65536 }, { number: -1 }, { copyBytes: 0 }, { capacity: 0 }, { maxLength: 0 }]) {
    t.throws(() => openQueue({ ...options, ...wrong }), { code: 'EINVAL', operation: 'options' })
  }
})

t.test('the interfaces are those of the hook', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  await subject.send(numbered(1))
  subject.queue.receive(1000)
  t.equal(subject.queue.packets[FIELD_IN_INTERFACE], 0)
  t.equal(subject.queue.packets[FIELD_OUT_INTERFACE], 1, 'lo')
  subject.queue.answer(1)
})

for (const [family, host] of [
  [4, '127.0.0.1'],
  [6, '::1'],
] as const) {
  t.test(`a TCP connection over IPv${family} waits for its answer`, async (t) => {
    const subject = await openDiverted(size)
    t.teardown(() => subject.close())
    nft(`insert rule inet ${TABLE} before tcp dport 7100 ct state new meta mark set ${DIVERTED}`)
    const server = createServer((socket) => socket.end('hello')).listen(7100, host)
    await once(server, 'listening')
    t.teardown(() => server.close())
    const client = connect(7100, host)
    // Node connects in its next turn, and receive blocks the thread.
    await setImmediate()
    t.equal(subject.queue.receive(1000), 1)
    t.equal(subject.queue.packets[FIELD_FAMILY], family)
    const packet = packetAt(subject.queue, 0)
    t.equal(packet[family === 4 ? 9 : 6], 6, 'TCP')
    subject.queue.marks[0] = ANSWERS[0]
    subject.queue.answer(1)
    const [data] = await once(client, 'data')
    t.equal(String(data), 'hello')
    client.destroy()
  })
}

t.test('another thread wakes a receive, at once', async (t) => {
  installTable()
  const netlink = openNetlink()
  t.teardown(() => netlink.close())
  installDivert(netlink)
  const sender = await openSender()
  t.teardown(() => sender.close())
  const worker = new Worker(new URL('./blocked-worker.ts', import.meta.url))
  const reports: WorkerReport[] = []
  worker.on('message', (message: WorkerReport) => reports.push(message))
  const ended = once(worker, 'exit')
  await once(worker, 'message')
  const bound = reports[0]!
  if (bound.kind !== 'bound') return t.fail('the worker has not bound the queue')

  const received = once(worker, 'message')
  await sender.send(numbered(1))
  await received
  t.match(reports[1], { kind: 'received', count: 1 })

  const wokenAt = performance.timeOrigin + performance.now()
  t.equal(wakeQueue(bound.wakeFd), true)
  await ended
  const woken = reports[2]!
  if (woken.kind !== 'received') return t.fail('the worker was not woken')
  t.equal(woken.count, 0)
  const tookMs = woken.at - wokenAt
  t.ok(tookMs < 100 * slow, `woken after ${tookMs.toFixed(2)} ms`)
  t.equal(wakeQueue(bound.wakeFd), false, 'a closed queue is not woken')
})

t.test('a wake before the receive is not lost, and is taken by it', async (t) => {
  const queue = openQueue(options)
  t.teardown(() => queue.close())
  t.equal(wakeQueue(queue.wakeFd), true)
  t.equal(wakeQueue(queue.wakeFd), true)
  const start = performance.now()
  t.equal(queue.receive(20_000), 0)
  t.ok(performance.now() - start < 10_000)
  t.equal(queue.receive(0), 0)
})

t.test('a descriptor that is neither an eventfd nor a netfilter socket is not written to', async (t) => {
  t.equal(wakeQueue(1), false)
  t.equal(wakeQueue(-1), false)
  t.equal(wakeQueue(99_999), false)
})

t.test('a worker that is terminated inside the addon ends, and gives the queue back', async (t) => {
  for (let i = 0; i < 5; i++) {
    const worker = new Worker(new URL('./busy-worker.ts', import.meta.url))
    await once(worker, 'message')
    t.equal(await worker.terminate(), 1)
  }
  openQueue(options).close()
})

t.test('a queue that another process has bound is taken, by name', async (t) => {
  const holder = spawn(process.execPath, ['--no-warnings', new URL('./hold-queue.ts', import.meta.url).pathname], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  const ended = once(holder, 'exit')
  t.throws(() => openQueue(options), {
    name: 'KnpError',
    code: 'QUEUE_TAKEN',
    message: `queue ${QUEUE}: already bound by netlink port ${holder.pid}, node (pid ${holder.pid})`,
    hint: `stop process ${holder.pid} or choose another queue number`,
  })
  holder.stdin.end()
  await ended
  const queue = openQueue(options)
  t.throws(() => openQueue(options), { code: 'QUEUE_TAKEN', message: `node (pid ${process.pid})` })
  queue.close()
})

t.test('a full socket costs answers, and no more: the packets go on, and the queue works', async (t) => {
  const subject = await openDiverted(size, 8192)
  t.teardown(() => subject.close())
  const { queue, send, seen } = subject
  await send(numbered(1000))
  const passed = seen(DIVERTED)
  t.ok(passed > 0, `${passed} of 1000 went on unanswered`)
  let answered = 0
  for (let count = queue.receive(100); count > 0; count = queue.receive(100)) {
    queue.marks.fill(ANSWERS[0])
    queue.answer(count)
    answered += count
  }
  t.equal(passed + answered, 1000)
  t.equal(seen(ANSWERS[0]), answered)
  t.ok(queue.counters().overflows >= 1)
  await send(numbered(1))
  t.equal(queue.receive(1000), 1)
  queue.answer(1)
})

t.test('answers to packets that are gone are counted, and do no harm', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  const { queue, send, seen } = subject
  await send(numbered(5))
  t.equal(queue.receive(1000), 5)
  // The kernel drops what waits in queues when a base chain goes.
  nft(`delete chain inet ${TABLE} after`)
  queue.answer(5)
  t.equal(queue.receive(10), 0)
  t.match(queue.counters(), { answerErrors: 5, overflows: 0, truncated: 0 })
  t.equal(seen(ANSWERS[0]), 0)
  await send(numbered(2))
  t.equal(queue.receive(1000), 2)
  queue.answer(2)
  t.equal(queue.receive(10), 0)
  t.equal(queue.counters().answerErrors, 5)
})

t.test('a thousand queues opened and closed leave no descriptor', async (t) => {
  const descriptors = () => readdirSync('/proc/self/fd').length
  const before = descriptors()
  for (let i = 0; i < 1000; i++) openQueue(options).close()
  t.equal(descriptors(), before)
})
