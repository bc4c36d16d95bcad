import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { loadWorld } from '../../src/sources/worlds.ts'
import { type Finding, type Way, ways } from '../fixtures/faults.ts'
import { seededRandom } from '../fixtures/random.ts'
import { nodeNames } from '../fixtures/random-names.ts'
import { randomFlow, randomWorld, sparseWorld } from '../fixtures/random-world.ts'
import { ask, worldOf } from '../fixtures/world.ts'
import { writtenChains } from '../fixtures/written-chains.ts'
import { findPictureDifference } from '../sources/compare-pictures.ts'
import { findDifference } from './compare-decisions.ts'
import { findChainDifference, randomChain } from './compare-generations.ts'
import { objectsOf } from './oracle/objects.ts'

/**
 * Looks for a fault in the program beside it in one of three ways, until it finds one: `node find-fault.ts WAY AMOUNT`.
 * Prints a Finding as JSON. The same amount asks the same questions.
 */

interface WrittenCheck {
  readonly from: string
  readonly to: string
  readonly protocol?: string
  readonly port?: number
  readonly expect: string
  readonly decidedBy?: Readonly<Record<string, unknown>>
}

const FLOWS = 60
const CHAIN_STEPS = 15
const CHAIN_FLOWS = 40
const casesPath = fileURLToPath(new URL('../cases/', import.meta.url))
const refused = 'refused'
const nothing = (looked: number): Finding => ({ isFound: false, looked, what: '' })

/** All cases, and all manifests that are refused. */
async function tryCases(): Promise<Finding> {
  const names = foldersOf(casesPath).filter((name) => name !== refused)
  const refusedNames = foldersOf(join(casesPath, refused))
  for (const [i, name] of names.entries()) {
    if (fails(() => isDecidedAsWritten(join(casesPath, name)))) return { isFound: true, looked: i + 1, what: name }
  }
  for (const [i, name] of refusedNames.entries()) {
    const looked = names.length + i + 1
    if (!(await isRefusedAsWritten(join(casesPath, refused, name))))
      return { isFound: true, looked, what: `${refused}/${name}` }
  }
  return nothing(names.length + refusedNames.length)
}

function foldersOf(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}

function isDecidedAsWritten(folder: string): boolean {
  const text = readdirSync(folder)
    .map((file) => readFileSync(join(folder, file), 'utf8'))
    .join('---\n')
  const documents = parseAllDocuments(text).map((document) => document.toJS())
  const checks: WrittenCheck[] = documents.flatMap(({ kind, spec }) => (kind === 'ConnectivityTest' ? spec.checks : []))
  const world = worldOf(text)
  return checks.every(({ from, to, port, protocol = 'TCP', expect, decidedBy = {} }) => {
    const end = to.includes('::') ? `[${to}]` : to
    const found = ask(world, from, `${end}${port === undefined ? '' : `:${port}`}/${protocol.toLowerCase()}`)
    const { policy, rule, direction, tier } = found.decidedBy
    const decider: Readonly<Record<string, unknown>> = { ...policy, rule, direction, tier }
    return found.verdict === expect && Object.entries(decidedBy).every(([key, value]) => decider[key] === value)
  })
}

async function isRefusedAsWritten(folder: string): Promise<boolean> {
  const path = join(folder, 'manifest.refused')
  const expected = readFileSync(join(folder, 'expected-error.txt'), 'utf8').trimEnd()
  try {
    await loadWorld({ path, files: [path] }, [])
    return false
  } catch (error) {
    return String((error as Error).message).replaceAll(path, basename(path)) === expected
  }
}

/** What throws fails too. */
function fails(succeeds: () => boolean): boolean {
  try {
    return !succeeds()
  } catch {
    return true
  }
}

/** Random worlds, by the engine and by the oracle. */
function tryOracle(worlds: number): Finding {
  let looked = 0
  for (let seed = 1; seed <= worlds; seed++) {
    const random = seededRandom(seed)
    const world = randomWorld(random)
    const localNode = random.pick([...nodeNames, 'gateway'])
    const flows = Array.from({ length: FLOWS }, () => randomFlow(random, world))
    const count = () => {
      looked++
    }
    const what = problemOf(() => {
      const difference = findDifference(objectsOf(world), flows, localNode, count)
      return difference && (typeof difference.found === 'string' ? difference.found : 'another decision')
    })
    if (what) return { isFound: true, looked: looked + 1, what }
  }
  return nothing(looked)
}

/** Worlds that change and pictures of several sources, in turn; then as many worlds in which there is little; then what is written. */
function tryChanges(chains: number): Finding {
  let looked = 0
  const look = (
    find: () => { readonly step: number; readonly problem: string } | undefined,
    steps = CHAIN_STEPS,
  ): Finding | undefined => {
    let step = 0
    const what = problemOf(() => {
      const difference = find()
      step = difference?.step ?? 0
      return difference?.problem
    })
    if (what) return { isFound: true, looked: looked + step + 1, what }
    looked += steps
    return undefined
  }
  for (let seed = 1; seed <= chains; seed++) {
    const random = seededRandom(seed)
    const localNode = random.pick([...nodeNames, 'gateway'])
    const chain = randomChain(random, CHAIN_STEPS, CHAIN_FLOWS)
    const found =
      look(() => findChainDifference(chain, localNode)) ?? look(() => findPictureDifference(random, CHAIN_STEPS))
    if (found) return found
  }
  for (let seed = 1; seed <= chains; seed++) {
    const random = seededRandom(seed ^ 0x5ba5e)
    const chain = randomChain(random, CHAIN_STEPS, CHAIN_FLOWS, sparseWorld(random))
    const found = look(() => findChainDifference(chain, 'n1'))
    if (found) return found
  }
  for (const chain of writtenChains) {
    const found = look(() => findChainDifference(chain, 'n2'), 1)
    if (found) return found
  }
  return nothing(looked)
}

/** What is wrong, if anything is; what throws is. */
function problemOf(find: () => string | undefined): string | undefined {
  try {
    return find()
  } catch (error) {
    return String(error)
  }
}

const [way, amount] = process.argv.slice(2)
const finders: Record<Way, () => Finding | Promise<Finding>> = {
  cases: tryCases,
  oracle: () => tryOracle(Number(amount)),
  incremental: () => tryChanges(Number(amount)),
}
if (!ways.includes(way as Way)) throw new Error(`"${way}" is none of ${ways.join(', ')}`)
console.log(JSON.stringify(await finders[way as Way]()))
