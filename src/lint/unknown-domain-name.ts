import { type LintFinding, placeOf, rulesOf } from './finding.ts'
import type { LintWorld } from './lint-world.ts'

const check = 'unknown-domain-name'

/** Domain names with no known address. Says nothing where no name is known at all: then names were not part of the input. */
export function unknownDomainName({ input }: LintWorld): LintFinding[] {
  if (input.domainNames.length === 0) return []
  const known = input.domainNames.filter(({ addresses }) => addresses.length > 0).map(({ name }) => name)
  const names = new Set(known)
  return input.policies.flatMap((policy) =>
    rulesOf(policy).flatMap((placed) =>
      (placed.rule.peers ?? []).flatMap((peer): LintFinding[] => {
        if (peer.type !== 'domainName' || names.has(peer.pattern)) return []
        const suffix = peer.pattern.startsWith('*.') ? peer.pattern.slice(1) : undefined
        if (suffix !== undefined && known.some((name) => name.endsWith(suffix))) return []
        const message = `no address of ${peer.pattern} is known: it matches nothing yet`
        return [{ check, severity: 'note', ...placeOf(placed), message, hint: 'check how the name is written' }]
      }),
    ),
  )
}
