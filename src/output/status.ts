import { formatDuration } from '../duration.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import { describeQueues, formatQueues, type QueueRange } from '../queue-range.ts'
import { printable } from './printable.ts'

/** The line that `knp run` prints when packets are decided. */
export function enforcingLine(status: FirewallStatus): string {
  const { mode, workloads, policies, subjects, generation, divertRule, queue, onFailure } = status
  return printable(
    `${mode === 'audit' ? 'audit, NOTHING is enforced' : 'enforcing'}: ${count(policies, 'policy', 'policies')} on ${count(workloads.protected, 'workload')} (${count(subjects, 'address', 'addresses')}), ` +
      `generation ${generation}, ${describeQueues(rangeOf(queue))} by ${divertRule}, without a verdict: ${onFailure === 'closed' ? 'drop' : 'accept'}`,
  )
}

/** An audit that somebody has forgotten must be seen. */
function enforcingText({ enforcing, mode }: FirewallStatus): string {
  if (!enforcing) return 'NO'
  return mode === 'audit' ? 'NOTHING: this is an audit' : 'yes'
}

function modeText({ mode, counters }: FirewallStatus): string {
  if (mode === 'enforce')
    return counters.audited === 0 ? mode : `${mode}; ${counters.audited} packets would be denied by audited policies`
  return `AUDIT: everything passes; ${counters.audited} packets would have been denied (knp flows --verdict audit)`
}

/** Why nothing is protected here, where that is so. */
export function protectionWarning({ workloads, nodeName, isGateway }: FirewallStatus): string | undefined {
  if (workloads.protected > 0) return undefined
  if (workloads.selected === 0) return 'nothing is protected here: no policy selects any workload'
  if (!isGateway)
    return `nothing is protected here: ${count(workloads.selected, 'selected workload')}, none of them on node ${nodeName}`
  return `nothing is protected here: ${count(workloads.selected, 'selected workload')}, none of them with an address`
}

/** `knp status` as people read it. */
export function formatStatus(status: FirewallStatus): string {
  const { counters, packetThread, workloads, sources } = status
  const place = status.isGateway
    ? `gateway (no source knows a node "${status.nodeName}"): decides for every workload whose traffic passes`
    : `node ${status.nodeName}: decides for the workloads that run here`
  const rows: [string, string][] = [
    ['enforcing', enforcingText(status)],
    ['health', `${isHealthy(status) ? 'healthy' : 'UNHEALTHY'}, runs since ${timeText(status.startedAtMs)}`],
    ['mode', modeText(status)],
    ['this machine', place],
    ['policies', `${status.policies}, generation ${status.generation}`],
    ['pipeline', status.pipeline.join(', ')],
    [
      'workloads',
      `${workloads.known} known, ${workloads.selected} selected by policies, ${workloads.protected} protected here (${status.subjects} addresses)`,
    ],
    ['denied', status.denyWith === 'drop' ? 'drop' : 'reject (TCP reset, ICMP admin-prohibited)'],
    ['no verdict', status.onFailure === 'closed' ? 'drop (closed)' : 'accept (open)'],
    ['queue', queueText(status)],
    ['divert rule', status.divertRule],
    ['remembered', rememberedText(status)],
    ...(status.unknownPods ? [['unknown pods', unknownPodsText(status.unknownPods)] as [string, string]] : []),
    [
      'packets',
      `${counters.queued} queued, ${counters.allowed} allowed, ${counters.denied} denied, ${counters.unanswered} without a verdict${counters.limited > 0 ? `, ${counters.limited} dropped beyond a source's rate` : ''}`,
    ],
    ['unreadable', `${packetThread.unreadable} (denied)`],
    ...lossRows(status),
    ['repairs', `${status.repairs}${status.repairs === 0 ? '' : ' (another program changed the rules)'}`],
  ]
  if (status.host) rows.push(['host', hostText(status.host)], ['failsafe', failsafeText(status.failsafe)])
  for (const source of sources) {
    rows.push(['source', sourceText(source, status.restoredFromMs)])
    for (const note of source.notes.slice(0, MOST_NOTES)) rows.push(['note', note])
    const more = source.notes.length - MOST_NOTES
    if (more > 0) rows.push(['note', `and ${more} more, which knp status --json lists`])
  }
  if (status.savedAtMs !== undefined) rows.push(['last good', `saved ${timeText(status.savedAtMs)}`])
  if (status.metricsAddress !== undefined) rows.push(['metrics', `http://${status.metricsAddress}/metrics`])
  if (status.trial) rows.push(['on trial', trialText(status.trial)])
  for (const text of status.warnings) rows.push(['warning', text])
  const warning = protectionWarning(status)
  if (warning) rows.push(['warning', warning])
  for (const problem of status.problems) rows.push(['problem', problem])
  const width = Math.max(...rows.map(([name]) => name.length))
  return printable(
    `${rows.map(([name, value]) => `${name.padEnd(width)}  ${value.replaceAll('\n', `\n${' '.repeat(width + 2)}`)}`).join('\n')}\n`,
  )
}

/** Of one source: more would push everything else off the screen. */
const MOST_NOTES = 20

