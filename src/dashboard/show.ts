import { render, renderToString } from 'ink'
import { createElement as h } from 'react'
import { Dashboard, type DashboardProps } from './dashboard.ts'
import { Screen, Summary } from './screen.ts'
import type { DashboardState } from './state.ts'

/** Often enough for the eye. */
const MAX_FRAMES_PER_SECOND = 10

/** Shows the dashboard on this process's terminal until its reader has enough. */
export async function showDashboard(props: DashboardProps): Promise<void> {
  const { waitUntilExit } = render(h(Dashboard, props), {
    alternateScreen: true,
    // Whoever has a terminal gets it, also where a variable says CI.
    interactive: true,
    incrementalRendering: true,
    exitOnCtrlC: false,
    maxFps: MAX_FRAMES_PER_SECOND,
  })
  await waitUntilExit()
}

/** What a terminal of this size shows, without blanks at the ends of its lines. */
export function frameText(state: DashboardState, columns: number, rows: number): string {
  return withoutEnds(renderToString(h(Screen, { state, columns, rows }), { columns }))
}

/** One picture as text, in lines of at most so many columns. */
export function pictureText(state: DashboardState, columns: number): string {
  return `${withoutEnds(renderToString(h(Summary, { state, columns }), { columns }))}\n`
}

function withoutEnds(text: string): string {
  return text.replace(/ +$/gm, '')
}
