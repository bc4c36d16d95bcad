import { existsSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import worker from 'node:worker_threads'
import type { PacketThreadData } from '../../../src/datapath/packet-thread.ts'

// Loaded into a process before its program: once the file named by KNP_TEST_TRIGGER is there, a thread that looks at its
// mailbox fails; with KNP_TEST_QUEUE only the packet thread of this queue.
const { receiveMessageOnPort } = worker
const { KNP_TEST_TRIGGER = '', KNP_TEST_QUEUE } = process.env
const queue = (worker.workerData as Partial<PacketThreadData> | null)?.queue?.number
if (!worker.isMainThread && (KNP_TEST_QUEUE === undefined || queue === Number(KNP_TEST_QUEUE))) {
  worker.receiveMessageOnPort = (port) => {
    if (existsSync(KNP_TEST_TRIGGER)) throw new Error('injected failure')
    return receiveMessageOnPort(port)
  }
  syncBuiltinESMExports()
}
