import { once } from 'node:events'
import { type MessagePort, parentPort } from 'node:worker_threads'
import { attachEngine, type Generation, type PolicyKind } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { type EvaluatorModule, loadPipeline } from '../evaluators.ts'
import type { Mode } from '../mode.ts'
import { openPacketLog, type PacketLogOptions } from '../native/packet-log.ts'
import { openQueue, type QueueOptions, STATE_RECEIVED_MS } from '../native/queue.ts'
import { threadId } from '../native/scheduling.ts'
import { createTally, DecisionTally, type TallyWords } from './decision-tally.ts'
import { type FlowRing, FlowWriter } from './flow-ring.ts'
import { PacketJudge, type UnknownLocal } from './judge.ts'
import { localPods, noPodPlaces, type PodPlaces } from './local-pods.ts'
import { noteBatch } from './log-loop.ts'
import { Mailbox, type MailWords } from './mailbox.ts'
import type { MarkLayout } from './marks.ts'
import { type Counters, holdPackets, judgeBatch, noteHeld, noteQueueCounters } from './packet-loop.ts'
import { PacketTimes, type TimeWords } from './packet-times.ts'
import { WARM_UP_DECISIONS, WarmUp } from './warm-up.ts'

/** What a packet thread is told of how it is to work. */
export interface PacketThreadOptions {
  readonly queue: QueueOptions
  /** In place of the queue: the log of what the kernel has answered by itself. Then nothing is decided, only noted. */
  readonly log?: PacketLogOptions
  readonly marks: MarkLayout
  readonly mode?: Mode
  readonly generation: Generation
  readonly stamp: number
  /** Which addresses are those of pods here. */
  readonly pods?: PodPlaces
  /** How long a packet waits for such an address to become known, and what becomes of it then. */
  readonly hold?: { readonly holdMs: number; readonly unknownLocal: UnknownLocal }
  /** Of third parties; the thread loads them for itself. */
  readonly evaluators: readonly EvaluatorModule[]
}

/** What a packet thread begins to work with, its first message: that, and the memory that it shares with the main thread. */
export interface PacketThreadData extends PacketThreadOptions {
  readonly mail: MailWords
  readonly counters: Counters
  /** Where decisions of the generation are counted. */
  readonly tally: TallyWords
  readonly times: TimeWords
  readonly flows: FlowRing
}

/** To the packet thread. */
export type ToPacketThread =
  | {
      readonly type: 'swap'
      readonly generation: Generation
      readonly stamp: number
      /** Left out where decisions are counted as before. */
      readonly tally?: TallyWords
      /** Left out where they are the same as before. */
      readonly pods?: PodPlaces | undefined
    }
  /** To be answered when everything posted before it has been done. */
  | { readonly type: 'answer'; readonly id: number }
  | { readonly type: 'stop' }

/** From the packet thread. */
export type FromPacketThread =
  | {
      readonly type: 'bound'
      readonly wakeFd: number
      readonly socketFd: number
      /** As the system names the thread. */
      readonly threadId: number
    }
  | {
      readonly type: 'failed'
      readonly code: KnpError['code']
      readonly message: string
      readonly hint: string | undefined
    }
  | { readonly type: 'answered'; readonly id: number }

/** A net under lost wake-ups. */
const RECEIVE_TIMEOUT_MS = 1000
/** Under load the queue's own counters are read once in so many batches: reading them allocates. */
const NOTE_INTERVAL = 256

/**
 * Of a queue's length so much at most is held, in each direction: with many more the kernel would search long for each packet
 * that is answered, and the others need room.
 */
const HELD_PART = 1 / 16
const MAX_HELD = 256
/** A pod that starts sends a few packets before it is known: a name is looked up, a server is reached. */
const MAX_HELD_PER_ADDRESS = 32

/** Decides packets until it is told to stop. It blocks in the kernel: no event of this thread's loop runs meanwhile. */
function run(port: MessagePort, data: PacketThreadData, kinds: readonly PolicyKind[]): void {
  const { mail, generation, tally, evaluators } = data
  const judge = judgeOf(data, kinds, tally)
  let latest = generation
  // Evaluators of third parties are not asked about what nobody sent.
  const isWarmedUp = !data.log && evaluators.length === 0
  const warmUp = new WarmUp(isWarmedUp ? WARM_UP_DECISIONS : 0, (generation) =>
    judgeOf({ ...data, generation }, kinds, createTally(generation.policyCounts)),
  )
  const work = data.log ? workOfLog(data.log, data, judge) : workOfQueue(data, judge)
  const mailbox = new Mailbox<ToPacketThread>(mail, port)

  /** Answers whether to go on. Of many generations only the last one still has its tables. */
  function takeMail(): boolean {
    const messages = mailbox.take()
    const swaps = messages.filter((message) => message.type === 'swap')
    const last = swaps.at(-1)
    if (last) {
      latest = last.generation
      judge.swap(attachEngine(latest, kinds), latest, last.stamp)
      for (const { tally, generation, pods } of swaps) {
        if (tally) judge.setTally(new DecisionTally(tally, generation.policyCounts))
        if (pods) judge.setLocalPods(localPods(pods))
      }
      work.judgeAgain()
    }
    for (const message of messages) {
      if (message.type === 'stop') return false
      // All answers of the former generation are sent: the kernel has acted on them already.
      if (message.type === 'answer') port.postMessage({ type: 'answered', id: message.id } satisfies FromPacketThread)
    }
    return true
  }

  try {
    const { wakeFd, socketFd } = work
    port.postMessage({ type: 'bound', wakeFd, socketFd, threadId: threadId() } satisfies FromPacketThread)
    for (;;) {
      // Packets that are held are judged again as soon as others are known.
      if (!work.isHolding) mailbox.leave()
      const count = work.receive(warmUp.isUnderWay ? 0 : RECEIVE_TIMEOUT_MS)
      const hasMail = mailbox.back()
      const goesOn = !hasMail || takeMail()
      work.judge(count)
      if (!goesOn) return
      if (count === 0 && !hasMail) warmUp.step(latest)
    }
  } finally {
    work.close()
  }
}

