import { setTimeout } from 'node:timers/promises'
import { loadAddon } from './load.ts'

/** Far longer than a packet stays in the rules of one hook. */
const SLEEP_MS = 20

/**
 * Resolves when no packet is in rules that have been replaced before the call. What is waiting in a queue is in no rules:
 * it goes on in those that are in force when it is answered.
 *
 * @param awaitGracePeriod waits for the kernel, and answers an errno where it refuses
 * @throws KnpError NATIVE_MISSING
 */
export async function graceOver(awaitGracePeriod = loadAddon().awaitGracePeriod): Promise<void> {
  // Refused with nohz_full (membarrier(2)), and by a filter of system calls.
  if ((await awaitGracePeriod()) !== 0) await setTimeout(SLEEP_MS)
}
