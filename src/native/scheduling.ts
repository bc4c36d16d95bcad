import { readdirSync } from 'node:fs'
import { loadAddon } from './load.ts'

/** Against one thread that others run on the same processor, 10 % of its time, and all of it while that waits. */
const NICE = 10
/** Longer than what other programs have: 0.7 to 2.8 ms by the number of processors. */
const SLICE_MS = 10

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
