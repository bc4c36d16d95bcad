import t from 'tap'
import { slow } from '../slow.ts'
import { skip } from './product.ts'
import { revoke, touchedKinds } from './revocation.ts'

const REAL = 1000
const MADE = 10_000
/** `npm run revocation` measures; here the machine has other things to do. */
const CUT_MS = 2000 * slow

t.test('a new deny cuts what it touches, and nothing else', { skip }, async (t) => {
  for (const { trigger, live, real, cutMs, lost, answered } of await revoke({ real: REAL, made: MADE })) {
    t.test(`by ${trigger}`, async (t) => {
      t.equal(real, REAL)
      t.ok(live >= REAL + MADE, `${live} live connections`)
      for (const kind of touchedKinds) t.ok(cutMs[kind] < CUT_MS, `${kind}: cut after ${cutMs[kind].toFixed(1)} ms`)
      t.equal(lost, 0, 'no other connection lost a packet')
      t.ok(answered >= REAL, `they had ${answered} answers`)
    })
  }
})
