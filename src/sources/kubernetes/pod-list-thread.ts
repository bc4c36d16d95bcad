import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { type ErrorCode, KnpError } from '../../errors.ts'
import type { Access } from './access.ts'
import { ApiClient } from './api-client.ts'
import { ApiFailure } from './api-failure.ts'
import { type Listed, list } from './list.ts'
import type { PodBatch } from './pod-batch.ts'
import { PodBatchWriter } from './pod-batch-writer.ts'
import type { Timing } from './timing.ts'

/** What the thread is to list, and how. */
export interface PodListData {
  readonly listed: Listed
  readonly pageSize: number
  readonly timing: Pick<Timing, 'answerMs' | 'silenceMs' | 'freshMs'>
}

/** To the thread: how the API server is reached, at first and whenever it was asked for. */
export interface ToPodListThread {
  readonly access: Access
}

/** From the thread. */
export type FromPodListThread =
  /** A list begins; it takes the place of one that had begun. */
  | { readonly type: 'begin' }
  | { readonly type: 'batch'; readonly batch: PodBatch }
  /** The API server did not take the credentials, or we not its. */
  | { readonly type: 'renew' }
  | { readonly type: 'listed'; readonly resourceVersion: string }
  | {
      readonly type: 'failed'
      readonly message: string
      /** Of a KnpError. */
      readonly code?: ErrorCode
      readonly hint?: string | undefined
      /** Of an ApiFailure. */
      readonly status?: number | undefined
      readonly retryAfterMs: number
    }

const port = parentPort!
const { listed, pageSize, timing } = workerData as PodListData

function post(message: FromPodListThread, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}

const first = once(port, 'message')
let isFirst = true
const api = new ApiClient(async () => {
  const told = isFirst ? first : once(port, 'message')
  if (!isFirst) post({ type: 'renew' })
  isFirst = false
  const [{ access }] = (await told) as [ToPodListThread]
  return access
}, timing)
const writer = new PodBatchWriter({
  begin: () => post({ type: 'begin' }),
  takeBatch: (batch) => post({ type: 'batch', batch }, [batch.rows.buffer, batch.labels.buffer]),
})
try {
  const resourceVersion = await list(api, { resource: listed, pageSize }, writer, new AbortController().signal)
  writer.flush()
  post({ type: 'listed', resourceVersion })
} catch (error) {
  // Anything else is a defect: it ends the thread, and is told by that.
  if (!(error instanceof ApiFailure || error instanceof KnpError)) throw error
  post({ type: 'failed', message: error.message, ...detailsOf(error) })
}
api.close()

function detailsOf(error: ApiFailure | KnpError) {
  if (error instanceof KnpError) return { code: error.code, hint: error.hint, retryAfterMs: 0 }
  return { status: error.status, retryAfterMs: error.retryAfterMs }
}
