import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import type { RulesetCounters } from '../../src/ruleset/ruleset.ts'
import type { DenyWith } from '../../src/ruleset/text.ts'
import { type OracleFlow, type OracleWorld, objectsOf, type PlainNamespace } from '../engine/oracle/objects.ts'
import { oracle } from '../engine/oracle.ts'
import { type Random, seededRandom } from '../fixtures/random.ts'
import { randomChange } from '../fixtures/random-change.ts'
import { portNumbers } from '../fixtures/random-names.ts'
import { randomWorld } from '../fixtures/random-world.ts'
import { serveFlows } from '../tools/flows.ts'
import { rawTool } from '../tools/raw.ts'
import type { MemoryReport } from './children/report-memory.ts'
import { type Policies, Product, policies } from './product.ts'

const program = fileURLToPath(new URL('../../build/tools/attempts', import.meta.url))
const reportMemory = fileURLToPath(new URL('./children/report-memory.ts', import.meta.url))

/** Addresses that random worlds give to pods, nodes and nobody. */
const clients = [
  ...['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.1.1', '10.9.0.1', '203.0.113.1'],
  ...['fd00::1', 'fd00::2', 'fd00::3', 'fd00::4', 'fd00::5', 'fd00::1:1', 'fd00:9::1', '2001:db8::1'],
]
const servers = [
  ...['10.0.0.6', '10.0.0.7', '10.0.0.8', '10.0.0.9', '10.0.0.10', '10.0.1.2', '10.9.0.2', '172.17.0.2'],
  ...['fd00::6', 'fd00::7', 'fd00::8', 'fd00::9', 'fd00::a', 'fd00::1:2', 'fd00:9::2', 'fd00:17::2'],
]
/** No node of the worlds: what passes is judged for all workloads. */
const NODE = 'gateway'
const rememberFlags = { long: [], short: ['--remember-allowed', '800ms', '--remember-denied', '400ms'] } as const
const RATE = 1000
const LASTING = 64
const LASTING_INTERVAL_MS = 50
/** Below a second, after which TCP sends a SYN again. */
const ATTEMPT_TIMEOUT_MS = 900
/** A packet that is sent once is judged within this. */
const JUDGED_WITHIN_MS = 400
const LEAST_CHANGE_MS = 100
const MOST_CHANGE_MS = 500
/** One change in so many makes everything new. */
const NEW_WORLD_ONE_IN = 20
/** One change in so many may be any; the others change a verdict. */
const ANY_CHANGE_ONE_IN = 5
/** How many changes are thought of for one that does. */
const THOUGHTS = 20
const SAMPLE = 256
/** Of the sample, so many at least are allowed, and so many denied. */
const LEAST_OF_EACH = SAMPLE / 8
/** Worlds that have been over for so long are not asked any more. */
const PAST_MS = 5000
const SHOWN_MISTAKES = 10
const PROGRESS_MS = 60_000

export interface SoakOptions {
  readonly seconds: number
  readonly seed: number
  readonly denyWith: DenyWith
  /** For how long tuples are remembered. As a change keeps those of its addresses from use for as long, shorter is more. */
  readonly remember: 'long' | 'short'
  /** New attempts in a second; default 1,000. */
  readonly rate?: number
  /** Told now and then how it stands. */
  readonly onProgress?: (text: string) => void
  /** Told of the first mistakes, with their worlds. */
  readonly onMistake?: (text: string) => void
}

export interface SoakResult {
  /** What was tried: new connections and messages on lasting ones. */
  readonly attempts: number
  /** Those of them whose outcome is compared; allowed and denied alike, by what the oracle says. */
  readonly allowed: number
  readonly denied: number
  /** Those during which the verdict changed. */
  readonly exempt: number
  /** Compared attempts that ended otherwise than the oracle says: passed though denied, or the other way round. */
  readonly wrong: number
  readonly wronglyPassed: number
  readonly wronglyRefused: number
  readonly wronglyTimedOut: number
  /** The first of them, with their worlds. */
  readonly mistakes: readonly string[]
  readonly changes: number
  /** Those changes after which one of the attempts' verdicts was another one. */
  readonly effectiveChanges: number
  readonly counters: RulesetCounters
  /** What is wrong with the firewall by its own word. */
  readonly problems: readonly string[]
  /** How often it found its rules changed, or could not change them itself. */
  readonly repairs: number
  /** The firewall's, every 10 s. */
  readonly memory: readonly MemoryReport[]
}

