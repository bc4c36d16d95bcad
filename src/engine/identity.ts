import { type Address, type Block, formatAddress, isIPv4, matchesPrefix, sameAddress } from './address.ts'
import { AddressMap, type AddressTables, lookupAddress, NO_NUMBER, OUTSIDE } from './address-map.ts'
import { encodeFacts } from './facts.ts'
import { type Flow, HOOK_INPUT } from './flow.ts'
import { Members } from './members.ts'
import { type Labels, type NamedPort, type Node, refName, type Workload } from './objects.ts'
import { holds, Terms } from './terms.ts'
import { sharedWords, TwinWords, type Words } from './twin-words.ts'
import { WordHeap } from './word-heap.ts'
import { impliedNamespace } from './workload.ts'

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

/** What changed among identities since the last `take`. */
export interface IdentityChange {
  /** Identities that are new or gone, or whose facts are others now: who selects them has to be found out again. */
  readonly identities: ReadonlySet<number>
  /** Workloads that are new or gone, or different in what policies or the data path see of them. */
  readonly workloads: ReadonlySet<number>
  /** Whoever has an end here may be judged as somebody else now. */
  readonly addresses: readonly Address[]
  readonly blocks: readonly Block[]
  /** This machine is another workload than before. */
  readonly host: boolean
  /** This machine is another node than before. */
  readonly node: boolean
}

interface MutableIdentity extends Identity {
  namespaceLabels: Labels
  readonly key: string
  terms: readonly number[]
  /** How many words its facts have. */
  length: number
}

/** Gives every workload its identity and every address its owner, and keeps both as workloads, namespaces and nodes change. */
export class IdentityIndex {
  readonly terms = new Terms()
  readonly identities: (MutableIdentity | undefined)[] = []
  readonly workloads: (Workload | undefined)[] = []
  readonly nodeNames: string[] = []
  readonly #localNodeName: string | undefined
  readonly #portNames = new Map<string, number>()
  readonly #members = new Members()
  readonly #byKey = new Map<string, number>()
  readonly #byNamespace = new Map<string, Set<number>>()
  readonly #slots = new Map<string, number>()
  readonly #freeSlots: number[] = []
  readonly #freeIdentities: number[] = []
  readonly #nodeIndex = new Map<string, number>()
  readonly #nodes = new Map<string, { node: Node; terms: readonly number[] }>()
  readonly #hosts = new Map<number, Workload>()
  /** Addresses that more than one workload claims, by their text. */
  readonly #contested = new Map<string, Set<number>>()
  readonly #namespaceLabels = new Map<string, Labels>()
  readonly #addressWorkload = new AddressMap()
  #addressNode = new AddressMap()
  readonly #workloadIdentity = new TwinWords(64)
  readonly #workloadNode = new TwinWords(64)
  readonly #hostNode = new TwinWords(64)
  readonly #facts = new TwinWords(64)
  readonly #nodeFacts = new TwinWords(16)
  readonly #lists = new WordHeap()
  #forwards = sharedWords(0)
  #localHost = OUTSIDE
  #localNode = NO_NODE
  #hasOtherNodes = false
  #hasOtherHosts = false
  #changed = new Set<number>()
  #changedWorkloads = new Set<number>()
  #addresses: Address[] = []
  #blocks: Block[] = []
  #host = false
  #node = false

  /** @param localNode the name of the node that decides packets */
  constructor(localNode?: string) {
    this.#localNodeName = localNode
  }

  /** The number of a port name. */
  portName(name: string): number {
    const known = this.#portNames.get(name)
    if (known !== undefined) return known
    this.#portNames.set(name, this.#portNames.size)
    return this.#portNames.size - 1
  }

  /** The identities of a namespace. */
  inNamespace(namespace: string): Iterable<number> {
    return this.#byNamespace.get(namespace) ?? []
  }

  /** The indices of the workloads that have an identity. */
  membersOf(identity: number): Iterable<number> {
    return this.#members.of(identity)
  }

  termsOf(identity: number): readonly number[] {
    return this.identities[identity]!.terms
  }

  /** The workload that this machine is; OUTSIDE where no HostEndpoint is. */
  get localHost(): number {
    return this.#localHost
  }

