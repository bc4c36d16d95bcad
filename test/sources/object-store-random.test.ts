import t from 'tap'
import { seededRandom } from '../fixtures/random.ts'
import { findPictureDifference } from './compare-pictures.ts'

const RUNS = 60
const STEPS = 40

t.test('a store is its sources laid over each other, whatever happens to them', async (t) => {
  const random = seededRandom(5)
  for (let run = 0; run < RUNS; run++) {
    const difference = findPictureDifference(random, STEPS)
    if (difference) return t.fail(difference.problem, difference)
  }
  t.pass(`${RUNS * STEPS} steps`)
})