/** What should not happen; only where it does. */
function lossRows({ queues, packetThread }: FirewallStatus): [string, string][] {
  const dropped = queues.reduce((sum, { statistics }) => sum + (statistics?.dropped ?? 0), 0)
  const userDropped = queues.reduce((sum, { statistics }) => sum + (statistics?.userDropped ?? 0), 0)
  const losses: [number, string][] = [
    [dropped, 'dropped by a full queue'],
    [userDropped, 'dropped by a full socket'],
    [packetThread.overflows, 'times a socket was full'],
    [packetThread.answerErrors, 'answers refused by the kernel'],
    [packetThread.failed, 'denied because an evaluator failed'],
  ]
  const texts = losses.flatMap(([count, text]) => (count > 0 ? [`${count} ${text}`] : []))
  return texts.length > 0 ? [['losses', texts.join(', ')]] : []
}

function timeText(ms: number): string {
  return new Date(ms).toISOString()
}

/** What the kernel does by itself. */
function rememberedText({ remember, counters }: FirewallStatus): string {
  const part = (verdict: string, count: number, ms: number) =>
    ms === 0 ? `nothing ${verdict}` : `${count} connections ${verdict} (for ${formatDuration(ms)})`
  return [
    part('allowed', counters.rememberedAllowed, remember.allowedMs),
    part('denied', counters.rememberedDenied, remember.deniedMs),
    ...(remember.isLogged ? [] : ['not told one by one']),
  ].join(', ')
}

/** `2 addresses, and in 10.244.1.0/24; 3 packets held, 41 so far; after 500ms deny: 38 denied and 0 allowed without being known`. */
function unknownPodsText(pods: NonNullable<FirewallStatus['unknownPods']>): string {
  const { unknownLocal, holdMs, addresses, blocks, holding, held, allowed, denied } = pods
  const where = `${count(addresses, 'address', 'addresses')}${blocks.length === 0 ? '' : `, and in ${blocks.join(', ')}`}`
  const outcome = `${denied} denied and ${allowed} allowed without being known`
  return `${where}; ${holding} packets held, ${held} so far; after ${formatDuration(holdMs)} ${unknownLocal}: ${outcome}`
}

/** Healthy: it enforces, and what the sources say. */
export function isHealthy({ enforcing, problems }: FirewallStatus): boolean {
  return enforcing && problems.length === 0
}

/** `knp.status/v1`. */
export function statusJson(status: FirewallStatus): object {
  const { startedAtMs, ...rest } = status
  return {
    schema: 'knp.status/v1',
    health: isHealthy(status) ? 'healthy' : 'unhealthy',
    ...rest,
    startedAt: timeText(startedAtMs),
  }
}

/** `100-102, room for 8192 each, 0 waiting; packets 40 + 31 + 29`: an uneven spread is seen here. */
function queueText({ queue, queues }: FirewallStatus): string {
  const waiting = queues.flatMap(({ statistics }) => statistics?.waiting ?? [])
  const texts = [
    formatQueues(rangeOf(queue)),
    `room for ${queue.length}${queue.count > 1 ? ' each' : ''}`,
    ...(waiting.length > 0 ? [`${waiting.reduce((sum, n) => sum + n)} waiting`] : []),
  ]
  const spread = queues.map(({ packetThread }) => packetThread.queued).join(' + ')
  return texts.join(', ') + (queue.count > 1 ? `; packets ${spread}` : '')
}

function rangeOf({ number, count }: FirewallStatus['queue']): QueueRange {
  return { first: number, count }
}

function hostText({ name, ingress, egress, forwards }: NonNullable<FirewallStatus['host']>): string {
  const ways = [
    ...(ingress ? ['input'] : []),
    ...(egress ? ['output'] : []),
    ...(forwards.length > 0 ? [`forwards to ${forwards.join(', ')}`] : []),
  ]
  return `${name}: ${ways.length === 0 ? 'no policy selects it' : `${ways.join(', ')} judged`}`
}

function sourceText(
  { name, isCurrent, syncedAtMs, lastEventAtMs, restarts, brokenSinceMs }: FirewallStatus['sources'][number],
  restoredFromMs: number | undefined,
): string {
  const event = lastEventAtMs === undefined ? '' : `, last change ${timeText(lastEventAtMs)}`
  const watches = restarts === undefined ? '' : `${event}, ${count(restarts, 'watch', 'watches')} begun again`
  const read = syncedAtMs === undefined ? '' : `, read ${timeText(syncedAtMs)}${watches}`
  if (isCurrent) return `${name}: current${read}`
  const broken = brokenSinceMs === undefined ? 'BROKEN' : `BROKEN since ${timeText(brokenSinceMs)}`
  if (syncedAtMs === undefined && restoredFromMs !== undefined)
    return `${name}: ${broken}, the picture saved ${timeText(restoredFromMs)} is in force`
  return `${name}: ${broken}, the last good picture stays in force${read}`
}

function trialText({ folder, endsAtMs }: NonNullable<FirewallStatus['trial']>): string {
  return `${folder}, goes back at ${timeText(endsAtMs)} unless confirmed (knp confirm)`
}

function failsafeText({ inbound, outbound }: FirewallStatus['failsafe']): string {
  return `in ${inbound.join(' ') || 'nothing'}; out ${outbound.join(' ') || 'nothing'}`
}

function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}
