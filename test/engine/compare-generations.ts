import {
  type Address,
  type Block,
  blockContains,
  formatAddress,
  parseAddress,
  sameAddress,
} from '../../src/engine/address.ts'
import { attachEngine, type CompiledPolicy, Compiler } from '../../src/engine/compile.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { objectKey } from '../../src/engine/snapshot.ts'
import type { Random } from '../fixtures/random.ts'
import { applyDelta, type PlainDelta, randomChange } from '../fixtures/random-change.ts'
import { randomFlow, randomWorld } from '../fixtures/random-world.ts'
import { readPlain } from '../fixtures/read-plain.ts'
import { answerText, compileAfresh, decidedBy, packetVerdict } from './compare-decisions.ts'
import { type OracleFlow, type OracleWorld, objectsOf, type PlainObject, plainKey } from './oracle/objects.ts'

/** A world, and what happens to it one step after the other. */
export interface Chain {
  readonly objects: readonly PlainObject[]
  /** Each change, and the flows that are asked about before and after it. */
  readonly steps: readonly { readonly delta: PlainDelta; readonly flows: readonly OracleFlow[] }[]
}

/** What goes wrong at a step of a chain. */
export interface ChainDifference {
  readonly step: number
  readonly flow?: OracleFlow
  readonly problem: string
}

/** What a run of chains met, for tests that want to know whether they tested anything. */
export interface ChainCounts {
  decisions: number
  /** Decisions that a step changed. */
  changes: number
  /** Decisions that a step did not change and whose ends it names: the price of naming too much. */
  needless: number
  /** Steps that name everything. */
  everything: number
}

/** @param start the world it begins with; a random one where it is left out */
export function randomChain(
  random: Random,
  steps: number,
  flowsPerStep: number,
  start: OracleWorld = randomWorld(random),
): Chain {
  let world = start
  const objects = objectsOf(world)
  return {
    objects,
    steps: Array.from({ length: steps }, () => {
      const before = world
      const { world: after, upserts, deletes } = randomChange(random, before)
      world = after
      const flows = Array.from({ length: flowsPerStep }, () => randomFlow(random, random.pick([before, after])))
      return { delta: { upserts, deletes }, flows }
    }),
  }
}

/** Where a compiler that is fed the changes differs from one that sees each world afresh, or keeps a change to itself. */
export function findChainDifference(
  chain: Chain,
  localNode: string,
  counts: ChainCounts = { decisions: 0, changes: 0, needless: 0, everything: 0 },
): ChainDifference | undefined {
  const compiler = new Compiler(policyKinds, localNode)
  let { objects } = chain
  prepare(compiler, chain)
  let compiled = compiler.begin({ upserts: objects.map(readPlain), deletes: [] })
  const subjects = new Set<string>()
  const startProblem = addSubjectChange(subjects, compiled)
  if (startProblem) return { step: -1, problem: startProblem }
  for (const [step, { delta, flows }] of chain.steps.entries()) {
    const before = flows.map((flow) => answerText(decidedBy(compiled, flow)))
    const former = attachEngine(compiled.generation, policyKinds)
    const formerVerdicts = flows.map((flow) => packetVerdict(former, flow))
    compiled = compiler.update(deltaFor(objects, delta))
    objects = applyDelta(objects, delta)
    const afresh = compileAfresh(objects, localNode)
    if (compiled.affected.isEverything) counts.everything++

    const [asked, asAfresh] = [compiled, afresh].map(protectionText)
    if (asked !== asAfresh) return { step, problem: `protects ${asked}\nafresh it protects ${asAfresh}` }
    const subjectProblem = addSubjectChange(subjects, compiled)
    if (subjectProblem) return { step, problem: subjectProblem }
    for (const [i, flow] of flows.entries()) {
      if (packetVerdict(former, flow) !== formerVerdicts[i]) {
        return { step, flow, problem: `forgets the former generation, which said ${formerVerdicts[i]}` }
      }
      const found = answerText(decidedBy(compiled, flow))
      const expected = answerText(decidedBy(afresh, flow))
      if (found !== expected) return { step, flow, problem: `decides ${found}\nafresh: ${expected}` }
      const isChanged = found !== before[i]
      const isNamed = isAffected(compiled, flow)
      if (isChanged && !isNamed) {
        return {
          step,
          flow,
          problem: `keeps a change to itself: ${found}\nbefore: ${before[i]}\nneither end is named as affected`,
        }
      }
      counts.decisions++
      if (isChanged) counts.changes++
      else if (isNamed) counts.needless++
    }
  }
  return undefined
}

/** Tells the compiler ahead, part by part, what it will find to be another world: that of the chain's end. */
function prepare(compiler: Compiler, { objects, steps }: Chain): void {
  const last = steps.reduce((all, { delta }) => applyDelta(all, delta), objects)
  const middle = Math.floor(last.length / 2)
  for (const part of [last.slice(0, middle), last.slice(middle)]) {
    compiler.prepare({ upserts: part.map(readPlain), deletes: [] })
  }
}

/** Follows the changes of the subjects alone. Answers where they do not lead to those of the generation. */
function addSubjectChange(subjects: Set<string>, compiled: CompiledPolicy): string | undefined {
  const { added, removed } = compiled.subjectChange
  for (const text of removed.map(formatAddress))
    if (!subjects.delete(text)) return `removes ${text}, which is no subject`
  for (const text of added.map(formatAddress)) {
    if (subjects.has(text)) return `adds ${text}, which is a subject`
    subjects.add(text)
  }
  const [summed, whole] = [[...subjects], compiled.subjects.map(formatAddress)].map((texts) => texts.sort().join())
  return summed === whole ? undefined : `adds up to the subjects ${summed}\nthey are ${whole}`
}

/** The change in the compiler's terms. What nobody has is not deleted. */
function deltaFor(objects: readonly PlainObject[], { upserts, deletes }: PlainDelta) {
  const known = new Set(objects.map(plainKey))
  return {
    upserts: upserts.map(readPlain),
    deletes: deletes.filter((object) => known.has(plainKey(object))).map((object) => objectKey(readPlain(object))),
  }
}

/** Whose traffic is to be decided, in an order that says nothing. */
function protectionText({ subjects, host, isGateway, areSubjectsOwnPods }: CompiledPolicy): string {
  return JSON.stringify({ subjects: subjects.map(formatAddress).sort(), host, isGateway, areSubjectsOwnPods })
}

function isAffected({ affected }: CompiledPolicy, flow: OracleFlow): boolean {
  if (affected.isEverything) return true
  if (affected.host && flow.hook !== 'none') return true
  return [flow.source, flow.destination].some((end) => isNamed(affected, parseAddress(end)!))
}

function isNamed(
  { addresses, blocks }: { readonly addresses: readonly Address[]; readonly blocks: readonly Block[] },
  end: Address,
): boolean {
  return addresses.some((address) => sameAddress(address, end)) || blocks.some((block) => blockContains(block, end))
}
