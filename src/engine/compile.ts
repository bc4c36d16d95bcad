import type { Address, Block } from './address.ts'
import { OUTSIDE } from './address-map.ts'
import { createEngine, type Engine } from './engine.ts'
import {
  type IncrementalTier,
  type PolicyKind,
  type PolicyNames,
  type Problem,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type TierTables,
} from './evaluator.ts'
import type { Identities, IdentityTables } from './identity.ts'
import { type IdentityChange, IdentityIndex } from './identity-index.ts'
import { refName, type Workload } from './objects.ts'
import type { Delta, Snapshot } from './snapshot.ts'
import { attachWhole, WholeTier } from './whole-tier.ts'
import { type ObjectChange, World } from './world.ts'

/** One generation as the packet path reads it: plain data in shared memory, handed to another thread without a copy. */
export interface Generation {
  readonly number: number
  readonly identities: IdentityTables
  /** The tables of each policy kind, in the pipeline's order. */
  readonly tiers: readonly TierTables[]
  /** Whether any policy is audited: else what would be if it were enforced is what is. */
  readonly hasAudited: boolean
  /** How many numbers the policies of each tier have; the same array as long as no policy comes or goes. */
  readonly policyCounts: readonly number[]
}

/** A generation with everything that has a name: what explains decisions, and what the ruleset needs. */
export interface CompiledPolicy {
  readonly generation: Generation
  readonly identities: Identities
  /** Decides exactly as the packet thread does, and can fill traces. */
  readonly engine: Engine
  /** What the policies of each tier are called, by their numbers. */
  readonly policyNames: readonly PolicyNames[]
  /** The addresses whose traffic has to be decided on this machine. */
  readonly subjects: readonly Address[]
  /** How `subjects` differ from those of the generation before. */
  readonly subjectChange: SubjectChange
  /** How many objects there are: workloads of any state, and policies of any kind. */
  readonly known: { readonly workloads: number; readonly policies: number }
  /** How many workloads `subjects` belong to. */
  readonly protectedWorkloads: number
  /** How many workloads some policy selects, wherever they run. */
  readonly selectedWorkloads: number
  /** This machine itself, where a HostEndpoint says it is a workload. */
  readonly host?: HostProtection
  /** This machine is none of the nodes known: it decides for every workload whose traffic passes. */
  readonly isGateway: boolean
  /** All `subjects` belong to pods that run on this machine; a gateway's do not. */
  readonly areSubjectsOwnPods: boolean
  /** In which this machine's pods have their addresses, where a Node says so; the same list until that changes. */
  readonly podBlocks: readonly Block[]
  /** What may be decided otherwise than in the generation before. */
  readonly affected: Affected
  readonly problems: readonly Problem[]
}

/** Addresses that became subjects, and that no longer are. */
export interface SubjectChange {
  readonly added: readonly Address[]
  readonly removed: readonly Address[]
}

/** What of this machine's own traffic has to be decided. */
export interface HostProtection {
  readonly name: string
  /** Whether policies select it for ingress: what comes in, and what is forwarded to `forwards`. */
  readonly ingress: boolean
  readonly egress: boolean
  readonly forwards: readonly Block[]
}

/** Every flow that a change may have given another verdict has an end here; all others are decided as before. */
export interface Affected {
  /** Any flow may: the rest says no more. */
  readonly isEverything: boolean
  readonly addresses: readonly Address[]
  readonly blocks: readonly Block[]
  /** What this machine itself sends, receives and forwards to those behind it. */
  readonly host: boolean
}

/**
 * Keeps policies compiled while the world changes: a pod, a label or a policy costs what it touches. What `update`
 * answers is valid until the next call; its `generation` may be decided by until the call after that.
 */
export class Compiler {
  readonly #localNode: string | undefined
  readonly #world = new World()
  readonly #identities: IdentityIndex
  readonly #tiers: readonly IncrementalTier[]
  readonly #protection: Protection
  #generation = 0
  #snapshot: Snapshot | undefined
  /** How many policies are. */
  #audited = 0
  #policyNames: readonly PolicyNames[] = []
  #policyCounts: readonly number[] = []

