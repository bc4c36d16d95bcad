import t from 'tap'
import { parseDuration } from '../src/duration.ts'

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
