import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Answers, Pass, Prepared, Request } from './engine/child.ts'
import type { FlowStatistics } from './engine/flows.ts'
import { FEWEST_POLICIES, MOST_POLICIES, shapes, type WorldShape } from './engine/worlds.ts'
import { type Judge, type Report, type Row, relateTo, summarize } from './rows.ts'

export interface EngineOptions {
  /** How often all flows are decided in every world. */
  readonly repetitions: number
  /** Told what is being done. */
  readonly progress?: (line: string) => void
}

/** Different flows of each world. */
const flowCount = 1_000_000
const childScript = fileURLToPath(new URL('./engine/child.ts', import.meta.url))

const decisions = 'decisions'
const decisionTime = 'time per decision'
const fullCompile = 'full compile'
const engineMemory = 'engine memory'
const engineMemoryAfter = 'engine memory after updates'

/** Updates that have the same limit, by the beginning of the metrics' names, and that limit in ms. */
const updateLimits = { 'pod update': 1, 'NetworkPolicy update': 50, 'Admin policy update': 50 } as const

/** What is asked of the engine. */
export const judgeEngine: Judge = ({ scenario, metric, value, ratioTo }) => {
  if (metric === decisions) return value >= 2e6
  if (metric === decisionTime) return scenario === MOST_POLICIES && ratioTo ? ratioTo.value <= 1.5 : undefined
  if (metric === fullCompile) return value < 10
  if (metric === engineMemory || metric === engineMemoryAfter) return value < 250
  const update = Object.entries(updateLimits).find(([name]) => metric.startsWith(name))
  return update && value < update[1]
}

/**
 * Measures the policy engine alone, one core: decisions as the packet thread makes them, compiling, updates of single
 * objects and memory, in worlds of many sizes. Each world has a process of its own; the passes over the flows go around
 * the worlds. Prints nothing.
 */
export async function runEngine({ repetitions, progress = () => {} }: EngineOptions): Promise<Report> {
  const worlds: WorldProcess[] = []
  try {
    for (const shape of shapes) {
      progress(`${shape.name}: make and compile ${shape.workloads} workloads, ${shape.policies} policies; update`)
      worlds.push(await WorldProcess.start(shape))
    }
    // Once for V8 to learn the code, and then in earnest.
    for (let repetition = 0; repetition <= repetitions; repetition++) {
      progress(repetition === 0 ? 'warm up' : `decide: repetition ${repetition} of ${repetitions}`)
      for (const world of worlds) await world.pass(repetition > 0)
    }
    progress('count what flows meet')
    const rows: Row[] = []
    for (const world of worlds) rows.push(...(await world.rows()))
    return {
      schema: 'knp.bench/v1',
      rows: relateTo(({ metric }) => (metric === decisionTime ? FEWEST_POLICIES : undefined), rows),
    }
  } finally {
    for (const world of worlds) world.end()
  }
}

/** A world in its own process. */
class WorldProcess {
  readonly #shape: WorldShape
  readonly #child: ChildProcess
  readonly #prepared: Prepared
  readonly #passes: Pass[] = []
  #allowed: number | undefined

  /** Resolves when everything but decisions is measured. */
  static async start(shape: WorldShape): Promise<WorldProcess> {
    const child = fork(childScript, [shape.name, `${flowCount}`], { execArgv: [...process.execArgv, '--expose-gc'] })
    return new WorldProcess(shape, child, await answerOf(child, 'prepared'))
  }

  private constructor(shape: WorldShape, child: ChildProcess, prepared: Prepared) {
    this.#shape = shape
    this.#child = child
    this.#prepared = prepared
  }

  async pass(isCounted: boolean): Promise<void> {
    const pass = await this.#ask('pass')
    this.#allowed ??= pass.allowed
    this.#check(pass.allowed)
    if (isCounted) this.#passes.push(pass)
  }