type Kind = 'new' | 'message' | 'exchange'

interface Attempt {
  readonly kind: Kind
  readonly flow: OracleFlow
  readonly beginMs: number
  readonly endMs: number
  readonly outcome: 'ok' | 'refused' | 'timeout' | 'late'
}

/** A world, when it could first be in force and when certainly no longer. */
interface Epoch {
  readonly world: OracleWorld
  readonly number: number
  readonly fromMs: number
  untilMs: number
  readonly verdicts: Map<string, boolean>
}

/** `knp run` while connections are made without pause and what policies say changes all the time. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const random = seededRandom(options.seed)
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: clients },
      { name: 'far', addresses: servers },
    ],
  })
  const folder = await policies()
  try {
    const judge = new Judge(balancedWorld(random), options.onMistake ?? (() => {}))
    await writeWorld(folder, judge.world, 0)
    await serveFlows(network, 'far', servers, portNumbers)
    const args = ['--node-name', NODE, '--deny-with', options.denyWith, ...rememberFlags[options.remember]]
    const env = { NODE_OPTIONS: `--expose-gc --import ${reportMemory}` }
    const product = await Product.start(network, folder, { args, env })
    const stop = await startAttempts(network, options, (attempt) => judge.take(attempt))
    await change(random, product, folder, judge, options)
    await stop()
    const { counters, problems, repairs } = await product.status()
    if (repairs > 0) options.onProgress?.(product.stderr)
    await product.stop()
    return { ...judge.result(), counters, problems, repairs, memory: memoryOf(product) }
  } finally {
    await network.destroy()
    await folder.close()
  }
}

/** Changes the world until the time is over. */
async function change(
  random: Random,
  product: Product,
  folder: Policies,
  judge: Judge,
  { seconds, onProgress = () => {} }: SoakOptions,
): Promise<void> {
  const startMs = performance.now()
  let toldAtMs = startMs
  for (let number = 1; performance.now() - startMs < seconds * 1000; number++) {
    await setTimeout(LEAST_CHANGE_MS + random.below(MOST_CHANGE_MS - LEAST_CHANGE_MS))
    const next = nextWorld(random, judge.world)
    await product.changeInStatus(async () => {
      judge.begin(next)
      await writeWorld(folder, next, number)
    })
    judge.isInForce()
    if (performance.now() - toldAtMs < PROGRESS_MS) continue
    toldAtMs += PROGRESS_MS
    const memory = memoryOf(product).at(-1)
    onProgress(`${Math.round((toldAtMs - startMs) / 1000)} s: ${judge.text()}; memory ${JSON.stringify(memory)}`)
  }
}

/** Flows of all kinds among the attempts. */
function sampleFlows(random: Random): readonly OracleFlow[] {
  return Array.from({ length: SAMPLE }, () => {
    const source = random.pick(clients)
    const destination = random.pick(servers.filter((server) => server.includes(':') === source.includes(':')))
    return flowOf(random.pick(['TCP', 'UDP']), source, destination, random.pick(portNumbers))
  })
}

function verdictsOf(world: OracleWorld, flows: readonly OracleFlow[]): readonly boolean[] {
  return flows.map((flow) => oracle(world, flow, NODE).verdict !== 'deny')
}

function isBalanced(verdicts: readonly boolean[]): boolean {
  const allowed = verdicts.filter((isAllowed) => isAllowed).length
  return allowed >= LEAST_OF_EACH && SAMPLE - allowed >= LEAST_OF_EACH
}

/** A random world in which something is denied, and something is not. */
function balancedWorld(random: Random): OracleWorld {
  for (;;) {
    const world = randomWorld(random)
    if (isBalanced(verdictsOf(world, sampleFlows(random)))) return world
  }
}

