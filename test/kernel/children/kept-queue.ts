import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { openQueue } from '../../../src/native/queue.ts'
import { readQueueStatistics } from '../../../src/native/queue-statistics.ts'
import { ANSWERS, DIVERTED, numbered } from '../../conformance/queue.ts'
import type { TakeOver } from './take-over.ts'
import { openDiverted, QUEUE } from './traffic.ts'

const size = { copyBytes: 128, capacity: 4, maxLength: 64 }
const [FIRST, SECOND] = ANSWERS
const waiting = () => readQueueStatistics()?.find(({ queue }) => queue === QUEUE)?.waiting

/** A process that has a descriptor of this one. */
async function keeper(fd: number) {
  const script = fileURLToPath(new URL('./take-over.ts', import.meta.url))
  const argv = ['--no-warnings', script, String(SECOND)]
  const child = spawn(process.execPath, argv, { stdio: ['pipe', 'pipe', 'inherit', fd] })
  let output = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  await once(child.stdout!, 'data')
  return {
    async takeOver(): Promise<TakeOver> {
      child.stdin!.end('go\n')
      await once(child, 'close')
      return JSON.parse(output.split('\n')[1]!)
    },
  }
}

t.test('what waits is answered by the next process, whoever has received it', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  const { queue, send, seen } = subject
  await send(numbered(10))
  t.equal(queue.receive(1000), 4)
  queue.marks.fill(FIRST)
  queue.answer(4)
  t.equal(queue.receive(1000), 4, 'received, and never answered')
  const next = await keeper(queue.socketFd)
  queue.close()
  t.equal(waiting(), 6, 'the queue stays')
  await send(numbered(14).slice(10))
  t.equal(waiting(), 10, 'packets wait where nobody listens')
  t.same(await next.takeOver(), {
    isTakenOver: true,
    numbers: [8, 9, 10, 11, 12, 13, 4, 5, 6, 7],
    counters: { overflows: 0, answerErrors: 0, truncated: 0 },
  })
  t.same([seen(FIRST), seen(SECOND), seen(DIVERTED)], [4, 10, 0], 'each was answered once')
  t.equal(waiting(), undefined, 'its last owner has closed it')
})

t.test('all was received, nothing was answered', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  const { queue, send, seen } = subject
  await send(numbered(4))
  t.equal(queue.receive(1000), 4)
  const next = await keeper(queue.socketFd)
  queue.close()
  t.match(await next.takeOver(), { isTakenOver: true, numbers: [0, 1, 2, 3], counters: { answerErrors: 0 } })
  t.same([seen(SECOND), seen(DIVERTED)], [4, 0])
})

t.test('nothing waits', async (t) => {
  const subject = await openDiverted(size)
  t.teardown(() => subject.close())
  const next = await keeper(subject.queue.socketFd)
  subject.queue.close()
  t.match(await next.takeOver(), { isTakenOver: true, numbers: [], counters: { answerErrors: 0 } })
})

t.test('the queue was too short for all, and its socket too small', async (t) => {
  const subject = await openDiverted({ ...size, maxLength: 5 }, 8192)
  t.teardown(() => subject.close())
  const { queue, send, seen } = subject
  const next = await keeper(queue.socketFd)
  queue.close()
  await send(numbered(30))
  const passed = seen(DIVERTED)
  t.ok(passed >= 25, `${passed} went on unanswered`)
  const { isTakenOver, numbers } = await next.takeOver()
  t.equal(isTakenOver, true)
  t.equal(numbers.length + passed, 30)
  t.equal(seen(SECOND), numbers.length)
})

t.test('a socket of another network namespace is not taken for one of this', async (t) => {
  const queue = openQueue({ number: QUEUE, ...size, receiveBufferBytes: 0 })
  t.teardown(() => queue.close())
  const module = new URL('../../../src/native/load.ts', import.meta.url)
  const script = `import { loadAddon } from '${module}'; console.log(loadAddon().portId(3))`
  const argv = [process.execPath, '--no-warnings', '--input-type=module', '-e', script]
  const portId = (...prefix: readonly string[]) => {
    const [command, ...args] = [...prefix, ...argv]
    const { stdout } = spawnSync(command!, args, {
      stdio: ['ignore', 'pipe', 'inherit', queue.socketFd],
      encoding: 'utf8',
    })
    return Number(stdout)
  }
  t.equal(portId(), readQueueStatistics()?.[0]?.portId)
  t.equal(portId('unshare', '--net'), 0)
})

t.test('a socket that has not bound the queue is closed, and the queue bound afresh', async (t) => {
  const other = openQueue({ number: QUEUE + 1, ...size, receiveBufferBytes: 0 })
  const file = openSync('/dev/null', 'r')
  t.teardown(() => {
    other.close()
    closeSync(file)
  })
  for (const [what, fd] of [
    ['the socket of another queue', other.socketFd],
    ['no socket', file],
  ] as const) {
    t.match(await (await keeper(fd)).takeOver(), { isTakenOver: false, numbers: [] }, what)
  }
  t.same(
    readQueueStatistics()?.map(({ queue }) => queue),
    [QUEUE + 1],
  )
})
