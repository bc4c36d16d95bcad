import { Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import type { FlowEvent } from '../flows/event.ts'
import { firstShown, Section } from './section.ts'
import { chosenIn, type DashboardState, heldBack, shownFlows } from './state.ts'
import { cell, clock, compact, deciderText, endsCell, shownVerdict } from './text.ts'
import { verdictColors } from './verdict-colors.ts'

export interface FlowsPanelProps {
  readonly state: DashboardState
  readonly columns: number
  readonly height: number
  readonly hasFocus: boolean
}

/** Decisions as they come, or as they stand. */
export function FlowsPanel({ state, columns, height, hasFocus }: FlowsPanelProps): ReactElement {
  const rows = shownFlows(state)
  const chosen = hasFocus ? chosenIn(state) : -1
  const fitting = height - 1
  const first = firstShown(chosen, rows.length, fitting)
  const shown = rows.slice(first, first + fitting)
  return h(Section, {
    title: titleOf(state),
    columns,
    height,
    hasFocus,
    empty: emptyText(state),
    rows: shown.map(({ id, event }, i) => h(FlowLine, { key: id, event, columns, isChosen: first + i === chosen })),
  })
}

function FlowLine(props: { event: FlowEvent; columns: number; isChosen: boolean }): ReactElement {
  const { event, columns, isChosen } = props
  const verdict = shownVerdict(event)
  const origin = columns >= 120 ? 6 : 1
  // What is left beside mark, time, verdict, count and origin.
  const rest = columns - 2 - 9 - 8 - 7 - origin - 2
  const ends = Math.floor(rest * 0.59)
  const count = event.count > 1 ? `x${compact(event.count)}` : ''
  return h(
    Text,
    { inverse: isChosen, wrap: 'truncate-end' },
    `${isChosen ? '>' : ' '} ${clock(event.timeMs)} `,
    h(Text, { color: verdictColors[verdict] }, verdict.padEnd(8)),
    `${endsCell(event, ends)} ${count.padStart(6)} `,
    `${cell(event.isRemembered ? 'kernel'.slice(0, origin) : '', origin)} `,
    cell(deciderText(event), rest - ends),
  )
}

function titleOf(state: DashboardState): string {
  const { filter, sorting, missed, held } = state
  const parts = [
    `Flows by ${sorting}`,
    ...(filter === '' ? [] : [`filter "${filter}"`]),
    ...(held ? [`PAUSED, ${compact(heldBack(state))} since`] : []),
    ...(missed > 0 ? [`${compact(missed)} too many to show`] : []),
  ]
  return parts.join(' · ')
}

function emptyText({ filter, flowsProblem }: DashboardState): string {
  if (flowsProblem !== undefined) return `no flows: ${flowsProblem}`
  return filter === '' ? 'nothing was decided yet' : 'nothing that the filter lets through'
}
