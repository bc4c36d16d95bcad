import { isIPv4 } from './address.ts'
import { isDomainPattern, normalName } from './domain-name.ts'
import { attempt, formatPath, type ObjectReader, readMetadata, UnknownField } from './object-reader.ts'
import { MODE_ANNOTATION } from './objects.ts'
import type { Action, PeerMatch, PodsMatch, Policy, PortMatch, Rule, TierName } from './policy.ts'
import { everything, readSelector } from './selector.ts'
import { readBlock } from './workload.ts'

/** How much one policy may hold. */
export interface Limits {
  /** Rules of one direction. */
  readonly rules: number
  /** Peers of one rule. */
  readonly peers: number
  /** Ports, or protocols, of one rule. */
  readonly ports: number
  /** CIDRs or domain names of one peer. */
  readonly entries: number
  /** Characters of a rule's name. */
  readonly ruleName: number
}

/** For objects that an API server took: its limits are its own, and a later version's may be higher. */
export const unlimited: Limits = {
  rules: Number.POSITIVE_INFINITY,
  peers: Number.POSITIVE_INFINITY,
  ports: Number.POSITIVE_INFINITY,
  entries: Number.POSITIVE_INFINITY,
  ruleName: Number.POSITIVE_INFINITY,
}

type Fields = (name: string) => ObjectReader

/** What a cluster-wide policy API has of its own; everything else is read alike. */
export interface ClusterPolicyApi {
  readonly kind: string
  /** The values of `apiVersion` that it is read from. */
  readonly versions: readonly string[]
  /** Fields of `spec` that `tier` and `priority` are read from. */
  readonly placeFields: readonly string[]
  readonly tier: (spec: Fields) => Exclude<TierName, 'NetworkPolicy'>
  readonly priority: (spec: Fields) => number
  /** The only name that an object may have, where there is one. */
  readonly singleton?: string
  /** What its actions are called. */
  readonly actions: Readonly<Record<string, Action>>
  /** Fields of a `pods` peer or subject that may not be missing. */
  readonly requiredOfPods: readonly ('namespaceSelector' | 'podSelector')[]
  /** Fields of a peer of an egress rule; those of an ingress rule have `namespaces` and `pods`. */
  readonly egressPeers: readonly PeerField[]
  /** The field of a rule that lists its ports. */
  readonly portsField: 'protocols' | 'ports'
  readonly readPort: (item: ObjectReader) => PortMatch
  readonly limits: Limits
}

type PeerField = 'namespaces' | 'pods' | 'networks' | 'nodes' | 'domainNames'

const ingressPeers: readonly PeerField[] = ['namespaces', 'pods']

/** The field of a rule that lists its peers. */
const peersFields = { ingress: 'from', egress: 'to' } as const

/**
 * Reads a cluster-wide policy as the API server would. A peer that cannot be understood makes its rule fail closed, as the
 * API's types ask ("it should fail closed"); everything else that is wrong throws InvalidObject.
 */
export function readClusterPolicy(object: ObjectReader, api: ClusterPolicyApi, limits: Limits): Policy {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, isAudited } = readMetadata(object, api.kind, 'Cluster')
  if (api.singleton !== undefined && ref.name !== api.singleton) {
    const name = top('metadata').fields()('name')
    name.fail(`"${ref.name}" is not "${api.singleton}", the only name that a ${api.kind} may have`)
  }
  const spec = top('spec')
  if (!spec.isPresent) object.fail('spec is missing')
  const field = spec.fields([...api.placeFields, 'subject', 'ingress', 'egress'])
  const rules = (direction: Direction) => {
    const items = field(direction).items()
    requireAtMost(items, limits.rules, field(direction), 'rules')
    return items.map((rule) => readRule(rule, direction, api, limits))
  }
  const ingress = rules('ingress')
  const egress = rules('egress')
  return {
    type: 'Policy',
    ref,
    tier: api.tier(field),
    priority: api.priority(field),
    namespace: undefined,
    subject: readSubject(field('subject'), api),
    ingress: ingress.length > 0 ? ingress.map(({ rule }) => rule) : undefined,
    egress: egress.length > 0 ? egress.map(({ rule }) => rule) : undefined,
    isAudited,
    problems: [...ingress, ...egress].flatMap(({ problem }) => problem ?? []),
  }
}

type Direction = keyof typeof peersFields

interface ReadRule {
  readonly rule: Rule
  readonly problem?: string
}

