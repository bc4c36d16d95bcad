import t from 'tap'
import { RepairPacer } from '../../src/ruleset/repair-pacer.ts'

t.test('rare repairs follow at once', async (t) => {
  const pacer = new RepairPacer()
  for (let second = 0; second < 100; second += 2) {
    t.equal(pacer.delayMs(second * 1000), 0)
    pacer.note(second * 1000)
    t.equal(pacer.excess(second * 1000), 0)
  }
})

t.test('beyond ten in ten seconds each waits twice as long as the one before, up to a second', async (t) => {
  const pacer = new RepairPacer()
  const delays: number[] = []
  for (let i = 0; i < 20; i++) {
    delays.push(pacer.delayMs(i))
    pacer.note(i)
  }
  t.same(delays, [...Array(10).fill(0), 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000])
  t.equal(pacer.excess(20), 20)
  t.equal(pacer.delayMs(10_000), 1000, 'one has left the window')
  t.equal(pacer.delayMs(10_019), 0, 'all have')
  t.equal(pacer.excess(10_019), 0)
})

t.test('a program that never stops leaves less than half of the time to repairs', async (t) => {
  const pacer = new RepairPacer()
  const repairMs = 60
  let nowMs = 0
  let repairs = 0
  for (; nowMs < 60_000; repairs++) {
    nowMs += pacer.delayMs(nowMs)
    pacer.note(nowMs)
    nowMs += repairMs
  }
  t.ok(repairs < 150, `${repairs} repairs in a minute`)
})
