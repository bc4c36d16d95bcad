import { isDeepStrictEqual } from 'node:util'
import { sameAddresses } from '../../engine/address.ts'
import { type Delta, objectKey, type PolicyObject } from '../../engine/index.ts'
import type { Workload } from '../../engine/objects.ts'
import type { Interner } from './interner.ts'
import type { ListTaker } from './list.ts'
import { PlainPods } from './plain-pods.ts'
import type { PodBatch } from './pod-batch.ts'
import { PodBatchReader } from './pod-batch-reader.ts'
import type { PodBatchTaker } from './pod-batch-writer.ts'
import { type Projection, project } from './projection.ts'
import type { Resource } from './resources.ts'

interface Problem {
  readonly text: string
  /** What is in force is the last good version, not what was made of a bad one. */
  readonly isLastGood: boolean
}

/** Objects, or something about them, by `objectKey`. */
type ByKey<T> = Map<string, T>

const nothing: Delta = { upserts: [], deletes: [] }

/** The objects of one resource as they were delivered last, and what is wrong with them. Answers only what differs. */
export class HeldObjects implements ListTaker, PodBatchTaker {
  readonly #interner: Interner
  readonly #onBatch: () => void
  readonly #plainPods: PlainPods | undefined
  /** While a list is being taken. */
  #batchReader: PodBatchReader | undefined
  readonly #objects: ByKey<PolicyObject> = new Map()
  readonly #problems: ByKey<Problem> = new Map()
  #resource: Resource
  /** Taken from lists and not answered yet; of one that broke off they are still to be told. */
  #taken = new Taken()
  /** How many of them were told ahead. */
  #aheadCount = 0
  /** Of the list that is being taken. */
  #seen = new Set<string>()
  /** A list is being taken, and nothing was held before: nothing needs to be compared. */
  #isFirstList = false
  #nameless: string[] = []

  /** @param onBatch called when there is more to be taken ahead */
  constructor(resource: Resource, interner: Interner, onBatch: () => void = () => {}) {
    this.#resource = resource
    this.#interner = interner
    this.#onBatch = onBatch
    this.#plainPods = resource.kind === 'Pod' ? new PlainPods(interner) : undefined
  }

  /** The same kind in another version of its API. */
  set resource(resource: Resource) {
    this.#resource = resource
  }

