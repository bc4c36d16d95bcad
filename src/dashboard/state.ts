import type { DeciderTotal } from '../decider-totals.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import type { FlowEvent } from '../flows/event.ts'
import type { FlowsItem } from '../flows/stream.ts'
import { addFlows, type FlowLists, noFlows, refilter, type Sorting, sortedFlows, sortings } from './flow-list.ts'
import { nextRates, type Rates } from './rates.ts'
import { countedRows, type Row, ranked, type Tallies, tallyPairs, tallyPolicies } from './tally.ts'

/** The lists in which a row can be chosen, in the order in which Tab goes through them. */
export const panels = ['flows', 'pairs', 'policies'] as const

export type Panel = (typeof panels)[number]

/** A decision that is looked into. */
export interface Explanation {
  /** Counts up: an answer to an earlier question is told apart. */
  readonly id: number
  readonly event: FlowEvent
  /** What the running firewall says; absent until it has. */
  readonly text?: string
}

/** Everything the dashboard shows; plain data of bounded size, whatever comes in. */
export interface DashboardState {
  /** The firewall's last word; absent until there is one. */
  readonly status?: FirewallStatus
  /** Why the firewall does not answer, and since when: what is shown is old. */
  readonly lost?: { readonly reason: string; readonly sinceMs: number }
  readonly rates?: Rates
  readonly flows: FlowLists
  /** What the list shows while it stands still. */
  readonly held?: FlowLists
  /** Decisions that were too many to be told of. */
  readonly missed: number
  /** Why there are no flows, where the firewall has none to tell. */
  readonly flowsProblem?: string
  readonly pairs: Tallies
  readonly policies: Tallies
  /** Who decided how often by the firewall's own count; absent where it does not say. */
  readonly deciders?: readonly DeciderTotal[]
  readonly filter: string
  /** The filter as it is being typed. */
  readonly typed?: string
  readonly sorting: Sorting
  readonly focus: Panel
  /** Which row of the list in focus is chosen, from 0; may be beyond its end. */
  readonly chosen: number
  readonly explanation?: Explanation
  /** How many explanations were asked for. */
  readonly questions: number
  readonly isHelpShown: boolean
  /** Whether it is about to end what it shows, and waits for a second word. */
  readonly isQuitAsked: boolean
}

export const initialState: DashboardState = {
  flows: noFlows,
  missed: 0,
  pairs: new Map(),
  policies: new Map(),
  filter: '',
  sorting: 'time',
  focus: 'flows',
  chosen: 0,
  questions: 0,
  isHelpShown: false,
  isQuitAsked: false,
}

/** What the firewall says. */
export type Report =
  | { readonly type: 'status'; readonly status: FirewallStatus; readonly atMs: number }
  | { readonly type: 'deciders'; readonly deciders: readonly DeciderTotal[] }
  /** In the order in which they came. */
  | { readonly type: 'flows'; readonly items: readonly FlowsItem[] }
  | { readonly type: 'flows-refused'; readonly reason: string }
  | { readonly type: 'lost'; readonly reason: string; readonly atMs: number }
  | { readonly type: 'explained'; readonly id: number; readonly text: string }

/** What the person in front of it wants. */
export type Wish =
  | { readonly type: 'move'; readonly by: number }
  | { readonly type: 'focus'; readonly by: number }
  | { readonly type: 'pause' }
  | { readonly type: 'sort' }
  /** `undefined` ends typing and leaves the filter as it was. */
  | { readonly type: 'type'; readonly typed: string | undefined }
  | { readonly type: 'filter'; readonly filter: string }
  | { readonly type: 'explain' }
  | { readonly type: 'help' }
  /** Closes what is open, clears the filter, lets the list go on. */
  | { readonly type: 'back' }
  | { readonly type: 'ask-quit' }

export type Action = Report | Wish

