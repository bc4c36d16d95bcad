import t from 'tap'
import {
  cell,
  compact,
  deciderText,
  endsCell,
  sourceText,
  sparkline,
  targetAddress,
  targetText,
} from '../../src/dashboard/text.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { allowed, audited, flow } from './flows.ts'

t.test('numbers in six characters', async (t) => {
  const cases: readonly [number, string][] = [
    [0, '0'],
    [0.24, '0.2'],
    [9.5, '9.5'],
    [9.97, '10'],
    [123.4, '123'],
    [9999, '9999'],
    [9999.6, '10.0k'],
    [12_345, '12.3k'],
    [123_456, '123k'],
    [999_499, '999k'],
    [999_500, '1.0M'],
    [12_345_678, '12.3M'],
    [5e9, '5.0G'],
    [Number.MAX_SAFE_INTEGER, '9.0P'],
  ]
  for (const [n, text] of cases) t.equal(compact(n), text, String(n))
})

t.test('sparklines', async (t) => {
  t.equal(sparkline([], 5), '     ', 'no sample is no bar')
  t.equal(sparkline([0, 0], 4), '  ▁▁')
  t.equal(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8), '▁▂▃▄▅▆▇█')
  t.equal(sparkline([9, 9, 1, 2], 2), '▅█', 'scaled by what is seen')
  t.equal(sparkline([1, 100_000], 2), '▂█', 'little is not nothing')
  t.equal(sparkline([1, 2], 0), '')
})

t.test('columns', async (t) => {
  t.equal(cell('abc', 5), 'abc  ')
  t.equal(cell('abcdef', 5), 'abcd…')
  t.equal(cell('abc', 0), '')
  t.equal(cell('a\nb\u001b[2Jc', 20), 'a b\\u{1b}[2Jc       ')
})

t.test('ends', async (t) => {
  const cases: readonly [event: FlowEvent, source: string, target: string, address: string][] = [
    [flow(), 'shop/web', 'shop/db:5432/tcp', '10.0.0.3:5432/tcp'],
    [allowed(), '198.51.100.7', 'shop/web:8080/tcp', '10.0.0.2:8080/tcp'],
    [
      flow({ protocol: 17, destination: { address: 'fd00::53', port: 53 } }),
      'shop/web',
      '[fd00::53]:53/udp',
      '[fd00::53]:53/udp',
    ],
    [
      flow({ protocol: 17, destination: { name: 'node:abc', address: 'fd00::53', port: 53 } }),
      'shop/web',
      'node:abc:53/udp',
      '[fd00::53]:53/udp',
    ],
    [flow({ protocol: 58, destination: { address: 'fd00::53' } }), 'shop/web', 'fd00::53/icmp', 'fd00::53/icmp'],
  ]
  for (const [event, source, target, address] of cases) {
    t.equal(sourceText(event), source)
    t.equal(targetText(event), target)
    t.equal(targetAddress(event), address)
  }
  const { source: _, destination: __, ...unreadable } = flow()
  t.equal(sourceText(unreadable), 'unreadable packet')
  t.equal(targetText(unreadable), '?')
})

t.test('both ends in a column', async (t) => {
  const long = flow({
    source: { name: 'shop/api-7d9f8b6c5-x2x4z', address: 'fd00::9', port: 1 },
    destination: { name: 'shop/database-0', address: 'fd00::1', port: 5432 },
  })
  const cases: readonly [width: number, text: string][] = [
    [60, 'shop/api-7d9f8b6c5-x2x4z -> shop/database-0:5432/tcp        '],
    [52, 'shop/api-7d9f8b6c5-x2x4z -> shop/database-0:5432/tcp'],
    [51, 'shop/api-7d9f8b6c5-x2x4z -> shop/database-0:5432   '],
    [44, 'shop/api-7d9f8b6c5-… -> shop/database-0:5432'],
    [30, 'shop/api-7d9… -> shop/databas…'],
    [4, ' -> '],
    [0, ''],
  ]
  for (const [width, text] of cases) t.equal(endsCell(long, width), text, String(width))
})

t.test('who decided', async (t) => {
  t.equal(deciderText(flow()), 'shop/db-only isolates')
  t.equal(deciderText(allowed()), 'shop/web-open rule 0')
  t.equal(deciderText(audited()), 'shop/db-only isolates', 'what would have denied')
  const admin = { kind: 'ClusterNetworkPolicy', name: 'tenants' }
  t.equal(
    deciderText(flow({ decidedBy: { tier: 'Admin', policy: admin, rule: 2, ruleName: 'no db', reason: 'x' } })),
    'ClusterNetworkPolicy tenants rule 2 "no db"',
  )
  t.equal(
    deciderText(flow({ decidedBy: { tier: 'Unreadable', reason: 'cannot be read' } })),
    'Unreadable: cannot be read',
  )
})
