import { existsSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import worker from 'node:worker_threads'

// Loaded into a process before its program: once the file named by KNP_TEST_TRIGGER is there, a thread that looks at its
// mailbox fails.
const { receiveMessageOnPort } = worker
if (!worker.isMainThread) {
  worker.receiveMessageOnPort = (port) => {
    if (existsSync(process.env.KNP_TEST_TRIGGER ?? '')) throw new Error('injected failure')
    return receiveMessageOnPort(port)
  }
  syncBuiltinESMExports()
}
