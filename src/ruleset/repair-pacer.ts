const WINDOW_MS = 10_000
/** So many repairs in the window follow at once; each one more waits twice as long. */
const FREE_REPAIRS = 10
const FIRST_DELAY_MS = 10
const MAX_DELAY_MS = 1000

/**
 * When the next repair may begin. Another program that removes our rules in a loop would otherwise keep both of us busy
 * with nothing else. Times are in ms, on whatever clock that only goes forward.
 */
export class RepairPacer {
  #times: readonly number[] = []

  /** A repair begins. */
  note(nowMs: number): void {
    this.#times = [...this.#recent(nowMs), nowMs]
  }

  /** How long the next repair has to wait; 0 as long as they are rare. */
  delayMs(nowMs: number): number {
    const excess = this.#recent(nowMs).length - FREE_REPAIRS
    return excess < 0 ? 0 : Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** excess)
  }

  /** How many repairs there were within the last 10 s, when they are too many; 0 otherwise. */
  excess(nowMs: number): number {
    const count = this.#recent(nowMs).length
    return count < FREE_REPAIRS ? 0 : count
  }

  #recent(nowMs: number): readonly number[] {
    return this.#times.filter((time) => nowMs - time < WINDOW_MS)
  }
}