/** The next state. Pure: times come with the actions. */
export function reduce(state: DashboardState, action: Action): DashboardState {
  switch (action.type) {
    case 'status':
      return {
        ...without(state, 'lost'),
        status: action.status,
        rates: nextRates(state.rates, action.status, action.atMs),
      }
    case 'lost':
      return { ...state, lost: { reason: action.reason, sinceMs: state.lost?.sinceMs ?? action.atMs } }
    case 'deciders':
      return { ...state, deciders: action.deciders }
    case 'flows':
      return withFlows(without(state, 'flowsProblem'), action.items)
    case 'flows-refused':
      return { ...state, flowsProblem: action.reason }
    case 'explained':
      return state.explanation?.id === action.id
        ? { ...state, explanation: { ...state.explanation, text: action.text } }
        : state
    case 'move':
      return move(state, action.by)
    case 'focus': {
      const next = (panels.indexOf(state.focus) + action.by + panels.length) % panels.length
      return { ...state, focus: panels[next]!, chosen: 0 }
    }
    case 'pause':
      return state.held ? without(state, 'held') : { ...state, held: state.flows }
    case 'sort':
      return { ...state, sorting: sortings[(sortings.indexOf(state.sorting) + 1) % sortings.length]!, chosen: 0 }
    case 'type':
      return action.typed === undefined ? without(state, 'typed') : { ...state, typed: action.typed }
    case 'filter':
      return withFilter(without(state, 'typed'), action.filter)
    case 'explain':
      return explainChosen(state)
    case 'help':
      return { ...state, isHelpShown: !state.isHelpShown }
    case 'back':
      return back(state)
    case 'ask-quit':
      return { ...state, isQuitAsked: true }
  }
}

/** The rows of the list of flows, as they are shown. */
export function shownFlows({ held, flows, sorting }: DashboardState): ReturnType<typeof sortedFlows> {
  return sortedFlows(held ?? flows, sorting)
}

/** How many decisions came while the list stood still. */
export function heldBack({ held, flows }: DashboardState): number {
  return held ? flows.newestId - held.newestId : 0
}

/** The newest decision of each row of a list, as it is shown. */
export function eventsOf(state: DashboardState, panel: Panel): readonly (FlowEvent | undefined)[] {
  if (panel === 'flows') return shownFlows(state).map(({ event }) => event)
  return rankedIn(state, panel).map(({ last }) => last)
}

/** The rows of the other lists, as they are shown. */
export function rankedIn({ pairs, policies, deciders }: DashboardState, panel: 'pairs' | 'policies'): readonly Row[] {
  if (panel === 'pairs') return ranked(pairs.values())
  return deciders ? countedRows(deciders, policies) : ranked(policies.values())
}

/** Which row of the list in focus is chosen; -1 where it has none. */
export function chosenIn(state: DashboardState): number {
  return Math.min(state.chosen, eventsOf(state, state.focus).length - 1)
}

function withFlows(state: DashboardState, items: readonly FlowsItem[]): DashboardState {
  const events = items.filter((item): item is FlowEvent => !('missed' in item))
  const missed = items.reduce((sum, item) => sum + ('missed' in item ? item.missed : 0), 0)
  return {
    ...state,
    flows: addFlows(state.flows, events, state.filter),
    missed: state.missed + missed,
    pairs: tallyPairs(state.pairs, events),
    policies: tallyPolicies(state.policies, events),
  }
}

function withFilter(state: DashboardState, filter: string): DashboardState {
  return {
    ...state,
    filter,
    chosen: 0,
    flows: refilter(state.flows, filter),
    ...(state.held && { held: refilter(state.held, filter) }),
  }
}

/** Rows that one wants to point at must stand still. */
function move(state: DashboardState, by: number): DashboardState {
  const last = eventsOf(state, state.focus).length - 1
  const chosen = Math.max(0, Math.min(last, Math.min(state.chosen, last) + by))
  return { ...state, chosen, ...(state.focus === 'flows' && { held: state.held ?? state.flows }) }
}

function explainChosen(state: DashboardState): DashboardState {
  const event = eventsOf(state, state.focus)[chosenIn(state)]
  if (!event) return state
  const held = state.focus === 'flows' ? { held: state.held ?? state.flows } : {}
  const questions = state.questions + 1
  return { ...state, ...held, questions, explanation: { id: questions, event } }
}

/** One thing at a time, the topmost first. */
function back(state: DashboardState): DashboardState {
  if (state.isQuitAsked) return { ...state, isQuitAsked: false }
  if (state.isHelpShown) return { ...state, isHelpShown: false }
  if (state.explanation) return without(state, 'explanation')
  if (state.filter !== '') return withFilter(state, '')
  return { ...without(state, 'held'), chosen: 0 }
}

function without<K extends keyof DashboardState>(state: DashboardState, key: K): Omit<DashboardState, K> {
  const { [key]: _, ...rest } = state
  return rest
}