  /**
   * @param kinds the policy APIs, in order of precedence
   * @param localNode the name of the machine that decides; left out where none does
   */
  constructor(kinds: readonly PolicyKind[], localNode?: string) {
    this.#localNode = localNode
    this.#identities = new IdentityIndex(localNode)
    this.#tiers = kinds.map((kind) =>
      'compile' in kind
        ? new WholeTier(kind, this.#identities, () => this.snapshot())
        : kind.start(this.#world, this.#identities),
    )
    this.#protection = new Protection(this.#identities, this.#tiers)
  }

  /** The world as it is now; made when it is asked for. */
  snapshot(): Snapshot {
    this.#snapshot ??= this.#world.snapshot(this.#generation, this.#localNode)
    return this.#snapshot
  }

  /** Takes objects in that the first picture will probably have: `begin` has less to do then. */
  prepare(part: Delta): void {
    this.#take(part)
    const identities = this.#identities.takeIdentities()
    for (const tier of this.#tiers) tier.settleAhead?.(identities)
  }

  /** Answers the first generation. @param picture all objects */
  begin(picture: Delta): CompiledPolicy {
    return this.update(this.#world.differenceTo(picture))
  }

  /** Takes a change in and answers the next generation. */
  update(delta: Delta): CompiledPolicy {
    this.#generation++
    this.#snapshot = undefined
    const objects = this.#take(delta)
    const change = this.#identities.take(this.#localNode !== undefined && this.#world.knowsNode(this.#localNode))
    const touched = new Set<number>()
    for (const tier of this.#tiers) for (const identity of tier.settle(change.identities)) touched.add(identity)
    this.#protection.update(change, touched)
    return this.#publish(this.#affectedBy(change, objects, touched))
  }

  #take(delta: Delta): ObjectChange {
    const { policies, objects } = this.#world.apply(delta)
    for (const tier of this.#tiers) tier.prepare(policies)
    for (const { former, latest } of policies.policies) {
      this.#audited += Number(latest?.isAudited ?? false) - Number(former?.isAudited ?? false)
    }
    this.#identities.learnTerms()
    this.#takeObjects(objects)
    return objects
  }

  #takeObjects({ workloads, namespaces, nodes }: ObjectChange): void {
    for (const [name, labels] of namespaces) this.#identities.setNamespace(name, labels)
    for (const [name, node] of nodes) {
      if (node) this.#identities.upsertNode(node)
      else this.#identities.deleteNode(name)
    }
    for (const entry of workloads) this.#identities.takeWorkload(entry)
  }

  #affectedBy(change: IdentityChange, objects: ObjectChange, touched: ReadonlySet<number>): Affected {
    if (change.node) return { isEverything: true, addresses: [], blocks: [], host: true }
    const addresses = [...change.addresses, ...objects.addresses]
    const blocks = [...change.blocks, ...objects.blocks]
    let { host } = change
    for (const identity of touched) {
      for (const slot of this.#identities.membersOf(identity)) {
        const workload = this.#identities.workloads[slot]!
        for (const address of workload.addresses) addresses.push(address)
        if (!workload.isHost) continue
        blocks.push(...workload.forwards)
        if (slot === this.#identities.localHost) host = true
      }
    }
    return { isEverything: false, addresses, blocks, host }
  }

  #namePolicies(): void {
    const names = this.#tiers.map((tier) => tier.policies?.() ?? nameless)
    const isSame = names.length === this.#policyNames.length && names.every((each, i) => each === this.#policyNames[i])
    if (isSame) return
    this.#policyNames = names
    this.#policyCounts = names.map(({ length }) => length)
  }

  #publish(affected: Affected): CompiledPolicy {
    const identities = this.#identities.publish()
    const published = this.#tiers.map((tier) => tier.publish(identities))
    const protection = this.#protection
    const tiers = this.#tiers
    const hosts = this.#identities.hosts()
    let subjects: readonly Address[] | undefined
    const { localHost } = this.#identities
    this.#namePolicies()
    return {
      generation: {
        number: this.#generation,
        identities: identities.tables,
        tiers: published.map(({ tables }) => tables),
        hasAudited: this.#audited > 0,
        policyCounts: this.#policyCounts,
      },
      policyNames: this.#policyNames,
      identities,
      engine: createEngine(
        identities.tables,
        published.map(({ evaluator }) => evaluator),
      ),
      // There may be very many, and not everybody asks.
      get subjects() {
        subjects ??= protection.subjects.all()
        return subjects
      },
      subjectChange: protection.subjects.takeChange(),
      known: this.#world.counts,
      protectedWorkloads: protection.count,
      selectedWorkloads: protection.selectedCount,
      isGateway: this.#identities.isNoNode,
      areSubjectsOwnPods: protection.areOwnPods,
      ...(localHost !== OUTSIDE && { host: protection.host() }),
      podBlocks: this.#world.podBlocksOf(this.#localNode ?? ''),
      affected,
      get problems() {
        return [...doubledHosts(hosts), ...tiers.flatMap((tier) => tier.problems())]
      },
    }
  }
}

/** What has no policies with numbers. */
const nameless: PolicyNames = []

/** Keeps in mind whose traffic has to be decided on this machine. */
class Protection {
  readonly #identities: IdentityIndex
  readonly #tiers: readonly IncrementalTier[]
  /** Per identity, as it was when its workloads were looked at last. */
  readonly #bits: number[] = []
  readonly #selected = new Flags()
  readonly #protected = new Flags()
  /** Of the protected those that are no pods of this machine, without this machine itself. */
  readonly #others = new Flags()
  /** What is decided by address; this machine is by hook. */
  readonly subjects = new Subjects()