/** The world after a change, which is felt for the most part. */
function nextWorld(random: Random, world: OracleWorld): OracleWorld {
  if (random.oneIn(NEW_WORLD_ONE_IN)) return balancedWorld(random)
  const flows = sampleFlows(random)
  const before = verdictsOf(world, flows)
  const isAny = random.oneIn(ANY_CHANGE_ONE_IN)
  for (let thought = 0; thought < THOUGHTS; thought++) {
    const next = randomChange(random, world).world
    const after = verdictsOf(next, flows)
    if (isBalanced(after) && (isAny || after.some((isAllowed, i) => isAllowed !== before[i]))) return next
  }
  return balancedWorld(random)
}

/** All in one file: a change is one. A namespace without pods tells every change from the last. */
async function writeWorld(folder: Policies, world: OracleWorld, number: number): Promise<void> {
  const marker: PlainNamespace = {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'changes', labels: { number: `${number}` } },
  }
  await folder.write('world.yaml', [...objectsOf(world), marker])
}

const wrongs = { wronglyPassed: 0, wronglyRefused: 0, wronglyTimedOut: 0 }
const wrongBy = {
  ok: 'wronglyPassed',
  refused: 'wronglyRefused',
  timeout: 'wronglyTimedOut',
  late: 'wronglyTimedOut',
} as const

/** Compares what becomes of attempts with what the oracle says of the worlds that are in force meanwhile. */
class Judge {
  #epochs: Epoch[]
  readonly #counts = {
    attempts: 0,
    allowed: 0,
    denied: 0,
    exempt: 0,
    wrong: 0,
    ...wrongs,
    changes: 0,
    effectiveChanges: 0,
  }
  readonly #mistakes = new Map<string, string>()

  readonly #tell: (text: string) => void

  /** @param tell told of the first mistakes */
  constructor(world: OracleWorld, tell: (text: string) => void) {
    this.#tell = tell
    this.#epochs = [{ world, number: 0, fromMs: 0, untilMs: Infinity, verdicts: new Map() }]
  }

  get world(): OracleWorld {
    return this.#epochs.at(-1)!.world
  }

  /** From now on the next world may be in force. */
  begin(world: OracleWorld): void {
    const last = this.#epochs.at(-1)!
    const epoch = { world, number: last.number + 1, fromMs: Date.now(), untilMs: Infinity, verdicts: new Map() }
    this.#epochs.push(epoch)
  }

  /** From now on nothing but the last world is in force. */
  isInForce(): void {
    const nowMs = Date.now() + 1
    const [before, now] = this.#epochs.slice(-2) as [Epoch, Epoch]
    before.untilMs = nowMs
    this.#counts.changes++
    const asked = [...before.verdicts.keys()].map((text) => JSON.parse(text) as OracleFlow)
    if (asked.some((flow) => isAllowed(before, flow) !== isAllowed(now, flow))) this.#counts.effectiveChanges++
    this.#epochs = this.#epochs.filter(({ untilMs }) => untilMs > nowMs - PAST_MS)
  }

  take(attempt: Attempt): void {
    const counts = this.#counts
    const { kind, flow, beginMs, outcome } = attempt
    // What is sent again is judged again, and so is what passes: its answer.
    const isJudgedOnce = kind !== 'exchange' && outcome === 'timeout'
    const endMs = isJudgedOnce ? beginMs + JUDGED_WITHIN_MS : attempt.endMs
    const epochs = this.#epochs.filter(({ fromMs, untilMs }) => fromMs <= endMs && untilMs >= beginMs)
    const verdicts = new Set(epochs.map((epoch) => isAllowed(epoch, flow)))
    counts.attempts++
    if (verdicts.size > 1) {
      counts.exempt++
      return
    }
    const [expected] = verdicts
    if (expected) counts.allowed++
    else counts.denied++
    if (expected === (outcome === 'ok')) return
    counts.wrong++
    counts[wrongBy[outcome]]++
    this.#note(attempt, epochs)
  }

  /** One of each kind in each world, as far as somebody reads them. */
  #note(attempt: Attempt, epochs: readonly Epoch[]): void {
    const like = `${attempt.outcome} ${attempt.kind} ${epochs.at(-1)!.number}`
    if (this.#mistakes.size >= SHOWN_MISTAKES || this.#mistakes.has(like)) return
    const text = mistakeText(attempt, epochs)
    this.#mistakes.set(like, text)
    this.#tell(text)
  }

  text(): string {
    const { attempts, allowed, denied, exempt, wrong, changes, effectiveChanges } = this.#counts
    const compared = `${allowed + denied} compared (${allowed} allowed, ${denied} denied)`
    return `${attempts} attempts, ${compared}, ${exempt} exempt, ${wrong} wrong; ${changes} changes, ${effectiveChanges} effective`
  }

  result() {
    return { ...this.#counts, mistakes: [...this.#mistakes.values()] }
  }
}

