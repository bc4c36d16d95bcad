import t from 'tap'
import { skip } from './product.ts'
import { soak } from './soak.ts'

const SECONDS = 6
/** What other tests leave of the machine is enough for these. */
const RATE = 500

for (const [denyWith, remember, seed] of [
  ['drop', 'long', 4],
  ['reject', 'short', 5],
] as const) {
  t.test(`traffic and changes, denied with ${denyWith}, remembered for ${remember}`, { skip }, async (t) => {
    const { mistakes, ...result } = await soak({ seconds: SECONDS, seed, denyWith, remember, rate: RATE })
    t.comment(result)
    t.same(mistakes, [], 'every attempt ended as the policies in force said')
    t.ok(result.allowed > SECONDS * 100, `${result.allowed} were to be allowed`)
    t.ok(result.denied > SECONDS * 100, `${result.denied} were to be denied`)
    t.ok(result.effectiveChanges >= SECONDS / 2, `${result.effectiveChanges} of ${result.changes} changes were felt`)
    t.equal(result.counters.unanswered, 0)
    t.same(result.problems, [])
    t.equal(result.repairs, 0)
  })
}
