import { Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { firstShown, Section } from './section.ts'
import { chosenIn, type DashboardState, rankedIn } from './state.ts'
import { type Row, totalOf } from './tally.ts'
import { cell, compact, endsCell } from './text.ts'
import { verdictColors } from './verdict-colors.ts'

export interface TalliesPanelProps {
  readonly state: DashboardState
  readonly columns: number
  readonly height: number
  readonly hasFocus: boolean
}

/** Who was refused what most often. */
export function PairsPanel(props: TalliesPanelProps): ReactElement {
  return list('pairs', 'Most denied', 'nothing was denied', props, ({ tally, columns, isChosen }) => {
    // Denied is what the title says.
    const word = tally.counts.AUDIT > 0 ? 'AUDIT ' : ''
    return h(
      Text,
      { inverse: isChosen, wrap: 'truncate-end' },
      `${isChosen ? '>' : ' '} ${compact(totalOf(tally)).padStart(6)} `,
      h(Text, { color: verdictColors.AUDIT }, word),
      tally.last ? endsCell(tally.last, columns - 9 - word.length) : tally.name,
    )
  })
}

/** What each policy decided. */
export function PoliciesPanel(props: TalliesPanelProps): ReactElement {
  return list(
    'policies',
    ' allow   deny  audit Policies',
    'no policy has decided yet',
    props,
    ({ tally, columns, isChosen }) => {
      const { ALLOWED, DENIED, AUDIT } = tally.counts
      return h(
        Text,
        { inverse: isChosen, wrap: 'truncate-end' },
        `${isChosen ? '>' : ' '} ${[ALLOWED, DENIED, AUDIT].map((n) => compact(n).padStart(6)).join(' ')} `,
        cell(tally.name, columns - 23),
      )
    },
  )
}

type RowProps = { readonly tally: Row; readonly columns: number; readonly isChosen: boolean }

function list(
  panel: 'pairs' | 'policies',
  title: string,
  empty: string,
  { state, columns, height, hasFocus }: TalliesPanelProps,
  row: (props: RowProps) => ReactElement,
): ReactElement {
  const tallies = rankedIn(state, panel)
  const chosen = hasFocus ? chosenIn(state) : -1
  const first = firstShown(chosen, tallies.length, height - 1)
  const rows = tallies
    .slice(first, first + height - 1)
    .map((tally, i) => h(row, { key: tally.key, tally, columns, isChosen: first + i === chosen }))
  return h(Section, { title, columns, height, hasFocus, empty, rows })
}
