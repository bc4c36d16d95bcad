import { parentPort } from 'node:worker_threads'
import { openQueue } from '../../../src/native/queue.ts'
import { QUEUE } from './traffic.ts'

// Is in the addon nearly all the time, which mostly throws.
const queue = openQueue({ number: QUEUE, copyBytes: 64, capacity: 8, maxLength: 64, receiveBufferBytes: 0 })
parentPort!.postMessage('busy')
for (;;) {
  queue.receive(0)
  try {
    queue.answer(1)
  } catch {}
}