function judgeOf(
  { generation, stamp, marks, mode = 'enforce', pods = noPodPlaces, hold }: PacketThreadOptions,
  kinds: readonly PolicyKind[],
  tally: TallyWords,
): PacketJudge {
  const judge = new PacketJudge(attachEngine(generation, kinds), generation, stamp, marks, {
    mode,
    pods: localPods(pods),
    unknownLocal: hold?.unknownLocal ?? 'deny',
  })
  judge.setTally(new DecisionTally(tally, generation.policyCounts))
  return judge
}

/** What the thread does between two messages. */
interface Work {
  readonly wakeFd: number
  readonly socketFd: number
  /** Whether packets wait for others to become known. */
  readonly isHolding: boolean
  /** Waits for packets, or for a wake, for at most so long. Answers how many packets came. */
  receive(timeoutMs: number): number
  /** Does what is to be done about so many, and about what is due. */
  judge(count: number): void
  /** Others may be known now. */
  judgeAgain(): void
  close(): void
}

function workOfQueue(
  { queue: options, counters, flows: ring, times: words, hold }: PacketThreadData,
  judge: PacketJudge,
): Work {
  const queue = openQueue(options)
  const flows = new FlowWriter(ring)
  const times = new PacketTimes(words, options.capacity, queue.state[STATE_RECEIVED_MS]!)
  const { holdMs, unknownLocal } = hold ?? { holdMs: 0, unknownLocal: 'deny' }
  const capacity = Math.min(MAX_HELD, Math.ceil(options.maxLength * HELD_PART))
  const limits = { holdMs, capacity, perAddress: MAX_HELD_PER_ADDRESS, isOnce: unknownLocal === 'allow' }
  const held = holdPackets(queue, judge, limits, { counters, flows })
  let batch = 0
  return {
    wakeFd: queue.wakeFd,
    socketFd: queue.socketFd,
    get isHolding() {
      return held.size > 0
    },
    receive: (timeoutMs) => queue.receive(Math.min(timeoutMs, pauseMs(held))),
    judge(count) {
      judgeBatch(queue, judge, counters, flows, count, { times, held })
      if (held.size > 0) held.expire(performance.now())
      noteHeld(held, counters)
      if (count === 0 || batch++ % NOTE_INTERVAL === 0) noteQueueCounters(queue, counters)
    },
    judgeAgain() {
      held.judgeAgain()
      noteHeld(held, counters)
    },
    close: () => queue.close(),
  }
}

function workOfLog(options: PacketLogOptions, { counters, flows: ring }: PacketThreadData, judge: PacketJudge): Work {
  const log = openPacketLog(options)
  const flows = new FlowWriter(ring)
  return {
    wakeFd: log.wakeFd,
    socketFd: -1,
    isHolding: false,
    receive: (timeoutMs) => log.receive(timeoutMs),
    judge: (count) => noteBatch(log, judge, counters, flows, count),
    judgeAgain() {},
    close: () => log.close(),
  }
}

/** Until something is to be done without a packet or a message. */
function pauseMs({ deadlineMs }: { readonly deadlineMs: number | undefined }): number {
  return deadlineMs === undefined ? RECEIVE_TIMEOUT_MS : Math.max(0, Math.ceil(deadlineMs - performance.now()))
}

const port = parentPort!
const [data] = (await once(port, 'message')) as [PacketThreadData]
try {
  run(port, data, await loadPipeline(data.evaluators))
} catch (error) {
  const { code, message, hint } =
    error instanceof KnpError
      ? error
      : {
          code: 'INTERNAL' as const,
          message: `packet thread of ${data.log ? `log group ${data.log.group}` : `queue ${data.queue.number}`}: ${String(error)}`,
          hint: undefined,
        }
  port.postMessage({ type: 'failed', code, message, hint } satisfies FromPacketThread)
}
port.close()
