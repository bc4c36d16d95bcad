import type { Worker } from 'node:worker_threads'
import type { Generation } from '../engine/index.ts'
import type { QueueOptions } from '../native/queue.ts'
import type { TallyWords } from './decision-tally.ts'
import type { FlowRing } from './flow-ring.ts'
import { type HistogramReading, packetBounds, readHistograms } from './histogram.ts'
import type { PodPlaces } from './local-pods.ts'
import { counterNames, readCounters } from './packet-loop.ts'
import type { PacketThreadOptions } from './packet-thread.ts'
import { StallWatch } from './stall-watch.ts'
import { PacketThread, queueThreadName } from './thread.ts'

/** What packet threads count, for people and JSON. */
export type PacketCounters = ReturnType<typeof readCounters>

/** What the packet threads start with: one for each queue, everything else is the same for all. */
export type PacketThreadsOptions = Omit<PacketThreadOptions, 'queue'> & {
  readonly queues: readonly QueueOptions[]
  /** The group of the packet log that tells what the kernel answers by itself; left out where nobody is to know. */
  readonly logGroup?: number
}

/** What threads count: of packets that they were asked about, and of those that the kernel has answered by itself. */
export interface Tallies {
  readonly asked: readonly TallyWords[]
  readonly remembered: readonly TallyWords[]
}

/** What became of the packet log. */
export interface LogState {
  /** Whether rules may log: somebody reads. */
  readonly isRead: boolean
  /** How many packets it was told of, and how many of them it could not keep. */
  readonly noted: number
  readonly lost: number
  /** Why nobody reads, where somebody should. */
  readonly problem?: string
}

const LOG_THREAD = 'packet log'
/** All headers that what is remembered may have, and not much more. */
const LOG_COPY_BYTES = 128
const LOG_BUFFER_BYTES = 8 << 20

/** Threads that have loaded what packet threads need, and wait to be one. */
export class LoadedThreads {
  readonly #workers = new Map<string, Worker>()

