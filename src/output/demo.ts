import type { DemoFlow, DemoReport } from '../demo.ts'
import { endpointText, targetText } from '../engine/endpoint.ts'
import { formatAddress } from '../engine/index.ts'
import { decisionJson, formatDecision } from './decision.ts'

/** The demo's report as people read it. */
export function formatDemo({ flows, editMs }: DemoReport): string {
  const rows = flows.map((flow) => [
    flow.isAsExpected ? 'ok' : 'WRONG',
    flowText(flow),
    flow.decision.verdict,
    flow.isOpen ? 'echoed' : 'no answer',
    `${flow.counted.queued} queued, ${flow.counted.allowed} allowed, ${flow.counted.denied} denied`,
  ])
  const table = [['', 'connection', 'policy', 'nonce', "kernel's counters moved by"], ...rows]
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
  const denied = flows.find(({ decision }) => decision.nearest)
  const wrong = flows.filter(({ isAsExpected }) => !isAsExpected).length
  return [
    ...lines,
    '',
    ...(denied ? ['Why, for one that is denied (knp explain):', '', formatDecision(denied.decision)] : []),
    editMs === undefined
      ? 'WRONG: a policy that allows web -> db was saved, and did not take force within 5 s'
      : `A policy that allows web -> db was saved while the firewall ran: answered ${Math.round(editMs)} ms later.`,
    wrong === 0
      ? `All ${flows.length} connections were open without the firewall, and with it did exactly what the policies say.`
      : `${wrong} of ${flows.length} connections did not do what was expected.`,
    '',
  ].join('\n')
}

/** `knp.demo/v1`. */
export function demoJson({ flows, editMs, enforcing }: DemoReport): object {
  return {
    schema: 'knp.demo/v1',
    enforcing,
    flows: flows.map(({ decision, ...flow }) => ({ ...flow, explain: decisionJson(decision) })),
    editMs: editMs === undefined ? null : Math.round(editMs),
  }
}

/** Every flow and the edit did what policy says. */
export function hasDemoPassed({ flows, editMs }: DemoReport): boolean {
  return editMs !== undefined && flows.every(({ isAsExpected }) => isAsExpected)
}

function flowText({ from, decision }: DemoFlow): string {
  const { source, destination, protocol, port, addresses } = decision
  const name = source.name ?? `${from} (${endpointText(source)})`
  const family = formatAddress(addresses.destination!).includes(':') ? 'v6' : 'v4'
  return `${name} -> ${targetText(destination, protocol, port)} ${family}`
}
