import { type Delta, objectKey, type PolicyObject } from '../engine/index.ts'
import type { Source, SourceHealth } from './source.ts'

/** A picture that the program itself keeps: for those who embed the firewall and know the world from elsewhere. */
export class MemorySource implements Source {
  readonly name: string
  readonly #objects: Map<string, PolicyObject>
  #update: ((delta: Delta) => void) | undefined
  #syncedAtMs: number | undefined

  /**
   * @param objects the first picture, which `change` may alter before the start
   * @param name tells it from other sources of the same firewall
   */
  constructor(objects: Iterable<PolicyObject>, name = 'memory') {
    this.name = name
    this.#objects = new Map([...objects].map((object) => [objectKey(object), object]))
  }

  async start(update: (delta: Delta) => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    signal.addEventListener('abort', () => {
      this.#update = undefined
    })
    this.#update = update
    this.#deliver({ upserts: [...this.#objects.values()], deletes: [] })
  }

  /** Changes the picture; a firewall that has started is told at once, and what it is told it takes in its own time. */
  change(delta: Delta): void {
    for (const key of delta.deletes) this.#objects.delete(key)
    for (const object of delta.upserts) this.#objects.set(objectKey(object), object)
    this.#deliver(delta)
  }

  /** The picture as it is now. */
  get objects(): readonly PolicyObject[] {
    return [...this.#objects.values()]
  }

  health(): SourceHealth {
    return {
      name: this.name,
      isCurrent: true,
      ...(this.#syncedAtMs !== undefined && { syncedAtMs: this.#syncedAtMs }),
      notes: [],
    }
  }

  #deliver(delta: Delta): void {
    if (!this.#update) return
    this.#syncedAtMs = Date.now()
    this.#update(delta)
  }
}
