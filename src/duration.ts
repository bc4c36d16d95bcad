import { KnpError } from './errors.ts'

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

/** `500ms`, `60s`, `5m`, `1h` in milliseconds. Throws KnpError USAGE. */
export function parseDuration(text: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text)
  const ms = match ? Number(match[1]) * units[match[2] as keyof typeof units] : 0
  // Node's timers end at 2^31 ms.
  if (ms > 0 && ms < 2 ** 31) return ms
  throw new KnpError('USAGE', `"${text}" is no time`, { hint: 'write for example 500ms, 60s, 5m or 1h' })
}
