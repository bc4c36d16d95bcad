import { Text } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import type { FirewallStatus } from '../firewall-status.ts'
import { cell, compact } from './text.ts'

/** What waits in the queues and what was dropped, together and each. */
export function QueuePanel({ status, columns }: { status: FirewallStatus; columns: number }): ReactElement {
  const { queue, queues, counters } = status
  const known = queues.flatMap(({ statistics }) => statistics ?? [])
  const waiting = known.reduce((sum, one) => sum + one.waiting, 0)
  const dropped = known.reduce((sum, one) => sum + one.dropped + one.userDropped, 0)
  const limited = counters.limited > 0 ? `, ${compact(counters.limited)} beyond a source's rate` : ''
  const each = queues.map(({ number, statistics: one }) =>
    one ? `${number}: ${compact(one.waiting)} / ${compact(one.dropped + one.userDropped)}` : `${number}: not there`,
  )
  const text = `queues  ${compact(waiting)} waiting, ${compact(dropped)} dropped${limited}; room for ${queue.length} each  ${each.join('  ')}`
  const isFull = dropped > 0 || waiting > queue.length / 2 || known.length < queues.length
  return h(Text, { wrap: 'truncate-end', ...(isFull && { color: 'yellow' }) }, cell(text, columns))
}
