import type { Labels, NetworkSet } from './objects.ts'
import type { PodsMatch } from './policy.ts'
import { selects } from './selector.ts'

/**
 * Whether a peer of a policy names this set of outside addresses: its podSelector must ask for one of the set's labels by
 * `In` or `Exists`, and all of it must hold. An empty selector names no set.
 * @param namespace the policy's own
 * @param namespaceLabels of the set's namespace
 */
export function isNamedBy(
  set: NetworkSet,
  peer: PodsMatch,
  namespace: string | undefined,
  namespaceLabels: Labels,
): boolean {
  if (!selectsSet(set, peer)) return false
  return peer.namespaceSelector ? selects(peer.namespaceSelector, namespaceLabels) : set.namespace === namespace
}

/** Whether a peer names the set as far as its podSelector goes, in whatever namespace. */
export function selectsSet({ labels }: NetworkSet, { podSelector }: PodsMatch): boolean {
  const isPositive = podSelector.requirements.some(({ operator }) => operator === 'In' || operator === 'Exists')
  return isPositive && selects(podSelector, labels)
}
