import { type Address, formatAddress, isIPv4, parseAddress } from './address.ts'
import { type Identities, workloadOf } from './identity.ts'
import type { Node, Workload } from './objects.ts'
import { ICMP, ICMPV6, SCTP, TCP, UDP } from './packet.ts'
import { podTemplateKinds } from './pod-template.ts'
import { protocolName } from './protocol.ts'
import type { Snapshot } from './snapshot.ts'

/** An end of a connection as a person writes it. */
export type EndpointName =
  | {
      readonly type: 'workload'
      /** The kind of its object; where it is left out, a Pod is preferred. */
      readonly kind?: string
      readonly namespace: string
      readonly name: string
    }
  | { readonly type: 'node'; readonly name: string }
  | { readonly type: 'address'; readonly address: Address }

/** An end with who it is: `workload` is an index of the generation's workloads. */
export interface Endpoint {
  /** `namespace/name` (`kind:namespace/name` where that alone means another), `node:NAME`; absent for an address that has no name. */
  readonly name?: string
  readonly workload?: number
  /** In order of preference; empty where only the name is known. */
  readonly addresses: readonly Address[]
}

/** What a person asks about: `port` is 0 for protocols without ports. */
export interface Question {
  readonly from: EndpointName
  readonly to: EndpointName
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp'
  readonly port: number
}

/** A question that cannot be asked (`syntax`), or that nothing here can answer (`unknown`). */
export class QuestionError extends Error {
  readonly kind: 'syntax' | 'unknown'

  constructor(kind: 'syntax' | 'unknown', message: string) {
    super(message)
    this.name = 'QuestionError'
    this.kind = kind
  }
}

const protocols = ['tcp', 'udp', 'sctp', 'icmp'] as const

/** What may stand before `namespace/name` to say which kind of object is meant. */
const kindPrefixes: ReadonlyMap<string, string> = new Map([
  ...['Pod', ...podTemplateKinds].map((kind) => [kind.toLowerCase(), kind] as const),
  ['host', 'HostEndpoint'],
])

/**
 * Parses FROM and TO: `namespace/name` (also `pod:namespace/name`, `host:`, `deployment:`), an IP address, `node:NAME`;
 * TO may end in `:PORT` and `/PROTOCOL` (`[v6]:port`). `port` and `protocol`, where given, say the same apart. Throws QuestionError.
 */
export function parseQuestion(from: string, to: string, given: { port?: number; protocol?: string } = {}): Question {
  const { rest, protocol: suffix } = splitProtocol(to)
  const { rest: target, port: suffixPort } = splitPort(rest)
  if (suffix && given.protocol && suffix !== given.protocol)
    throw syntax(`${to}: protocol given twice, as ${suffix} and ${given.protocol}`)
  if (suffixPort !== undefined && given.port !== undefined && suffixPort !== given.port)
    throw syntax(`${to}: port given twice, as ${suffixPort} and ${given.port}`)
  const protocol = (suffix ?? given.protocol ?? 'tcp') as Question['protocol']
  if (!protocols.includes(protocol)) throw syntax(`"${protocol}" is no protocol; known: ${protocols.join(', ')}`)
  const port = suffixPort ?? given.port
  if (protocol === 'icmp') {
    if (port !== undefined) throw syntax(`${to}: icmp has no port`)
  } else if (port === undefined) {
    throw syntax(`${to}: port missing; write ${to.replace(/\/(tcp|udp|sctp)$/, '')}:PORT`)
  } else if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw syntax(`${to}: port ${port} is outside 1-65535`)
  }
  return { from: parseEndpointName(from), to: parseEndpointName(target), protocol, port: port ?? 0 }
}

function splitProtocol(text: string): { rest: string; protocol?: Question['protocol'] } {
  const match = /^(.+)\/(tcp|udp|sctp|icmp)$/i.exec(text)
  // `shop/tcp` and `pod:shop/tcp` are workloads; only behind a port, an address or a whole name is it a protocol.
  const isWhole =
    match && (/^node:|:\d+$|\]$/.test(match[1]!) || match[1]!.includes('/') || parseAddress(match[1]!) !== undefined)
  return match && isWhole
    ? { rest: match[1]!, protocol: match[2]!.toLowerCase() as Question['protocol'] }
    : { rest: text }
}

