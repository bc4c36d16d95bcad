import t from 'tap'
import { slow } from '../slow.ts'
import { skip } from './product.ts'
import { revoke, touchedKinds } from './revocation.ts'

const REAL = 1000
const MADE = 10_000
/** After the change is in force. `npm run revocation` measures; here the machine has other things to do. */
const CUT_MS = 500 * slow

t.test('a new deny cuts what it touches, and nothing else', { skip }, async (t) => {
  const rows = await revoke({ real: REAL, made: MADE })
  for (const { trigger, live, real, cutMs, inForceMs, passedLater, lost, answered } of rows) {
    t.test(`by ${trigger}`, async (t) => {
      t.equal(real, REAL)
      t.ok(live >= REAL + MADE, `${live} live connections`)
      for (const kind of touchedKinds) {
        t.ok(cutMs[kind] < inForceMs + CUT_MS, `${kind}: cut after ${cutMs[kind].toFixed(1)} ms`)
      }
      t.equal(passedLater, 0, 'of connections that had been idle, the first packet did not pass')
      t.equal(lost, 0, 'no other connection lost a packet')
      t.ok(answered >= REAL, `they had ${answered} answers`)
    })
  }
})
