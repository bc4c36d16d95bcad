import type { Identities, Identity } from './identity.ts'
import { sharedWords, type Words } from './twin-words.ts'

/**
 * A number for each identity, in memory that threads share: what `selected` of a third party's kind is, and what its
 * evaluator looks up by `flow.sourceIdentity` and `flow.destinationIdentity`.
 * @param numberOf a 32-bit integer for workloads with these labels, namespace and named ports
 */
export function identityTable({ identities }: Identities, numberOf: (identity: Identity) => number): Words {
  const table = sharedWords(identities.length)
  for (const [number, identity] of identities.entries()) if (identity) table[number] = numberOf(identity)
  return table
}
