import { performance } from 'node:perf_hooks'
import { parentPort } from 'node:worker_threads'
import { openQueue } from '../../../src/native/queue.ts'
import { ANSWERS } from '../../conformance/queue.ts'
import { QUEUE } from './traffic.ts'

/** What the worker reports: first what wakes it, then each receive. */
export type WorkerReport =
  | { readonly kind: 'bound'; readonly wakeFd: number }
  | { readonly kind: 'received'; readonly count: number; readonly at: number }

// Blocks in receive until woken, answering what comes.
const queue = openQueue({ number: QUEUE, copyBytes: 64, capacity: 8, maxLength: 64, receiveBufferBytes: 0 })
report({ kind: 'bound', wakeFd: queue.wakeFd })
for (;;) {
  const count = queue.receive(20_000)
  report({ kind: 'received', count, at: performance.timeOrigin + performance.now() })
  if (count === 0) break
  queue.marks.fill(ANSWERS[0])
  queue.answer(count)
}
queue.close()

function report(message: WorkerReport): void {
  parentPort!.postMessage(message)
}
