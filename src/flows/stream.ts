import type { StreamReader } from '../control/socket.ts'
import { KnpError } from '../errors.ts'
import type { FlowEvent } from './event.ts'
import type { FlowFeed, FlowSubscriber } from './feed.ts'
import { type FlowFilter, type FlowQuery, parseFlowQuery } from './filter.ts'

/** What `flows` of the control socket is asked with. */
export interface FlowsParams extends FlowQuery {
  /** How many of the past. */
  readonly last: number
  /** Whether to go on with what comes. */
  readonly follow: boolean
}

/** What `flows` answers: decisions, and how many the reader was too slow for. */
export type FlowsItem = FlowEvent | { readonly missed: number }

/** The most that `last` may ask for. */
export const MAX_PAST = 1000

/** Sends flows to a reader of the control socket. Answers what ends that. Throws KnpError USAGE. */
export function streamFlows(feed: FlowFeed, params: FlowsParams, reader: StreamReader): () => void {
  const filter = parseFlowQuery(params)
  const { last, follow } = params
  if (!Number.isInteger(last) || last < 0 || last > MAX_PAST) {
    throw new KnpError('USAGE', `last ${last} is not a number between 0 and ${MAX_PAST}`)
  }
  const subscriber = new Subscriber(filter, reader)
  for (const event of feed.recent(last, filter)) subscriber.take(event)
  if (follow) return feed.subscribe(subscriber)
  reader.end()
  return () => {}
}

/** Gives up what a reader does not take in time, and tells it how much that was as soon as it can be told. */
class Subscriber implements FlowSubscriber {
  readonly filter: FlowFilter
  readonly #reader: StreamReader
  #missed = 0

  constructor(filter: FlowFilter, reader: StreamReader) {
    this.filter = filter
    this.#reader = reader
    reader.onReady(() => this.#tell())
  }

  take(event: FlowEvent): void {
    if (!this.#tell() || !this.#reader.send(event satisfies FlowsItem)) this.#missed += event.count
  }

  miss(count: number): void {
    this.#missed += count
    this.#tell()
  }

  #tell(): boolean {
    if (this.#missed === 0) return true
    if (!this.#reader.send({ missed: this.#missed } satisfies FlowsItem)) return false
    this.#missed = 0
    return true
  }
}
