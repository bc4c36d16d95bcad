import { type Block, blockContains, formatBlock } from '../engine/address.ts'
import { refName, type Workload } from '../engine/objects.ts'
import type { PeerMatch, Policy } from '../engine/policy.ts'
import { isWide } from './cover.ts'
import { type LintFinding, listed, type PlacedRule, placeOf, rulesIn } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'block-covers-workloads'

/**
 * Egress rules that allow a block as wide as the internet and have workloads in it: a block matches whoever owns an address.
 * Blocks as narrow as a cluster's own are taken to mean it; an ingress rule for everybody is taken to mean everybody.
 */
export function blockCoversWorkloads(world: LintWorld): LintFinding[] {
  const known = new Map<string, string[]>()
  const workloadsIn = (cidr: Block, except: readonly Block[]) => {
    const key = [cidr, ...except].map(formatBlock).join()
    const names = known.get(key) ?? namesIn(world, cidr, except)
    known.set(key, names)
    return names
  }
  return world.input.policies.flatMap((policy) =>
    rulesIn(policy, 'egress').flatMap((placed) => {
      if (placed.rule.action !== 'Accept' || allowsEveryWorkload(placed)) return []
      return (placed.rule.peers ?? []).flatMap((peer): LintFinding[] => {
        if (peer.type !== 'block' || !isWide(peer.cidr)) return []
        const names = workloadsIn(peer.cidr, peer.except)
        if (names.length === 0 || (names.length === 1 && names[0] === onlySubject(world, policy))) return []
        const message = `${formatBlock(peer.cidr)} matches workloads too: ${listed(names)}`
        const hint = "except the cluster's own addresses where only those outside are meant"
        return [{ check, severity: 'note', ...placeOf(placed), message, hint }]
      })
    }),
  )
}

/** A workload always reaches itself: where it is the only subject, that it is in a block says nothing. */
function onlySubject(world: LintWorld, { subject, namespace }: Policy): string | undefined {
  const groups = world.select(subject, namespace)
  const names = groups.length === 1 ? world.namesOf(groups) : []
  return names.length === 1 ? names[0] : undefined
}

function allowsEveryWorkload({ rule: { peers } }: PlacedRule): boolean {
  const isEverybody = (peer: PeerMatch) =>
    peer.type === 'pods' &&
    peer.podSelector.requirements.length === 0 &&
    peer.namespaceSelector?.requirements.length === 0
  return peers?.some(isEverybody) ?? true
}

function namesIn({ groups }: LintWorld, cidr: Block, except: readonly Block[]): string[] {
  const isIn = ({ addresses }: Workload) =>
    addresses.some((address) => blockContains(cidr, address) && !except.some((hole) => blockContains(hole, address)))
  return groups.flatMap(({ isHost, members }) => (isHost ? [] : members.filter(isIn).map(({ ref }) => refName(ref))))
}
