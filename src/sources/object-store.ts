import type { Snapshot } from '../engine/index.ts'
import { type Delta, objectKey, type PolicyObject } from '../engine/snapshot.ts'
import { World } from '../engine/world.ts'
import type { Picture, PictureChange, PictureKeeper } from './last-good.ts'

/** The objects of all sources; turns deltas into snapshots. Where two sources have one object, the later source wins. */
export class ObjectStore implements PictureKeeper {
  /** By source, in the order of their names' first mention. */
  readonly #sources = new Map<string, Map<string, PolicyObject>>()
  /** Sources whose objects are an earlier run's: their first delta replaces them all. */
  readonly #restored = new Set<string>()
  readonly #localNode: string | undefined
  /** A picture on trial, which stands for one source's own. */
  #trial: { readonly source: string; readonly objects: ReadonlyMap<string, PolicyObject> } | undefined
  /** Keys of objects that may be different since they were taken last; `undefined` before: then all are. */
  #changed: Set<string> | undefined
  /** By source, those that are different since `takeUnsaved`; `undefined` where all may be. */
  #unsaved: Map<string, Set<string>> | undefined
  #generation = 0

  /** @param localNode the name of this machine's node, where it decides packets */
  constructor(localNode?: string) {
    this.#localNode = localNode
  }

  /** Applies a change of one source's picture. */
  apply(source: string, { upserts, keys, deletes }: Delta): void {
    // The source keeps its place among the others.
    if (this.#restored.delete(source)) {
      this.#unsaved = undefined
      this.#noteAll(this.#sources.get(source))
      this.#sources.get(source)?.clear()
    }
    const objects = this.#sources.get(source) ?? new Map<string, PolicyObject>()
    this.#sources.set(source, objects)
    const unsaved = this.#unsaved && (this.#unsaved.get(source) ?? new Set<string>())
    if (unsaved) this.#unsaved?.set(source, unsaved)
    for (const key of deletes) {
      objects.delete(key)
      this.#changed?.add(key)
      unsaved?.add(key)
    }
    // There may be very many: this is twice as fast as an iterator.
    for (let i = 0; i < upserts.length; i++) {
      const object = upserts[i]!
      const key = keys?.[i] ?? objectKey(object)
      objects.set(key, object)
      this.#changed?.add(key)
      unsaved?.add(key)
    }
  }

  /** Takes an earlier run's picture of a source that cannot be read, until the source delivers one. */
  restore(source: string, objects: readonly PolicyObject[]): void {
    this.apply(source, { upserts: objects, deletes: [] })
    this.#restored.add(source)
  }

  /** Whether an earlier run's picture stands for a source still. */
  get hasRestored(): boolean {
    return this.#restored.size > 0
  }

  /** Puts other objects in one source's place until `endTrial`; what the source delivers meanwhile is kept. */
  beginTrial(source: string, objects: readonly PolicyObject[]): void {
    this.#noteAll(this.#trial?.objects)
    this.#trial = { source, objects: new Map(objects.map((object) => [objectKey(object), object])) }
    this.#noteAll(this.#trial.objects)
    this.#noteAll(this.#sources.get(source))
  }

  /** The picture as it would be with other objects in one source's place; nothing changes. */
  snapshotWith(source: string, objects: readonly PolicyObject[]): Snapshot {
    const former = this.#trial
    this.beginTrial(source, objects)
    try {
      return this.snapshot()
    } finally {
      this.#trial = former
    }
  }

  endTrial(): void {
    if (!this.#trial) return
    this.#noteAll(this.#trial.objects)
    this.#noteAll(this.#sources.get(this.#trial.source))
    this.#trial = undefined
  }

  /** The objects of each source as they are now, without what is on trial. */
  picture(): Picture {
    return new Map([...this.#sources].map(([source, objects]) => [source, [...objects.values()]]))
  }

  takeUnsaved(): PictureChange | undefined {
    const unsaved = this.#unsaved
    this.#unsaved = new Map()
    if (!unsaved) return undefined
    return new Map([...unsaved].map(([source, keys]) => [source, changeOf(this.#sources.get(source)!, keys)]))
  }

  /**
   * What has changed in the merged picture since the last call: one delta for all sources. Objects that were delivered
   * again as they were may be in it.
   */
  takeDelta(): Delta {
    if (!this.#changed) return this.takeAll()
    const upserts: PolicyObject[] = []
    const keys: string[] = []
    const deletes: string[] = []
    for (const key of this.#changed) {
      const object = this.#find(key)
      if (object) {
        upserts.push(object)
        keys.push(key)
      } else deletes.push(key)
    }
    this.#changed = new Set()
    return { upserts, keys, deletes }
  }

  /** The whole merged picture, for whoever knows nothing yet; `takeDelta` goes on from there. */
  takeAll(): Delta {
    this.#changed = new Set()
    const merged = this.#merged()
    return { upserts: [...merged.values()], keys: [...merged.keys()], deletes: [] }
  }

  /** The picture as it is now. */
  snapshot(): Snapshot {
    const world = new World()
    world.apply({ upserts: [...this.#merged().values()], deletes: [] })
    return world.snapshot(++this.#generation, this.#localNode)
  }

  #find(key: string): PolicyObject | undefined {
    for (const [source, own] of [...this.#sources].reverse()) {
      const objects = this.#trial?.source === source ? this.#trial.objects : own
      const object = objects.get(key)
      if (object) return object
    }
    return undefined
  }

  #noteAll(objects: ReadonlyMap<string, PolicyObject> | undefined): void {
    for (const key of objects?.keys() ?? []) this.#changed?.add(key)
  }

  #merged(): ReadonlyMap<string, PolicyObject> {
    const [first, ...others] = [...this.#sources].map(([source, objects]) => {
      return this.#trial?.source === source ? this.#trial.objects : objects
    })
    if (!first || others.length === 0) return first ?? new Map()
    const merged = new Map(first)
    for (const objects of others) for (const [key, object] of objects) merged.set(key, object)
    return merged
  }
}

/** What the objects with these keys are now, or that they are gone. */
function changeOf(objects: ReadonlyMap<string, PolicyObject>, keys: Iterable<string>): Delta {
  const upserts: PolicyObject[] = []
  const deletes: string[] = []
  for (const key of keys) {
    const object = objects.get(key)
    if (object) upserts.push(object)
    else deletes.push(key)
  }
  return { upserts, deletes }
}
