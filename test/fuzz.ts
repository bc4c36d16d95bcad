import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { answerText, expectedText, findDifference } from './engine/compare-decisions.ts'
import { type Chain, findChainDifference, randomChain } from './engine/compare-generations.ts'
import { type OracleFlow, objectsOf, type PlainObject, plainKey } from './engine/oracle/objects.ts'
import { seededRandom } from './fixtures/random.ts'
import type { PlainDelta } from './fixtures/random-change.ts'
import { nodeNames } from './fixtures/random-names.ts'
import { randomFlow, randomWorld } from './fixtures/random-world.ts'
import { shrinkList, shrinkValue } from './fixtures/shrink.ts'

/**
 * Random worlds until the time is over: the engine must decide as the oracle, and a compiler that is fed changes like one
 * that sees each world afresh. `node test/fuzz.ts [--seconds 60] [--seed N]`; exits 1 with the smallest world it finds
 * that shows a difference.
 */

const FLOWS = 60
const CHAIN_STEPS = 6
const CHAIN_FLOWS = 20
const PROGRESS_MS = 5000
const SHRINK_MS = 60_000

/** Something is wrong. While an example is made smaller, what is wrong must stay of one kind. */
interface Failure {
  readonly kind: string
  readonly problem: string
  readonly flow?: OracleFlow
  readonly step?: number
}

const { values } = parseArgs({ options: { seconds: { type: 'string' }, seed: { type: 'string' } } })
const seconds = numberOf('seconds', 60)
const firstSeed = numberOf('seed', Date.now() % 1_000_000_000)
const counts = { worlds: 0, decisions: 0, chains: 0, steps: 0 }
const startMs = performance.now()
let shownMs = startMs
let isFailed = false

for (let seed = firstSeed; !isFailed && performance.now() - startMs < seconds * 1000; seed++) {
  isFailed = !(tryWorld(seed) && tryChain(seed))
  if (performance.now() - shownMs < PROGRESS_MS) continue
  shownMs = performance.now()
  showProgress(`seed ${seed}`)
}
showProgress(isFailed ? 'failed' : 'no difference')
if (isFailed) process.exitCode = 1

/** One world, and whether the engine decides in it as the oracle does. */
function tryWorld(seed: number): boolean {
  const random = seededRandom(seed)
  const world = randomWorld(random)
  const localNode = random.pick([...nodeNames, 'gateway'])
  const flows = Array.from({ length: FLOWS }, () => randomFlow(random, world))
  const judge = (objects: readonly PlainObject[], asked: readonly OracleFlow[]) =>
    failureOf(() => {
      const difference = findDifference(objects, asked, localNode, () => counts.decisions++)
      if (!difference) return undefined
      const { flow, expected, found } = difference
      const foundText = typeof found === 'string' ? found : answerText(found)
      return { kind: 'difference', flow, problem: `engine: ${foundText}\noracle: ${expectedText(expected)}` }
    })

  counts.worlds++
  const failure = judge(objectsOf(world), flows)
  if (!failure) return true
  const asked = failure.flow ? [failure.flow] : []
  const fails = whileTimeLasts((objects: readonly PlainObject[]) => judge(objects, asked)?.kind === failure.kind)
  const smallest = shrinkObjects(shrinkList(objectsOf(world), fails), fails)
  report(seed, localNode, judge(smallest, asked) ?? failure, smallest, [])
  return false
}

/** One world and what happens to it, and whether its changes lead where compiling it afresh leads. */
function tryChain(seed: number): boolean {
  const random = seededRandom(seed ^ 0x5eed)
  const localNode = random.pick([...nodeNames, 'gateway'])
  const chain = randomChain(random, CHAIN_STEPS, CHAIN_FLOWS)
  const chainCounts = { decisions: 0, changes: 0, needless: 0, everything: 0 }
  const judge = (each: Chain) =>
    failureOf(() => {
      const difference = findChainDifference(each, localNode, chainCounts)
      return difference && { kind: difference.problem.replace(/[^a-z].*/s, ''), ...difference }
    })

  counts.chains++
  const failure = judge(chain)
  counts.steps += failure?.step ?? chain.steps.length
  counts.decisions += chainCounts.decisions
  if (!failure) return true
  const flows = failure.flow ? [failure.flow] : []
  const asChain = (objects: readonly PlainObject[], deltas: readonly PlainDelta[]): Chain => ({
    objects,
    steps: deltas.map((delta) => ({ delta, flows })),
  })
  const isFailing = whileTimeLasts((each: Chain) => judge(each)?.kind === failure.kind)
  const [objects, deltas] = shrinkChain(chain, (...parts) => isFailing(asChain(...parts)))
  report(seed, localNode, judge(asChain(objects, deltas)) ?? failure, objects, deltas)
  return false
}

