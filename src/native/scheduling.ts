import { readdirSync } from 'node:fs'
import { loadAddon } from './load.ts'

/** Against one thread that others run on the same processor, 10 % of its time, and all of it while that waits. */
const NICE = 10
/** Longer than what other programs have: 0.7 to 2.8 ms by the number of processors. */
const SLICE_MS = 10
const USUAL_SLICE_MS = 0

/** What names the calling thread in {@link giveWay}. */
export function threadId(): number {
  return loadAddon().threadId()
}

/**
 * Has the threads of this process give way to those of other programs, all but these; those that they start from now on give
 * way too. Nothing where this process may not.
 */
export function giveWay(exceptThreads: readonly number[]): void {
  const addon = loadAddon()
  for (const name of readdirSync('/proc/self/task')) {
    const thread = Number(name)
    if (!exceptThreads.includes(thread)) addon.giveWay(thread, NICE, SLICE_MS)
  }
}

/**
 * Work for which the calling thread, having given way, and the processes that it starts, do not. As all else where the system
 * does not let it: that takes CAP_SYS_NICE, or a limit of resources (RLIMIT_NICE).
 */
export async function urgently(work: () => Promise<void>): Promise<void> {
  const addon = loadAddon()
  const thread = addon.threadId()
  const isUrgent = addon.giveWay(thread, -NICE, USUAL_SLICE_MS) === 0
  try {
    await work()
  } finally {
    if (isUrgent) addon.giveWay(thread, NICE, SLICE_MS)
  }
}
