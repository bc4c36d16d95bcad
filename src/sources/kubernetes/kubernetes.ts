import { setTimeout as sleep } from 'node:timers/promises'
import type { Delta, PolicyObject } from '../../engine/index.ts'
import { KnpError } from '../../errors.ts'
import type { Cluster, Source, SourceHealth } from '../source.ts'
import type { Access, ClusterChoice } from './access.ts'
import { ApiClient } from './api-client.ts'
import { ApiFailure, asKnpError } from './api-failure.ts'
import { readAccess } from './credentials.ts'
import { HeldObjects } from './held-objects.ts'
import { Interner } from './interner.ts'
import { listInto } from './list-into.ts'
import { ResourceWatch } from './resource-watch.ts'
import { builtInResources, discover, type Resource } from './resources.ts'
import { type Timing, usualTiming } from './timing.ts'

interface Followed {
  readonly watch: ResourceWatch
  readonly held: HeldObjects
  readonly abort: AbortController
  isListed: boolean
  /** How many times in a row the API server did not name the resource. */
  absences: number
}

/** What a source may be given, beside what its cluster is. */
export interface KubernetesSourceOptions {
  /** Called when the source breaks, and when it is well again. */
  readonly onHealth?: (health: SourceHealth) => void
  readonly timing?: Timing
  readonly readAccess?: () => Promise<Access>
}

const POD = 'Pod'
/** A resource that is not named once may be one of an API server that is just starting. */
const ABSENCES_OF_WHAT_IS_GONE = 2
/** How soon the API server is asked again whether a resource is gone, as a part of the usual interval. */
const CONFIRM_PART = 0.1

/**
 * The objects of a Kubernetes API server: pods, namespaces, nodes, NetworkPolicies, and cluster-wide policies of each kind
 * that is served, also when that changes. While it cannot be asked, the last picture stays in force and `health` says why.
 */
export class KubernetesSource implements Source {
  readonly name: string
  readonly cluster: Cluster = {
    apiServer: () => this.#api.endpoint,
    connectAnew: () => this.#api.connectAnew(),
  }
  readonly #timing: Timing
  readonly #onHealth: (health: SourceHealth) => void
  readonly #api: ApiClient
  readonly #interner = new Interner()
  /** By kind. */
  readonly #followed = new Map<string, Followed>()
  /** Who takes the picture; known from the start on. */
  #update: ((delta: Delta) => void) | undefined
  /** Who prepares for the picture. */
  #ahead: ((part: Delta) => void) | undefined
  /** Who prepares was told of all but pods. */
  #hasToldOthers = false
  /** Ends what was begun. */
  readonly #abort = new AbortController()
  #hasBegun = false
  #discoveryFailure: Error | undefined
  /** Known once the API server has told which policies it serves. */
  #isDiscovered = false
  #wakeDiscovery: (() => void) | undefined
  #hasPicture = false
  /** There was a first picture, or it was given up. */
  #hasStarted = false
  #first = Promise.withResolvers<void>()
  #startedMs = 0
  #error: string | undefined
  #brokenSinceMs: number | undefined
  /** Troubles that were told since the source was well: resources fail and recover one by one, and that is no news. */
  readonly #told = new Set<string>()
  #restarts = 0

  constructor(choice: ClusterChoice, options: KubernetesSourceOptions = {}) {
    this.name = sourceName(choice)
    this.#timing = options.timing ?? usualTiming
    this.#onHealth = options.onHealth ?? (() => {})
    this.#api = new ApiClient(options.readAccess ?? (() => readAccess(choice)), this.#timing)
    // It may be rejected before anybody waits for it.
    this.#first.promise.catch(() => {})
  }

