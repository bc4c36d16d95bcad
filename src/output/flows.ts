import type { DecidedBy } from '../engine/index.ts'
import { protocolName } from '../engine/protocol.ts'
import type { FlowEnd, FlowEvent } from '../flows/event.ts'
import { policyName, withPolicy } from './decision.ts'
import { printable } from './printable.ts'

/** A decision in one line: time, who reached for whom, the verdict, and who gave it. */
export function formatFlow(event: FlowEvent): string {
  const { audit, decidedBy, count, isRemembered, packet } = event
  const parts = [
    timeText(event.timeMs),
    (audit ? 'AUDIT' : event.verdict === 'allow' ? 'ALLOWED' : 'DENIED').padEnd(7),
    flowText(event) + (packet === undefined ? '' : ` (${packetText(packet)})`),
    audit
      ? `would be ${audit.verdict === 'allow' ? 'allowed' : 'denied'}: ${deciderText(audit.decidedBy)}`
      : deciderText(decidedBy),
  ]
  if (count > 1) parts.push(`x${count}`)
  if (isRemembered) parts.push('by the kernel')
  return `${printable(parts.join('  ')).replaceAll('\n', '\\u{a}')}\n`
}

/** What is said of decisions that a reader was too slow for. */
export function formatMissed(count: number): string {
  return `${count} ${count === 1 ? 'decision is' : 'decisions are'} missing here: read faster, or ask for fewer with filters\n`
}

/** `knp.flow/v1`. */
export function flowJson(event: FlowEvent): object {
  const { timeMs, count, verdict, audit, source, destination, icmp, hook, packet, decidedBy, isRemembered } = event
  return {
    schema: 'knp.flow/v1',
    time: new Date(timeMs).toISOString(),
    verdict,
    flow: {
      protocol: protocolName(event.protocol).toUpperCase(),
      ...(source && { source }),
      ...(destination && { destination }),
      ...(icmp && { icmp }),
    },
    decidedBy: withPolicy(decidedBy),
    ...(audit && { audit: { verdict: audit.verdict, decidedBy: withPolicy(audit.decidedBy) } }),
    hook,
    ...(packet && { packet }),
    origin: isRemembered ? 'kernel' : 'packet',
    count,
    generation: event.generation,
  }
}

/** `knp.flow/v1` in place of decisions that a reader was too slow for. */
export function missedJson(count: number): object {
  return { schema: 'knp.flow/v1', missed: count }
}

/** `shop/web (10.0.0.2) -> shop/db (10.0.0.3) 5432/tcp`. */
export function flowText({ source, destination, protocol, icmp }: FlowEvent): string {
  if (!source || !destination) return 'unreadable packet'
  const what = icmp ? `icmp type ${icmp.type}` : portText(destination, protocol)
  return `${endText(source)} -> ${endText(destination)} ${what}`
}

/** Which policy and rule, or why without one. */
export function deciderText({ direction, tier, policy, rule, ruleName, reason }: DecidedBy): string {
  if (!policy) return direction === undefined ? `${tier}: ${reason}` : `${direction}: ${reason}`
  const name = ruleName === undefined ? '' : ` "${ruleName}"`
  const where = rule === undefined ? 'isolates' : `rule ${rule}${name}`
  return `${direction} ${policyName(policy)} ${where}`
}

function endText({ name, address }: FlowEnd): string {
  return name === undefined ? address : `${name} (${address})`
}

function portText({ port }: FlowEnd, protocol: number): string {
  return port === undefined ? protocolName(protocol) : `${port}/${protocolName(protocol)}`
}

function packetText(packet: NonNullable<FlowEvent['packet']>): string {
  if (packet === 'midway') return 'seen midway'
  return packet === 'reply' ? 'its reply' : 'an ICMP error about it'
}

function timeText(timeMs: number): string {
  const time = new Date(timeMs)
  const two = (n: number) => String(n).padStart(2, '0')
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
  return `${clock}.${String(time.getMilliseconds()).padStart(3, '0')}`
}