  /** The picture does not know this machine as a node. */
  get isNoNode(): boolean {
    return this.#localNode === NO_NODE
  }

  /** Whether a workload runs on this machine; one whose object names no node is taken to. */
  isLocal(workload: number): boolean {
    const node = this.#workloadNode.get(workload)
    return node === NO_NODE || node === this.#localNode
  }

  /** The labels of the nodes that a flow goes to: by the host that is one, and by the address. */
  nodeLabelsOf(flow: Flow, tables: IdentityTables): Labels[] {
    return [hostNodeOfDestination(tables, flow), addressNodeOfDestination(tables, flow)].flatMap((node) => {
      const known = node === NO_NODE ? undefined : this.#nodes.get(this.nodeNames[node]!)
      return known ? [known.node.labels] : []
    })
  }

  identityOf(workload: number): number {
    return this.#workloadIdentity.get(workload)
  }

  /** Takes a new or changed workload in. @param key what tells workloads apart */
  upsertWorkload(key: string, workload: Workload): void {
    const former = this.#slots.get(key)
    if (!hasIdentity(workload)) this.deleteWorkload(key)
    else if (former === undefined) this.#addWorkload(key, workload)
    else this.#changeWorkload(former, workload)
  }

  deleteWorkload(key: string): void {
    const slot = this.#slots.get(key)
    if (slot === undefined) return
    const workload = this.workloads[slot]!
    this.#note(slot, workload)
    for (const address of workload.addresses) this.#release(address, slot)
    this.#leaveIdentity(slot)
    this.#slots.delete(key)
    this.workloads[slot] = undefined
    this.#freeSlots.push(slot)
    if (this.#hosts.delete(slot)) this.#hasOtherHosts = true
  }

  /** @param labels `undefined` where only its workloads mention the namespace */
  setNamespace(name: string, labels: Labels | undefined): void {
    if (labels) this.#namespaceLabels.set(name, labels)
    else this.#namespaceLabels.delete(name)
    for (const number of this.inNamespace(name)) {
      const identity = this.identities[number]!
      identity.namespaceLabels = this.#labelsOf(name)
      const terms = this.#termsFor(identity)
      if (sameNumbers(terms, identity.terms)) continue
      this.#storeFacts(number, terms)
      this.#changed.add(number)
      for (const slot of this.#members.of(number)) this.#note(slot, this.workloads[slot]!)
    }
  }

  upsertNode(node: Node): void {
    const former = this.#nodes.get(node.name)
    const index = this.#indexOf(node.name)
    const terms: number[] = []
    this.terms.collect('node', node.labels, terms)
    this.#nodes.set(node.name, { node, terms })
    const hasMoved = !former || !sameAddresses(former.node.addresses, node.addresses)
    if (!hasMoved && sameNumbers(former.terms, terms)) return
    this.#storeNodeFacts(index, former?.terms, terms)
    this.#noteNode(node.name, [...(former?.node.addresses ?? []), ...node.addresses])
    if (hasMoved) this.#hasOtherNodes = true
  }

  deleteNode(name: string): void {
    const former = this.#nodes.get(name)
    if (!former) return
    this.#nodes.delete(name)
    this.#storeNodeFacts(this.#indexOf(name), former.terms, undefined)
    this.#noteNode(name, former.node.addresses)
    this.#hasOtherNodes = true
  }

  /** Gives the terms that policies ask for since the last time to those whom they describe. */
  learnTerms(): void {
    const fresh = this.terms.takeFresh()
    if (fresh.length === 0) return
    const nodeTerms = fresh.filter(({ scope }) => scope === 'node')
    const others = fresh.filter(({ scope }) => scope !== 'node')
    if (others.length > 0) {
      for (const [number, identity] of this.identities.entries()) {
        if (!identity) continue
        const learned = others.filter((term) =>
          holds(term, term.scope === 'workload' ? identity.labels : identity.namespaceLabels),
        )
        if (learned.length > 0) this.#storeFacts(number, [...identity.terms, ...learned.map((term) => term.number)])
      }
    }
    if (nodeTerms.length === 0) return
    for (const [name, known] of this.#nodes) {
      const learned = nodeTerms.filter((term) => holds(term, known.node.labels)).map((term) => term.number)
      if (learned.length === 0) continue
      const terms = [...known.terms, ...learned]
      this.#storeNodeFacts(this.#indexOf(name), known.terms, terms)
      this.#nodes.set(name, { node: known.node, terms })
    }
  }

  /** What changed since the last call. @param knowsLocalNode whether this machine is one of the nodes known */
  take(knowsLocalNode: boolean): IdentityChange {
    this.#settleHosts()
    if (this.#hasOtherNodes) this.#indexNodes()
    this.#hasOtherNodes = false
    const localNode = knowsLocalNode ? this.#indexOf(this.#localNodeName!) : NO_NODE
    if (localNode !== this.#localNode) this.#node = true
    this.#localNode = localNode
    const change = {
      identities: this.#changed,
      workloads: this.#changedWorkloads,
      addresses: this.#addresses,
      blocks: this.#blocks,
      host: this.#host,
      node: this.#node,
    }
    this.#changed = new Set()
    this.#changedWorkloads = new Set()
    this.#addresses = []
    this.#blocks = []
    this.#host = false
    this.#node = false
    return change
  }

  publish(): Identities {
    return {
      identities: this.identities,
      workloads: this.workloads,
      nodeNames: this.nodeNames,
      portNames: this.#portNames,
      tables: {
        addressWorkload: this.#addressWorkload.publish(),
        addressNode: this.#addressNode.publish(),
        workloadIdentity: this.#workloadIdentity.publish(),
        workloadNode: this.#workloadNode.publish(),
        hostNode: this.#hostNode.publish(),
        facts: this.#facts.publish(),
        nodeFacts: this.#nodeFacts.publish(),
        lists: this.#lists.publish(),
        forwards: this.#forwards,
        hasHosts: this.#hosts.size > 0,
        localHost: this.#localHost,
        localNode: this.#localNode,
      },
    }
  }

  #addWorkload(key: string, workload: Workload): void {
    const slot = this.#freeSlots.pop() ?? this.workloads.length
    this.#slots.set(key, slot)
    this.workloads[slot] = workload
    for (const words of [this.#workloadIdentity, this.#workloadNode, this.#hostNode]) words.ensure(slot + 1)
    this.#enterIdentity(slot, workload)
    this.#writeRow(slot, workload)
    for (const address of workload.addresses) this.#claim(address, slot)
    this.#note(slot, workload)
    if (workload.isHost) this.#noteHost(slot, workload)
  }

  #changeWorkload(slot: number, workload: Workload): void {
    const former = this.workloads[slot]!
    this.workloads[slot] = workload
    const hasMoved = !sameAddresses(former.addresses, workload.addresses) || rankDiffers(former, workload)
    if (hasMoved) {
      for (const address of former.addresses) this.#release(address, slot)
      for (const address of workload.addresses) this.#claim(address, slot)
    }
    const formerIdentity = this.identityOf(slot)
    const isSame = hasFacts(this.identities[formerIdentity]!, workload)
    if (!isSame) {
      this.#leaveIdentity(slot)
      this.#enterIdentity(slot, workload)
    }
    const isElsewhere = former.node !== workload.node || former.isHost !== workload.isHost
    if (isElsewhere) this.#writeRow(slot, workload)
    const hasOtherForwards = !sameBlocks(former.forwards, workload.forwards)
    if (hasMoved || !isSame || isElsewhere || hasOtherForwards) {
      this.#note(slot, former)
      this.#note(slot, workload)
    }
    if (former.isHost || workload.isHost) {
      this.#hosts.delete(slot)
      if (workload.isHost) this.#noteHost(slot, workload)
      this.#hasOtherHosts = true
    }
  }

  #noteHost(slot: number, workload: Workload): void {
    this.#hosts.set(slot, workload)
    this.#hasOtherHosts = true
  }

  /** Its flows may be judged otherwise from now on. */
  #note(slot: number, workload: Workload): void {
    this.#changedWorkloads.add(slot)
    this.#addresses.push(...workload.addresses)
    if (!workload.isHost) return
    this.#blocks.push(...workload.forwards)
    if (workload.node === this.#localNodeName) this.#host = true
  }

  /** Whoever asks for nodes sees another one there; a host has its node's labels whatever its addresses are. */
  #noteNode(name: string, addresses: readonly Address[]): void {
    this.#addresses.push(...addresses)
    for (const [slot, host] of this.#hosts) if (host.node === name) this.#note(slot, host)
  }

  #writeRow(slot: number, workload: Workload): void {
    const node = workload.node === undefined ? NO_NODE : this.#indexOf(workload.node)
    this.#workloadNode.set(slot, node)
    this.#hostNode.set(slot, workload.isHost ? node : NO_NODE)
  }

  #enterIdentity(slot: number, workload: Workload): void {
    const key = identityKey(workload)
    let number = this.#byKey.get(key)
    if (number === undefined) {
      number = this.#freeIdentities.pop() ?? this.identities.length
      this.#byKey.set(key, number)
      this.#addIdentity(number, key, workload)
    }
    this.#workloadIdentity.set(slot, number)
    this.#members.add(number, slot)
  }

  #addIdentity(number: number, key: string, { namespace, labels, ports }: Workload): void {
    const identity = { key, namespace, labels, ports, namespaceLabels: this.#labelsOf(namespace), terms: [], length: 0 }
    this.identities[number] = identity
    this.#facts.ensure(number + 1)
    this.#storeFacts(number, this.#termsFor(identity))
    const inNamespace = this.#byNamespace.get(namespace)
    if (inNamespace) inNamespace.add(number)
    else this.#byNamespace.set(namespace, new Set([number]))
    this.#changed.add(number)
  }

  #leaveIdentity(slot: number): void {
    const number = this.identityOf(slot)
    this.#members.remove(number, slot)
    if (!this.#members.isEmpty(number)) return
    const { key, namespace, length } = this.identities[number]!
    this.#byKey.delete(key)
    const inNamespace = this.#byNamespace.get(namespace)!
    inNamespace.delete(number)
    if (inNamespace.size === 0) this.#byNamespace.delete(namespace)
    this.#lists.free(this.#facts.get(number), length)
    this.#facts.set(number, 0)
    this.identities[number] = undefined
    this.#freeIdentities.push(number)
    this.#changed.add(number)
  }

  #termsFor({ labels, namespaceLabels }: Identity): number[] {
    const terms: number[] = []
    this.terms.collect('workload', labels, terms)
    this.terms.collect('namespace', namespaceLabels, terms)
    return terms
  }

