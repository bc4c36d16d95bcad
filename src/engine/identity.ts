import { type Address, isIPv4, matchesPrefix } from './address.ts'
import { type AddressTables, lookupAddress, NO_NUMBER, OUTSIDE } from './address-map.ts'
import { type Flow, HOOK_INPUT } from './flow.ts'
import type { Labels, NamedPort, Workload } from './objects.ts'
import type { Words } from './twin-words.ts'

export const NO_NODE = NO_NUMBER

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
  readonly addressWorkload: AddressTables
  readonly addressNode: AddressTables
  readonly workloadIdentity: Words
  /** Per workload, the node it runs on; NO_NODE where its object names none. */
  readonly workloadNode: Words
  /** Per workload, the node it is; NO_NODE for pods. */
  readonly hostNode: Words
  /** Per identity, where its facts (see facts.ts) start in `lists`; how many named ports, (name, protocol, port) each, follow. */
  readonly facts: Words
  /** Per node, where its facts start in `lists`; 0 where no Node object is known. */
  readonly nodeFacts: Words
  readonly lists: Words
  /** Blocks behind hosts: rows of (workload, prefix, address). */
  readonly forwards: Words
  /** Whether any workload is a host. */
  readonly hasHosts: boolean
  /** The workload that is this machine; OUTSIDE where no HostEndpoint is. */
  readonly localHost: number
  /** Index of the node that this machine is; NO_NODE where the picture does not know it. */
  readonly localNode: number
}

/** The tables, and the names that belong to their numbers. Where a number is free, the name is `undefined`. */
export interface Identities {
  readonly tables: IdentityTables
  readonly identities: readonly (Identity | undefined)[]
  /** Workloads that can be subjects and peers, by workload index. */
  readonly workloads: readonly (Workload | undefined)[]
  readonly nodeNames: readonly string[]
  /** Number of each port name that a workload has or a policy asks for. */
  readonly portNames: ReadonlyMap<string, number>
}

/** The workload that owns an address, or OUTSIDE. */
export function workloadOf(tables: IdentityTables, address: Address): number {
  return lookupAddress(tables.addressWorkload, address)
}

/** The node that has an address in its status, or NO_NODE. */
export function nodeOf(tables: IdentityTables, address: Address): number {
  return lookupAddress(tables.addressNode, address)
}

/** The identity of a workload; OUTSIDE for OUTSIDE. */
export function identityOf(tables: IdentityTables, workload: number): number {
  return workload === OUTSIDE ? OUTSIDE : tables.workloadIdentity[workload]!
}

/** The node that a workload runs on; NO_NODE where its object names none. */
export function nodeOfWorkload(tables: IdentityTables, workload: number): number {
  return tables.workloadNode[workload]!
}

/** The node that a host is; NO_NODE for a pod. */
export function hostNodeOf(tables: IdentityTables, workload: number): number {
  return tables.hostNode[workload]!
}

/** The node whose host a flow goes to, or NO_NODE. What lies behind a host is not the host. */
export function hostNodeOfDestination(tables: IdentityTables, flow: Flow): number {
  const { destinationWorkload: workload, hook, hasDestinationAddress, packet } = flow
  if (workload === OUTSIDE) return NO_NODE
  const isItself = hook === HOOK_INPUT || !hasDestinationAddress || workloadOf(tables, packet.destination) === workload
  return isItself ? hostNodeOf(tables, workload) : NO_NODE
}

/** The node whose address a flow goes to, or NO_NODE. */
export function addressNodeOfDestination(tables: IdentityTables, { hasDestinationAddress, packet }: Flow): number {
  return hasDestinationAddress ? nodeOf(tables, packet.destination) : NO_NODE
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
  const node = nodeOfWorkload(tables, workload)
  return node === NO_NODE || node === tables.localNode
}
