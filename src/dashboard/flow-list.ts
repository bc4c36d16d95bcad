import type { FlowEvent } from '../flows/event.ts'
import { deciderText, type ShownVerdict, shownVerdict, sourceText, targetText } from './text.ts'

/** A decision in the list; `id` counts up. */
export interface FlowRow {
  readonly id: number
  readonly event: FlowEvent
}

/** The latest decisions, newest first: all of them, and those that the filter lets through. */
export interface FlowLists {
  readonly all: readonly FlowRow[]
  readonly matching: readonly FlowRow[]
  /** Of the newest one; 0 where there is none. */
  readonly newestId: number
}

/** How many are kept of each. */
export const MAX_ROWS = 500

export const noFlows: FlowLists = { all: [], matching: [], newestId: 0 }

/** With further decisions, the newest last. */
export function addFlows(lists: FlowLists, events: readonly FlowEvent[], filter: string): FlowLists {
  const isShown = matcher(filter)
  const rows = events.map((event, i) => ({ id: lists.newestId + 1 + i, event })).reverse()
  const all = [...rows, ...lists.all].slice(0, MAX_ROWS)
  const matching = filter === '' ? all : [...rows.filter(isShown), ...lists.matching].slice(0, MAX_ROWS)
  return { all, matching, newestId: lists.newestId + events.length }
}

/** By another filter: of what was not kept, nothing comes back. */
export function refilter(lists: FlowLists, filter: string): FlowLists {
  return { ...lists, matching: lists.all.filter(matcher(filter)) }
}

/** Every word must occur in what is shown of a flow, in whatever case; none that begins with `!` may. */
function matcher(filter: string): (row: FlowRow) => boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
  const wanted = words.filter((word) => !word.startsWith('!'))
  const unwanted = words.flatMap((word) => (word.startsWith('!') && word.length > 1 ? [word.slice(1)] : []))
  return ({ event }) => {
    if (words.length === 0) return true
    const text = searched(event)
    return wanted.every((word) => text.includes(word)) && !unwanted.some((word) => text.includes(word))
  }
}

function searched(event: FlowEvent): string {
  const { source, destination, isRemembered } = event
  const origin = isRemembered ? 'kernel' : ''
  const parts = [shownVerdict(event), sourceText(event), source?.address, targetText(event), destination?.address]
  return [...parts, deciderText(event), origin].join(' ').toLowerCase()
}

/** By what the list is sorted, in the order in which `s` goes through them. */
export const sortings = ['time', 'count', 'verdict', 'source', 'destination'] as const

export type Sorting = (typeof sortings)[number]

/** Those refused first. */
const verdictOrder: readonly ShownVerdict[] = ['DENIED', 'AUDIT', 'ALLOWED']

const comparisons: Readonly<Record<Sorting, (a: FlowEvent, b: FlowEvent) => number>> = {
  time: () => 0,
  count: (a, b) => b.count - a.count,
  verdict: (a, b) => verdictOrder.indexOf(shownVerdict(a)) - verdictOrder.indexOf(shownVerdict(b)),
  source: (a, b) => compareText(sourceText(a), sourceText(b)),
  destination: (a, b) => compareText(targetText(a), targetText(b)),
}

/** What is shown of the lists; what is alike, newest first. */
export function sortedFlows({ matching }: FlowLists, sorting: Sorting): readonly FlowRow[] {
  if (sorting === 'time') return matching
  const compare = comparisons[sorting]
  return matching.toSorted((a, b) => compare(a.event, b.event))
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
