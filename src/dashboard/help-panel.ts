import { Box, Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { cell } from './text.ts'

const lines: readonly [keys: string, meaning: string][] = [
  ['up down, k j, PgUp PgDn', 'choose a row; the flows stand still meanwhile'],
  ['Tab', 'the next list: flows, most denied, policies'],
  ['Enter', 'why: what the firewall says of the chosen row'],
  ['/', 'flows with these words only; !word: without it'],
  ['p', 'the flows stand still, or go on; counting goes on'],
  ['s', 'by time, count, verdict, source, destination'],
  ['Esc', 'closes this, clears the filter, lets flows go on'],
  ['q', 'the end'],
  ['', ''],
  ['rates', 'a second; the last minutes; since the rules were made'],
  ['  remembered', 'answered by the kernel, as knp did before'],
  ['  no verdict', 'not answered by knp: see onFailure'],
  ['flows', 'time, verdict, who to whom, how often, decided by'],
  ['  AUDIT', 'allowed; audited policies would deny it'],
  ['  kernel, k', 'answered by the kernel, as knp did before'],
  ['queues', 'of each: waiting for a verdict / dropped'],
]

/** Which keys there are, and what the words mean. */
export function HelpPanel({ columns, height }: { columns: number; height: number }): ReactElement {
  return h(
    Box,
    { flexDirection: 'column', width: columns, height, overflow: 'hidden' },
    ...lines.map(([keys, meaning]) =>
      h(
        Box,
        { flexShrink: 0 },
        h(Text, { wrap: 'truncate-end' }, h(Text, { bold: true }, cell(` ${keys}`, 26)), cell(meaning, columns - 26)),
      ),
    ),
  )
}
