import { KnpError } from './errors.ts'

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

/** `500ms`, `60s`, `5m`, `1h` in milliseconds; `undefined` for what is no time, or longer than timers go (2^31 ms). */
export function durationMs(text: string): number | undefined {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  const ms = match ? Number(match[1]) * units[match[2] as keyof typeof units] : Number.NaN
  return ms < 2 ** 31 ? ms : undefined
}

/** The same for a time that has to pass. Throws KnpError USAGE. */
export function parseDuration(text: string): number {
  const ms = durationMs(text)
  if (ms) return ms
  throw new KnpError('USAGE', `"${text}" is no time`, { hint: 'write for example 500ms, 60s, 5m or 1h' })
}

/** As people write it: in the largest unit that it is a whole number of. */
export function formatDuration(ms: number): string {
  const [unit, length] = Object.entries(units).findLast(([, length]) => ms % length === 0 && ms >= length) ?? [
    's',
    1000,
  ]
  return `${ms / length}${unit}`
}
