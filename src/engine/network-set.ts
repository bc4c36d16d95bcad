import type { PeerMatch } from './network-policy.ts'
import type { NetworkSet } from './objects.ts'
import { selects } from './selector.ts'
import type { Snapshot } from './snapshot.ts'

/**
 * Whether a peer of a policy names this set of outside addresses: its podSelector must ask for one of the set's labels by
 * `In` or `Exists`, and all of it must hold. An empty selector names no set.
 * @param namespace the policy's own
 */
export function isNamedBy(
  set: NetworkSet,
  { podSelector, namespaceSelector }: Extract<PeerMatch, { type: 'pods' }>,
  namespace: string,
  namespaces: Snapshot['namespaces'],
): boolean {
  const isPositive = podSelector.requirements.some(({ operator }) => operator === 'In' || operator === 'Exists')
  if (!isPositive || !selects(podSelector, set.labels)) return false
  return namespaceSelector
    ? selects(namespaceSelector, namespaces.get(set.namespace)!.labels)
    : set.namespace === namespace
}
