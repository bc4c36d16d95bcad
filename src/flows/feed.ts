import { FlowReader, type FlowRecord, type FlowRing, type FlowTest } from '../datapath/flow-ring.ts'
import type { FlowEvent } from './event.ts'
import type { FlowFilter } from './filter.ts'
import { type FlowResolver, keyOf, verdictOf } from './resolver.ts'

/** Who is told of decisions. */
export interface FlowSubscriber {
  readonly filter: FlowFilter
  take(event: FlowEvent): void
  /** So many decisions, of any kind, went by unread. */
  miss(count: number): void
}

/** How often decisions are fetched: those that are alike are told together. */
const INTERVAL_MS = 100
/** What reading may take of it; what is left waits, and is written over in the end. */
const BUDGET_MS = 15
const CHUNK = 256
/** How far back `recent` looks, in each ring. */
const KEPT = 4096
/** Of the past, what is alike is told together where it fell into one second. */
const PAST_WINDOW_MS = 1000

/** Fetches decisions from the rings while somebody wants them. */
export class FlowFeed {
  readonly #rings: readonly FlowRing[]
  readonly #resolver: FlowResolver
  readonly #subscribers = new Set<FlowSubscriber>()
  readonly #lost: () => number
  #lostBefore = 0
  #readers: readonly FlowReader[] = []
  #timer: NodeJS.Timeout | undefined

  /** @param lost how many decisions never came into any ring */
  constructor(rings: readonly FlowRing[], resolver: FlowResolver, lost: () => number = () => 0) {
    this.#lost = lost
    this.#rings = rings
    this.#resolver = resolver
  }

  /** Tells of what is decided from now on. Answers what ends that. */
  subscribe(subscriber: FlowSubscriber): () => void {
    if (this.#subscribers.size === 0) {
      this.#lostBefore = this.#lost()
      this.#readers = this.#rings.map((ring) => new FlowReader(ring))
      this.#timer = setInterval(() => this.#fetch(), INTERVAL_MS)
    } else this.#fetch()
    this.#subscribers.add(subscriber)
    return () => {
      this.#subscribers.delete(subscriber)
      if (this.#subscribers.size === 0) clearInterval(this.#timer)
    }
  }

  /** The last `most` decisions that the rings still hold, oldest first. */
  recent(most: number, filter: FlowFilter): FlowEvent[] {
    const records = this.#rings
      .flatMap((ring) => new FlowReader(ring, KEPT).read(KEPT, testOf([filter])))
      .sort((a, b) => b.timeMs - a.timeMs)
    const events = new Map<string, FlowEvent>()
    for (const record of records) {
      const key = keyOf(record)
      const slot = `${key} ${Math.floor(record.timeMs / PAST_WINDOW_MS)}`
      const known = events.get(slot)
      if (known) events.set(slot, { ...known, timeMs: record.timeMs, count: known.count + 1 })
      else if (events.size < most) {
        const event = this.#resolver.resolve(record, key)
        if (filter.matches(event)) events.set(slot, event)
      }
    }
    return [...events.values()].sort((a, b) => a.timeMs - b.timeMs)
  }

  /** Tells everybody what has been decided so far, and nothing more. */
  close(): void {
    if (this.#subscribers.size > 0) this.#fetch()
    this.#subscribers.clear()
    clearInterval(this.#timer)
  }

  #fetch(): void {
    const endMs = performance.now() + BUDGET_MS
    const test = testOf([...this.#subscribers].map(({ filter }) => filter))
    const events = new Map<string, FlowEvent>()
    const lost = this.#lost()
    let missed = lost - this.#lostBefore
    this.#lostBefore = lost
    for (const reader of this.#readers) {
      // Of every ring a part at least.
      do for (const record of reader.read(CHUNK, test)) this.#count(record, events)
      while (reader.waiting > 0 && performance.now() < endMs)
      missed += reader.missed
      reader.missed = 0
    }
    for (const subscriber of this.#subscribers) {
      for (const event of events.values()) if (subscriber.filter.matches(event)) subscriber.take(event)
      if (missed > 0) subscriber.miss(missed)
    }
  }

  #count(record: FlowRecord, events: Map<string, FlowEvent>): void {
    const key = keyOf(record)
    const known = events.get(key)
    events.set(key, known ? { ...known, count: known.count + 1 } : this.#resolver.resolve(record, key))
  }
}

/** What any of the filters lets pass, as far as that can be told before anything is read of it: most is wanted by nobody. */
function testOf(filters: readonly FlowFilter[]): FlowTest {
  return (outcome, isAudited) =>
    filters.some(({ verdict, isDenialsOnly }) => {
      if (verdict === 'audit') return isAudited
      const found = verdictOf({ outcome, isAudited })
      if (isDenialsOnly && !isAudited && found === 'allow') return false
      return verdict === undefined || verdict === found
    })
}