  /** Begins to read, which takes long and changes nothing; `start` need not follow. */
  prepare(): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    this.#startedMs = performance.now()
    const { signal } = this.#abort
    for (const resource of builtInResources) this.#follow(resource, signal)
    void this.#followDiscovery(signal)
  }

  async start(update: (delta: Delta) => void, signal: AbortSignal, ahead?: (part: Delta) => void): Promise<void> {
    signal.addEventListener('abort', () => this.#stop(), { once: true })
    this.prepare()
    this.#update = update
    this.#ahead = ahead
    this.#startedMs = performance.now()
    this.#tellAhead()
    this.#completePicture()
    void sleep(this.#timing.firstPictureMs, undefined, { signal }).then(
      () => this.#giveUpStart(),
      () => {},
    )
    try {
      await this.#first.promise
    } finally {
      this.#hasStarted = true
    }
  }

  health(): SourceHealth {
    const followed = [...this.#followed.values()]
    const heardAtMs = followed.map(({ watch }) => watch.heardAtMs)
    const eventsAtMs = followed.flatMap(({ watch }) => watch.eventAtMs ?? [])
    // What was missed since one of them was heard last is not known.
    const syncedAtMs = this.#hasPicture && Math.min(...heardAtMs.map((atMs) => atMs ?? Date.now()))
    return {
      name: this.name,
      isCurrent: this.#hasPicture && this.#error === undefined,
      ...(this.#error !== undefined && { error: this.#error }),
      ...(this.#brokenSinceMs !== undefined && { brokenSinceMs: this.#brokenSinceMs }),
      ...(syncedAtMs !== false && { syncedAtMs, lagMs: Math.max(0, Date.now() - syncedAtMs) }),
      ...(eventsAtMs.length > 0 && { lastEventAtMs: Math.max(...eventsAtMs) }),
      restarts: this.#restarts + followed.reduce((sum, { watch }) => sum + watch.restarts, 0),
      notes: followed.flatMap(({ held }) => held.problems),
    }
  }

  #follow(resource: Resource, signal: AbortSignal): void {
    const { kind } = resource
    const former = this.#followed.get(kind)
    former?.abort.abort()
    this.#restarts += former?.watch.restarts ?? 0
    const held = former?.held ?? new HeldObjects(resource, this.#interner, () => this.#tellAhead())
    held.resource = resource
    const abort = new AbortController()
    const watch = new ResourceWatch(resource, {
      api: this.#api,
      held,
      timing: this.#timing,
      observer: {
        changed: (delta) => this.#changed(kind, delta),
        healthChanged: () => this.#healthChanged(),
        missing: () => this.#wakeDiscovery?.(),
      },
    })
    this.#followed.set(kind, { watch, held, abort, isListed: former?.isListed ?? false, absences: 0 })
    void watch.run(AbortSignal.any([signal, abort.signal]))
  }

  /** What is served may change: resource definitions come and go. */
  async #followDiscovery(signal: AbortSignal): Promise<void> {
    const { discoveryMs, firstPauseMs } = this.#timing
    while (!signal.aborted) {
      let pauseMs = discoveryMs
      try {
        const isUnsure = this.#adopt(await discover(this.#api, signal), signal)
        if (isUnsure) pauseMs = discoveryMs * CONFIRM_PART
        this.#isDiscovered = true
        this.#discoveryFailure = undefined
        this.#completePicture()
      } catch (error) {
        if (signal.aborted) return
        this.#discoveryFailure = error as Error
        const { retryAfterMs = 0 } = error instanceof ApiFailure ? error : {}
        pauseMs = Math.max(retryAfterMs, Math.min(discoveryMs, firstPauseMs * 4) * (0.5 + Math.random() / 2))
      }
      this.#healthChanged()
      await this.#untilDiscovery(pauseMs, signal)
    }
  }

  /** Follows what is served, and nothing else. True where something may be gone, and is to be looked for again. */
  #adopt(served: readonly Resource[], signal: AbortSignal): boolean {
    let isUnsure = false
    for (const resource of served) {
      const followed = this.#followed.get(resource.kind)
      if (followed) followed.absences = 0
      if (followed?.watch.resource.path !== resource.path) this.#follow(resource, signal)
    }
    for (const [kind, followed] of this.#followed) {
      const isKnown = builtInResources.some((resource) => resource.kind === kind)
      if (isKnown || served.some((resource) => resource.kind === kind)) continue
      followed.absences++
      if (followed.absences < ABSENCES_OF_WHAT_IS_GONE) isUnsure = true
      else this.#unfollow(kind, followed)
    }
    return isUnsure
  }

  #unfollow(kind: string, { abort, held, watch }: Followed): void {
    abort.abort()
    this.#restarts += watch.restarts
    this.#followed.delete(kind)
    this.#deliver(held.clear())
  }

  async #untilDiscovery(pauseMs: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController()
    // Whoever misses a resource again and again asks no more often than this.
    const leastMs = Math.min(pauseMs, this.#timing.discoveryMs * CONFIRM_PART)
    await sleep(leastMs, undefined, { signal }).catch(() => {})
    this.#wakeDiscovery = () => woken.abort()
    await sleep(pauseMs - leastMs, undefined, { signal: AbortSignal.any([signal, woken.signal]) }).catch(() => {})
    this.#wakeDiscovery = undefined
  }

  #changed(kind: string, delta: Delta): void {
    const followed = this.#followed.get(kind)
    if (!followed) return
    followed.isListed = true
    this.#deliver(delta)
    this.#completePicture()
    if (this.#hasPicture && this.#interner.isFull) this.#interner.keepOnly(allOf(this.#held()).upserts)
  }

  /** Pods are very many: those that have been read are told while the others are. Policies first, which ask about them. */
  #tellAhead(): void {
    if (!this.#ahead || this.#hasPicture || !this.#isDiscovered) return
    const pods: HeldObjects[] = []
    for (const { held, isListed, watch } of this.#followed.values()) {
      if (watch.resource.kind === POD) pods.push(held)
      else if (!isListed) return
    }
    if (!this.#hasToldOthers) {
      this.#hasToldOthers = true
      for (const { held, watch } of this.#followed.values()) if (watch.resource.kind !== POD) this.#ahead(allOf([held]))
    }
    for (const held of pods) this.#ahead(held.takeAhead())
  }

  #deliver(delta: Delta): void {
    if (this.#hasPicture && delta.upserts.length + delta.deletes.length > 0) this.#update?.(delta)
  }

  /** Delivers the first picture when every part of it is there: all in one, because it may take an earlier run's place. */
  #completePicture(): void {
    if (this.#hasPicture || !this.#update || !this.#isDiscovered) return
    for (const { isListed } of this.#followed.values()) if (!isListed) return
    this.#hasPicture = true
    this.#ahead = undefined
    this.#interner.noteAllInUse()
    this.#update(allOf(this.#held()))
    this.#first.resolve()
  }

  #held(): HeldObjects[] {
    return [...this.#followed.values()].map(({ held }) => held)
  }

  #healthChanged(): void {
    const error = this.#describeFailures()
    if (!this.#hasPicture && this.#mustGiveUp) this.#giveUpStart()
    if (error === this.#error) return
    this.#brokenSinceMs = error === undefined ? undefined : (this.#brokenSinceMs ?? Date.now())
    this.#error = error
    if (this.#hasStarted && this.#isNews(error)) this.#onHealth(this.health())
  }

  #isNews(error: string | undefined): boolean {
    if (error === undefined) {
      this.#told.clear()
      return true
    }
    const texts = this.#failures().map(({ subject, failure }) => describeFailure(failure, subject))
    const isNews = texts.some((text) => !this.#told.has(text))
    for (const text of texts) this.#told.add(text)
    return isNews
  }

  /** Whether waiting for the first picture is of no use, or has lasted long enough. */
  get #mustGiveUp(): boolean {
    if (performance.now() - this.#startedMs >= this.#timing.firstPictureMs) return true
    return this.#failures().some(({ failure }) => {
      return failure instanceof KnpError || (failure instanceof ApiFailure && failure.isRefusal)
    })
  }

  #giveUpStart(): void {
    const [first] = this.#failures()
    if (this.#hasPicture || !first) return
    const { code, hint } = asKnpError(first.failure)
    this.#first.reject(
      new KnpError(code, this.#describeFailures()!, { ...(hint !== undefined && { hint }), cause: first.failure }),
    )
  }

  #failures(): { readonly subject: string; readonly failure: Error }[] {
    const failures = [...this.#followed.values()].flatMap(({ watch: { resource, failure } }) =>
      failure ? [{ subject: resource.name, failure }] : [],
    )
    if (this.#discoveryFailure) failures.push({ subject: 'discovery of policies', failure: this.#discoveryFailure })
    return failures
  }

  /** One line for each trouble, with the resources that have it. */
  #describeFailures(): string | undefined {
    const subjects = new Map<string, string[]>()
    for (const { subject, failure } of this.#failures()) {
      const text = describeFailure(failure, subject)
      subjects.set(text, [...(subjects.get(text) ?? []), subject])
    }
    if (subjects.size === 0) return undefined
    return [...subjects].map(([text, names]) => `${names.join(', ')}: ${text}`).join('\n')
  }

  #stop(): void {
    this.#abort.abort()
    this.#api.close()
    this.#first.reject(new KnpError('UNREACHABLE', `${this.name}: stopped before there was a picture`))
  }
}

