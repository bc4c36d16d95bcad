import { Box, Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { type RateName, type Rates, rateNames } from './rates.ts'
import { cell, compact, sparkline } from './text.ts'

export interface RatesPanelProps {
  readonly rates: Rates | undefined
  readonly columns: number
}

const colors: Readonly<Record<RateName, string>> = {
  allowed: 'green',
  denied: 'red',
  remembered: 'cyan',
  'no verdict': 'yellow',
}

/** How many of the rates stand beside each other. */
export function ratesAcross(columns: number): number {
  return columns >= 140 ? 4 : 2
}

/** What a second brings, as numbers and as bars. */
export function RatesPanel({ rates, columns }: RatesPanelProps): ReactElement {
  const width = Math.floor(columns / ratesAcross(columns))
  return h(
    Box,
    { flexWrap: 'wrap' },
    ...rateNames.map((name) => h(Box, { width }, h(Rate, { name, rates, width: width - 1 }))),
  )
}

function Rate({ name, rates, width }: { name: RateName; rates: Rates | undefined; width: number }): ReactElement {
  const samples = rates?.samples[name] ?? []
  const newest = samples.at(-1)
  const label = `${name.padEnd(10)} ${(newest === undefined ? '-' : compact(newest)).padStart(6)}/s `
  const total = ` ${compact(rates?.totals[name] ?? 0).padStart(6)}`
  const bars = sparkline(samples, width - label.length - total.length)
  return h(
    Text,
    { wrap: 'truncate-end' },
    cell(label, label.length),
    h(Text, { color: colors[name] }, bars),
    cell(total, total.length),
  )
}
