import t from 'tap'
import { seededRandom } from '../fixtures/random.ts'
import { randomFlow, randomWorld } from '../fixtures/random-world.ts'
import { findDifference } from './compare-decisions.ts'
import { objectsOf } from './oracle/objects.ts'
import type { OracleAnswer } from './oracle.ts'

const WORLDS = 2000
const FLOWS = 60
const LOCAL_NODE = 'n1'

/** What has to happen often enough to be tested. */
const wanted = [
  'Admin allow',
  'Admin deny',
  'NetworkPolicy allow',
  'NetworkPolicy deny',
  'Baseline allow',
  'Baseline deny',
  'default',
  'exempt',
  'passed',
]

t.test('the engine decides as the texts of the policy APIs say, in random worlds', async (t) => {
  const random = seededRandom(20260101)
  const counts = new Map<string, number>()
  const add = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1)
  const count = ({ verdict, decidedBy, hasPassed, complete }: OracleAnswer) => {
    add(decidedBy ? `${decidedBy.tier} ${verdict}` : verdict)
    if (hasPassed) add('passed')
    if (verdict !== complete.verdict) add('audited policies decide otherwise')
  }
  for (let number = 0; number < WORLDS; number++) {
    const world = randomWorld(random)
    const flows = Array.from({ length: FLOWS }, () => randomFlow(random, world))
    const difference = findDifference(objectsOf(world), flows, LOCAL_NODE, count)
    if (difference) return t.fail('the engine differs from the oracle', { ...difference, world })
  }
  const total = WORLDS * FLOWS
  t.ok(total >= 100_000, 'enough decisions')
  const share = (what: string) => (counts.get(what) ?? 0) / total
  const rows = [...counts.keys()].sort().map((what) => `${(share(what) * 100).toFixed(1).padStart(5)} %  ${what}`)
  t.comment(`${total} decisions\n${rows.join('\n')}`)
  for (const what of wanted) t.ok(share(what) >= 0.05, `${what}: in a twentieth of them`)
  t.ok(share('audited policies decide otherwise') >= 0.01, 'audited policies differ in a hundredth')
})
