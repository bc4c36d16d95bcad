import { Box, Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import type { FirewallStatus } from '../firewall-status.ts'
import { isHealthy, protectionWarning } from '../output/status.ts'
import type { DashboardState } from './state.ts'
import { cell, clock } from './text.ts'

export interface HeaderProps {
  readonly state: DashboardState
  readonly columns: number
  /** Lines for what is wrong. */
  readonly troubleLines: number
}

/** Whether it enforces, what, by which sources, and what is wrong. */
export function Header({ state, columns, troubleLines }: HeaderProps): ReactElement {
  const { status, lost } = state
  if (!status) return h(Text, null, cell('waiting for the firewall', columns))
  const isCalm = isHealthy(status) && !lost && status.mode !== 'audit'
  const old = lost && `NO ANSWER since ${clock(lost.sinceMs)}: what is shown is old. ${lost.reason}; connecting again`
  return h(
    Box,
    { flexDirection: 'column' },
    old === undefined ? null : h(Text, { inverse: true, wrap: 'truncate-end' }, cell(old, columns)),
    h(Text, { bold: true, color: isCalm ? 'green' : 'red', wrap: 'truncate-end' }, cell(stateText(status), columns)),
    h(Text, { wrap: 'truncate-end' }, cell(sourcesText(status), columns)),
    ...troublesOf(status)
      .slice(0, troubleLines)
      .map((text) => h(Text, { color: 'yellow', wrap: 'truncate-end' }, cell(text, columns))),
  )
}

/** How many lines the header takes. */
export function headerHeight({ status, lost }: DashboardState, troubleLines: number): number {
  if (!status) return 1
  return 2 + (lost ? 1 : 0) + Math.min(troubleLines, troublesOf(status).length)
}

function stateText(status: FirewallStatus): string {
  const { enforcing, mode, generation, policies, workloads, nodeName } = status
  const parts = [
    enforcing && mode !== 'audit' ? 'ENFORCING' : 'NOT ENFORCING',
    isHealthy(status) ? 'healthy' : 'UNHEALTHY',
    `mode ${mode === 'audit' ? 'AUDIT' : mode}`,
    `generation ${generation}`,
    `policies ${policies}`,
    `workloads ${workloads.protected}`,
    `node ${nodeName}`,
  ]
  return parts.join('  ')
}

function sourcesText({ sources }: FirewallStatus): string {
  const texts = sources.map(({ name, isCurrent, syncedAtMs }) => {
    const read = syncedAtMs === undefined ? 'never read' : `read ${clock(syncedAtMs)}`
    return `${name} ${isCurrent ? 'current' : 'BROKEN'}, ${read}`
  })
  return `sources  ${texts.join('; ')}`
}

/** The worst first; where there are more than are shown, the first says how many. */
function troublesOf(status: FirewallStatus): readonly string[] {
  const { problems, warnings, trial } = status
  const unprotected = protectionWarning(status)
  return [
    ...problems.map((text, i) => `PROBLEM${problems.length > 1 ? ` ${i + 1} of ${problems.length}` : ''}  ${text}`),
    ...(trial ? [`ON TRIAL  ${trial.folder}, goes back at ${clock(trial.endsAtMs)} unless confirmed`] : []),
    ...[...(unprotected === undefined ? [] : [unprotected]), ...warnings].map((text) => `warning  ${text}`),
  ]
}
