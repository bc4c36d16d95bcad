import t from 'tap'
import { seededRandom } from '../fixtures/random.ts'
import { sparseWorld } from '../fixtures/random-world.ts'
import { writtenChains } from '../fixtures/written-chains.ts'
import { type ChainCounts, findChainDifference, randomChain } from './compare-generations.ts'

const CHAINS = 120
const STEPS = 15
const FLOWS = 40

t.test('likewise in worlds in which there is little', async (t) => {
  const random = seededRandom(73)
  for (let number = 0; number < CHAINS; number++) {
    const chain = randomChain(random, STEPS, FLOWS, sparseWorld(random))
    const difference = findChainDifference(chain, 'n1')
    if (difference) {
      const steps = chain.steps.slice(0, difference.step + 1).map(({ delta }) => delta)
      return t.fail(difference.problem, { ...difference, objects: chain.objects, steps })
    }
  }
  t.pass(`${CHAINS} chains`)
})

t.test('likewise where chance hardly ever leads', async (t) => {
  for (const [number, chain] of writtenChains.entries()) {
    const counts: ChainCounts = { decisions: 0, changes: 0, needless: 0, everything: 0 }
    t.equal(findChainDifference(chain, 'n2', counts), undefined, `chain ${number}`)
    t.equal(counts.changes, 1, 'it changes what is decided')
  }
})

for (const localNode of ['n1', 'gateway']) {
  t.test(`changes one by one lead where compiling afresh leads, on ${localNode}`, async (t) => {
    const random = seededRandom(localNode === 'n1' ? 71 : 72)
    const counts: ChainCounts = { decisions: 0, changes: 0, needless: 0, everything: 0 }
    for (let number = 0; number < CHAINS; number++) {
      const chain = randomChain(random, STEPS, FLOWS)
      const difference = findChainDifference(chain, localNode, counts)
      if (difference) {
        const steps = chain.steps.slice(0, difference.step + 1).map(({ delta }) => delta)
        return t.fail(difference.problem, { ...difference, objects: chain.objects, steps })
      }
    }
    t.comment(counts)
    t.equal(counts.decisions, CHAINS * STEPS * FLOWS, 'all asked')
    t.ok(counts.changes >= counts.decisions / 100, 'one change in a hundred decisions at least')
    t.ok(counts.everything <= (CHAINS * STEPS) / 2, 'most changes name what they affect')
  })
}
