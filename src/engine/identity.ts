import { type Address, isIPv4, matchesPrefix } from './address.ts'
import { type AddressTable, buildAddressTable, lookupAddress } from './address-table.ts'
import { Int32List, sharedInt32 } from './int32-list.ts'
import { type Labels, type NamedPort, refName, type Workload } from './objects.ts'
import type { Snapshot } from './snapshot.ts'

/** The workload or identity of an address that no workload owns. */
export const OUTSIDE = -1

/**
 * The facts that policies can tell workloads apart by. Workloads with equal facts share one identity: policies are
 * compiled against identities, of which there are far fewer.
 */
export interface Identity {
  readonly namespace: string
  readonly labels: Labels
  readonly namespaceLabels: Labels
  readonly ports: readonly NamedPort[]
}

/** What the packet path needs to know of workloads and nodes; all in shared memory. */
export interface IdentityTables {
  readonly addressWorkload: AddressTable
  readonly addressNode: AddressTable
  readonly workloadIdentity: Int32Array<SharedArrayBuffer>
  /** Node index of a workload; NO_NODE where its object names none. */
  readonly workloadNode: Int32Array<SharedArrayBuffer>
  /** Per identity, where its ports start in `ports`. */
  readonly identityPorts: Int32Array<SharedArrayBuffer>
  /** Lists of ports: how many, then (name, protocol, port) each. */
  readonly ports: Int32Array<SharedArrayBuffer>
  /** Blocks behind hosts: rows of (workload, prefix, address). */
  readonly forwards: Int32Array<SharedArrayBuffer>
  /** Node index of each host workload; NO_NODE for pods. */
  readonly hostNode: Int32Array<SharedArrayBuffer>
  /** The workload that is this machine; OUTSIDE where no HostEndpoint is. */
  readonly localHost: number
  /** Index of the node that this machine is; NO_NODE where the picture does not know it. */
  readonly localNode: number
}

export const NO_NODE = -1

/** The tables, and the names that belong to their numbers. */
export interface Identities {
  readonly tables: IdentityTables
  readonly identities: readonly Identity[]
  /** The identities of each namespace. */
  readonly byNamespace: ReadonlyMap<string, readonly number[]>
  /** Workloads that can be subjects and peers, by workload index. */
  readonly workloads: readonly Workload[]
  readonly nodeNames: readonly string[]
  /** Number of each port name that a workload has. */
  readonly portNames: ReadonlyMap<string, number>
}

/** Gives every workload of the snapshot its identity and every address its owner. */
export function identify(snapshot: Snapshot): Identities {
  // Host-network pods carry their node's addresses: no policy selects them (NetworkPolicy concept page).
  // A finished pod owns nothing and receives nothing.
  const workloads = snapshot.workloads.filter(({ hostNetwork, phase }) => {
    return !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed'
  })
  const nodeNames = nodesOf(snapshot)
  const nodeIndex = new Map(nodeNames.map((name, i) => [name, i]))
  const portNames = new Map<string, number>()
  const ports = new Int32List()
  const identityPorts = new Int32List()
  const identities: Identity[] = []
  const byNamespace = new Map<string, number[]>()
  const known = new Map<string, number>()
  const workloadIdentity = sharedInt32(workloads.length)
  const workloadNode = sharedInt32(workloads.length)
  const hostNode = sharedInt32(workloads.length).fill(NO_NODE)
  const forwards = new Int32List()
  let localHost = OUTSIDE

  for (const [i, workload] of workloads.entries()) {
    const key = identityKey(workload)
    let identity = known.get(key)
    if (identity === undefined) {
      identity = identities.length
      known.set(key, identity)
      identities.push({
        namespace: workload.namespace,
        labels: workload.labels,
        namespaceLabels: snapshot.namespaces.get(workload.namespace)!.labels,
        ports: workload.ports,
      })
      identityPorts.push(ports.push(workload.ports.length))
      for (const { name, protocol, port } of workload.ports) {
        const number = portNames.get(name) ?? portNames.size
        portNames.set(name, number)
        ports.push(number, protocol, port)
      }
      const inNamespace = byNamespace.get(workload.namespace)
      if (inNamespace) inNamespace.push(identity)
      else byNamespace.set(workload.namespace, [identity])
    }
    workloadIdentity[i] = identity
    workloadNode[i] = workload.node === undefined ? NO_NODE : nodeIndex.get(workload.node)!
    if (workload.isHost) {
      hostNode[i] = workloadNode[i]!
      if (workload.node === snapshot.localNode && localHost === OUTSIDE) localHost = i
      for (const { address, prefix } of workload.forwards)
        forwards.push(i, prefix, address.w0, address.w1, address.w2, address.w3)
    }
  }

  return {
    identities,
    byNamespace,
    workloads,
    nodeNames,
    portNames,
    tables: {
      addressWorkload: buildAddressTable(ownedAddresses(workloads)),
      addressNode: buildAddressTable(
        [...snapshot.nodes.map(({ name, addresses }) => ({ name, addresses })), ...hostAddresses(workloads)].flatMap(
          ({ name, addresses }) => addresses.map((address) => [address, nodeIndex.get(name)!] as const),
        ),
      ),
      workloadIdentity,
      workloadNode,
      identityPorts: identityPorts.toShared(),
      ports: ports.toShared(),
      forwards: forwards.toShared(),
      hostNode,
      localHost,
      localNode: nodeIndex.get(snapshot.localNode ?? '') ?? NO_NODE,
    },
  }
}