  /** One sentence for each object that is not in force as it is written. */
  get problems(): string[] {
    return [...this.#nameless, ...[...this.#problems.values()].map(({ text }) => text)]
  }

  /** All objects, with their keys. */
  get objects(): ReadonlyMap<string, PolicyObject> {
    return this.#objects
  }

  begin(): void {
    this.#isFirstList = this.#objects.size === 0 && this.#problems.size === 0
    this.#seen = new Set()
    this.#nameless = []
    this.#batchReader = new PodBatchReader()
  }

  take(item: unknown): void {
    const key = this.#keyOf(item)
    const changed = this.#put(key, item)
    if (changed) this.#taken.add(key!, changed)
    if (key !== undefined) this.#see(key)
  }

  takeBatch(batch: PodBatch): void {
    this.#batchReader!.read(batch, (key, pod) => {
      if (this.#isNews(key, { object: pod })) {
        this.#objects.set(key, pod)
        this.#taken.add(key, pod)
      }
      this.#see(key)
    })
    for (const item of batch.others) this.take(item)
    this.#onBatch()
  }

  /** What a first list has brought since the last call: until it is whole nothing of it is sure. */
  takeAhead(): Delta {
    if (!this.#isFirstList) return nothing
    const { keys, objects } = this.#taken
    const from = this.#aheadCount
    this.#aheadCount = keys.length
    return { upserts: objects.slice(from), keys: keys.slice(from), deletes: [] }
  }

  #see(key: string): void {
    if (!this.#isFirstList) this.#seen.add(key)
  }

  /** The list is whole: answers how it differs from what was held before it began. */
  end(): Delta {
    const deletes = this.#isFirstList ? [] : this.#removeUnseen()
    const { keys, objects } = this.#isFirstList ? this.#taken : this.#taken.those((...each) => this.#holds(...each))
    this.#isFirstList = false
    this.#taken = new Taken()
    this.#aheadCount = 0
    this.#seen = new Set()
    this.#batchReader = undefined
    return { upserts: objects, keys, deletes }
  }

  /** Answers the keys of what the list does not have any more. */
  #removeUnseen(): string[] {
    const deletes: string[] = []
    for (const key of this.#objects.keys()) {
      if (this.#seen.has(key)) continue
      deletes.push(key)
      this.#objects.delete(key)
    }
    for (const key of this.#problems.keys()) if (!this.#seen.has(key)) this.#problems.delete(key)
    return deletes
  }

  /** An object is there, new or different. */
  upsert(value: unknown): Delta {
    const key = this.#keyOf(value)
    const changed = this.#put(key, value)
    return changed ? { upserts: [changed], keys: [key!], deletes: [] } : nothing
  }

  /** An object is gone. */
  remove(value: unknown): Delta {
    const key = this.#keyOf(value)
    if (key === undefined) return nothing
    this.#problems.delete(key)
    return this.#objects.delete(key) ? { upserts: [], deletes: [key] } : nothing
  }

  /** The resource itself is gone, and all its objects with it. */
  clear(): Delta {
    this.begin()
    return this.end()
  }

  #holds(key: string, object: PolicyObject): boolean {
    return this.#objects.get(key) === object
  }

  /** The key of an object as the API delivers it; `undefined` for one without a name. */
  #keyOf(value: unknown): string | undefined {
    const { namespace, name } = ((value as { metadata?: unknown } | null)?.metadata ?? {}) as Record<string, unknown>
    if (typeof name !== 'string' || name === '') return undefined
    const { kind, scope } = this.#resource
    if (scope === 'Cluster') return objectKey({ ref: { kind, name } })
    return objectKey({
      ref: { kind, name, namespace: typeof namespace === 'string' && namespace ? namespace : 'default' },
    })
  }

  /** Answers the object where it is not what is held. */
  #put(key: string | undefined, value: unknown): PolicyObject | undefined {
    if (key === undefined) {
      this.#nameless.push(`an object of ${this.#resource.name} has no name; it is left out`)
      return undefined
    }
    const plain = this.#plainPods?.read(value)
    const read = plain ? { object: plain } : project(this.#resource, value, this.#lastGood(key))
    if (!this.#isNews(key, read)) return undefined
    const object = plain ?? this.#interner.intern(read.object!)
    this.#objects.set(key, object)
    return object
  }

  #former(key: string): PolicyObject | undefined {
    return this.#isFirstList ? undefined : this.#objects.get(key)
  }

  #lastGood(key: string): PolicyObject | undefined {
    const known = this.#problems.size === 0 ? undefined : this.#problems.get(key)
    return known?.isLastGood === false ? undefined : this.#former(key)
  }

  /** Notes what is wrong with an object; answers whether it is another one than is held. */
  #isNews(key: string, { object, problem }: Projection): boolean {
    const former = this.#former(key)
    if (problem !== undefined)
      this.#problems.set(key, { text: problem, isLastGood: object !== undefined && object === former })
    else if (this.#problems.size > 0) this.#problems.delete(key)
    return object !== undefined && !(former && isSame(former, object))
  }
}

/** Objects with their keys, as two lists: there may be very many. */
class Taken {
  readonly keys: string[] = []
  readonly objects: PolicyObject[] = []

  add(key: string, object: PolicyObject): void {
    this.keys.push(key)
    this.objects.push(object)
  }

  those(isMeant: (key: string, object: PolicyObject) => boolean): Taken {
    const some = new Taken()
    for (const [i, key] of this.keys.entries()) if (isMeant(key, this.objects[i]!)) some.add(key, this.objects[i]!)
    return some
  }
}

function isSame(a: PolicyObject, b: PolicyObject): boolean {
  if (a === b) return true
  return a.type === 'Workload' && b.type === 'Workload' ? isSameWorkload(a, b) : isDeepStrictEqual(a, b)
}

/** Pods report their state again and again; most of it is nothing to policies. */
function isSameWorkload(a: Workload, b: Workload): boolean {
  return (
    a.phase === b.phase &&
    a.node === b.node &&
    a.hostNetwork === b.hostNetwork &&
    a.createdMs === b.createdMs &&
    sameAddresses(a.addresses, b.addresses) &&
    isDeepStrictEqual(a.labels, b.labels) &&
    isDeepStrictEqual(a.ports, b.ports)
  )
}
