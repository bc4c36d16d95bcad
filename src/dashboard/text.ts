import { protocolName } from '../engine/protocol.ts'
import type { FlowEnd, FlowEvent } from '../flows/event.ts'
import { policyName } from '../output/decision.ts'
import { printable } from '../output/printable.ts'

/** One line of a terminal, whatever stands in it: everything the dashboard shows passes here. */
export function line(text: string): string {
  return printable(text).replaceAll('\n', ' ')
}

/** Text in a column: filled up with blanks, or cut and ended by `…`. Empty for a column without width. */
export function cell(text: string, width: number): string {
  const shown = line(text)
  if (shown.length <= width) return shown.padEnd(width)
  return width < 1 ? '' : `${shown.slice(0, width - 1)}…`
}

/** A number in at most six characters: `9999`, `12.3k`, `999M`. */
export function compact(n: number): string {
  if (n < 9999.5) return String(n < 9.95 && !Number.isInteger(n) ? Number(n.toFixed(1)) : Math.round(n))
  const units = ['k', 'M', 'G', 'T', 'P', 'E']
  let value = n
  let unit = -1
  // What would be rounded to 1000 belongs to the next unit.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${value < 99.95 ? value.toFixed(1) : Math.round(value)}${units[unit]}`
}

const levels = '▁▂▃▄▅▆▇█'

/**
 * The newest samples that fit, the last one on the right; the highest of them is a whole block. Only 0 is as low as can be:
 * one connection among thousands is still seen.
 */
export function sparkline(samples: readonly number[], width: number): string {
  const shown = width < 1 ? [] : samples.slice(-width)
  const highest = Math.max(...shown, 0)
  const bar = (sample: number) => (sample <= 0 ? 0 : Math.max(1, Math.round((sample / highest) * (levels.length - 1))))
  return shown
    .map((sample) => levels[bar(sample)])
    .join('')
    .padStart(width)
}

/** As a person reads it: a denial that is not enforced is neither of both. */
export type ShownVerdict = 'ALLOWED' | 'DENIED' | 'AUDIT'

/** `AUDIT` where an audited policy would have denied. */
export function shownVerdict({ verdict, audit }: FlowEvent): ShownVerdict {
  if (verdict === 'deny') return 'DENIED'
  return audit?.verdict === 'deny' ? 'AUDIT' : 'ALLOWED'
}

/** Who it came from: a name where there is one. */
export function sourceText({ source }: FlowEvent): string {
  return source ? (source.name ?? source.address) : 'unreadable packet'
}

/** Whom it was for: `shop/db:5432/tcp`, `[fd00::1]:53/udp`, `10.0.0.1/icmp`. */
export function targetText({ destination, protocol }: FlowEvent): string {
  return destination ? endpointText(destination, destination.name ?? destination.address, protocol) : '?'
}

/**
 * Who reached for whom, in a column: if need be without `/tcp` (what has a port is TCP where nothing else is said), and with
 * as much of both ends as there is room for.
 */
export function endsCell(event: FlowEvent, width: number): string {
  const source = line(sourceText(event))
  const whole = line(targetText(event))
  const arrow = ' -> '
  const room = width - arrow.length
  if (source.length + whole.length <= room) return `${source}${arrow}${whole}`.padEnd(width)
  const target = whole.replace(/\/tcp$/, '')
  const targetWidth = Math.min(target.length, Math.max(room - source.length, Math.ceil(room / 2)))
  const sourceWidth = Math.min(source.length, Math.max(0, room - targetWidth))
  return cell(`${cell(source, sourceWidth)}${arrow}${cell(target, targetWidth)}`, width)
}

/** Whom it was for by its address, as `knp explain` takes it. */
export function targetAddress({ destination, protocol }: FlowEvent): string {
  return destination ? endpointText(destination, destination.address, protocol) : '?'
}

function endpointText({ port }: FlowEnd, name: string, protocol: number): string {
  // What begins with node: or names a kind has a colon too, and is no address.
  const isAddress = /^[\da-f.]*:[\da-f:.]*$/i.test(name)
  const whole = port !== undefined && isAddress ? `[${name}]` : name
  return `${whole}${port === undefined ? '' : `:${port}`}/${protocolName(protocol)}`
}

/** The policy and rule that decided, or why without one. */
export function deciderText(event: FlowEvent): string {
  const { tier, policy, rule, ruleName, reason } = decider(event)
  if (!policy) return `${tier}: ${reason}`
  const name = ruleName === undefined ? '' : ` "${ruleName}"`
  return `${policyName(policy)} ${rule === undefined ? 'isolates' : `rule ${rule}${name}`}`
}

/** What decided; of what is only audited, what would have. */
export function decider(event: FlowEvent): FlowEvent['decidedBy'] {
  return shownVerdict(event) === 'AUDIT' ? event.audit!.decidedBy : event.decidedBy
}

/** `12:30:05`, by this machine's clock. */
export function clock(timeMs: number): string {
  const time = new Date(timeMs)
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':')
}