  async rows(): Promise<Row[]> {
    const counts = await this.#ask('count')
    this.#check(counts.allowed)
    return [...this.#decisionRows(), ...this.#compileRows(), ...this.#flowRows(counts)]
  }

  end(): void {
    this.#child.kill()
  }

  #decisionRows(): Row[] {
    const { name } = this.#shape
    const seconds = this.#passes.map((pass) => pass.seconds)
    return [
      summarize(
        name,
        decisions,
        '1/s',
        seconds.map((each) => flowCount / each),
      ),
      summarize(
        name,
        decisionTime,
        'ns',
        seconds.map((each) => (each / flowCount) * 1e9),
      ),
    ]
  }

  #compileRows(): Row[] {
    const { name } = this.#shape
    const { compileSeconds, updates, objectMemory, tables, ...prepared } = this.#prepared
    return [
      { scenario: name, metric: fullCompile, value: compileSeconds, unit: 's' },
      ...Object.keys(updateLimits).flatMap((update) => {
        const alike = Object.entries(updates).filter(([metric]) => metric.startsWith(update))
        const sorted = alike.flatMap(([, times]) => times).sort((a, b) => a - b)
        const at = (share: number) => sorted[Math.ceil(sorted.length * share) - 1]!
        return [
          ...alike.map(([metric, times]) => summarize(name, metric, 'ms', times)),
          { scenario: name, metric: `${update}, 99 % of all`, value: at(0.99), unit: 'ms' },
          { scenario: name, metric: `${update}, worst of all`, value: at(1), unit: 'ms' },
        ]
      }),
      this.#megabytes(engineMemory, prepared.engineMemory),
      this.#megabytes(engineMemoryAfter, prepared.engineMemoryAfter),
      this.#megabytes('tables of the packet thread', tables),
      this.#megabytes('memory of the objects', objectMemory),
    ]
  }

  #flowRows({ allowed, byTiers, decidedBy }: FlowStatistics): Row[] {
    const { name } = this.#shape
    return [
      { scenario: name, metric: 'workloads that flows are about', value: this.#prepared.selected, unit: '' },
      this.#percentage('flows allowed', allowed),
      this.#percentage('flows of IPv6', this.#prepared.flowsIPv6 * flowCount),
      ...byTiers.flatMap((count, tiers) => {
        return count === 0 ? [] : [this.#percentage(`flows that ask ${tiers} tiers with rules`, count)]
      }),
      ...Object.entries(decidedBy).map(([tier, count]) => this.#percentage(`flows decided by ${tier}`, count)),
    ]
  }

  #percentage(metric: string, count: number): Row {
    return { scenario: this.#shape.name, metric, value: (count / flowCount) * 100, unit: '%' }
  }

  #megabytes(metric: string, bytes: number): Row {
    return { scenario: this.#shape.name, metric, value: bytes / 1e6, unit: 'MB' }
  }

  #check(allowed: number): void {
    if (allowed !== this.#allowed) {
      throw new Error(`${this.#shape.name}: ${allowed} flows allowed, and ${this.#allowed} the time before`)
    }
  }

  #ask<Kind extends Request>(request: Kind): Promise<Answers[Kind]> {
    this.#child.send(request)
    return answerOf(this.#child, request)
  }
}

async function answerOf<Kind extends keyof Answers>(child: ChildProcess, kind: Kind): Promise<Answers[Kind]> {
  const ended = new AbortController()
  const end = once(child, 'exit', { signal: ended.signal }).then(([code]) => {
    throw new Error(`the process of a world ended with ${code}`)
  })
  end.catch(() => {})
  try {
    const [message] = (await Promise.race([once(child, 'message', { signal: ended.signal }), end])) as [
      { kind: Kind; value: Answers[Kind] },
    ]
    if (message.kind !== kind) throw new Error(`the process of a world answered ${message.kind}, not ${kind}`)
    return message.value
  } finally {
    ended.abort()
  }
}
