import type { FirewallStatus } from '../firewall-status.ts'

/** Connections and packets that got a verdict, a second, in the order in which they are shown. */
export const rateNames = ['allowed', 'denied', 'remembered', 'no verdict'] as const

export type RateName = (typeof rateNames)[number]

export interface Rates {
  /** A second; the newest last. */
  readonly samples: Readonly<Record<RateName, readonly number[]>>
  /** Since the firewall's rules were made. */
  readonly totals: Readonly<Record<RateName, number>>
  readonly atMs: number
}

/** How many samples are kept: what fits beside each other on a wide terminal. */
const KEPT = 240

/** With the counters read at `atMs`; the first reading, and the first after a restart, begins anew and is no sample. */
export function nextRates(before: Rates | undefined, { counters }: FirewallStatus, atMs: number): Rates {
  const totals = {
    allowed: counters.allowed,
    denied: counters.denied,
    remembered: counters.rememberedAllowed + counters.rememberedDenied,
    'no verdict': counters.unanswered,
  }
  const seconds = before ? (atMs - before.atMs) / 1000 : 0
  // Rules that were made anew count from zero.
  const goesOn = before !== undefined && seconds > 0 && rateNames.every((name) => totals[name] >= before.totals[name])
  const samplesOf = (name: RateName) =>
    goesOn
      ? [...before.samples[name], (totals[name] - before.totals[name]) / seconds].slice(-KEPT)
      : (before?.samples[name] ?? [])
  return {
    samples: {
      allowed: samplesOf('allowed'),
      denied: samplesOf('denied'),
      remembered: samplesOf('remembered'),
      'no verdict': samplesOf('no verdict'),
    },
    totals,
    atMs,
  }
}
