import { type Address, type Block, sameAddress, sameAddresses } from './address.ts'
import { OUTSIDE } from './address-map.ts'
import { AddressOwners } from './address-owners.ts'
import { encodeFacts } from './facts.ts'
import type { Flow } from './flow.ts'
import {
  addressNodeOfDestination,
  hostNodeOfDestination,
  type Identities,
  type Identity,
  type IdentityTables,
  NO_NODE,
} from './identity.ts'
import { Members } from './members.ts'
import { NodeIndex } from './node-index.ts'
import { type Labels, type NamedPort, type Node, refName, type Workload } from './objects.ts'
import { holds, sameTerms, Terms } from './terms.ts'
import { sharedWords, TwinWords } from './twin-words.ts'
import { WordHeap } from './word-heap.ts'
import { impliedNamespace } from './workload.ts'
import { NO_SLOT, type WorkloadEntry } from './world.ts'

/** What changed among identities since the last `take`; the first time it is everything, and this machine is another node. */
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
  readonly #localNodeName: string | undefined
  readonly #portNames = new Map<string, number>()
  readonly #members = new Members()
  readonly #byKey = new Map<string, number>()
  /** Sources share one mapping among workloads whose labels are equal. */
  readonly #latestByLabels = new WeakMap<Labels, number>()
  readonly #byNamespace = new Map<string, Set<number>>()
  readonly #freeSlots: number[] = []
  readonly #freeIdentities: number[] = []
  readonly #hosts = new Map<number, Workload>()
  readonly #namespaceLabels = new Map<string, Labels>()
  readonly #owners = new AddressOwners(this.workloads)
  readonly #workloadIdentity = new TwinWords(64)
  readonly #workloadNode = new TwinWords(64)
  readonly #hostNode = new TwinWords(64)
  readonly #facts = new TwinWords(64)
  readonly #lists = new WordHeap()
  readonly #nodes = new NodeIndex(this.terms, this.#lists)
  #forwards = sharedWords(0)
  #localHost = OUTSIDE
  #localNode = NO_NODE
  #hasOtherHosts = false
  /** Nothing was taken yet: all that there is has changed. */
  #isFirst = true
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

  /** The hosts, by name: of two for one node the first counts. */
  hosts(): Workload[] {
    return this.#sortedHosts().map(([, host]) => host)
  }

  /** The labels of the nodes that a flow goes to: by the host that is one, and by the address. */
  nodeLabelsOf(flow: Flow, tables: IdentityTables): Labels[] {
    return [hostNodeOfDestination(tables, flow), addressNodeOfDestination(tables, flow)].flatMap((node) => {
      return this.#nodes.labelsOf(node) ?? []
    })
  }

  identityOf(workload: number): number {
    return this.#workloadIdentity.get(workload)
  }

  /** Takes a workload in that is new, different or gone. */
  takeWorkload(entry: WorkloadEntry): void {
    const { latest, slot } = entry
    if (!latest || !hasIdentity(latest)) {
      if (slot !== NO_SLOT) this.#deleteWorkload(slot)
      entry.slot = NO_SLOT
    } else if (slot === NO_SLOT) entry.slot = this.#addWorkload(latest)
    else this.#changeWorkload(slot, latest)
  }

  #deleteWorkload(slot: number): void {
    const workload = this.workloads[slot]!
    this.#note(slot, workload)
    for (const address of workload.addresses) this.#owners.release(address, slot)
    this.#leaveIdentity(slot)
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
      if (sameTerms(terms, identity.terms)) continue
      this.#storeFacts(number, terms)
      this.#changed.add(number)
      for (const slot of this.#members.of(number)) this.#note(slot, this.workloads[slot]!)
    }
  }

  upsertNode(node: Node): void {
    this.#noteNode(node.name, this.#nodes.upsert(node))
  }

  deleteNode(name: string): void {
    this.#noteNode(name, this.#nodes.delete(name))
  }

  /** Gives the terms that policies ask for since the last time to those whom they describe. */
  learnTerms(): void {
    const fresh = this.terms.takeFresh()
    this.#nodes.learn(fresh.filter(({ scope }) => scope === 'node'))
    const others = fresh.filter(({ scope }) => scope !== 'node')
    if (others.length === 0) return
    for (const [number, identity] of this.identities.entries()) {
      if (!identity) continue
      const learned = others.filter((term) =>
        holds(term, term.scope === 'workload' ? identity.labels : identity.namespaceLabels),
      )
      if (learned.length > 0) this.#storeFacts(number, [...identity.terms, ...learned.map((term) => term.number)])
    }
  }

  /** Of what `take` would answer the identities, ahead of it. */
  takeIdentities(): ReadonlySet<number> {
    const changed = this.#changed
    this.#changed = new Set()
    return changed
  }

  /** What changed since the last call. @param knowsLocalNode whether this machine is one of the nodes known */
  take(knowsLocalNode: boolean): IdentityChange {
    this.#settleHosts()
    const localNode = knowsLocalNode ? this.#nodes.numberOf(this.#localNodeName!) : NO_NODE
    if (localNode !== this.#localNode || this.#isFirst) this.#node = true
    this.#localNode = localNode
    const change = {
      identities: this.takeIdentities(),
      workloads: this.#changedWorkloads,
      addresses: this.#addresses,
      blocks: this.#blocks,
      host: this.#host,
      node: this.#node,
    }
    this.#changedWorkloads = new Set()
    this.#addresses = []
    this.#blocks = []
    this.#host = false
    this.#node = false
    this.#isFirst = false
    return change
  }

  publish(): Identities {
    return {
      identities: this.identities,
      workloads: this.workloads,
      nodeNames: this.#nodes.names,
      portNames: this.#portNames,
      tables: {
        ...this.#nodes.publish(),
        addressWorkload: this.#owners.publish(),
        workloadIdentity: this.#workloadIdentity.publish(),
        workloadNode: this.#workloadNode.publish(),
        hostNode: this.#hostNode.publish(),
        facts: this.#facts.publish(),
        lists: this.#lists.publish(),
        forwards: this.#forwards,
        hasHosts: this.#hosts.size > 0,
        localHost: this.#localHost,
        localNode: this.#localNode,
      },
    }
  }

  /** Answers where it is. */
  #addWorkload(workload: Workload): number {
    const slot = this.#freeSlots.pop() ?? this.workloads.length
    this.workloads[slot] = workload
    for (const words of [this.#workloadIdentity, this.#workloadNode, this.#hostNode]) words.ensure(slot + 1)
    this.#enterIdentity(slot, workload)
    this.#writeRow(slot, workload)
    for (const address of workload.addresses) this.#owners.claim(address, slot)
    this.#note(slot, workload)
    if (workload.isHost) this.#noteHost(slot, workload)
    return slot
  }

  #changeWorkload(slot: number, workload: Workload): void {
    const former = this.workloads[slot]!
    this.workloads[slot] = workload
    const hasMoved = !sameAddresses(former.addresses, workload.addresses) || rankDiffers(former, workload)
    if (hasMoved) {
      for (const address of former.addresses) this.#owners.release(address, slot)
      for (const address of workload.addresses) this.#owners.claim(address, slot)
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
    if (this.#isFirst) return
    this.#changedWorkloads.add(slot)
    for (const address of workload.addresses) this.#addresses.push(address)
    if (!workload.isHost) return
    this.#blocks.push(...workload.forwards)
    if (workload.node === this.#localNodeName) this.#host = true
  }

  /** Whoever asks for nodes sees another one there; a host has its node's labels whatever its addresses are. */
  #noteNode(name: string, addresses: readonly Address[] | undefined): void {
    if (!addresses || this.#isFirst) return
    this.#addresses.push(...addresses)
    for (const [slot, host] of this.#hosts) if (host.node === name) this.#note(slot, host)
  }

  #writeRow(slot: number, workload: Workload): void {
    const node = workload.node === undefined ? NO_NODE : this.#nodes.numberOf(workload.node)
    this.#workloadNode.set(slot, node)
    this.#hostNode.set(slot, workload.isHost ? node : NO_NODE)
  }

  #enterIdentity(slot: number, workload: Workload): void {
    const number = this.#latestOf(workload) ?? this.#identityFor(workload)
    this.#workloadIdentity.set(slot, number)
    this.#members.add(number, slot)
  }

  /** The identity of the workload before that had the very same labels, where it is this one's too. */
  #latestOf({ namespace, labels, ports }: Workload): number | undefined {
    const number = this.#latestByLabels.get(labels)
    const identity = number === undefined ? undefined : this.identities[number]
    const isSame = identity?.labels === labels && identity.namespace === namespace && identity.ports === ports
    return isSame ? number : undefined
  }

  #identityFor(workload: Workload): number {
    const key = identityKey(workload)
    const known = this.#byKey.get(key)
    const number = known ?? this.#freeIdentities.pop() ?? this.identities.length
    this.#latestByLabels.set(workload.labels, number)
    if (known !== undefined) return known
    this.#byKey.set(key, number)
    this.#addIdentity(number, key, workload)
    return number
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
    // Without the room that a list has which has grown: there are very many.
    return terms.slice()
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

  #labelsOf(namespace: string): Labels {
    return this.#namespaceLabels.get(namespace) ?? impliedNamespace(namespace).labels
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

  /** Whichever arrived first: of two for one node the first by name counts. */
  #sortedHosts(): [number, Workload][] {
    return [...this.#hosts].sort(([, a], [, b]) => (refName(a.ref) < refName(b.ref) ? -1 : 1))
  }
}

/**
 * Whether policies can name the workload. Host-network pods carry their node's addresses: no policy selects them
 * (NetworkPolicy concept page). A finished pod owns nothing and receives nothing.
 */
export function hasIdentity({ hostNetwork, phase }: Workload): boolean {
  return !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed'
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

function sameBlocks(a: readonly Block[], b: readonly Block[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ prefix, address }, i) => prefix === b[i]!.prefix && sameAddress(address, b[i]!.address))
  )
}

/** Neither names of namespaces nor labels have white space; what ports are called nobody has looked at. */
function identityKey({ namespace, labels, ports }: Workload): string {
  let key = namespace
  for (const [name, value] of isSorted(labels) ? labels : [...labels].sort(byKey)) key += `\n${name} ${value}`
  for (const { name, protocol, port } of ports) key += `\n\n${protocol} ${port} ${JSON.stringify(name)}`
  return key
}

/** As an API server has them. */
function isSorted(labels: Labels): boolean {
  let last = ''
  for (const key of labels.keys()) {
    if (key < last) return false
    last = key
  }
  return true
}

function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : a > b ? 1 : 0
}
