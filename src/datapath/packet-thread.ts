import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { attachEngine, type Generation, type PolicyKind } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { type EvaluatorModule, loadPipeline } from '../evaluators.ts'
import { openQueue, type QueueOptions } from '../native/queue.ts'
import { DecisionTally, type TallyWords } from './decision-tally.ts'
import { PacketJudge } from './judge.ts'
import type { MarkLayout } from './marks.ts'
import { type Counters, judgeBatch, noteQueueCounters } from './packet-loop.ts'
import { PacketTimes, type TimeWords } from './packet-times.ts'

/** What the packet thread starts with. */
export interface PacketThreadData {
  readonly queue: QueueOptions
  readonly marks: MarkLayout
  readonly counters: Counters
  /** Where decisions of the generation are counted. */
  readonly tally: TallyWords
  readonly times: TimeWords
  readonly generation: Generation
  readonly stamp: number
  /** Of third parties; the thread loads them for itself. */
  readonly evaluators: readonly EvaluatorModule[]
}

/** To the packet thread. */
export type ToPacketThread =
  | {
      readonly type: 'swap'
      readonly generation: Generation
      readonly stamp: number
      /** Left out where decisions are counted as before. */
      readonly tally?: TallyWords
    }
  | { readonly type: 'stop' }

/** From the packet thread. */
export type FromPacketThread =
  | { readonly type: 'bound'; readonly wakeFd: number; readonly socketFd: number }
  | {
      readonly type: 'failed'
      readonly code: KnpError['code']
      readonly message: string
      readonly hint: string | undefined
    }
  | { readonly type: 'swapped'; readonly generation: number }

/** A net under lost wake-ups; the thread is woken for every message. */
const RECEIVE_TIMEOUT_MS = 1000
/** Under load the queue's own counters are read once in so many batches: reading them allocates. */
const NOTE_INTERVAL = 256

/** Decides packets until it is told to stop. It blocks in the kernel: no event of this thread's loop runs meanwhile. */
function run(
  port: MessagePort,
  { queue: options, marks, counters, tally, times: words, generation, stamp }: PacketThreadData,
  kinds: readonly PolicyKind[],
): void {
  const queue = openQueue(options)
  try {
    const judge = new PacketJudge(attachEngine(generation, kinds), stamp, marks)
    judge.setTally(new DecisionTally(tally, generation.policyCounts))
    const times = new PacketTimes(words, options.capacity, () => performance.now())
    const { wakeFd, socketFd } = queue
    port.postMessage({ type: 'bound', wakeFd, socketFd } satisfies FromPacketThread)
    for (let batch = 0; ; batch++) {
      const count = judgeBatch(queue, judge, counters, RECEIVE_TIMEOUT_MS, times)
      if (count === 0 || batch % NOTE_INTERVAL === 0) noteQueueCounters(queue, counters)
      for (let note = receiveMessageOnPort(port); note; note = receiveMessageOnPort(port)) {
        const message = note.message as ToPacketThread
        if (message.type === 'stop') return
        judge.swap(attachEngine(message.generation, kinds), message.stamp)
        if (message.tally) judge.setTally(new DecisionTally(message.tally, message.generation.policyCounts))
        // All answers of the former generation are sent: the kernel has acted on them already.
        port.postMessage({ type: 'swapped', generation: message.generation.number } satisfies FromPacketThread)
      }
    }
  } finally {
    queue.close()
  }
}

const port = parentPort!
const data = workerData as PacketThreadData
try {
  run(port, data, await loadPipeline(data.evaluators))
} catch (error) {
  const { code, message, hint } =
    error instanceof KnpError
      ? error
      : {
          code: 'INTERNAL' as const,
          message: `packet thread of queue ${data.queue.number}: ${String(error)}`,
          hint: undefined,
        }
  port.postMessage({ type: 'failed', code, message, hint } satisfies FromPacketThread)
}
port.close()
