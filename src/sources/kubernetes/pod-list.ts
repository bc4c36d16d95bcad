import { Worker } from 'node:worker_threads'
import { KnpError } from '../../errors.ts'
import type { ApiClient } from './api-client.ts'
import { ApiFailure, Defect } from './api-failure.ts'
import type { PodBatchTaker } from './pod-batch-writer.ts'
import type { FromPodListThread, PodListData, ToPodListThread } from './pod-list-thread.ts'

/**
 * Lists all pods, in a thread of its own, and answers the version of the list: a large cluster's are 300 MB, of which
 * policies need a twentieth. Nobody waits for the rest to be read. Throws ApiFailure, KnpError UNREADABLE_SOURCE.
 */
export async function listPods(
  api: ApiClient,
  { listed, pageSize, timing }: PodListData,
  taker: PodBatchTaker,
  signal: AbortSignal,
): Promise<string> {
  // Node runs the source as it is in tests, the compiled file otherwise.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const worker = new Worker(new URL(`./pod-list-thread.${extension}`, import.meta.url), {
    name: 'pod list',
    workerData: { listed, pageSize, timing } satisfies PodListData,
    // What a program that knp is a part of was started with may be for its first thread only.
    execArgv: [],
  })
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const post = (message: ToPodListThread) => worker.postMessage(message)
  const tellAccess = (isRefused: boolean) => api.access(isRefused).then((access) => post({ access }), reject)
  const hear = (message: FromPodListThread) => {
    if (message.type === 'begin') taker.begin()
    else if (message.type === 'batch') taker.takeBatch(message.batch)
    else if (message.type === 'renew') void tellAccess(true)
    else if (message.type === 'listed') resolve(message.resourceVersion)
    else reject(failureOf(message))
  }
  worker.on('message', (message: FromPodListThread) => {
    try {
      hear(message)
    } catch (error) {
      // It ends this list, not the process.
      reject(new Defect('the list of pods', error))
    }
  })
  worker.on('error', reject)
  worker.on('exit', () => reject(new KnpError('INTERNAL', 'the thread that lists pods ended')))
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort)
  const forget = api.onConnectAnew(() => reject(new ApiFailure('the API server has moved: pods are listed again')))
  try {
    signal.throwIfAborted()
    void tellAccess(false)
    return await promise
  } finally {
    forget()
    signal.removeEventListener('abort', onAbort)
    worker.removeAllListeners('message')
    await worker.terminate()
  }
}

function failureOf(failed: Extract<FromPodListThread, { type: 'failed' }>): Error {
  const { message, code, hint } = failed
  if (code !== undefined) return new KnpError(code, message, hint === undefined ? {} : { hint })
  const { status, retryAfterMs } = failed
  return new ApiFailure(message, { ...(status !== undefined && { status }), retryAfterMs })
}
