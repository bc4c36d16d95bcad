import { type LintFinding, listed, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'unknown-domain-name'

/** Domain names with no known address. Says nothing where no name is known at all: then names were not part of the input. */
export function unknownDomainName({ input }: LintWorld): LintFinding[] {
  if (input.domainNames.length === 0) return []
  const known = input.domainNames.filter(({ addresses }) => addresses.length > 0).map(({ name }) => name)
  const names = new Set(known)
  const isKnown = (pattern: string) => {
    if (names.has(pattern)) return true
    return pattern.startsWith('*.') && known.some((name) => name.endsWith(pattern.slice(1)))
  }
  return input.policies.flatMap((policy) =>
    rulesOf(policy).flatMap((placed): LintFinding[] => {
      const patterns = (placed.rule.peers ?? []).flatMap((peer) => (peer.type === 'domainName' ? peer.pattern : []))
      const unknown = patterns.filter((pattern) => !isKnown(pattern))
      if (unknown.length === 0) return []
      const message = `no address is known of ${listed(unknown)}: that matches nothing yet`
      return [{ check, severity: 'note', ...placeOf(placed), message, hint: 'check how the name is written' }]
    }),
  )
}
