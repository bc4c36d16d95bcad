import { Box, Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { cell } from './text.ts'

export interface SectionProps {
  readonly title: string
  readonly columns: number
  /** Lines, the title's included. */
  readonly height: number
  readonly hasFocus: boolean
  /** Said where there is no row. */
  readonly empty: string
  readonly rows: readonly ReactElement[]
}

/** A list under its title, as high as it is told to be. */
export function Section({ title, columns, height, hasFocus, empty, rows }: SectionProps): ReactElement {
  const heading = cell(`${hasFocus ? '>' : '─'} ${title} ${'─'.repeat(columns)}`, columns + 1).slice(0, columns)
  return h(
    Box,
    { flexDirection: 'column', width: columns, height, overflow: 'hidden' },
    h(Text, { bold: hasFocus, wrap: 'truncate-end' }, heading),
    ...(rows.length === 0 ? [h(Text, { wrap: 'truncate-end' }, cell(`  ${empty}`, columns))] : rows),
  )
}

/** The first of as many rows as fit, so that the chosen one is among them. */
export function firstShown(chosen: number, count: number, fitting: number): number {
  return Math.max(0, Math.min(chosen - Math.floor(fitting / 2), count - fitting))
}