function splitPort(text: string): { rest: string; port?: number } {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(text)
  if (bracketed) return { rest: bracketed[1]!, ...(bracketed[2] && { port: Number(bracketed[2]) }) }
  if (parseAddress(text)) return { rest: text }
  const match = /^(.*):(\d+)$/.exec(text)
  return match ? { rest: match[1]!, port: Number(match[2]) } : { rest: text }
}

/** Parses an end without port and protocol; throws QuestionError `syntax`. */
export function parseEndpointName(text: string): EndpointName {
  if (text.startsWith('node:')) {
    const name = text.slice(5)
    if (name === '') throw syntax('node: needs the name of a node')
    return { type: 'node', name }
  }
  const address = parseAddress(text.replace(/^\[(.*)\]$/, '$1'))
  if (address) return { type: 'address', address }
  const match = /^(?:([a-z]+):)?([^/:]+)\/([^/:]+)$/.exec(text)
  if (!match) throw syntax(`"${text}" is neither namespace/name, node:NAME nor an IP address`)
  const [, prefix, namespace, name] = match
  if (prefix === undefined) return { type: 'workload', namespace: namespace!, name: name! }
  const kind = kindPrefixes.get(prefix)
  if (kind === undefined) {
    throw syntax(`${text}: "${prefix}" is no kind of workload; known: ${[...kindPrefixes.keys()].join(', ')}`)
  }
  return { type: 'workload', kind, namespace: namespace!, name: name! }
}

/** Finds who a name means in the snapshot. Throws QuestionError `unknown`. */
export function resolveEndpoint(name: EndpointName, snapshot: Snapshot, identities: Identities): Endpoint {
  switch (name.type) {
    case 'node': {
      const node = snapshot.nodes.find((candidate) => candidate.name === name.name)
      if (!node)
        throw unknown(`no source knows a node "${name.name}"${hintOf(snapshot.nodes.map((each) => each.name))}`)
      return nodeEndpoint(node)
    }
    case 'address':
      return addressEndpoint(name.address, snapshot, identities)
    case 'workload':
      return workloadEndpoint(name, snapshot, identities)
  }
}

function workloadEndpoint(
  asked: Extract<EndpointName, { type: 'workload' }>,
  snapshot: Snapshot,
  identities: Identities,
): Endpoint {
  const name = `${asked.namespace}/${asked.name}`
  const namesakes = namesakesOf(asked, snapshot)
  const meant = namesakes.filter(({ ref }) => ref.kind === (asked.kind ?? 'Pod'))
  const candidates = meant.length > 0 || asked.kind !== undefined ? meant : namesakes
  const [workload] = candidates
  if (!workload) {
    const known = snapshot.workloads.filter(
      ({ namespace, ref }) => namespace === asked.namespace && (asked.kind ?? ref.kind) === ref.kind,
    )
    throw unknown(
      `no source knows a ${asked.kind ?? 'workload'} "${name}"${hintOf([...new Set(known.map((each) => each.name))])}`,
    )
  }
  if (candidates.length > 1) {
    const kinds = candidates.map(({ ref }) => ref.kind)
    throw syntax(
      `${name} is ambiguous: it is a ${kinds.join(' and a ')}; write ${candidates.map(prefixedName).join(' or ')}`,
    )
  }
  if (workload.phase === 'Succeeded' || workload.phase === 'Failed') {
    throw unknown(`${name} has finished (${workload.phase}) and owns no address`)
  }
  if (workload.hostNetwork) return hostNetworkEndpoint(workload, snapshot)
  return {
    name: nameOf(workload, namesakes),
    workload: identities.workloads.indexOf(workload),
    addresses: workload.addresses,
  }
}

