import { refName, type Workload } from '../engine/objects.ts'
import type { PeerMatch, PodsMatch, Policy } from '../engine/policy.ts'
import { type LintFinding, listed, type PlacedRule, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'
import { nodesText, podsText } from './peer-text.ts'

const check = 'selects-nothing'
const hint = 'correct the selector, or add the manifests of what it means'

/**
 * Subjects that select no workload, and peers that select no workload, node or NetworkSet. Says nothing where no workload
 * (or, of nodes, no node) is known at all: then only the policies were given.
 */
export function selectsNothing(world: LintWorld): LintFinding[] {
  return world.input.policies.flatMap((policy) => [
    ...subjectFindings(world, policy),
    ...rulesOf(policy).flatMap((rule) => peerFindings(world, rule)),
  ])
}

function subjectFindings(world: LintWorld, { ref, subject, namespace }: Policy): LintFinding[] {
  if (world.groups.length === 0 || world.select(subject, namespace).length > 0) return []
  const unseen = world.unseenBy(subject, namespace)
  if (unseen.some(({ hostNetwork }) => hostNetwork)) {
    return [
      {
        check,
        severity: 'warning',
        object: ref,
        message: `selects only ${hostNetworkText(unseen)}: no policy is ever about those`,
        hint: 'take the workload off the host network, or protect its node by a HostEndpoint',
      },
    ]
  }
  const sets = world.networkSetsOf(subject, namespace)
  if (sets.length > 0) {
    const names = listed(sets.map((set) => refName(set.ref)))
    const message = `selects nothing but NetworkSets (${names}): they are peers, and never have policies of their own`
    return [{ check, severity: 'warning', object: ref, message, hint: 'select the workloads that deal with them' }]
  }
  // A policy for all of a namespace may well be there before its first pod, and one for jobs outlives theirs.
  const mayBeMeant = subject.podSelector.requirements.length === 0 || unseen.length > 0
  const message = `selects nothing: no ${unseen.length > 0 ? 'unfinished ' : ''}${podsText(subject, namespace)} is known`
  return [{ check, severity: mayBeMeant ? 'note' : 'warning', object: ref, message, hint }]
}

function peerFindings(world: LintWorld, placed: PlacedRule): LintFinding[] {
  const { policy, rule } = placed
  return (rule.peers ?? []).flatMap((peer) => {
    const found = lookAt(world, peer, policy.namespace)
    return found ? [{ check, severity: 'note', ...placeOf(placed), ...found } as const] : []
  })
}

function lookAt(
  world: LintWorld,
  peer: PeerMatch,
  namespace: string | undefined,
): Pick<LintFinding, 'message' | 'hint'> | undefined {
  if (peer.type === 'nodes') {
    if (world.input.nodes.length === 0 || world.nodesOf(peer.selector).length > 0) return undefined
    return { message: `a peer selects nothing: no ${nodesText(peer.selector)} is known`, hint }
  }
  if (peer.type !== 'pods' || world.groups.length === 0 || selectsSomebody(world, peer, namespace)) return undefined
  const unseen = world.unseenBy(peer, namespace)
  if (unseen.some(({ hostNetwork }) => hostNetwork)) {
    return {
      message: `a peer selects only ${hostNetworkText(unseen)}: selectors never match those`,
      hint: "name their nodes' addresses",
    }
  }
  if (unseen.length > 0 || isElsewhere(world, peer, namespace)) return undefined
  return { message: `a peer selects nothing: no ${podsText(peer, namespace)} is known`, hint }
}

/** Whether a peer that names workloads has one, or a NetworkSet. */
export function selectsSomebody(world: LintWorld, match: PodsMatch, namespace: string | undefined): boolean {
  return world.select(match, namespace).length > 0 || world.networkSetsOf(match, namespace).length > 0
}

/** Nearly every policy names `kube-system`, for DNS, and few sources hold what runs there. */
function isElsewhere(world: LintWorld, match: PodsMatch, namespace: string | undefined): boolean {
  const meansSystem = match.namespaceSelector?.requirements.some(
    ({ operator, values }) => operator === 'In' && values.some((value) => value.startsWith('kube-')),
  )
  return meansSystem === true && ![...world.namespacesOf(match, namespace)].some((name) => world.isInhabited(name))
}

function hostNetworkText(workloads: readonly Workload[]): string {
  const names = workloads.filter(({ hostNetwork }) => hostNetwork).map(({ ref }) => refName(ref))
  return `${listed(names)} on the host network`
}
