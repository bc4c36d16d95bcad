import { setTimeout as sleep } from 'node:timers/promises'
import type { Delta, PolicyObject } from '../../engine/index.ts'
import type { ApiClient } from './api-client.ts'
import { ApiFailure, Defect } from './api-failure.ts'
import type { HeldObjects } from './held-objects.ts'
import { fields, readJson, type Wanted } from './json-scanner.ts'
import { listInto } from './list-into.ts'
import type { Resource } from './resources.ts'
import type { Timing } from './timing.ts'

/** Who is told what becomes of a resource. */
export interface ResourceObserver {
  /** The objects have changed; the first call is the first whole list. */
  changed(delta: Delta): void
  /** `failure` is new, another, or over. */
  healthChanged(): void
  /** The API server does not know the resource (any more). */
  missing(): void
}

interface WatchEvent {
  readonly type?: unknown
  readonly object?: { readonly metadata?: { readonly resourceVersion?: unknown } } & Status
}

/** What an ERROR event carries. */
interface Status {
  readonly code?: unknown
  readonly message?: unknown
}

/** A watch that ends sooner without having brought anything counts as a failure: the next one would end as soon. */
const SHORT_WATCH_MS = 1000
/** So often in a row the API server may not know a resource before that is called trouble: it may be going. */
const MISSING_IS_TROUBLE = 5
const NEWLINE = 0x0a

/** Keeps the objects of one resource as the API server has them: lists them, and watches from there on. */
export class ResourceWatch {
  readonly resource: Resource
  readonly #api: ApiClient
  readonly #held: HeldObjects
  readonly #timing: Timing
  readonly #observer: ResourceObserver
  readonly #wantedOfEvent: Wanted
  /** Where the watch goes on; `undefined` when only a list can tell. */
  #version: string | undefined
  #failures = 0
  #failure: Error | undefined
  #restarts = 0
  #heardAtMs: number | undefined
  #eventAtMs: number | undefined

  constructor(
    resource: Resource,
    parts: {
      readonly api: ApiClient
      readonly held: HeldObjects
      readonly timing: Timing
      readonly observer: ResourceObserver
    },
  ) {
    this.resource = resource
    this.#api = parts.api
    this.#held = parts.held
    this.#timing = parts.timing
    this.#observer = parts.observer
    const object = withStatus(resource.wanted)
    this.#wantedOfEvent = fields({ type: 'all', object })
  }

  /** What keeps the objects from being current. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /** How often a watch was begun again that had not ended as asked. */
  get restarts(): number {
    return this.#restarts
  }

  /** When the API server was heard last, in milliseconds since 1970: until then nothing was missed. */
  get heardAtMs(): number | undefined {
    return this.#heardAtMs
  }

  /** When an object changed last. */
  get eventAtMs(): number | undefined {
    return this.#eventAtMs
  }

  /** Goes on until the signal aborts. What fails is tried again; what is held stays. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list(signal)
        await this.#watch(signal)
      } catch (error) {
        if (signal.aborted) return
        this.#fail(error as Error)
        await sleep(this.#pauseMs(error), undefined, { signal }).catch(() => {})
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.#version = await listInto(
      this.#held,
      { api: this.#api, resource: this.resource, timing: this.#timing },
      signal,
    )
    this.#heard()
    this.#observer.changed(this.#held.end())
  }

  /** Follows until the server ends the watch as it was asked to. */
  async #watch(signal: AbortSignal): Promise<void> {
    const seconds = Math.max(1, Math.round((this.#timing.watchMs / 1000) * (1 + Math.random() / 2)))
    const query = new URLSearchParams({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: this.#version!,
      timeoutSeconds: String(seconds),
    })
    const answer = await this.#api.open(`${this.resource.path}?${query}`, signal)
    this.#heard()
    this.#recover()
    const startedMs = performance.now()
    let rest: Buffer = Buffer.alloc(0)
    let isShort = true
    try {
      for await (const chunk of answer) {
        const bytes = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer])
        const end = bytes.lastIndexOf(NEWLINE) + 1
        this.#heard()
        if (end > 0) isShort = false
        try {
          this.#takeEvents(bytes, end)
        } catch (cause) {
          throw cause instanceof ApiFailure ? cause : new Defect(`an event of ${this.resource.name}`, cause)
        }
        rest = bytes.subarray(end)
      }
    } catch (cause) {
      answer.destroy()
      // What went wrong before this watch went well is over.
      if (!isShort || performance.now() - startedMs >= SHORT_WATCH_MS) this.#failures = 0
      if (cause instanceof ApiFailure || cause instanceof Defect || signal.aborted) throw cause
      throw new BrokenWatch(`the watch of ${this.resource.name} breaks off: ${(cause as Error).message}`, { cause })
    }
    if (isShort && performance.now() - startedMs < SHORT_WATCH_MS) {
      throw new BrokenWatch(`the API server ends watches of ${this.resource.name} at once`)
    }
    this.#failures = 0
  }