/** The workload that owns an address, or OUTSIDE. */
export function workloadOf(tables: IdentityTables, address: Address): number {
  return lookupAddress(tables.addressWorkload, address)
}

/** The node that has an address, or NO_NODE. */
export function nodeOf(tables: IdentityTables, address: Address): number {
  return lookupAddress(tables.addressNode, address)
}

/** The host that an address lies behind, or OUTSIDE. @param only the only host to look at; OUTSIDE for any */
export function forwardingHost(tables: IdentityTables, address: Address, only: number): number {
  const { forwards } = tables
  for (let at = 0; at < forwards.length; at += 6) {
    const host = forwards[at]!
    if (only !== OUTSIDE && host !== only) continue
    const prefix = forwards[at + 1]!
    if (prefix < 96 && isIPv4(address)) continue
    if (matchesPrefix(forwards[at + 2]!, forwards[at + 3]!, forwards[at + 4]!, forwards[at + 5]!, prefix, address))
      return host
  }
  return OUTSIDE
}

/** Whether a workload runs on this machine; one whose object names no node is taken to. */
export function isLocal(tables: IdentityTables, workload: number): boolean {
  const node = tables.workloadNode[workload]!
  return node === NO_NODE || node === tables.localNode
}

/** Two live pods with one address: Running wins over Pending, then the younger, then (no order of arrival) the first by name. */
export function outranks(a: Workload, b: Workload): boolean {
  if ((a.phase === 'Running') !== (b.phase === 'Running')) return a.phase === 'Running'
  if (a.createdMs !== b.createdMs) return a.createdMs > b.createdMs
  return refName(a.ref) < refName(b.ref)
}

function ownedAddresses(workloads: readonly Workload[]): (readonly [Address, number])[] {
  return workloads
    .flatMap((workload, i) => workload.addresses.map((address) => [address, i] as const))
    .sort(([, a], [, b]) =>
      outranks(workloads[a]!, workloads[b]!) ? -1 : outranks(workloads[b]!, workloads[a]!) ? 1 : a - b,
    )
}

/** A host's addresses are its node's. */
function hostAddresses(workloads: readonly Workload[]): { name: string; addresses: readonly Address[] }[] {
  return workloads.flatMap(({ isHost, node, addresses }) =>
    isHost && node !== undefined ? [{ name: node, addresses }] : [],
  )
}

function nodesOf(snapshot: Snapshot): string[] {
  const names = new Set(snapshot.nodes.map((node) => node.name))
  for (const { node } of snapshot.workloads) if (node !== undefined) names.add(node)
  return [...names]
}

function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function identityKey({ namespace, labels, ports }: Workload): string {
  return JSON.stringify([
    namespace,
    [...labels].sort(byKey),
    ports.map(({ name, protocol, port }) => [name, protocol, port]),
  ])
}
