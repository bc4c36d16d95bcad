import type { Delta, PolicyObject } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import type { MemorySource } from '../../src/sources/memory.ts'
import { Random } from '../engine/random.ts'
import { OWN_NAMESPACE } from './world.ts'

/** How many workloads change their labels, each back and forth. */
const CHANGED_WORKLOADS = 500
const TICK_MS = 5

/**
 * Changes of single workloads, after all of which the world is as before. Each gets the labels of another workload of its
 * namespace, so that other policies select it and let it in. One server and one client are among them, and keep what lets
 * them talk: they get one more label.
 */
export function labelChanges(objects: readonly PolicyObject[]): readonly Workload[] {
  const random = new Random(13)
  const workloads = objects.filter((object) => object.type === 'Workload')
  const byNamespace = Map.groupBy(workloads, ({ namespace }) => namespace)
  const own = byNamespace.get(OWN_NAMESPACE)!
  const others = workloads.filter(({ namespace }) => namespace !== OWN_NAMESPACE)
  const chosen = new Set([own.at(0)!, own.at(-1)!])
  while (chosen.size < CHANGED_WORKLOADS) chosen.add(random.of(others))
  const originals = shuffled([...chosen], random)
  const changed = originals.map((workload) => {
    if (workload.namespace === OWN_NAMESPACE) {
      return { ...workload, labels: new Map([...workload.labels, ['debug', 'true']]) }
    }
    const app = workload.labels.get('app')
    const unlike = byNamespace.get(workload.namespace)!.filter(({ labels }) => labels.get('app') !== app)
    return { ...workload, labels: random.of(unlike).labels }
  })
  return [...changed, ...originals]
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const keyed = items.map((item) => ({ item, key: random.fraction() }))
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item)
}

/** Gives a source its changes one by one, as many a second as asked, around and around. */
export class Updates {
  readonly #source: MemorySource
  readonly #changes: readonly Workload[]
  #next = 0
  /** Since the rate was set. */
  #given = 0
  #timer: NodeJS.Timeout | undefined

  constructor(source: MemorySource, changes: readonly Workload[]) {
    this.#source = source
    this.#changes = changes
  }

  /** Answers how many were given at the former rate. */
  setRate(perSecond: number): number {
    clearInterval(this.#timer)
    const given = this.#given
    this.#given = 0
    const start = performance.now()
    if (perSecond > 0) {
      this.#timer = setInterval(() => {
        const due = ((performance.now() - start) / 1000) * perSecond
        while (this.#given < due) this.#give()
      }, TICK_MS)
    }
    return given
  }

  #give(): void {
    const upserts = [this.#changes[this.#next]!]
    this.#next = (this.#next + 1) % this.#changes.length
    this.#given++
    const delta: Delta = { upserts, deletes: [] }
    this.#source.change(delta)
  }
}
