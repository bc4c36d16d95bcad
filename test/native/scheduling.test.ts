import { getPriority } from 'node:os'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { giveWay, threadId, urgently } from '../../src/native/scheduling.ts'
import { niceValues } from '../nice-values.ts'

/** A thread that says which one it is, and ends when it is told to. */
async function startThread(): Promise<{ readonly id: number; end(): Promise<number> }> {
  const module = new URL('../../src/native/scheduling.ts', import.meta.url)
  const text = `import { parentPort } from 'node:worker_threads'
    import { threadId } from ${JSON.stringify(module.href)}
    parentPort.postMessage(threadId())
    parentPort.once('message', () => {})`
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(text)}`))
  const id = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return { id, end: () => worker.terminate() }
}

const mayBeUrgent = process.getuid?.() === 0

t.test('all threads give way but those that are named, and those that come give way too', async (t) => {
  const named = await startThread()
  const other = await startThread()
  const usual = getPriority()
  t.same(new Set(niceValues(process.pid).values()), new Set([usual]), 'all are as the process is')
  giveWay([named.id])
  const later = await startThread()
  const nice = niceValues(process.pid)
  const expected = Math.min(19, usual + 10)
  t.equal(nice.get(named.id), usual)
  for (const id of [threadId(), other.id, later.id]) t.equal(nice.get(id), expected)
  const during = await new Promise<number | undefined>((resolve) => {
    void urgently(async () => resolve(niceValues(process.pid).get(threadId())))
  })
  t.equal(during, mayBeUrgent ? usual : expected, 'for some time this one does not, where it may')
  t.equal(niceValues(process.pid).get(threadId()), expected)
  const others = [...nice].filter(([id]) => id !== named.id)
  t.ok(others.length > 3, "V8's threads among them")
  t.same(new Set(others.map(([, value]) => value)), new Set([expected]))
  await Promise.all([named, other, later].map((thread) => thread.end()))
})
