import type { Generation } from '../engine/index.ts'
import type { QueueOptions } from '../native/queue.ts'
import type { TallyWords } from './decision-tally.ts'
import { type HistogramReading, packetBounds, readHistograms } from './histogram.ts'
import { counterNames, readCounters } from './packet-loop.ts'
import type { PacketThreadData } from './packet-thread.ts'
import { StallWatch } from './stall-watch.ts'
import { PacketThread } from './thread.ts'

/** What packet threads count, for people and JSON. */
export type PacketCounters = ReturnType<typeof readCounters>

/** What the packet threads start with: one for each queue, everything else is the same for all. */
export type PacketThreadsData = Omit<PacketThreadData, 'queue' | 'counters' | 'tally' | 'times'> & {
  readonly queues: readonly QueueOptions[]
}

/** The packet threads, one for each queue. They read the same tables, and are up or down together. */
export class PacketThreads {
  /** Rejects when any of them ends without being told to: its queue is served by nobody. */
  readonly failure: Promise<never>
  readonly #threads: readonly PacketThread[]
  readonly #onExit: () => void
  readonly #stallWatch = new StallWatch()

  /**
   * Binds all queues and begins to decide. Throws KnpError QUEUE_TAKEN, PERMISSION, UNSUPPORTED_HOST, which names the queue;
   * then none of them is bound.
   */
  static async start({ queues, ...data }: PacketThreadsData): Promise<PacketThreads> {
    const threads: PacketThread[] = []
    // The process cannot end while a thread is blocked in the kernel. One listener: Node warns of more than ten.
    const onExit = () => {
      for (const thread of threads) thread.release()
    }
    process.once('exit', onExit)
    const starts = await Promise.allSettled(
      queues.map(async (queue) => {
        threads.push(await PacketThread.start({ ...data, queue }))
      }),
    )
    const failed = starts.find((start) => start.status === 'rejected')
    threads.sort((a, b) => a.queue - b.queue)
    if (!failed) return new PacketThreads(threads, onExit)
    await stopAll(threads, onExit)
    throw failed.reason
  }

  private constructor(threads: readonly PacketThread[], onExit: () => void) {
    this.#threads = threads
    this.#onExit = onExit
    this.failure = Promise.race(threads.map(({ failure }) => failure))
    // Whoever waits for it sees it; nobody has to.
    this.failure.catch(() => {})
  }

  /**
   * Resolves when all decide by this generation, and all that any of them decided before has taken effect. Throws what a
   * thread has failed with; also then no thread reads a former generation any more, so the next one can be begun.
   */
  async swap(generation: Generation, stamp: number): Promise<void> {
    const swaps = await Promise.allSettled(this.#threads.map((thread) => thread.swap(generation, stamp)))
    const failed = swaps.find((swap) => swap.status === 'rejected')
    if (failed) throw failed.reason
  }

  /** The sockets of the queues, by number. */
  sockets(): ReadonlyMap<number, number> {
    return new Map(this.#threads.map(({ queue, socketFd }) => [queue, socketFd]))
  }

  /** What each has counted, in the order of the queues' numbers. */
  counters(): readonly { readonly queue: number; readonly counters: PacketCounters }[] {
    return this.#threads.map(({ queue, counters }) => ({ queue, counters: readCounters(counters) }))
  }

  /** What each is counting, by who decided. */
  tallies(): readonly TallyWords[] {
    return this.#threads.map(({ tally }) => tally)
  }

  /** What they had counted until the last swap, where it brought other policies; once. Nobody writes there any more. */
  takeRetired(): readonly TallyWords[] {
    return this.#threads.flatMap((thread) => thread.takeRetired() ?? [])
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

  /** Gives the queues back; packets that wait in them are dropped, unless another process keeps the sockets. */
  async stop(): Promise<void> {
    await stopAll(this.#threads, this.#onExit)
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
