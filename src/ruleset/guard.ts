import { setTimeout as sleep } from 'node:timers/promises'
import { clockMs } from '../clock.ts'
import { NetlinkError } from '../native/netlink.ts'
import { RepairPacer } from './repair-pacer.ts'
import type { Ruleset, Wanted } from './ruleset.ts'
import { TABLE } from './text.ts'

/** The table may not be as it should be. */
export interface Suspicion {
  /** Whose doing it is, where that is known. */
  readonly program?: string | undefined
  readonly depth: 'rules' | 'withSubjects'
  /** Since when, in ms on {@link clockMs}. */
  readonly atMs: number
}

/** What a guard tells people. */
export type GuardEvent =
  | { readonly type: 'problem'; readonly message: string }
  | {
      readonly type: 'repaired'
      readonly message: string
      /** How long the rules were not as they should be: from when the change was noticed, in ms. */
      readonly goneMs: number
    }

/** How many changed parts of the table a message names. */
const NAMED_PARTS = 3

/** Sees to it that the table stays as it was installed, whoever changes it. */
export class TableGuard {
  readonly #ruleset: Ruleset
  readonly #observe: (event: GuardEvent) => void
  readonly #pacer = new RepairPacer()
  #suspicion: Suspicion | undefined
  #isInForce = true
  #brokenSinceMs = 0
  #repairs = 0
  /** Who changed the table last, as far as the kernel told. */
  #meddler: string | undefined

  /** @param ruleset is installed */
  constructor(ruleset: Ruleset, observe: (event: GuardEvent) => void) {
    this.#ruleset = ruleset
    this.#observe = observe
  }

  /** Whether the table is as it should be, as far as is known. */
  get isInForce(): boolean {
    return this.#isInForce
  }

  /** How often it was installed again. */
  get repairs(): number {
    return this.#repairs
  }

  /** One sentence where another program does not leave the table alone. */
  get problem(): string | undefined {
    const excess = this.#pacer.excess(clockMs())
    return excess > 0 ? this.#excessMessage(excess) : undefined
  }

  /** There is reason for `examine` to look at the table; suspicions that come before it does are one. */
  suspect({ program, depth, atMs }: Suspicion): void {
    const earlier = this.#suspicion
    this.#suspicion = {
      program: program ?? earlier?.program,
      depth: earlier?.depth === 'withSubjects' ? earlier.depth : depth,
      atMs: earlier?.atMs ?? atMs,
    }
  }

  /** Looks at the table when there is reason to: afterwards `isInForce` says whether it is as it should be. */
  examine(): void {
    const suspicion = this.#suspicion
    this.#suspicion = undefined
    if (suspicion === undefined || !this.#isInForce) return
    let wrong: readonly string[]
    try {
      wrong = this.#ruleset.examine(suspicion.depth)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      // Tables changed all the while: what was read means nothing. The next look is soon.
      this.#suspicion = suspicion
      return
    }
    if (wrong.length === 0) return
    this.#meddler = suspicion.program
    this.breakSince(suspicion.atMs)
    const more = wrong.length > NAMED_PARTS ? ` and ${wrong.length - NAMED_PARTS} more` : ''
    const message = `${this.#culprit} has changed table inet ${TABLE} (${wrong.slice(0, NAMED_PARTS).join(', ')}${more})`
    this.#observe({ type: 'problem', message })
  }

  /** The table is not as it should be, since then at the latest. */
  breakSince(atMs: number): void {
    if (this.#isInForce) this.#brokenSinceMs = atMs
    this.#isInForce = false
  }

  /** Installs the rules again, those that are wanted when it is its turn; connections stay stamped. Throws KnpError RULESET. */
  async repair(wanted: () => Wanted, signal: AbortSignal): Promise<void> {
    const delayMs = this.#pacer.delayMs(clockMs())
    if (delayMs > 0) {
      const message = this.#excessMessage(this.#pacer.excess(clockMs()))
      this.#observe({ type: 'problem', message: `${message}; the next one waits ${delayMs} ms` })
      await sleep(delayMs, undefined, { signal }).catch(() => {})
    }
    if (signal.aborted) return
    this.#pacer.note(clockMs())
    await this.#ruleset.install(wanted())
    this.#isInForce = true
    this.#repairs++
    const goneMs = Math.round(clockMs() - this.#brokenSinceMs)
    const message = `the rules of table inet ${TABLE} are in force again, ${goneMs} ms after the change was noticed`
    this.#observe({ type: 'repaired', message, goneMs })
  }

  get #culprit(): string {
    return `another program${this.#meddler === undefined ? '' : ` (${this.#meddler})`}`
  }

  #excessMessage(repairs: number): string {
    return `${this.#culprit} keeps changing table inet ${TABLE}: ${repairs} repairs in 10 s`
  }
}
