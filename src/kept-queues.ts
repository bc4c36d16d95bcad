import { closeSync } from 'node:fs'
import { readQueueStatistics } from './native/queue-statistics.ts'
import type { ServiceManager } from './systemd.ts'

const PREFIX = 'knp-queue-'

/**
 * The queues' sockets, which the service manager keeps from one process to the next: while any process has its socket open,
 * a queue stays bound, and packets wait in it.
 */
export class KeptQueues {
  readonly #manager: ServiceManager
  /** Descriptors that nobody has taken yet. */
  readonly #left: Set<number>
  #isHeld = false

  constructor(manager: ServiceManager) {
    this.#manager = manager
    this.#left = new Set(manager.kept.map(({ fd }) => fd))
  }

  /** Whether packets wait after this process has ended. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  /** The sockets that an earlier process has left of these queues, by queue; they are the caller's from now on. */
  take(queues: readonly number[]): ReadonlyMap<number, number> {
    const taken = queues.flatMap((queue) => {
      const found = this.#manager.kept.find(({ name, fd }) => name === `${PREFIX}${queue}` && this.#left.has(fd))
      return found ? [[queue, found.fd] as const] : []
    })
    for (const [, fd] of taken) this.#left.delete(fd)
    return new Map(taken)
  }

  /**
   * Has the manager keep the sockets of the queues in use, by queue, and nothing else. What was left and not taken is closed:
   * packets that wait in such a queue are lost.
   */
  hold(sockets: ReadonlyMap<number, number>): void {
    this.#forgetAll()
    for (const fd of this.#left) closeSync(fd)
    this.#left.clear()
    // Where the kernel's list of queues cannot be read, a socket could not be taken over, and would only be in the way.
    if (!this.#manager.isThere || readQueueStatistics() === undefined) return
    for (const [queue, fd] of sockets) this.#manager.keep(`${PREFIX}${queue}`, fd)
    this.#isHeld = true
  }

  /** Has nothing kept any more: when this process has ended, nobody may come to answer. */
  release(): void {
    this.#forgetAll()
    this.#isHeld = false
  }

  #forgetAll(): void {
    for (const name of new Set(this.#manager.kept.map(({ name }) => name))) this.#manager.forget(name)
  }
}