function shrinkChain(
  chain: Chain,
  fails: (objects: readonly PlainObject[], deltas: readonly PlainDelta[]) => boolean,
): [readonly PlainObject[], readonly PlainDelta[]] {
  let { objects } = chain
  let deltas = shrinkList(
    chain.steps.map(({ delta }) => delta),
    (fewer) => fails(objects, fewer),
  )
  objects = shrinkList(objects, (fewer) => fails(fewer, deltas))
  for (const [i, delta] of deltas.entries()) {
    const using = (changed: PlainDelta) => deltas.with(i, changed)
    const deletes = shrinkList(delta.deletes, (fewer) => fails(objects, using({ ...delta, deletes: fewer })))
    const upserts = shrinkList(delta.upserts, (fewer) => fails(objects, using({ deletes, upserts: fewer })))
    deltas = using({ deletes, upserts })
    const smaller = shrinkObjects(upserts, (changed) => fails(objects, using({ deletes, upserts: changed })))
    deltas = using({ deletes, upserts: smaller })
  }
  return [shrinkObjects(objects, (changed) => fails(changed, deltas)), deltas]
}

/** Leaves out parts of the objects, not objects. */
function shrinkObjects(
  objects: readonly PlainObject[],
  fails: (objects: readonly PlainObject[]) => boolean,
): readonly PlainObject[] {
  let kept = objects
  for (const [i, object] of objects.entries()) {
    kept = kept.with(
      i,
      shrinkValue(object, (smaller) => fails(kept.with(i, smaller))),
    )
  }
  return kept
}

/** What throws is a failure too, of the kind that its class says. */
function failureOf(judge: () => Failure | undefined): Failure | undefined {
  try {
    return judge()
  } catch (error) {
    const { name, message, stack } = error as Error
    return { kind: `${name} ${message.slice(0, 20)}`, problem: `threw ${stack}` }
  }
}

/** After a minute nothing gets smaller any more. */
function whileTimeLasts<T>(fails: (value: T) => boolean): (value: T) => boolean {
  const endMs = performance.now() + SHRINK_MS
  return (value) => performance.now() < endMs && fails(value)
}

function report(
  seed: number,
  localNode: string,
  { problem, flow }: Failure,
  objects: readonly PlainObject[],
  deltas: readonly PlainDelta[],
): void {
  const documents = (each: readonly PlainObject[]) => each.map((object) => `---\n${stringify(object)}`).join('')
  const lines = [`DIFFERENCE on node ${localNode}; repeat it: node test/fuzz.ts --seed ${seed}`, documents(objects)]
  for (const [i, { upserts, deletes }] of deltas.entries()) {
    const gone = deletes.map((object) => `# deletes ${plainKey(object)}\n`).join('')
    lines.push(`# change ${i + 1}\n${gone}${documents(upserts)}`)
  }
  if (flow) lines.push(`# flow\n${stringify(flow)}`)
  console.log([...lines, problem].join('\n'))
}

function showProgress(what: string): void {
  const elapsed = ((performance.now() - startMs) / 1000).toFixed(0)
  const { worlds, decisions, chains, steps } = counts
  console.log(`${elapsed} s: ${worlds} worlds, ${chains} chains of ${steps} changes, ${decisions} decisions; ${what}`)
}

function numberOf(name: 'seconds' | 'seed', missing: number): number {
  const text = values[name]
  if (text === undefined) return missing
  if (!/^\d+$/.test(text)) throw new Error(`--${name} takes a number, found "${text}"`)
  return Number(text)
}
