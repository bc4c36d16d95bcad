import { Worker } from 'node:worker_threads'
import type { Generation } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { wakeQueue } from '../native/queue.ts'
import { createTally, type TallyWords } from './decision-tally.ts'
import { createFlowRing, type FlowRing } from './flow-ring.ts'
import type { PodPlaces } from './local-pods.ts'
import { createMail, MailSender } from './mailbox.ts'
import { type Counters, createCounters } from './packet-loop.ts'
import type { FromPacketThread, PacketThreadData, PacketThreadOptions, ToPacketThread } from './packet-thread.ts'
import { createTimes, type TimeWords } from './packet-times.ts'

/** Decisions, and the policies that they are told apart by. */
interface Tally {
  readonly words: TallyWords
  readonly policyCounts: Generation['policyCounts']
}

type Bound = Extract<FromPacketThread, { type: 'bound' }>

/** The packet thread of one queue, seen from the main one. */
export class PacketThread {
  /** The queue's number. */
  readonly queue: number
  /** The queue's socket, for who keeps a duplicate of it. Not to be closed. */
  readonly socketFd: number
  /** As the system names the thread. */
  readonly threadId: number
  readonly counters: Counters
  readonly times: TimeWords
  /** What it decided by the generation in force, and by those before that had the same policies. */
  #tally: Tally
  #retired: Tally | undefined
  /** What it has decided. */
  readonly flows: FlowRing
  readonly #mail: MailSender<ToPacketThread>
  readonly #wakeFd: number
  /** What the thread is to answer, by id. */
  readonly #questions = new Map<number, { resolve(): void; reject(error: unknown): void }>()
  #nextId = 1
  readonly #exited: Promise<void>
  #isStopped = false
  /** Set when the thread has failed. */
  #end: { readonly error: unknown } | undefined
  /** Rejects when the thread ends without being told to. */
  readonly failure: Promise<never>
  #fail!: (error: unknown) => void

  /**
   * A thread that will be a packet thread: it loads what that takes, which can be done ahead.
   * @param name for who looks at the process's threads
   */
  static load(name: string): Worker {
    // Node runs the source as it is in tests, the compiled file otherwise.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    return new Worker(new URL(`./packet-thread.${extension}`, import.meta.url), { name })
  }

  /** Binds the queue and begins to decide. Throws KnpError QUEUE_TAKEN, PERMISSION, UNSUPPORTED_HOST. */
  static async start(options: PacketThreadOptions, worker: Worker): Promise<PacketThread> {
    const mail = createMail()
    const counters = createCounters()
    const times = createTimes()
    const flows = createFlowRing()
    const tally = tallyFor(options.generation)
    worker.postMessage({ ...options, mail, counters, tally: tally.words, times, flows } satisfies PacketThreadData)
    const queue = options.queue.number
    const bound = await new Promise<Bound>((resolve, reject) => {
      const onExit = () => reject(endedError(queue))
      worker.once('error', reject)
      worker.once('exit', onExit)
      worker.once('message', (message: FromPacketThread) => {
        if (message.type === 'bound') resolve(message)
        else if (message.type === 'failed') reject(asError(message))
        worker.removeListener('error', reject)
        worker.removeListener('exit', onExit)
      })
    })
    return new PacketThread(worker, new MailSender(mail, worker), bound, queue, { counters, times, flows, tally })
  }

  private constructor(
    worker: Worker,
    mail: MailSender<ToPacketThread>,
    { wakeFd, socketFd, threadId }: Bound,
    queue: number,
    { counters, times, flows, tally }: { counters: Counters; times: TimeWords; flows: FlowRing; tally: Tally },
  ) {
    this.queue = queue
    this.socketFd = socketFd
    this.threadId = threadId
    this.counters = counters
    this.times = times
    this.#tally = tally
    this.flows = flows
    this.#mail = mail
    this.#wakeFd = wakeFd
    this.failure = new Promise((_, reject) => {
      this.#fail = (error) => {
        this.#end = { error }
        for (const question of this.#questions.values()) question.reject(error)
        reject(error)
      }
    })
    // Whoever waits for it sees it; nobody has to.
    this.failure.catch(() => {})
    worker.on('error', (error) => this.#fail(error))
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        if (!this.#isStopped) this.#fail(endedError(queue))
        resolve()
      })
    })
    worker.on('message', (message: FromPacketThread) => {
      if (message.type === 'answered') this.#questions.get(message.id)?.resolve()
      else if (message.type === 'failed') this.#fail(asError(message))
    })
  }

  /**
   * Resolves when the thread decides by this generation, and all that it decided before has taken effect. A generation may be
   * given again, with other pods.
   * @param pods left out where they are the same as before
   */
  async swap(generation: Generation, stamp: number, pods?: PodPlaces): Promise<void> {
    if (this.#end) throw this.#end.error
    const former = this.#tally
    const tally = former.policyCounts === generation.policyCounts ? former : tallyFor(generation)
    const swap = { type: 'swap', generation, stamp, pods, ...(tally !== former && { tally: tally.words }) } as const
    if (!this.#mail.post(swap)) await this.#settled()
    if (tally === former) return
    this.#tally = tally
    this.#retired = former
  }

  /** What it is counting, by who decided. */
  get tally(): TallyWords {
    return this.#tally.words
  }

  /** What it had counted until the last swap brought other policies; once. */
  takeRetired(): TallyWords | undefined {
    const retired = this.#retired?.words
    this.#retired = undefined
    return retired
  }

  /** Gives the queue back; packets that wait in it are dropped, unless another process keeps its socket. */
  async stop(): Promise<void> {
    if (this.#isStopped) return
    this.release()
    await this.#exited
  }

  /** Has the thread stop, and does not wait: for when the process ends, which it cannot while the thread is blocked. */
  release(): void {
    this.#isStopped = true
    this.#send({ type: 'stop' })
  }

  /** Resolves when the thread has done all that was posted. */
  async #settled(): Promise<void> {
    const id = this.#nextId++
    try {
      await new Promise<void>((resolve, reject) => {
        this.#questions.set(id, { resolve, reject })
        this.#send({ type: 'answer', id })
      })
    } finally {
      this.#questions.delete(id)
    }
  }

  #send(message: ToPacketThread): void {
    this.#mail.post(message)
    wakeQueue(this.#wakeFd)
  }
}

export function queueThreadName(queue: number): string {
  return `queue ${queue}`
}

function tallyFor({ policyCounts }: Generation): Tally {
  return { words: createTally(policyCounts), policyCounts }
}

function endedError(queue: number): KnpError {
  return new KnpError('INTERNAL', `the packet thread of queue ${queue} ended`)
}

function asError({ code, message, hint }: Extract<FromPacketThread, { type: 'failed' }>): KnpError {
  return new KnpError(code, message, hint === undefined ? {} : { hint })
}