  constructor(identities: IdentityIndex, tiers: readonly IncrementalTier[]) {
    this.#identities = identities
    this.#tiers = tiers
  }

  get count(): number {
    return this.#protected.count
  }

  get selectedCount(): number {
    return this.#selected.count
  }

  get areOwnPods(): boolean {
    return this.#others.count === 0
  }

  /** @param touched identities whose own policies changed */
  update(change: IdentityChange, touched: ReadonlySet<number>): void {
    // Most changes leave it as it is who is selected.
    const others: number[] = []
    const settled = change.node ? [this.#identities.identities.keys()] : [touched, change.identities]
    for (const identities of settled) {
      for (const identity of identities) {
        const bits = this.#tiers.reduce((bits, tier) => bits | tier.selected(identity), 0)
        if (this.#bits[identity] === bits) continue
        this.#bits[identity] = bits
        others.push(identity)
      }
    }
    if (change.node || change.host) {
      for (const workload of this.#identities.workloads.keys()) this.#check(workload)
      return
    }
    for (const workload of change.workloads) this.#check(workload)
    for (const identity of others) for (const workload of this.#identities.membersOf(identity)) this.#check(workload)
  }

  host(): HostProtection {
    const { localHost, workloads } = this.#identities
    const { namespace, name, forwards } = workloads[localHost]!
    const bits = this.#bitsOf(this.#identities.identityOf(localHost))
    const ingress = (bits & SELECTS_INGRESS) !== 0
    return {
      name: `${namespace}/${name}`,
      ingress,
      egress: (bits & SELECTS_EGRESS) !== 0,
      forwards: ingress ? forwards : [],
    }
  }

  #check(index: number): void {
    const workload = this.#identities.workloads[index]
    const isSelected = workload !== undefined && this.#bitsOf(this.#identities.identityOf(index)) !== 0
    this.#selected.set(index, isSelected)
    const isProtected = isSelected && this.#isDecidedHere(index, workload)
    this.#protected.set(index, isProtected)
    this.#others.set(index, isProtected && this.#isOther(index, workload))
    this.subjects.set(index, isProtected && index !== this.#identities.localHost ? workload.addresses : [])
  }

  #isDecidedHere(index: number, { addresses }: Workload): boolean {
    const { localHost, isNoNode } = this.#identities
    // What has no address has no traffic; this machine has, whatever its addresses are.
    if (addresses.length === 0 && index !== localHost) return false
    // A machine that is none of the nodes is on the way of others' traffic, a gateway: there every workload's is decided.
    return isNoNode || this.#identities.isLocal(index)
  }

  #isOther(index: number, { isHost }: Workload): boolean {
    return isHost ? index !== this.#identities.localHost : !this.#identities.isLocal(index)
  }

  #bitsOf(identity: number): number {
    return this.#bits[identity] ?? 0
  }
}

/** What holds of some workloads, by their index; how many they are. */
class Flags {
  readonly #flags: boolean[] = []
  #count = 0