function namesakesOf(asked: { readonly namespace: string; readonly name: string }, snapshot: Snapshot): Workload[] {
  return snapshot.workloads.filter(({ namespace, name }) => namespace === asked.namespace && name === asked.name)
}

/** The name under which it is found again: alone it would mean the Pod, or nobody for certain. */
function nameOf(workload: Workload, namesakes: readonly Workload[]): string {
  const isPlain = namesakes.length === 1 || workload.ref.kind === 'Pod'
  return isPlain ? `${workload.namespace}/${workload.name}` : prefixedName(workload)
}

function prefixedName({ ref, namespace, name }: Workload): string {
  return `${ref.kind === 'HostEndpoint' ? 'host' : ref.kind.toLowerCase()}:${namespace}/${name}`
}

/** The IP protocol number of a question's protocol between these addresses. */
export function protocolNumber(protocol: Question['protocol'], isV4: boolean): number {
  switch (protocol) {
    case 'tcp':
      return TCP
    case 'udp':
      return UDP
    case 'sctp':
      return SCTP
    case 'icmp':
      return isV4 ? ICMP : ICMPV6
  }
}

/** Source and destination addresses of one family; IPv6 where one end has nothing else. Throws QuestionError. */
export function pairAddresses(
  from: Endpoint,
  to: Endpoint,
): { source: Address | undefined; destination: Address | undefined } {
  const source = from.addresses[0]
  const destination = to.addresses[0]
  if (!source || !destination || isIPv4(source) === isIPv4(destination)) return { source, destination }
  const likeDestination = from.addresses.find((address) => isIPv4(address) === isIPv4(destination))
  if (likeDestination) return { source: likeDestination, destination }
  const likeSource = to.addresses.find((address) => isIPv4(address) === isIPv4(source))
  if (likeSource) return { source, destination: likeSource }
  throw unknown(`${endpointText(from)} and ${endpointText(to)} have no address family in common`)
}

/** The name, or else the address. */
export function endpointText({ name, addresses }: Endpoint): string {
  return name ?? formatAddress(addresses[0]!)
}

/** `shop/db:5432/tcp`, `[fd00::1]:53/udp`, `shop/db/icmp`. */
export function targetText(to: Endpoint, protocol: number, port: number): string {
  const text = endpointText(to)
  if (port === 0) return `${text}/${protocolName(protocol)}`
  return `${to.name === undefined && text.includes(':') ? `[${text}]` : text}:${port}/${protocolName(protocol)}`
}

function addressEndpoint(address: Address, snapshot: Snapshot, identities: Identities): Endpoint {
  const workload = workloadOf(identities.tables, address)
  const owner = identities.workloads[workload]
  if (owner) return { name: nameOf(owner, namesakesOf(owner, snapshot)), workload, addresses: [address] }
  const text = formatAddress(address)
  const node = snapshot.nodes.find(({ addresses }) => addresses.some((each) => formatAddress(each) === text))
  return node ? { name: `node:${node.name}`, addresses: [address] } : { addresses: [address] }
}

function nodeEndpoint(node: Node): Endpoint {
  if (node.addresses.length === 0) throw unknown(`node "${node.name}" has no address in its status`)
  return { name: `node:${node.name}`, addresses: node.addresses }
}

function hostNetworkEndpoint(workload: Workload, snapshot: Snapshot): Endpoint {
  const node = snapshot.nodes.find(({ name }) => name === workload.node)
  if (!node) {
    throw unknown(
      `${workload.namespace}/${workload.name} uses its node's addresses, and no source knows node "${workload.node ?? '(none)'}"`,
    )
  }
  return nodeEndpoint(node)
}

function hintOf(known: readonly string[]): string {
  if (known.length === 0) return ''
  const shown = known.slice(0, 8).join(', ')
  return `; known there: ${shown}${known.length > 8 ? `, and ${known.length - 8} more` : ''}`
}

function syntax(message: string): QuestionError {
  return new QuestionError('syntax', message)
}

function unknown(message: string): QuestionError {
  return new QuestionError('unknown', message)
}
