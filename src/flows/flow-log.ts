import type { LogConfig } from '../log-config.ts'
import type { FlowEvent } from './event.ts'
import type { FlowFeed, FlowSubscriber } from './feed.ts'
import type { FlowFilter } from './filter.ts'

/** Where decisions are told. */
export interface FlowLogSink {
  decided(event: FlowEvent): void
  /** So many decisions were not told since the last of these. */
  leftOut(count: number): void
}

export interface FlowLogOptions {
  readonly flows: LogConfig['flows']
  readonly sink: FlowLogSink
  /** In ms, goes forward only. */
  readonly now?: () => number
}

/** So many are told at once, */
const BURST = 100
/** and after that so many a second. What is alike is told as one. */
const PER_SECOND = 10
/** How often it is told how much was left out. */
const TELL_INTERVAL_MS = 1000

/** Tells decisions, no more than anybody reads. Answers what ends that. */
export function logFlows(feed: FlowFeed, { flows, sink, now = () => performance.now() }: FlowLogOptions): () => void {
  if (flows === 'none') return () => {}
  const log = new FlowLog(filterOf(flows), sink, now)
  const unsubscribe = feed.subscribe(log)
  const timer = setInterval(() => log.tell(), TELL_INTERVAL_MS)
  return () => {
    unsubscribe()
    clearInterval(timer)
    log.tell()
  }
}

function filterOf(flows: 'denied' | 'all'): FlowFilter {
  const matches = ({ verdict, audit }: FlowEvent) => flows === 'all' || verdict === 'deny' || audit !== undefined
  return { verdict: undefined, isDenialsOnly: flows === 'denied', matches }
}

class FlowLog implements FlowSubscriber {
  readonly filter: FlowFilter
  readonly #sink: FlowLogSink
  readonly #now: () => number
  #tokens = BURST
  #refilledMs: number
  #leftOut = 0

  constructor(filter: FlowFilter, sink: FlowLogSink, now: () => number) {
    this.filter = filter
    this.#sink = sink
    this.#now = now
    this.#refilledMs = now()
  }

  take(event: FlowEvent): void {
    const nowMs = this.#now()
    this.#tokens = Math.min(BURST, this.#tokens + ((nowMs - this.#refilledMs) * PER_SECOND) / 1000)
    this.#refilledMs = nowMs
    if (this.#tokens < 1) {
      this.#leftOut += event.count
      return
    }
    this.#tokens--
    this.#sink.decided(event)
  }

  miss(count: number): void {
    this.#leftOut += count
  }

  tell(): void {
    if (this.#leftOut === 0) return
    this.#sink.leftOut(this.#leftOut)
    this.#leftOut = 0
  }
}
