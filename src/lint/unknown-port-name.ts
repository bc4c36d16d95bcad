import { ANY_PROTOCOL, type PodsMatch, type PortMatch } from '../engine/policy.ts'
import { protocolName } from '../engine/protocol.ts'
import { type LintFinding, listed, type PlacedRule, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'
import { selectsSomebody } from './selects-nothing.ts'

const check = 'unknown-port-name'

/**
 * Port names that no workload has where the rule looks for them: among the subjects for ingress, among the peers for
 * egress. A name that some of them have is in order. That addresses never have one is the readers' to say.
 */
export function unknownPortName(world: LintWorld): LintFinding[] {
  return world.input.policies.flatMap((policy) =>
    rulesOf(policy).flatMap((placed) =>
      (placed.rule.ports ?? []).flatMap((port) => {
        const found = port.portName === undefined ? undefined : lookAt(world, placed, port, port.portName)
        return found ? [{ check, severity: 'warning', ...placeOf(placed), ...found } as const] : []
      }),
    ),
  )
}

function lookAt(
  world: LintWorld,
  placed: PlacedRule,
  { protocol }: PortMatch,
  name: string,
): Pick<LintFinding, 'message' | 'hint'> | undefined {
  const destinations = destinationsOf(world, placed)
  const otherProtocols = new Set<number>()
  const otherOwners: number[] = []
  for (const group of destinations) {
    for (const port of world.groups[group]!.ports) {
      if (port.name !== name) continue
      if (protocol === ANY_PROTOCOL || port.protocol === protocol) return undefined
      otherProtocols.add(port.protocol)
      otherOwners.push(group)
    }
  }
  if (destinations.length === 0) return undefined
  const whom = listed(world.namesOf(otherOwners.length > 0 ? otherOwners : destinations))
  if (otherOwners.length > 0) {
    const others = [...otherProtocols].map(protocolName).join(' and ')
    return {
      message: `port "${name}" matches nothing: it is a port of ${others}, not ${protocolName(protocol)}, of ${whom}`,
      hint: `write the protocol ${others.toUpperCase()}`,
    }
  }
  return {
    message: `port "${name}" matches nothing: no port has this name among those of ${whom}`,
    hint: "correct the name, or give it to the container's port",
  }
}

/** The groups that may have the port; none where they are not known for certain. */
function destinationsOf(world: LintWorld, { policy, direction, rule: { peers } }: PlacedRule): readonly number[] {
  if (direction === 'ingress') return world.select(policy.subject, policy.namespace)
  // A block of a NetworkPolicy means the workloads in it too, and whose address is in it may not be known yet.
  if (!peers || (policy.tier === 'NetworkPolicy' && peers.some(({ type }) => type === 'block'))) return world.everyGroup
  const matches: PodsMatch[] = peers.filter((peer) => peer.type === 'pods')
  if (!matches.every((match) => selectsSomebody(world, match, policy.namespace))) return []
  return [...new Set(matches.flatMap((match) => world.select(match, policy.namespace)))]
}
