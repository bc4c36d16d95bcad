import { type Block, blockContains, parseAddress, parseBlock } from '../engine/address.ts'
import { refName } from '../engine/objects.ts'
import { protocolName } from '../engine/protocol.ts'
import { KnpError } from '../errors.ts'
import type { FlowEnd, FlowEvent } from './event.ts'

/** What is asked for, as text; what is absent is not asked for. */
export interface FlowQuery {
  readonly verdict?: 'allow' | 'deny' | 'audit'
  /** `namespace/name`, `namespace/` for all in it, `node:NAME`, an address, a network in CIDR notation. */
  readonly from?: string
  readonly to?: string
  /** Of the destination: `443`, `53/udp`. */
  readonly port?: string
  /** `name` or `namespace/name`. */
  readonly policy?: string
}

export const flowVerdicts = ['allow', 'deny', 'audit'] as const

/** Which flows are asked for. */
export interface FlowFilter {
  /** Nothing else matches; matched before anything is resolved. */
  readonly verdict: FlowQuery['verdict']
  /** Nothing matches but what is denied, and what would be. */
  readonly isDenialsOnly?: boolean
  matches(event: FlowEvent): boolean
}

/** Throws KnpError USAGE for what cannot be understood. */
export function parseFlowQuery({ verdict, from, to, port, policy }: FlowQuery): FlowFilter {
  if (verdict !== undefined && !flowVerdicts.includes(verdict)) {
    throw usage(`verdict "${verdict}" is none of ${flowVerdicts.join(', ')}`)
  }
  const tests = [
    ...(verdict === undefined ? [] : [verdictTest(verdict)]),
    ...(from === undefined ? [] : [endTest(from, 'source')]),
    ...(to === undefined ? [] : [endTest(to, 'destination')]),
    ...(port === undefined ? [] : [portTest(port)]),
    ...(policy === undefined ? [] : [policyTest(policy)]),
  ]
  return { verdict, matches: (event) => tests.every((test) => test(event)) }
}

type Test = (event: FlowEvent) => boolean

function verdictTest(verdict: 'allow' | 'deny' | 'audit'): Test {
  if (verdict === 'audit') return ({ audit }) => audit !== undefined
  return (event) => event.verdict === verdict
}

function endTest(text: string, side: 'source' | 'destination'): Test {
  const test = endMatcher(text)
  return (event) => {
    const end = event[side]
    return end !== undefined && test(end)
  }
}

function endMatcher(text: string): (end: FlowEnd) => boolean {
  const block: Block | undefined = parseBlock(text)
  if (block) {
    return ({ address }) => {
      const parsed = parseAddress(address)
      return parsed !== undefined && blockContains(block, parsed)
    }
  }
  const asked = parseAddress(text)
  // An IPv6 address may be written in several ways.
  if (asked) return endMatcher(`${text}/${text.includes(':') ? 128 : 32}`)
  if (!/^(node:[^/]+|[-a-z0-9]+\/[^/]*)$/.test(text)) {
    throw usage(`"${text}" is neither namespace/name, namespace/, node:NAME, an address nor a network`)
  }
  return text.endsWith('/') ? ({ name }) => name?.startsWith(text) ?? false : ({ name }) => name === text
}

function portTest(text: string): Test {
  const match = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text)
  if (!match) throw usage(`port "${text}" is neither a number nor a number with /tcp, /udp or /sctp`)
  const port = Number(match[1])
  const protocol = match[2]?.toLowerCase()
  return (event) =>
    event.destination?.port === port && (protocol === undefined || protocolName(event.protocol) === protocol)
}

function policyTest(text: string): Test {
  return ({ decidedBy, audit }) =>
    [decidedBy.policy, audit?.decidedBy.policy].some(
      (policy) => policy && [policy.name, refName(policy)].includes(text),
    )
}

function usage(message: string): KnpError {
  return new KnpError('USAGE', message)
}