function isAllowed({ world, verdicts }: Epoch, flow: OracleFlow): boolean {
  const key = JSON.stringify(flow)
  let isAllowed = verdicts.get(key)
  if (isAllowed === undefined) {
    isAllowed = oracle(world, flow, NODE).verdict !== 'deny'
    verdicts.set(key, isAllowed)
  }
  return isAllowed
}

function mistakeText({ kind, flow, beginMs, endMs, outcome }: Attempt, epochs: readonly Epoch[]): string {
  const { protocol, source, destination, port } = flow
  const worlds = epochs.map((epoch) => {
    const { decidedBy, verdict } = oracle(epoch.world, flow, NODE)
    const documents = objectsOf(epoch.world).map((object) => `---\n${stringify(object)}`)
    const [from, until] = [epoch.fromMs - beginMs, epoch.untilMs - beginMs].map(Math.round)
    const span = `begun ${from} ms, over ${until} ms after the attempt`
    return `# world ${epoch.number}, ${span}: ${verdict} ${JSON.stringify(decidedBy)}\n${documents.join('')}`
  })
  const when = new Date(beginMs).toISOString()
  const what = `${when} ${kind} ${protocol} ${source} -> ${destination} port ${port}: ${outcome} after ${endMs - beginMs} ms`
  return [what, ...worlds].join('\n')
}

/** Answers how they are ended, and what is under way with them. */
async function startAttempts(
  network: Network,
  { seed, rate = RATE }: SoakOptions,
  take: (attempt: Attempt) => void,
): Promise<() => Promise<void>> {
  await rawTool()
  const numbers = { rate, lasting: LASTING, interval: LASTING_INTERVAL_MS, timeout: ATTEMPT_TIMEOUT_MS, seed }
  const settings = Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, `${value}`])
  const argv = [program, clients.join(), servers.join(), portNumbers.join(), ...settings]
  const child = network.spawn('near', argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout! })
  lines.on('line', (line) => take(attemptOf(line)))
  const closed = once(child, 'close')
  return async () => {
    child.stdin!.end()
    const [code] = await closed
    if (code !== 0) throw new Error(`attempts: ended with ${code}`)
  }
}

function attemptOf(line: string): Attempt {
  const [kind, protocol, source, destination, port, begin, end, outcome] = line.split(' ') as [Kind, ...string[]]
  const [from, to] = [clients[Number(source)]!, servers[Number(destination)]!]
  const flow = flowOf(protocol!.toUpperCase(), from, to, Number(port))
  return { kind, flow, beginMs: Number(begin), endMs: Number(end), outcome: outcome as Attempt['outcome'] }
}

function flowOf(protocol: string, source: string, destination: string, port: number): OracleFlow {
  return { source, destination, protocol, port, icmpType: 0, icmpCode: 0, hook: 'forward' }
}

function memoryOf({ stderr }: Product): readonly MemoryReport[] {
  return Array.from(stderr.matchAll(/^memory: (.*)$/gm), ([, text]) => JSON.parse(text!) as MemoryReport)
}