  #storeFacts(number: number, terms: readonly number[]): void {
    const identity = this.identities[number]!
    const words = encodeFacts(terms)
    words.push(identity.ports.length)
    for (const { name, protocol, port } of identity.ports) words.push(this.portName(name), protocol, port)
    this.#lists.free(this.#facts.get(number), identity.length)
    this.#facts.set(number, this.#lists.store(words))
    identity.terms = terms
    identity.length = words.length
  }

  #storeNodeFacts(index: number, former: readonly number[] | undefined, terms: readonly number[] | undefined): void {
    this.#lists.free(this.#nodeFacts.get(index), former ? encodeFacts(former).length : 0)
    this.#nodeFacts.set(index, terms ? this.#lists.store(encodeFacts(terms)) : 0)
  }

  #labelsOf(namespace: string): Labels {
    return this.#namespaceLabels.get(namespace) ?? impliedNamespace(namespace).labels
  }

  #indexOf(node: string): number {
    const known = this.#nodeIndex.get(node)
    if (known !== undefined) return known
    this.#nodeIndex.set(node, this.nodeNames.length)
    this.#nodeFacts.ensure(this.nodeNames.length + 1)
    return this.nodeNames.push(node) - 1
  }

  #claim(address: Address, slot: number): void {
    const owner = this.#addressWorkload.get(address)
    if (owner === slot) return
    if (owner === NO_NUMBER) {
      this.#addressWorkload.set(address, slot)
      return
    }
    const text = formatAddress(address)
    const claims = this.#contested.get(text) ?? new Set([owner])
    claims.add(slot)
    this.#contested.set(text, claims)
    this.#addressWorkload.set(address, this.#best(claims))
  }

  #release(address: Address, slot: number): void {
    const text = formatAddress(address)
    const claims = this.#contested.get(text)
    if (!claims) {
      if (this.#addressWorkload.get(address) === slot) this.#addressWorkload.delete(address)
      return
    }
    claims.delete(slot)
    this.#addressWorkload.set(address, this.#best(claims))
    if (claims.size < 2) this.#contested.delete(text)
  }

  #best(claims: ReadonlySet<number>): number {
    return [...claims].reduce((best, slot) => (outranks(this.workloads[slot]!, this.workloads[best]!) ? slot : best))
  }

  #settleHosts(): void {
    if (!this.#hasOtherHosts) return
    this.#hasOtherHosts = false
    const hosts = this.#sortedHosts()
    this.#localHost = hosts.find(([, { node }]) => node === this.#localNodeName)?.[0] ?? OUTSIDE
    // Behind two hosts is behind the one whose block is the narrower.
    const rows = hosts
      .flatMap(([slot, { forwards }]) => forwards.map((block) => ({ slot, block })))
      .sort((a, b) => b.block.prefix - a.block.prefix)
      .flatMap(({ slot, block: { address, prefix } }) => [slot, prefix, address.w0, address.w1, address.w2, address.w3])
    this.#forwards = sharedWords(rows.length)
    this.#forwards.set(rows)
  }

  /** Nodes are few, and their addresses change rarely. */
  #indexNodes(): void {
    this.#addressNode = new AddressMap()
    const nodes = [...this.#nodes.values()].map(({ node }) => node).sort((a, b) => (a.name < b.name ? -1 : 1))
    for (const { name, addresses } of nodes) {
      for (const address of addresses) {
        if (this.#addressNode.get(address) === NO_NUMBER) this.#addressNode.set(address, this.#indexOf(name))
      }
    }
  }

  /** Whichever arrived first: of two for one node the first by name counts. */
  #sortedHosts(): [number, Workload][] {
    return [...this.#hosts].sort(([, a], [, b]) => (refName(a.ref) < refName(b.ref) ? -1 : 1))
  }
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

/**
 * Whether policies can name the workload. Host-network pods carry their node's addresses: no policy selects them
 * (NetworkPolicy concept page). A finished pod owns nothing and receives nothing.
 */
export function hasIdentity({ hostNetwork, phase }: Workload): boolean {
  return !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed'
}

/** Two live pods with one address: Running wins over Pending, then the younger, then (no order of arrival) the first by name. */
export function outranks(a: Workload, b: Workload): boolean {
  if ((a.phase === 'Running') !== (b.phase === 'Running')) return a.phase === 'Running'
  if (a.createdMs !== b.createdMs) return a.createdMs > b.createdMs
  if (refName(a.ref) !== refName(b.ref)) return refName(a.ref) < refName(b.ref)
  return a.ref.kind < b.ref.kind
}

function rankDiffers(a: Workload, b: Workload): boolean {
  return a.phase !== b.phase || a.createdMs !== b.createdMs
}

function hasFacts(identity: Identity, workload: Workload): boolean {
  return (
    identity.namespace === workload.namespace &&
    sameLabels(identity.labels, workload.labels) &&
    identity.ports.length === workload.ports.length &&
    identity.ports.every((port, i) => samePort(port, workload.ports[i]!))
  )
}

function samePort(a: NamedPort, b: NamedPort): boolean {
  return a.name === b.name && a.protocol === b.protocol && a.port === b.port
}

function sameLabels(a: Labels, b: Labels): boolean {
  if (a === b) return true
  if (a.size !== b.size) return false
  for (const [key, value] of a) if (b.get(key) !== value) return false
  return true
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((each) => b.includes(each))
}

function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return a.length === b.length && a.every((address, i) => sameAddress(address, b[i]!))
}

function sameBlocks(a: readonly Block[], b: readonly Block[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ prefix, address }, i) => prefix === b[i]!.prefix && sameAddress(address, b[i]!.address))
  )
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