function readRule(reader: ObjectReader, direction: Direction, api: ClusterPolicyApi, limits: Limits): ReadRule {
  const peersField = peersFields[direction]
  const field = reader.fields(['name', 'action', peersField, api.portsField])
  const written = field('action')
  if (!written.isPresent) reader.fail('action is missing')
  const action = api.actions[written.oneOf(Object.keys(api.actions))]!
  const name = field('name').optionalString()
  // The API counts characters, not UTF-16 units.
  const length = [...(name ?? '')].length
  if (length > limits.ruleName) field('name').fail(`${length} characters, more than ${limits.ruleName}`)
  const portItems = field(api.portsField).items()
  requireAtMost(portItems, limits.ports, field(api.portsField), api.portsField)
  const ports = portItems.length > 0 ? portItems.map(api.readPort) : undefined
  const peerItems = field(peersField).items()
  if (peerItems.length === 0) reader.fail(`${peersField} is missing: a rule names at least one peer`)
  requireAtMost(peerItems, limits.peers, field(peersField), 'peers')
  const known = direction === 'ingress' ? ingressPeers : api.egressPeers
  const read = peerItems.map((item) => readPeer(item, known, action, api, limits))
  const named = name ? { name } : {}
  const title = `rule ${direction}[${reader.path.at(-1)}]${name ? ` ${JSON.stringify(name)}` : ''}`
  const reasons = read.flatMap((peer) => ('reason' in peer ? [peer.reason] : []))
  if (reasons.length > 0) {
    const failsClosed = reasons.join('; ')
    return action === 'Accept'
      ? {
          rule: { ...named, action, ports, peers: [], failsClosed },
          problem: `${title} matches nothing: ${failsClosed}`,
        }
      : {
          rule: { ...named, action: 'Deny', ports: undefined, peers: undefined, failsClosed },
          problem: `${title} denies everything: ${failsClosed}`,
        }
  }
  const peers = read.flatMap((peer) => ('matches' in peer ? peer.matches : []))
  const rule = { ...named, action, ports, peers }
  // The API's newer validation refuses the pair, which its older ones let through.
  return ports?.some(({ portName }) => portName !== undefined) && peers.some(({ type }) => type !== 'pods')
    ? {
        rule,
        problem: `${title} names a port that its networks, nodes and domainNames never have: only pods name ports`,
      }
    : { rule }
}

/** What a peer means, or why it cannot be understood. */
type ReadPeer = { readonly matches: readonly PeerMatch[] } | { readonly reason: string }

function readPeer(
  item: ObjectReader,
  known: readonly PeerField[],
  action: Action,
  api: ClusterPolicyApi,
  limits: Limits,
): ReadPeer {
  const at = formatPath(item.path)
  try {
    const field = item.fields(known)
    const present = known.filter((name) => field(name).isPresent)
    const [name, second] = present
    if (name === undefined) return { reason: `${at} is empty, or a newer version of the API filled it` }
    if (second !== undefined) return { reason: `${at} has ${present.join(' and ')}, and a peer has one of them` }
    const matches = readMatches(name, field(name), api, limits)
    return name === 'domainNames' && action !== 'Accept'
      ? { reason: `${at} has domainNames, which only go with ${acceptOf(api)}` }
      : { matches }
  } catch (error) {
    if (!(error instanceof UnknownField)) throw error
    return { reason: `${at} has the unknown field ${JSON.stringify(formatPath(error.path.slice(item.path.length)))}` }
  }
}

function readMatches(
  name: PeerField,
  reader: ObjectReader,
  api: ClusterPolicyApi,
  { entries }: Limits,
): readonly PeerMatch[] {
  switch (name) {
    case 'namespaces':
    case 'pods':
      return [{ type: 'pods', ...readPods(name, reader, api) }]
    case 'nodes':
      return [{ type: 'nodes', selector: readSelector(reader) }]
    case 'networks':
      return readSet(reader, entries, 'networks').map((item) => ({
        type: 'block',
        cidr: readNetwork(item),
        except: [],
      }))
    case 'domainNames':
      return readSet(reader, entries, 'names').map((item) => ({ type: 'domainName', pattern: readPattern(item) }))
  }
}

/** Reads the subject of a policy; throws InvalidObject. */
export function readSubject(subject: ObjectReader, api: ClusterPolicyApi): PodsMatch {
  const field = subject.fields(['namespaces', 'pods'])
  if (field('namespaces').isPresent === field('pods').isPresent) {
    subject.fail('a subject has exactly one of namespaces and pods; an empty selector is written {}')
  }
  return field('pods').isPresent
    ? readPods('pods', field('pods'), api)
    : readPods('namespaces', field('namespaces'), api)
}

function readPods(name: 'namespaces' | 'pods', reader: ObjectReader, api: ClusterPolicyApi): PodsMatch {
  if (name === 'namespaces') return { namespaceSelector: readSelector(reader), podSelector: everything }
  const field = reader.fields(['namespaceSelector', 'podSelector'])
  for (const required of api.requiredOfPods) {
    if (!field(required).isPresent) reader.fail(`${required} is missing; {} selects everything`)
  }
  return {
    namespaceSelector: readSelector(field('namespaceSelector')),
    podSelector: readSelector(field('podSelector')),
  }
}

