import { Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import type { DashboardState } from './state.ts'
import { cell, line } from './text.ts'

/** Which keys mean something now. */
export function Footer({ state, columns }: { state: DashboardState; columns: number }): ReactElement {
  return h(Text, { inverse: isAsking(state), wrap: 'truncate-end' }, cell(textOf(state, columns), columns))
}

function isAsking({ typed, isQuitAsked }: DashboardState): boolean {
  return typed !== undefined || isQuitAsked
}

function textOf({ typed, isQuitAsked, isHelpShown, explanation }: DashboardState, columns: number): string {
  if (isQuitAsked) return 'This ends the firewall. q again: end it; any other key: go on'
  if (typed !== undefined) {
    const advice = '   Enter: take it  Esc: leave it as it was'
    // The end of what is typed is what one looks at.
    return `/${line(typed).slice(-Math.max(1, columns - advice.length - 2))}_${advice}`
  }
  if (isHelpShown || explanation) return 'Esc: back  ?: help  q: quit'
  return '?: help  /: filter  p: pause  s: sort  Tab: list  Enter: explain  q: quit'
}
