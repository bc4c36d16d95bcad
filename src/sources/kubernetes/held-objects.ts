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

/** Names, by their namespace: '' for what has none. */
type ByName<T> = Map<string, Map<string, T>>

const nothing: Delta = { upserts: [], deletes: [] }

/** The objects of one resource as they were delivered last, and what is wrong with them. Answers only what differs. */
export class HeldObjects implements ListTaker, PodBatchTaker {
  readonly #interner: Interner
  readonly #plainPods: PlainPods | undefined
  /** While a list is being taken. */
  #batchReader: PodBatchReader | undefined
  readonly #objects: ByName<PolicyObject> = new Map()
  readonly #problems: ByName<Problem> = new Map()
  #resource: Resource
  /** Taken from lists and not answered yet; of one that broke off they are still to be told. */
  #taken: PolicyObject[] = []
  /** Of the list that is being taken. */
  #seen: ByName<true> = new Map()
  /** A list is being taken, and nothing was held before: nothing needs to be compared. */
  #isFirstList = false
  #nameless: string[] = []

  constructor(resource: Resource, interner: Interner) {
    this.#resource = resource
    this.#interner = interner
    this.#plainPods = resource.kind === 'Pod' ? new PlainPods(interner) : undefined
  }

  /** The same kind in another version of its API. */
  set resource(resource: Resource) {
    this.#resource = resource
  }

  /** One sentence for each object that is not in force as it is written. */
  get problems(): string[] {
    return [...this.#nameless, ...[...valuesOf(this.#problems)].map(({ text }) => text)]
  }

  /** All objects. */
  values(): PolicyObject[] {
    const objects: PolicyObject[] = []
    for (const names of this.#objects.values()) for (const object of names.values()) objects.push(object)
    return objects
  }

  begin(): void {
    this.#isFirstList = this.#objects.size === 0 && this.#problems.size === 0
    this.#seen = new Map()
    this.#nameless = []
    this.#batchReader = new PodBatchReader(this.#interner)
  }

  take(item: unknown): void {
    const [namespace, name] = placeOf(item)
    const changed = this.#put(item)
    if (changed) this.#taken.push(changed)
    if (name !== undefined) this.#see(namespace, name)
  }

  takeBatch(batch: PodBatch): void {
    for (const pod of this.#batchReader!.read(batch)) {
      const { namespace, name } = pod
      if (this.#isNews(namespace, name, { object: pod })) this.#taken.push(this.#hold(namespace, pod))
      this.#see(namespace, name)
    }
    for (const item of batch.others) this.take(item)
  }

  #see(namespace: string, name: string): void {
    if (!this.#isFirstList) setIn(this.#seen, namespace, name, true)
  }

  /** The list is whole: answers how it differs from what was held before it began. */
  end(): Delta {
    const deletes = this.#isFirstList ? [] : this.#removeUnseen()
    const upserts = this.#isFirstList ? this.#taken : this.#taken.filter((object) => this.#holds(object))
    this.#isFirstList = false
    this.#taken = []
    this.#seen = new Map()
    this.#batchReader = undefined
    return { upserts, deletes }
  }

  /** Answers the keys of what the list does not have any more. */
  #removeUnseen(): string[] {
    const deletes: string[] = []
    for (const [namespace, names] of this.#objects) {
      for (const [name, object] of names) {
        if (getIn(this.#seen, namespace, name)) continue
        deletes.push(objectKey(object))
        deleteIn(this.#objects, namespace, name)
      }
    }
    for (const [namespace, names] of this.#problems) {
      for (const name of names.keys()) {
        if (!getIn(this.#seen, namespace, name)) deleteIn(this.#problems, namespace, name)
      }
    }
    return deletes
  }

  /** An object is there, new or different. */
  upsert(value: unknown): Delta {
    const changed = this.#put(value)
    return changed ? { upserts: [changed], deletes: [] } : nothing
  }

  /** An object is gone. */
  remove(value: unknown): Delta {
    const [namespace, name] = placeOf(value)
    if (name === undefined) return nothing
    const object = getIn(this.#objects, namespace, name)
    deleteIn(this.#objects, namespace, name)
    deleteIn(this.#problems, namespace, name)
    return object ? { upserts: [], deletes: [objectKey(object)] } : nothing
  }

  /** The resource itself is gone, and all its objects with it. */
  clear(): Delta {
    this.begin()
    return this.end()
  }

  #holds(object: PolicyObject): boolean {
    return getIn(this.#objects, object.ref.namespace ?? '', object.ref.name) === object
  }

  /** Answers the object where it is not what is held. */
  #put(value: unknown): PolicyObject | undefined {
    const [namespace, name] = placeOf(value)
    if (name === undefined) {
      this.#nameless.push(`an object of ${this.#resource.name} has no name; it is left out`)
      return undefined
    }
    const plain = this.#plainPods?.read(value)
    const read = plain ? { object: plain } : project(this.#resource, value, this.#lastGood(namespace, name))
    if (!this.#isNews(namespace, name, read)) return undefined
    return this.#hold(namespace, plain ?? this.#interner.intern(read.object!))
  }

  #former(namespace: string, name: string): PolicyObject | undefined {
    return this.#isFirstList ? undefined : getIn(this.#objects, namespace, name)
  }

  #lastGood(namespace: string, name: string): PolicyObject | undefined {
    const known = this.#problems.size === 0 ? undefined : getIn(this.#problems, namespace, name)
    return known?.isLastGood === false ? undefined : this.#former(namespace, name)
  }

  /** Notes what is wrong with an object; answers whether it is another one than is held. */
  #isNews(namespace: string, name: string, { object, problem }: Projection): boolean {
    const former = this.#former(namespace, name)
    if (problem !== undefined)
      setIn(this.#problems, namespace, name, { text: problem, isLastGood: object !== undefined && object === former })
    else if (this.#problems.size > 0) deleteIn(this.#problems, namespace, name)
    return object !== undefined && !(former && isSame(former, object))
  }

  #hold<T extends PolicyObject>(namespace: string, object: T): T {
    setIn(this.#objects, this.#interner.text(namespace), object.ref.name, object)
    return object
  }
}

/** Namespace and name of an object as the API delivers it: '' for one without a namespace. */
function placeOf(value: unknown): [string, string | undefined] {
  const { namespace, name } = ((value as { metadata?: unknown } | null)?.metadata ?? {}) as Record<string, unknown>
  const place = typeof namespace === 'string' ? namespace : ''
  return [place, typeof name === 'string' && name !== '' ? name : undefined]
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

function getIn<T>(all: ByName<T>, namespace: string, name: string): T | undefined {
  return all.get(namespace)?.get(name)
}

function setIn<T>(all: ByName<T>, namespace: string, name: string, value: T): void {
  const names = all.get(namespace)
  if (names) names.set(name, value)
  else all.set(namespace, new Map([[name, value]]))
}

function deleteIn<T>(all: ByName<T>, namespace: string, name: string): void {
  const names = all.get(namespace)
  if (names?.delete(name) && names.size === 0) all.delete(namespace)
}

function* valuesOf<T>(all: ByName<T>): Iterable<T> {
  for (const names of all.values()) yield* names.values()
}
