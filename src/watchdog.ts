import type { ServiceManager } from './systemd.ts'

/** In the time that the manager waits: one that comes late, or is lost, is no reason to end the process. */
const TIMES = 4

/**
 * Tells the service manager that this process is alive, as long as this thread runs and every packet thread goes round; where
 * the manager asks for it. A process that is stopped, or has one thread that hangs, holds packets that nobody judges: the
 * manager then ends it, and the next one gets its queues.
 *
 * @param rounds a number for each packet thread that grows while it works
 * @param tell is given each message to send, and bears what that throws
 * @returns what ends it
 */
export function startWatchdog(
  manager: Pick<ServiceManager, 'watchdogMs' | 'alive'>,
  rounds: () => readonly number[],
  tell: (send: () => void) => void,
): () => void {
  const { watchdogMs } = manager
  if (watchdogMs === undefined) return () => {}
  let former: readonly number[] = []
  const timer = setInterval(() => {
    const current = rounds()
    if (current.some((count, i) => count === former[i])) return
    former = current
    tell(() => manager.alive())
  }, watchdogMs / TIMES)
  timer.unref()
  return () => clearInterval(timer)
}
