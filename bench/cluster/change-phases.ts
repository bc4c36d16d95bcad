import { createInterface } from 'node:readline'
import type { Workload } from '../../src/engine/objects.ts'
import { type PodChange, podChanges, stateChanges } from './changes.ts'
import { monotonicMs } from './clock.ts'

/** What the watches were told while the rate was the same. */
export interface ChangePhase {
  readonly seconds: number
  readonly changes: number
  /** The events after which an address is a subject, or no longer. */
  readonly measured: readonly MeasuredEvent[]
}

export interface MeasuredEvent {
  readonly address: string
  readonly isSubject: boolean
  /** On the machine's monotonic clock. */
  readonly atMs: number
}

const TICK_MS = 5
const kinds = { state: stateChanges, pods: podChanges }

/**
 * Reads standard input: each line is a kind of changes and how many of them a second happen from then on, `state 100`,
 * `pods 100`, `none 0`. Prints what has happened since the line before, as a `ChangePhase` in JSON.
 * @param tell makes a change happen, and notes it where it is measured
 * @param end after each time of changes: until then all must have happened
 */
export function followPhases(
  pods: readonly Workload[],
  tell: (change: PodChange, note: (event: MeasuredEvent) => void) => void,
  end: () => Promise<void> = async () => {},
): void {
  let timer: NodeJS.Timeout | undefined
  let phase = { begunMs: monotonicMs(), changes: 0, measured: [] as MeasuredEvent[] }
  createInterface({ input: process.stdin }).on('line', async (line) => {
    clearInterval(timer)
    await end()
    const { begunMs, ...told } = phase
    const seconds = (monotonicMs() - begunMs) / 1000
    process.stdout.write(`${JSON.stringify({ seconds, ...told } satisfies ChangePhase)}\n`)
    const [kind, rate] = line.split(' ')
    const current = { begunMs: monotonicMs(), changes: 0, measured: [] as MeasuredEvent[] }
    phase = current
    if (kind !== 'state' && kind !== 'pods') return
    // From the beginning: who lists the pods is told of none that changed before.
    const source = kinds[kind](pods)
    timer = setInterval(() => {
      const due = ((monotonicMs() - current.begunMs) / 1000) * Number(rate)
      for (; current.changes < due; current.changes++) {
        tell(source.next().value, (event) => current.measured.push(event))
      }
    }, TICK_MS)
  })
}