  get count(): number {
    return this.#count
  }

  set(index: number, isSet: boolean): void {
    if ((this.#flags[index] ?? false) === isSet) return
    this.#flags[index] = isSet
    this.#count += isSet ? 1 : -1
  }
}

/** The addresses of the protected workloads. Two may claim one address. */
class Subjects {
  readonly #ofWorkload = new Map<number, readonly Address[]>()
  readonly #claims = new Map<string, { readonly address: Address; count: number }>()
  /** Those whose claims changed, and whether they had any before. */
  readonly #changed = new Map<string, { readonly address: Address; readonly wasSubject: boolean }>()

  set(workload: number, addresses: readonly Address[]): void {
    const former = this.#ofWorkload.get(workload)
    if (former === addresses || (!former && addresses.length === 0)) return
    for (const address of addresses) this.#claim(address, 1)
    for (const address of former ?? []) this.#claim(address, -1)
    if (addresses.length > 0) this.#ofWorkload.set(workload, addresses)
    else this.#ofWorkload.delete(workload)
  }

  all(): Address[] {
    return Array.from(this.#claims.values(), ({ address }) => address)
  }

  takeChange(): SubjectChange {
    const added: Address[] = []
    const removed: Address[] = []
    for (const [key, { address, wasSubject }] of this.#changed) {
      if (this.#claims.has(key) === wasSubject) continue
      if (wasSubject) removed.push(address)
      else added.push(address)
    }
    this.#changed.clear()
    return { added, removed }
  }

  #claim(address: Address, change: 1 | -1): void {
    const key = `${address.w0} ${address.w1} ${address.w2} ${address.w3}`
    const claim = this.#claims.get(key)
    if (!this.#changed.has(key)) this.#changed.set(key, { address, wasSubject: claim !== undefined })
    if (!claim) this.#claims.set(key, { address, count: change })
    else if (claim.count + change === 0) this.#claims.delete(key)
    else claim.count += change
  }
}

/** Compiles a picture once. @param kinds the policy APIs, in order of precedence */
export function compile(snapshot: Snapshot, kinds: readonly PolicyKind[]): CompiledPolicy {
  const { workloads, namespaces, nodes, networkSets, domainNames, policies } = snapshot
  const upserts = [...namespaces.values(), ...nodes, ...workloads, ...networkSets, ...domainNames, ...policies]
  return new Compiler(kinds, snapshot.localNode).update({ upserts, deletes: [] })
}

/** The engine of the packet thread, over tables that another thread compiled with the same kinds. */
export function attachEngine(generation: Generation, kinds: readonly PolicyKind[]): Engine {
  return createEngine(
    generation.identities,
    kinds.map((kind, i) => {
      const tables = generation.tiers[i]!
      const { identities } = generation
      return 'compile' in kind ? attachWhole(kind, tables, identities) : kind.evaluate(tables, identities)
    }),
  )
}

/** @param hosts in the order in which they count */
function doubledHosts(hosts: readonly Workload[]): Problem[] {
  return hosts.flatMap(({ ref, node }, i) => {
    const first = hosts.findIndex((other) => other.node === node)
    if (first === i) return []
    const message = `node ${node} is ${refName(hosts[first]!.ref)} already; this one stands for nothing there`
    return [{ object: ref, message }]
  })
}
