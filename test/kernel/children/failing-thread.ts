import { existsSync } from 'node:fs'
import worker from 'node:worker_threads'
import { queueThreadName } from '../../../src/datapath/thread.ts'

// Loaded into a process before its program: once the file named by KNP_TEST_TRIGGER is there, a thread that looks whether it
// has mail fails; with KNP_TEST_QUEUE only the packet thread of this queue.
const { KNP_TEST_TRIGGER = '', KNP_TEST_QUEUE } = process.env
const isMeant = KNP_TEST_QUEUE === undefined || worker.threadName === queueThreadName(Number(KNP_TEST_QUEUE))
if (!worker.isMainThread && isMeant) {
  const { load } = Atomics
  Atomics.load = ((...words: Parameters<typeof load>) => {
    if (existsSync(KNP_TEST_TRIGGER)) throw new Error('injected failure')
    return load(...words)
  }) as typeof load
}
