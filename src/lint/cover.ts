import { type Block, blockContains, isIPv4 } from '../engine/address.ts'
import { NAMESPACE_NAME_LABEL } from '../engine/objects.ts'
import { ANY_PROTOCOL, type PeerMatch, type PodsMatch, type PortMatch } from '../engine/policy.ts'
import type { LabelSelector, Requirement } from '../engine/selector.ts'

/*
 * "A covers B": whatever B matches, A matches, in every picture of the world. Each answers true only where that is
 * certain by the two alone.
 */

/** Where a match stands: the namespace of its policy, which a match without namespaceSelector means. */
export interface Scoped<T> {
  readonly match: T
  readonly namespace: string | undefined
}

/** Every requirement of the wider selector follows from one of the narrower. */
export function selectorCovers(wide: LabelSelector, narrow: LabelSelector): boolean {
  return wide.requirements.every((needed) => narrow.requirements.some((given) => follows(needed, given)))
}

function follows(needed: Requirement, given: Requirement): boolean {
  if (needed.key !== given.key) return false
  switch (needed.operator) {
    case 'In':
      return given.operator === 'In' && given.values.every((value) => needed.values.includes(value))
    case 'Exists':
      return given.operator === 'In' || given.operator === 'Exists'
    case 'DoesNotExist':
      return given.operator === 'DoesNotExist'
    case 'NotIn':
      if (given.operator === 'In') return !given.values.some((value) => needed.values.includes(value))
      if (given.operator === 'NotIn') return needed.values.every((value) => given.values.includes(value))
      return given.operator === 'DoesNotExist'
  }
}

/** Of workloads alone: a selector that asks for no label never matches a NetworkSet, see `mayNameSets`. */
export function podsCover(wide: Scoped<PodsMatch>, narrow: Scoped<PodsMatch>): boolean {
  return (
    selectorCovers(wide.match.podSelector, narrow.match.podSelector) &&
    selectorCovers(namespacesOf(wide), namespacesOf(narrow))
  )
}

/** A match without namespaceSelector means what one for the policy's own namespace would. */
function namespacesOf({ match, namespace }: Scoped<PodsMatch>): LabelSelector {
  if (match.namespaceSelector) return match.namespaceSelector
  const values = namespace === undefined ? [] : [namespace]
  return { requirements: [{ key: NAMESPACE_NAME_LABEL, operator: 'In', values }] }
}

/** Whether a peer may match NetworkSets: it must ask for one of their labels. */
export function mayNameSets({ podSelector }: PodsMatch): boolean {
  return podSelector.requirements.some(({ operator }) => operator === 'In' || operator === 'Exists')
}

export function peerCovers(wide: Scoped<PeerMatch>, narrow: Scoped<PeerMatch>): boolean {
  const { match: a } = wide
  const { match: b } = narrow
  switch (a.type) {
    case 'pods':
      if (b.type !== 'pods' || (mayNameSets(b) && !mayNameSets(a))) return false
      return podsCover({ ...wide, match: a }, { ...narrow, match: b })
    case 'nodes':
      return b.type === 'nodes' && selectorCovers(a.selector, b.selector)
    case 'block':
      return b.type === 'block' && blockCovers(a, b)
    case 'domainName':
      return b.type === 'domainName' && nameCovers(a.pattern, b.pattern)
  }
}

type BlockMatch = Extract<PeerMatch, { type: 'block' }>

function blockCovers(wide: BlockMatch, narrow: BlockMatch): boolean {
  if (!contains(wide.cidr, narrow.cidr)) return false
  return wide.except.every((hole) => {
    const isApart = !contains(hole, narrow.cidr) && !contains(narrow.cidr, hole)
    return isApart || narrow.except.some((block) => contains(block, hole))
  })
}

function contains(outer: Block, inner: Block): boolean {
  return outer.prefix <= inner.prefix && blockContains(outer, inner.address)
}

function nameCovers(wide: string, narrow: string): boolean {
  return wide === narrow || (wide.startsWith('*.') && narrow.endsWith(wide.slice(1)))
}

export function portCovers(wide: PortMatch, narrow: PortMatch): boolean {
  const hasProtocol = wide.protocol === narrow.protocol || wide.protocol === ANY_PROTOCOL
  if (!hasProtocol) return false
  if (wide.portName !== undefined) return wide.portName === narrow.portName
  if (narrow.portName !== undefined) return wide.first <= 1 && wide.last === 65535
  return wide.first <= narrow.first && wide.last >= narrow.last
}

/** Whether a block holds far more than any cluster's own addresses: nearly always "the internet". */
export function isWide(block: Block): boolean {
  // 10.0.0.0/8 and fc00::/7 are the widest private blocks.
  return isIPv4(block.address) && block.prefix >= 96 ? block.prefix < 96 + 8 : block.prefix < 7
}