/** What an API server has now, read once; rights to list are enough. Throws KnpError UNREACHABLE, API_REFUSED, UNREADABLE_SOURCE. */
export async function readKubernetes(
  choice: ClusterChoice,
  options: Pick<KubernetesSourceOptions, 'timing' | 'readAccess'> = {},
): Promise<{ readonly name: string; readonly delta: Delta; readonly notes: readonly string[] }> {
  const { timing = usualTiming } = options
  const api = new ApiClient(options.readAccess ?? (() => readAccess(choice)), timing)
  const { signal } = new AbortController()
  const interner = new Interner()
  const upserts: PolicyObject[] = []
  const notes: string[] = []
  let subject = 'discovery of policies'
  try {
    for (const resource of [...builtInResources, ...(await discover(api, signal))]) {
      subject = resource.name
      const held = new HeldObjects(resource, interner)
      await listInto(held, { api, resource, timing }, signal)
      for (const object of held.end().upserts) upserts.push(object)
      notes.push(...held.problems)
    }
  } catch (error) {
    if (!(error instanceof ApiFailure)) throw error
    const { code, hint } = asKnpError(error)
    const message = `${subject}: ${describeFailure(error, subject)}`
    throw new KnpError(code, message, { ...(hint !== undefined && { hint }), cause: error })
  } finally {
    api.close()
  }
  return { name: sourceName(choice), delta: { upserts, deletes: [] }, notes }
}

/** Everything that they hold, as one change. */
function allOf(all: readonly HeldObjects[]): Delta {
  return {
    upserts: all.flatMap(({ objects }) => [...objects.values()]),
    keys: all.flatMap(({ objects }) => [...objects.keys()]),
    deletes: [],
  }
}

function sourceName({ kubeconfig, context }: ClusterChoice): string {
  return [
    'kubernetes',
    ...(kubeconfig === undefined ? [] : [kubeconfig]),
    ...(context === undefined ? [] : [context]),
  ].join(' ')
}

/** What is wrong, and what to do about it where that is known. */
function describeFailure(failure: Error, subject: string): string {
  const { message } = failure
  if (!(failure instanceof ApiFailure)) return message
  if (failure.status === 401) {
    return `${message}; the API server does not know us: renew the token or certificate of the kubeconfig or service account`
  }
  if (failure.status === 403) return `forbidden: ${message}; grant list and watch on ${subject}`
  return message
}
