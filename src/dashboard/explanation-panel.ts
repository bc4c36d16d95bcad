import { Box, Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import { printable } from '../output/printable.ts'
import type { Explanation } from './state.ts'
import { clock, decider, deciderText, line, shownVerdict, sourceText, targetText } from './text.ts'

export interface ExplanationPanelProps {
  readonly explanation: Explanation
  readonly columns: number
  readonly height: number
}

/** One decision: what it was, and what the running firewall says of it now. */
export function ExplanationPanel({ explanation, columns, height }: ExplanationPanelProps): ReactElement {
  const { event, text } = explanation
  return h(
    Box,
    { flexDirection: 'column', width: columns, height, overflow: 'hidden' },
    ...pastLines(event).map((past) => h(Box, { flexShrink: 0 }, h(Text, null, line(past)))),
    h(Box, { flexShrink: 0, marginTop: 1 }, h(Text, { bold: true }, 'What the firewall says of it now:')),
    h(Box, { flexShrink: 0 }, h(Text, null, text === undefined ? 'asking' : printable(text.trimEnd()))),
  )
}

function pastLines(event: Explanation['event']): readonly string[] {
  const { timeMs, source, destination, count, isRemembered, generation } = event
  const from = source && `${source.address}${source.port === undefined ? '' : ` port ${source.port}`}`
  const times = count > 1 ? `, ${count} times` : ''
  const origin = isRemembered ? ', by what the kernel remembered' : ''
  return [
    `${clock(timeMs)}  ${shownVerdict(event)}  ${sourceText(event)} -> ${targetText(event)}${times}`,
    ...(source && destination ? [`from ${from} to ${destination.address}`] : []),
    `decided by generation ${generation}${origin}: ${deciderText(event)}`,
    `because: ${decider(event).reason}`,
  ]
}
