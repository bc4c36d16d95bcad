import { objectKey, type PolicyObject } from '../../src/engine/snapshot.ts'
import { ObjectStore } from '../../src/sources/object-store.ts'
import type { Random } from '../fixtures/random.ts'
import { randomPod } from '../fixtures/random-workloads.ts'
import { readPlain } from '../fixtures/read-plain.ts'

/** What a store says other than its sources' objects laid over each other. */
export interface PictureDifference {
  readonly step: number
  readonly problem: string
}

type Objects = ReadonlyMap<string, PolicyObject>

/** Few: most changes meet an object that is there, and most objects are in several sources. */
const OBJECTS = 4
const sources = ['files', 'cluster']
/** All trials are of one source: the first that has files. */
const triedSource = 'files'

/**
 * Feeds a store changes of its sources, restored pictures and trials, and compares it with maps that are laid over each
 * other; who only takes its deltas must have the same objects.
 */
export function findPictureDifference(random: Random, steps: number): PictureDifference | undefined {
  const store = new ObjectStore()
  const model = new Map<string, Map<string, PolicyObject>>()
  const restored = new Set<string>()
  let trial: { readonly source: string; readonly objects: Objects } | undefined
  const follower = new Map<string, PolicyObject>()
  const someObjects = () => random.some(Array.from({ length: OBJECTS }, (_, i) => randomObject(random, i)))
  const take = (source: string, upserts: readonly PolicyObject[], deletes: readonly string[]) => {
    const objects = model.get(source) ?? new Map<string, PolicyObject>()
    if (restored.delete(source)) objects.clear()
    for (const key of deletes) objects.delete(key)
    for (const object of upserts) objects.set(objectKey(object), object)
    model.set(source, objects)
  }
  const merged = (only?: { readonly source: string; readonly objects: Objects }) => {
    const parts = [...model].map(([source, objects]) => (only?.source === source ? only.objects : objects))
    return new Map(parts.flatMap((objects) => [...objects]))
  }

  for (let step = 0; step < steps; step++) {
    const source = random.pick(sources)
    switch (random.below(8)) {
      case 0: {
        const objects = someObjects()
        store.restore(source, objects)
        take(source, objects, [])
        restored.add(source)
        break
      }
      case 1:
        if (!model.has(triedSource)) break
        trial = { source: triedSource, objects: mapOf(someObjects()) }
        store.beginTrial(triedSource, [...trial.objects.values()])
        break
      case 2:
        trial = undefined
        store.endTrial()
        break
      case 3: {
        if (!model.has(triedSource)) break
        const objects = mapOf(someObjects())
        const { workloads } = store.snapshotWith(triedSource, [...objects.values()])
        if (textOf(workloads) !== textOf(merged({ source: triedSource, objects }).values())) {
          return { step, problem: 'shows a picture other than the one that is asked about' }
        }
        break
      }
      default: {
        const upserts = someObjects()
        const taken = new Set(upserts.map(objectKey))
        const deletes = someObjects()
          .map(objectKey)
          .filter((key) => !taken.has(key))
        store.apply(source, { upserts, deletes })
        take(source, upserts, deletes)
      }
    }
    const expected = textOf(merged(trial).values())
    if (textOf(store.snapshot().workloads) !== expected) return { step, problem: 'has another picture' }
    if (textOf([...store.picture().values()].flatMap((each) => [...each])) !== textOf(allOf(model))) {
      return { step, problem: 'keeps other objects' }
    }
    if (random.oneIn(3)) continue
    const isAll = random.oneIn(8)
    const { upserts, deletes } = isAll ? store.takeAll() : store.takeDelta()
    if (isAll) follower.clear()
    for (const key of deletes) follower.delete(key)
    for (const object of upserts) follower.set(objectKey(object), object)
    if (textOf(follower.values()) !== expected) return { step, problem: 'keeps a change to itself' }
  }
  return undefined
}

function randomObject(random: Random, index: number): PolicyObject {
  const pod = randomPod(random, index)
  return readPlain({ ...pod, metadata: { ...pod.metadata, namespace: 'shop' } })
}

function mapOf(objects: readonly PolicyObject[]): Objects {
  return new Map(objects.map((object) => [objectKey(object), object]))
}

function allOf(model: ReadonlyMap<string, Objects>): PolicyObject[] {
  return [...model.values()].flatMap((objects) => [...objects.values()])
}

/** The same for the same objects in any order. */
function textOf(objects: Iterable<PolicyObject>): string {
  return [...objects]
    .map((object) => JSON.stringify(object, (_, value) => (value instanceof Map ? [...value] : value)))
    .sort()
    .join('\n')
}
