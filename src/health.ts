import type { FirewallStatus } from './firewall-status.ts'
import { printable } from './output/printable.ts'
import type { SourceHealth } from './sources/source.ts'

/** What a probe is told. */
export interface Probe {
  readonly isGood: boolean
  /** Where it is not good, why not; otherwise what else there is to know. One line each. */
  readonly lines: readonly string[]
}

/** Whether the process works; its main thread does, or nobody would answer. @param stalled queues whose threads stand still */
export function liveness(stalled: readonly number[]): Probe {
  return {
    isGood: stalled.length === 0,
    lines: stalled.map((queue) => stalledText(queue)),
  }
}

/** What a packet thread that stands still means. */
export function stalledText(queue: number): string {
  return `the packet thread of queue ${queue} stands still: what waits there gets no verdict`
}

/** Whether a full picture is enforced, or the last good one. @param sources before there is a status */
export function readiness(
  status: Pick<FirewallStatus, 'enforcing' | 'sources' | 'problems' | 'restoredFromMs'> | undefined,
  sources: readonly SourceHealth[],
): Probe {
  if (!status) return { isGood: false, lines: ['starting: nothing is enforced yet', ...sources.flatMap(waitedFor)] }
  const { enforcing, problems, restoredFromMs } = status
  if (!enforcing) return { isGood: false, lines: ['the rules are not in force', ...problems.flatMap(linesOf)] }
  const restored =
    restoredFromMs === undefined
      ? []
      : [`the picture saved ${new Date(restoredFromMs).toISOString()} is enforced where a source was not read since`]
  const stale = status.sources.flatMap(({ name, isCurrent, syncedAtMs }) =>
    isCurrent || syncedAtMs === undefined
      ? []
      : [`source ${name}: the last good picture is enforced, read ${new Date(syncedAtMs).toISOString()}`],
  )
  return { isGood: true, lines: [...restored, ...stale, ...problems.flatMap(linesOf)] }
}

/** As HTTP has it: 200 and `ok`, or 503; one line each. */
export function probeAnswer({ isGood, lines }: Probe): { readonly status: number; readonly body: string } {
  return {
    status: isGood ? 200 : 503,
    body: [...(isGood ? ['ok'] : []), ...lines].map((line) => `${printable(line)}\n`).join(''),
  }
}

function waitedFor({ name, isCurrent, error }: SourceHealth): string[] {
  if (isCurrent) return []
  return [`source ${name}: ${error === undefined ? 'not read yet' : linesOf(error).join('; ')}`]
}

function linesOf(text: string): string[] {
  return text.split('\n')
}