  /**
   * @param queues by their numbers
   * @param isLogged whether one more will read the packet log
   */
  constructor(queues: readonly number[], isLogged: boolean) {
    const names = [...queues.map(queueThreadName), ...(isLogged ? [LOG_THREAD] : [])]
    for (const name of names) {
      const worker = PacketThread.load(name)
      this.#workers.set(name, worker)
      // Whoever would have taken it loads another, and is told what is wrong.
      worker.on('error', () => this.#workers.delete(name))
    }
  }

  /** The thread of this name, or another one that has just begun to load. */
  take(name: string): Worker {
    const worker = this.#workers.get(name)
    this.#workers.delete(name)
    return worker ?? PacketThread.load(name)
  }

  /** Ends those that nobody took. */
  async stop(): Promise<void> {
    await Promise.all([...this.#workers.values()].map((worker) => worker.terminate()))
    this.#workers.clear()
  }
}

/** The packet threads, one for each queue. They read the same tables, and are up or down together. */
export class PacketThreads {
  /** Rejects when any of them ends without being told to: its queue is served by nobody. */
  readonly failure: Promise<never>
  readonly #threads: readonly PacketThread[]
  readonly #onExit: () => void
  readonly #log: LogThread
  readonly #stallWatch = new StallWatch()

  /**
   * Binds all queues and begins to decide. Throws KnpError QUEUE_TAKEN, PERMISSION, UNSUPPORTED_HOST, which names the queue;
   * then none of them is bound.
   */
  static async start(
    { queues, logGroup, ...data }: PacketThreadsOptions,
    loaded = new LoadedThreads([], false),
  ): Promise<PacketThreads> {
    const threads: PacketThread[] = []
    const log = new LogThread()
    // The process cannot end while a thread is blocked in the kernel. One listener: Node warns of more than ten.
    const onExit = () => {
      for (const thread of threads) thread.release()
      log.release()
    }
    process.once('exit', onExit)
    const [starts] = await Promise.all([
      Promise.allSettled(
        queues.map(async (queue) => {
          threads.push(await PacketThread.start({ ...data, queue }, loaded.take(queueThreadName(queue.number))))
        }),
      ),
      logGroup !== undefined && log.start({ ...data, queue: queues[0]! }, logGroup, loaded.take(LOG_THREAD)),
    ])
    const failed = starts.find((start) => start.status === 'rejected')
    threads.sort((a, b) => a.queue - b.queue)
    if (!failed) return new PacketThreads(threads, log, onExit)
    await Promise.all([stopAll(threads, onExit), log.stop()])
    throw failed.reason
  }

  private constructor(threads: readonly PacketThread[], log: LogThread, onExit: () => void) {
    this.#threads = threads
    this.#log = log
    this.#onExit = onExit
    this.failure = Promise.race(threads.map(({ failure }) => failure))
    // Whoever waits for it sees it; nobody has to.
    this.failure.catch(() => {})
  }

  /**
   * Resolves when all decide by this generation, and all that any of them decided before has taken effect. Throws what a
   * thread has failed with; also then no thread reads a former generation any more, so the next one can be begun.
   * @param pods left out where they are the same as before
   */
  async swap(generation: Generation, stamp: number, pods?: PodPlaces): Promise<void> {
    const swaps = await Promise.allSettled([
      ...this.#threads.map((thread) => thread.swap(generation, stamp, pods)),
      this.#log.swap(generation, stamp),
    ])
    const failed = swaps.find((swap) => swap.status === 'rejected')
    if (failed) throw failed.reason
  }

  /** The sockets of the queues, by number. */
  sockets(): ReadonlyMap<number, number> {
    return new Map(this.#threads.map(({ queue, socketFd }) => [queue, socketFd]))
  }

  /** As the system names them: of those that decide, for whom somebody waits. */
  threadIds(): readonly number[] {
    return this.#threads.map(({ threadId }) => threadId)
  }

  /** What each has counted, in the order of the queues' numbers. */
  counters(): readonly { readonly queue: number; readonly counters: PacketCounters }[] {
    return this.#threads.map(({ queue, counters }) => ({ queue, counters: readCounters(counters) }))
  }

  /** What grows at least once a second with each thread that works. */
  rounds(): readonly number[] {
    return this.#threads.map(({ counters }) => readCounters(counters).rounds)
  }

  /** What is being counted, by who decided. */
  tallies(): Tallies {
    const words = ({ tally }: PacketThread) => tally
    return { asked: this.#threads.map(words), remembered: this.#log.threads().map(words) }
  }

  /** What they had counted until the last swap, where it brought other policies; once. Nobody writes there any more. */
  takeRetired(): Tallies {
    const words = (thread: PacketThread) => thread.takeRetired() ?? []
    return { asked: this.#threads.flatMap(words), remembered: this.#log.threads().flatMap(words) }
  }

  /** How long packets took, those of all queues together. */
  times(): { readonly decision: HistogramReading; readonly wait: HistogramReading } {
    const all = this.#threads.map(({ times }) => times)
    return {
      decision: readHistograms(
        all.map(({ decision }) => decision),
        packetBounds,
      ),
      wait: readHistograms(
        all.map(({ wait }) => wait),
        packetBounds,
      ),
    }
  }

  /** Looks once whether each has gone on since the last look. To be called at an even pace. */
  look(): void {
    for (const { queue, counters } of this.#threads) this.#stallWatch.note(queue, counters)
  }

  /** The queues whose threads have stood still over many looks. */
  stalled(): readonly number[] {
    return this.#stallWatch.stalled()
  }

  /** The log of what the kernel answers by itself. */
  get log(): LogState {
    return this.#log.state
  }

  /** What each has decided, in the order of the queues' numbers; then what the kernel has answered by itself. */
  flows(): readonly FlowRing[] {
    return [...this.#threads, ...this.#log.threads()].map(({ flows }) => flows)
  }

  /** Gives the queues back; packets that wait in them are dropped, unless another process keeps the sockets. */
  async stop(): Promise<void> {
    await Promise.all([stopAll(this.#threads, this.#onExit), this.#log.stop()])
  }
}

/** The thread that reads the log. Nobody's packets wait for it: when it fails, less is known, and everything goes on. */
class LogThread {
  #thread: PacketThread | undefined
  #problem: string | undefined

  async start(data: Omit<PacketThreadOptions, 'log'>, group: number, worker: Worker): Promise<void> {
    const log = { group, copyBytes: LOG_COPY_BYTES, receiveBufferBytes: LOG_BUFFER_BYTES }
    try {
      const thread = await PacketThread.start({ ...data, log }, worker)
      this.#thread = thread
      thread.failure.catch((error) => this.#fail(error))
    } catch (error) {
      this.#fail(error)
    }
  }

  get state(): LogState {
    const thread = this.#thread
    const { queued, overflows } = thread ? readCounters(thread.counters) : { queued: 0, overflows: 0 }
    const isRead = thread !== undefined && this.#problem === undefined
    return { isRead, noted: queued, lost: overflows, ...(this.#problem !== undefined && { problem: this.#problem }) }
  }

  threads(): readonly PacketThread[] {
    // What failed has the names of a former generation's policies.
    return this.#thread && this.#problem === undefined ? [this.#thread] : []
  }

  async swap(generation: Generation, stamp: number): Promise<void> {
    if (this.#problem === undefined) await this.#thread?.swap(generation, stamp).catch((error) => this.#fail(error))
  }

  async stop(): Promise<void> {
    await this.#thread?.stop()
  }

  release(): void {
    this.#thread?.release()
  }

  #fail(error: unknown): void {
    this.#problem ??= `what the kernel remembers is not told: ${error instanceof Error ? error.message : error}`
  }
}

/** What threads have counted together. */
export function sumCounters(all: readonly PacketCounters[]): PacketCounters {
  const sum = (name: keyof PacketCounters) => all.reduce((total, counters) => total + counters[name], 0)
  return Object.fromEntries(counterNames.map((name) => [name, sum(name)])) as PacketCounters
}

async function stopAll(threads: readonly PacketThread[], onExit: () => void): Promise<void> {
  await Promise.all(threads.map((thread) => thread.stop()))
  process.removeListener('exit', onExit)
}
