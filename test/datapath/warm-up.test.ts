import t from 'tap'
import { createTally, DecisionTally } from '../../src/datapath/decision-tally.ts'
import { outcomes, PacketJudge } from '../../src/datapath/judge.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../src/datapath/marks.ts'
import { WarmUp } from '../../src/datapath/warm-up.ts'
import { attachEngine, type Engine, type Generation, policyKinds } from '../../src/engine/index.ts'
import { shop } from '../fixtures/shop.ts'
import { policyLine, worldOf } from '../fixtures/world.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const onlyClient = policyLine(
  'shop/p',
  'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]',
)
const { generation } = worldOf(shop + onlyClient, 'n1').compiled

/** Judges, and what each of them has counted. */
class Judges {
  readonly tallies: Float64Array[] = []

  readonly of = (generation: Generation, engine: Engine = attachEngine(generation, policyKinds)): PacketJudge => {
    const words = createTally(generation.policyCounts)
    this.tallies.push(words)
    const judge = new PacketJudge(engine, generation, 1, marks)
    judge.setTally(new DecisionTally(words, generation.policyCounts))
    return judge
  }

  /** How many decisions each has made. */
  get counts(): number[] {
    return this.tallies.map((words) => words.reduce((sum, count) => sum + count, 0))
  }
}

t.test('it decides as often as it is to, a part at a time, and then no more', async (t) => {
  const judges = new Judges()
  const warmUp = new WarmUp(250, judges.of)
  t.equal(warmUp.isUnderWay, false, 'it begins with its first step')
  const seen: boolean[] = []
  for (let step = 0; step < 4; step++) {
    warmUp.step(generation)
    seen.push(warmUp.isUnderWay)
  }
  t.same(seen, [true, true, false, false])
  t.same(judges.counts, [250])
})

t.test('what it decides is allowed as well as denied', async (t) => {
  const judges = new Judges()
  const found = new Set<number>()
  const warmUp = new WarmUp(100, (generation) => {
    const judge = judges.of(generation)
    const record = judge.record.bind(judge)
    judge.record = (flows, outcome) => {
      found.add(outcome)
      return record(flows, outcome)
    }
    return judge
  })
  warmUp.step(generation)
  t.same([...found].sort(), [outcomes.ALLOWED, outcomes.DENIED])
})

t.test('a new generation is decided by from the next step on', async (t) => {
  const judges = new Judges()
  const warmUp = new WarmUp(300, judges.of)
  warmUp.step(generation)
  const next = worldOf(shop, 'n1').compiled.generation
  warmUp.step(next)
  warmUp.step(next)
  t.same(judges.counts, [100, 200])
})

t.test('where nobody has an address it waits for one', async (t) => {
  const judges = new Judges()
  const warmUp = new WarmUp(100, judges.of)
  warmUp.step(worldOf('', 'n1').compiled.generation)
  t.equal(warmUp.isUnderWay, false)
  warmUp.step(generation)
  t.same(judges.counts, [0, 100])
})

t.test('what throws ends it, and nothing else', async (t) => {
  const engine = attachEngine(generation, policyKinds)
  const broken = {
    ...engine,
    decide: () => {
      throw new Error('broken')
    },
  }
  const judges = new Judges()
  const warmUp = new WarmUp(300, (generation) => judges.of(generation, broken))
  warmUp.step(generation)
  t.equal(warmUp.isUnderWay, false)
  warmUp.step(generation)
  t.same(judges.counts, [0])
})
