import fc from 'fast-check'
import t from 'tap'
import { durationMs, formatDuration, parseDuration } from '../src/duration.ts'

t.test('times', async (t) => {
  const cases: readonly [text: string, ms: number][] = [
    ['1ms', 1],
    ['500ms', 500],
    ['60s', 60_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['010s', 10_000],
    ['2147483647ms', 2 ** 31 - 1],
    ['596h', 596 * 3_600_000],
  ]
  for (const [text, ms] of cases) t.equal(parseDuration(text), ms, text)
})

t.test('what is no time', async (t) => {
  const refused = ['', '60', 's', '0s', '0ms', '-1s', '1.5s', '1 s', ' 1s', '1s ', '1S', '1d', '1m30s', '1e3s', '597h']
  for (const text of [...refused, '2147483648ms', '99999999999999999999h', '1s\n']) {
    t.throws(() => parseDuration(text), { code: 'USAGE', message: `"${text}" is no time` }, JSON.stringify(text))
  }
})

t.test('no time at all, where that has a meaning', async (t) => {
  for (const text of ['0ms', '0s', '0m', '0h', '00s']) t.equal(durationMs(text), 0, text)
  t.equal(durationMs('30s'), 30_000)
  for (const text of ['', '0', '-0s', '597h', '1s\n']) t.equal(durationMs(text), undefined, JSON.stringify(text))
})

t.test('as people write it: in the largest unit that fits', async (t) => {
  const cases: readonly [ms: number, text: string][] = [
    [0, '0s'],
    [1, '1ms'],
    [999, '999ms'],
    [1000, '1s'],
    [1500, '1500ms'],
    [59_000, '59s'],
    [60_000, '1m'],
    [90_000, '90s'],
    [3_600_000, '1h'],
    [5_400_000, '90m'],
    [86_400_000, '24h'],
  ]
  for (const [ms, text] of cases) t.equal(formatDuration(ms), text)
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (ms) => durationMs(formatDuration(ms)) === ms))
})
