import t from 'tap'
import { liveness, probeAnswer, readiness } from '../src/health.ts'
import type { SourceHealth } from '../src/sources/source.ts'

const readAt = Date.UTC(2026, 0, 2, 3, 4, 5)
const current: SourceHealth = { name: 'files', isCurrent: true, syncedAtMs: readAt, notes: [] }
const broken: SourceHealth = { name: 'kubernetes', isCurrent: false, error: 'away\nfor good', notes: [] }
const enforcing = { enforcing: true, sources: [current], problems: [] }

t.test('alive is who answers, and whose packet threads go on', async (t) => {
  t.same(liveness([]), { isGood: true, lines: [] })
  t.match(liveness([100, 102]), { isGood: false, lines: [/queue 100 stands still/, /queue 102 stands still/] })
})

t.test('ready is who enforces a full picture', async (t) => {
  t.same(readiness(enforcing, []), { isGood: true, lines: [] })
  t.same(
    readiness({ ...enforcing, enforcing: false, problems: ['nft: refused\nby the kernel'] }, []),
    { isGood: false, lines: ['the rules are not in force', 'nft: refused', 'by the kernel'] },
    'one line for each reason',
  )
})

t.test('the last good picture is one, and is named', async (t) => {
  t.same(
    readiness(
      { ...enforcing, sources: [current, { ...broken, syncedAtMs: readAt }], problems: ['kubernetes: away'] },
      [],
    ),
    {
      isGood: true,
      lines: [
        'source kubernetes: the last good picture is enforced, read 2026-01-02T03:04:05.000Z',
        'kubernetes: away',
      ],
    },
  )
  t.same(readiness({ ...enforcing, sources: [broken], restoredFromMs: readAt }, []), {
    isGood: true,
    lines: ['the picture saved 2026-01-02T03:04:05.000Z is enforced where a source was not read since'],
  })
})

t.test('before the first picture nobody is ready', async (t) => {
  const waiting: SourceHealth = { name: 'kubernetes', isCurrent: false, notes: [] }
  t.same(readiness(undefined, [current, waiting, broken]), {
    isGood: false,
    lines: [
      'starting: nothing is enforced yet',
      'source kubernetes: not read yet',
      'source kubernetes: away; for good',
    ],
  })
})

t.test('as probes see it', async (t) => {
  t.same(probeAnswer({ isGood: true, lines: [] }), { status: 200, body: 'ok\n' })
  t.same(probeAnswer({ isGood: true, lines: ['a'] }), { status: 200, body: 'ok\na\n' })
  t.same(probeAnswer({ isGood: false, lines: ['a', 'b\u001b[2J'] }), { status: 503, body: 'a\nb\\u{1b}[2J\n' })
})