/** A list that the API declares a set, of at least one item. */
function readSet(reader: ObjectReader, most: number, what: string): readonly ObjectReader[] {
  const items = reader.items()
  if (items.length === 0) reader.fail('an empty list; name at least one')
  requireAtMost(items, most, reader, what)
  const seen = new Set<string>()
  for (const item of items) {
    if (seen.has(item.string())) item.fail(`"${item.string()}" is listed twice`)
    seen.add(item.string())
  }
  return items
}

/** The API's validation takes no IPv4 address in IPv6 notation, and no more text than the longest CIDR needs. */
function readNetwork(item: ObjectReader) {
  const cidr = readBlock(item)
  if (item.string().length > 43) item.fail(`"${item.string()}" is longer than 43 characters`)
  if (isIPv4(cidr.address) && cidr.prefix >= 96 && item.string().includes(':')) {
    item.fail(`"${item.string()}" is an IPv4 block in IPv6 notation; write it in IPv4's`)
  }
  return cidr
}

function readPattern(item: ObjectReader): string {
  if (!isDomainPattern(item.string())) {
    item.fail(`"${item.string()}" is no domain name such as example.com or *.example.com`)
  }
  return normalName(item.string())
}

function requireAtMost(items: readonly unknown[], most: number, reader: ObjectReader, what: string): void {
  if (items.length > most) reader.fail(`${items.length} ${what}, more than ${most}`)
}

/** What the API calls its Accept action. */
export function acceptOf({ actions }: ClusterPolicyApi): string {
  return Object.keys(actions).find((name) => actions[name] === 'Accept')!
}

/**
 * What is enforced of a policy that cannot be understood: its Accept rules match nothing, its Deny and Pass rules deny
 * everything, and an action that cannot be read counts as Deny, as does a list of rules that is none. Of its subject, a
 * selector that cannot be read selects everything; where that leaves nothing of the subject and no rule denies, the
 * policy says nothing. A tier that cannot be read is Admin, a priority that cannot be read is 0, a mode that cannot be
 * read is `enforce`. `undefined` where there is no name.
 * @param why what is wrong with the policy
 */
export function salvageClusterPolicy(object: ObjectReader, api: ClusterPolicyApi, why: string): Policy | undefined {
  const top = attempt(() => object.fields())
  const metadata = attempt(() => top?.('metadata').fields())
  const name = attempt(() => metadata?.('name').string())
  if (!top || !metadata || !name) return undefined
  const spec = attempt(() => top('spec').fields()) ?? (() => top('spec'))
  const ingress = salvageRules(spec('ingress'), api, why)
  const egress = salvageRules(spec('egress'), api, why)
  const subject = salvageSubject(spec('subject'), api)
  const isSilent = !subject && ![...(ingress ?? []), ...(egress ?? [])].some(({ action }) => action === 'Deny')
  const mode = attempt(() => metadata('annotations').fields()(MODE_ANNOTATION).value)
  return {
    type: 'Policy',
    ref: { kind: api.kind, name },
    tier: attempt(() => api.tier(spec)) ?? 'Admin',
    priority: attempt(() => api.priority(spec)) ?? 0,
    namespace: undefined,
    subject: subject ?? { namespaceSelector: everything, podSelector: everything },
    ingress: isSilent ? undefined : ingress,
    egress: isSilent ? undefined : egress,
    isAudited: mode === 'audit',
    problems: [why],
  }
}

function salvageRules(list: ObjectReader, api: ClusterPolicyApi, failsClosed: string): readonly Rule[] | undefined {
  const denial: Rule = { action: 'Deny', ports: undefined, peers: undefined, failsClosed }
  const items = attempt(() => list.items())
  if (!items) return [denial]
  if (items.length === 0) return undefined
  return items.map((item) => {
    const field = attempt(() => item.fields())
    const written = attempt(() => field?.('action').oneOf(Object.keys(api.actions)))
    const name = attempt(() => field?.('name').optionalString())
    const named = name ? { name } : {}
    return written !== undefined && api.actions[written] === 'Accept'
      ? { ...named, action: 'Accept', ports: undefined, peers: [], failsClosed }
      : { ...named, ...denial }
  })
}

/** `undefined` where nothing of it can be read. A field that is not known may widen what the others select. */
function salvageSubject(subject: ObjectReader, api: ClusterPolicyApi): PodsMatch | undefined {
  const whole = attempt(() => readSubject(subject, api))
  if (whole) return whole
  const field = attempt(() => subject.fields(['namespaces', 'pods']))
  if (!field?.('pods').isPresent || field('namespaces').isPresent) return undefined
  const part = attempt(() => field('pods').fields(['namespaceSelector', 'podSelector']))
  const selectors = (['namespaceSelector', 'podSelector'] as const).map((name) =>
    part?.(name).isPresent ? attempt(() => readSelector(part(name))) : undefined,
  )
  const [namespaceSelector, podSelector] = selectors
  if (!namespaceSelector && !podSelector) return undefined
  return { namespaceSelector: namespaceSelector ?? everything, podSelector: podSelector ?? everything }
}
