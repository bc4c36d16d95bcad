import { endpointText, targetText } from '../engine/endpoint.ts'
import {
  type DecidedBy,
  type Decision,
  formatAddress,
  type NearestMiss,
  type Stage,
  type TraceStep,
} from '../engine/index.ts'
import { type ObjectRef, refName } from '../engine/objects.ts'
import { protocolName } from '../engine/protocol.ts'
import { printable } from './printable.ts'

/** A decision as people read it: the verdict, then each direction's walk through the tiers. */
export function formatDecision(decision: Decision): string {
  const { source, destination, protocol, port, stages, decidedBy, audit } = decision
  const lines = [
    `${decision.verdict === 'allow' ? 'ALLOWED' : 'DENIED'}  ${endpointText(source)} -> ${targetText(destination, protocol, port)}`,
  ]
  const width = Math.max(...stages.map(({ subject }) => subject.length), 0)
  for (const stage of stages) lines.push(...formatStage(stage, width))
  if (stages.length === 0 || decidedBy.tier === 'Exempt') lines.push(`  ${decidedBy.tier}: ${decidedBy.reason}`)
  if (audit) {
    lines.push(
      `  audit    would be ${audit.verdict === 'allow' ? 'allowed' : 'denied'}: ${deciderText(audit.decidedBy)}`,
    )
  }
  return printable(`${lines.join('\n')}\n`)
}

function formatStage({ direction, subject, tiers }: Stage, width: number): string[] {
  const head = `  ${direction.padEnd(7)}  ${subject.padEnd(width)}  `
  const lines = [head + tiers.map((step) => formatStep(step)).join(' · ')]
  const last = tiers.at(-1)!
  const indent = ' '.repeat(head.length)
  if (last.verdict === 'next') lines.push(`${indent}no policy decides this direction: allowed by default`)
  if (last.verdict === 'deny') {
    lines.push(`${indent}${deciderText(last)}`)
    if (last.nearest?.rule !== undefined) lines.push(`${indent}${nearestText(last.nearest, last.policy)}`)
  }
  return lines
}

function formatStep({ tier, verdict, policy, rule, ruleName, reason }: TraceStep): string {
  const name = ruleName === undefined ? '' : ` "${ruleName}"`
  if (verdict === 'next') {
    if (policy) return `${tier} next (Pass${name}, ${policyName(policy)} rule ${rule})`
    return reason.startsWith('no ') && reason.endsWith(' matches') ? `${tier} next (no rule matches)` : `${tier} next`
  }
  // What denies has lines of its own.
  if (verdict === 'deny') return `${tier} deny`
  const place = policy?.file === undefined ? '' : `, ${placeOf(policy)}`
  const detail = policy ? `${policyName(policy)}${rule === undefined ? '' : ` rule ${rule}${name}`}${place}` : reason
  return `${tier} ${verdict} (${detail})`
}

/** Who decided, how, and where it is written. */
function deciderText({ policy, rule, reason }: Pick<DecidedBy, 'policy' | 'rule' | 'reason'>): string {
  const who = policy && rule !== undefined ? `${policyName(policy)} ` : ''
  return `${who}${reason}${policy?.file === undefined ? '' : ` (${placeOf(policy)})`}`
}

/** @param denier whose place is told already */
function nearestText({ policy, difference }: NearestMiss, denier: ObjectRef | undefined): string {
  const isElsewhere = policy.file !== undefined && (policy.file !== denier?.file || policy.line !== denier.line)
  return `nearest: ${policyName(policy)} ${difference}${isElsewhere ? ` (${placeOf(policy)})` : ''}`
}

function placeOf({ file, line }: ObjectRef): string {
  return `${file}:${line}`
}

/** A NetworkPolicy by its name, others with their kind. */
export function policyName(ref: ObjectRef): string {
  return ref.kind === 'NetworkPolicy' ? refName(ref) : `${ref.kind} ${refName(ref)}`
}

/** `knp.explain/v1`, see CLI.md. */
export function decisionJson(decision: Decision): object {
  const { verdict, protocol, port, source, destination, addresses, stages, nearest, audit, generation } = decision
  const end = (name: string | undefined, address: Decision['addresses']['source']) => ({
    ...(name !== undefined && { name }),
    address: address ? formatAddress(address) : null,
  })
  return {
    schema: 'knp.explain/v1',
    verdict,
    flow: {
      protocol: protocolName(protocol).toUpperCase(),
      source: end(source.name, addresses.source),
      destination: { ...end(destination.name, addresses.destination), ...(port !== 0 && { port }) },
    },
    decidedBy: decidedByJson(decision),
    stages: stages.map((stage) => ({
      ...stage,
      tiers: stage.tiers.map(({ tier, verdict: tierVerdict, policy, rule, ruleName, reason }) =>
        withPolicy({
          tier,
          verdict: tierVerdict,
          ...(policy && { policy }),
          ...(rule !== undefined && { rule }),
          ...(ruleName !== undefined && { ruleName }),
          reason,
        }),
      ),
    })),
    ...(nearest && { nearest: withPolicy(nearest) }),
    ...(audit && { audit: { verdict: audit.verdict, decidedBy: withPolicy(audit.decidedBy) } }),
    generation,
  }
}

/** What decided, as both `knp.explain/v1` and `knp.test/v1` say it. */
export function decidedByJson({ decidedBy }: Decision): object {
  return withPolicy(decidedBy)
}

/** With as much of the policy as JSON shows. */
export function withPolicy<T extends { readonly policy?: ObjectRef }>(value: T): T {
  const { policy, ...rest } = value
  if (!policy) return value
  const { kind, namespace, name, file, line } = policy
  const shown = { kind, ...(namespace !== undefined && { namespace }), name, ...(file !== undefined && { file, line }) }
  return { ...rest, policy: shown } as unknown as T
}
