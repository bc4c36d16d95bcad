import t from 'tap'
import { createCounters } from '../../src/datapath/packet-loop.ts'
import { StallWatch } from '../../src/datapath/stall-watch.ts'

const LOOKS = 10

t.test('a thread that counts nothing over ten looks stands still, until it counts again', async (t) => {
  const watch = new StallWatch()
  const [still, busy, idle] = [createCounters(), createCounters(), createCounters()]
  const look = () => {
    busy[0]!++
    // Nothing comes: it looks for packets again and again.
    idle[idle.length - 1]!++
    watch.note(100, still)
    watch.note(101, busy)
    watch.note(102, idle)
  }
  for (let i = 0; i < LOOKS; i++) {
    look()
    t.same(watch.stalled(), [], `${i} looks without progress are not enough`)
  }
  look()
  t.same(watch.stalled(), [100])
  still[3]!++
  look()
  t.same(watch.stalled(), [], 'it has gone on')
})
