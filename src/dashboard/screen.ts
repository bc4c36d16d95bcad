import { Box } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { ExplanationPanel } from './explanation-panel.ts'
import { FlowsPanel } from './flows-panel.ts'
import { Footer } from './footer.ts'
import { Header, headerHeight } from './header.ts'
import { HelpPanel } from './help-panel.ts'
import { QueuePanel } from './queue-panel.ts'
import { rateNames } from './rates.ts'
import { RatesPanel, ratesAcross } from './rates-panel.ts'
import { type DashboardState, eventsOf } from './state.ts'
import { PairsPanel, PoliciesPanel } from './tallies-panel.ts'

export interface ScreenProps {
  readonly state: DashboardState
  readonly columns: number
  readonly rows: number
}

/** Everything, in exactly this many columns and lines. */
export function Screen({ state, columns, rows }: ScreenProps): ReactElement {
  const { status, rates } = state
  // Where there is room, more than the worst is said.
  const troubleLines = rows >= 40 ? 4 : 1
  const used = headerHeight(state, troubleLines) + rateNames.length / ratesAcross(columns) + (status ? 1 : 0) + 1
  const height = Math.max(0, rows - used)
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
    h(Header, { state, columns, troubleLines }),
    h(RatesPanel, { rates, columns }),
    status && h(QueuePanel, { status, columns }),
    h(Body, { state, columns, height }),
    h(Footer, { state, columns }),
  )
}

export interface SummaryProps {
  readonly state: DashboardState
  readonly columns: number
}

/** How many rows of a list a summary has. */
const SUMMARY_ROWS = 20

/** The same for paper: as long as it needs to be, each list below the other. */
export function Summary({ state, columns }: SummaryProps): ReactElement {
  const { status, rates } = state
  const heightOf = (count: number) => 1 + Math.max(1, Math.min(SUMMARY_ROWS, count))
  const list = { state, columns, hasFocus: false }
  return h(
    Box,
    { flexDirection: 'column', width: columns },
    h(Header, { state, columns, troubleLines: Number.POSITIVE_INFINITY }),
    h(RatesPanel, { rates, columns }),
    status && h(QueuePanel, { status, columns }),
    h(FlowsPanel, { ...list, height: heightOf(eventsOf(state, 'flows').length) }),
    h(PairsPanel, { ...list, height: heightOf(state.pairs.size) }),
    h(PoliciesPanel, { ...list, height: heightOf(eventsOf(state, 'policies').length) }),
  )
}

/** The lists, or what lies over them. */
function Body({ state, columns, height }: { state: DashboardState; columns: number; height: number }): ReactElement {
  const { isHelpShown, explanation, focus } = state
  if (isHelpShown) return h(HelpPanel, { columns, height })
  if (explanation) return h(ExplanationPanel, { explanation, columns, height })
  const below = Math.floor(height / 3)
  const left = Math.ceil(columns / 2)
  return h(
    Box,
    { flexDirection: 'column', height },
    h(FlowsPanel, { state, columns, height: height - below, hasFocus: focus === 'flows' }),
    h(
      Box,
      null,
      h(PairsPanel, { state, columns: left, height: below, hasFocus: focus === 'pairs' }),
      h(PoliciesPanel, { state, columns: columns - left, height: below, hasFocus: focus === 'policies' }),
    ),
  )
}