  /** Takes whole lines. Events that arrive together are one change. */
  #takeEvents(bytes: Buffer, end: number): void {
    const changes = new Map<string, PolicyObject | undefined>()
    try {
      for (let at = 0; at < end; ) {
        const next = bytes.indexOf(NEWLINE, at) + 1
        if (next - at > 1) this.#takeEvent(this.#readEvent(bytes, at, next - 1), changes)
        at = next
      }
    } finally {
      if (changes.size > 0) {
        this.#eventAtMs = Date.now()
        const keysOf = (isThere: boolean) => [...changes.keys()].filter((key) => Boolean(changes.get(key)) === isThere)
        const upserts = [...changes.values()].filter((object) => object !== undefined)
        this.#observer.changed({ upserts, keys: keysOf(true), deletes: keysOf(false) })
      }
    }
  }

  #readEvent(bytes: Buffer, start: number, end: number): WatchEvent {
    try {
      return readJson(bytes, this.#wantedOfEvent, start, end) as WatchEvent
    } catch (cause) {
      throw this.#lost(`an event of ${this.resource.name} cannot be read: ${(cause as Error).message}`)
    }
  }

  #takeEvent({ type, object }: WatchEvent, changes: Map<string, PolicyObject | undefined>): void {
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
        note(changes, this.#held.upsert(object))
        break
      case 'DELETED':
        note(changes, this.#held.remove(object))
        break
      case 'BOOKMARK':
        break
      case 'ERROR': {
        const status = typeof object?.code === 'number' ? object.code : 500
        throw new ApiFailure(`the watch of ${this.resource.name} ends: ${String(object?.message)}`, { status })
      }
      default:
        throw this.#lost(`an event of ${this.resource.name} is of no known type: ${JSON.stringify(type)}`)
    }
    const version = object?.metadata?.resourceVersion
    if (typeof version === 'string' && version !== '') this.#version = version
    this.#failures = 0
  }

  /** What happened cannot be told: only a list can. */
  #lost(message: string): ApiFailure {
    this.#version = undefined
    return new ApiFailure(message)
  }

  #heard(): void {
    this.#heardAtMs = Date.now()
  }

  #fail(error: Error): void {
    this.#failures++
    if (this.#heardAtMs !== undefined) this.#restarts++
    const isExpired = error instanceof ApiFailure && error.isExpired
    const isMissing = error instanceof ApiFailure && error.isMissing
    if (isExpired) this.#version = undefined
    if (isMissing) this.#observer.missing()
    // A watch that ends, or lags too far behind, is begun again: no trouble unless that fails.
    const passes = isMissing ? MISSING_IS_TROUBLE : isExpired ? 3 : error instanceof BrokenWatch ? 2 : 1
    if (this.#failures < passes) return
    const isNews = this.#failure?.message !== error.message
    this.#failure = error
    if (isNews) this.#observer.healthChanged()
  }

  #recover(): void {
    if (!this.#failure) return
    this.#failure = undefined
    this.#observer.healthChanged()
  }

  /** Doubles with each failure; a random part of it is left out, lest a thousand nodes ask at once. */
  #pauseMs(error: unknown): number {
    const { firstPauseMs, longestPauseMs } = this.#timing
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (this.#failures - 1))
    const randomMs = pauseMs * (this.#failures === 1 ? Math.random() : 0.5 + Math.random() / 2)
    return Math.max(randomMs, error instanceof ApiFailure ? error.retryAfterMs : 0)
  }
}

/** A watch that was under way ended otherwise than by its time. */
class BrokenWatch extends Error {}

function note(changes: Map<string, PolicyObject | undefined>, { upserts, keys = [], deletes }: Delta): void {
  for (const key of deletes) changes.set(key, undefined)
  for (const [i, object] of upserts.entries()) changes.set(keys[i]!, object)
}

/** What is wanted of an event's object, which is a Status where the watch fails. */
function withStatus(wanted: Wanted): Wanted {
  if (wanted === 'all' || !('fields' in wanted)) return wanted
  return { fields: [...wanted.fields, ...fields({ code: 'all', message: 'all' }).fields] }
}
