import { getHeapSpaceStatistics } from 'node:v8'
import t from 'tap'
import { trimMemory } from '../../src/native/memory.ts'

const youngBytes = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')!.physical_space_size

t.test('what was needed for a while is given back', async (t) => {
  let kept: object[] = []
  // As a large list is read: most of it is let go at once.
  for (let i = 0; i < 2_000_000; i++) {
    kept.push({ i })
    if (kept.length > 50_000) kept = []
  }
  const before = { youngBytes: youngBytes(), residentBytes: process.memoryUsage.rss() }
  t.ok(before.youngBytes > 4 << 20, `${before.youngBytes} bytes of young objects`)
  kept = []
  trimMemory()
  t.ok(youngBytes() < before.youngBytes / 2, `${youngBytes()} bytes now`)
  t.ok(process.memoryUsage.rss() < before.residentBytes)
  t.equal((globalThis as { gc?: unknown }).gc, undefined, 'nothing is left of it')
})
