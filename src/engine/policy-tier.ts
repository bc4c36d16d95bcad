import { OUTSIDE } from './address-map.ts'
import {
  type Direction,
  type IncrementalKind,
  type IncrementalTier,
  NO_POLICY,
  type PolicyNames,
  type Problem,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type Trace,
} from './evaluator.ts'
import type { Flow } from './flow.ts'
import type { Identities, IdentityTables } from './identity.ts'
import type { IdentityIndex } from './identity-index.ts'
import { comparePolicies, type Policy } from './policy.ts'
import { buildRuleIndex, sizeOfBlock } from './rule-index.ts'
import {
  BLOCK_HEADER,
  BLOCK_RULES,
  encodePods,
  encodeRules,
  RULE_INDEX,
  RULE_POLICY,
  type RuleContext,
} from './rule-words.ts'
import {
  AUDITED_COLUMN,
  EGRESS,
  FIRST_POLICY_COLUMN,
  INDEXED,
  INGRESS,
  LIST_COLUMNS,
  type PolicyTierTables,
  type TierDecision,
  TierEvaluator,
  type TierRules,
} from './tier-evaluator.ts'
import { describeStep } from './tier-trace.ts'
import { TwinWords } from './twin-words.ts'
import { WordHeap } from './word-heap.ts'
import type { World, WorldChange } from './world.ts'

/** AdminNetworkPolicy and ClusterNetworkPolicy of the tier Admin: ahead of everybody else's policies. */
export const adminTier = tierKind({ name: 'Admin', otherwise: 'next', opensOwnNode: false })

/** networking.k8s.io/v1 NetworkPolicy. */
export const networkPolicies = tierKind({ name: 'NetworkPolicy', otherwise: 'deny', opensOwnNode: true })

/** ClusterNetworkPolicy of the tier Baseline, BaselineAdminNetworkPolicy: for what nobody else has decided. */
export const baselineTier = tierKind({ name: 'Baseline', otherwise: 'next', opensOwnNode: false })

/** Above so many rules, peers and ports a selection's rules are indexed; below, looking at each is quicker. */
const INDEX_FROM = 24

function tierKind(rules: TierRules): IncrementalKind {
  return {
    name: rules.name,
    start: (world, identities) => new PolicyTier(rules, world, identities),
    evaluate: (tables, identities) => new TierEvaluator(rules, tables as PolicyTierTables, identities),
  }
}

/** A policy with its number and its words. */
interface Entry {
  policy: Policy
  /** Clauses of its subject. */
  subject: readonly number[]
  /** Blocks of egress and ingress rules; `undefined` where it says nothing about the direction. */
  blocks: readonly (readonly number[] | undefined)[]
  /** What the rules cost to look at, per direction. */
  sizes: readonly number[]
}

/** The policies that select an identity, in their order; identities with the same ones share it. */
interface Selection {
  readonly number: number
  readonly key: string
  readonly policies: readonly number[]
  users: number
  /** Lists in the heap that are its own. */
  owned: { at: number; length: number }[]
}

/**
 * Keeps the policies of one tier compiled. A change of a policy costs its own words and those whom it selects; a change of
 * an identity costs the policies that may select it.
 */
class PolicyTier implements IncrementalTier {
  readonly #rules: TierRules
  readonly #world: World
  readonly #identities: IdentityIndex
  readonly #entries: (Entry | undefined)[] = []
  readonly #numbers = new Map<string, number>()
  readonly #freeNumbers: number[] = []
  /** Made when it is asked for; `undefined` since a policy came or went. */
  #names: PolicyNames | undefined
  /** Policies of which there is something to say. */
  readonly #doubtful = new Set<number>()
  /** Policies by the only namespace that they select in; `undefined` for those that select in any. */
  readonly #byNamespace = new Map<string | undefined, Set<number>>()
  readonly #selections = new Map<string, Selection>()
  readonly #freeSelections: number[] = []
  #selectionCount = 1
  readonly #selectionOf: (Selection | undefined)[] = []
  readonly #selectionWords = new TwinWords(64)
  readonly #listWords = new TwinWords(LIST_COLUMNS * 16)
  /** Where blocks of rules stand that indices refer to, by policy and direction; 0 or missing: nowhere. */
  readonly #blocks: number[] = []
  readonly #heap = new WordHeap()
  /** Nobody is selected yet: then all identities have changed. */
  #isFirst = true
  /** Since the last `settle`: policies that are new, gone or different in any way. */
  #changed = new Set<number>()
  /** Those of them that are gone or have another place in the order. */
  #moved = new Set<number>()
  /** Those of them whose subject is new. */
  #resubjected = new Set<number>()

  constructor(rules: TierRules, world: World, identities: IdentityIndex) {
    this.#rules = rules
    this.#world = world
    this.#identities = identities
  }

  prepare({ policies, refersTo }: WorldChange): void {
    for (const { former, latest } of policies) {
      if (former && former.tier === this.#rules.name && latest?.tier !== this.#rules.name) this.#delete(former)
      if (latest?.tier === this.#rules.name) this.#upsert(latest)
    }
    if (refersTo) for (const entry of this.#entries) if (entry && refersTo(entry.policy)) this.#upsert(entry.policy)
  }

  settleAhead(added: ReadonlySet<number>): void {
    this.settle(added)
  }

  settle(changed: ReadonlySet<number>): ReadonlySet<number> {
    const { touched, reselected } = this.#isFirst ? { touched: changed, reselected: changed } : this.#visit(changed)
    this.#selectionWords.ensure(this.#identities.identities.length)
    for (const identity of reselected) this.#select(identity)
    this.#isFirst = false
    this.#changed = new Set()
    this.#moved = new Set()
    this.#resubjected = new Set()
    return touched
  }

  /** Finds those whose own policies changed, and those whom others select now. */
  #visit(changed: ReadonlySet<number>) {
    const touched = new Set<number>()
    const reselected = new Set(changed)
    this.#visitMembers(touched, reselected)
    for (const number of this.#resubjected) {
      const { subject, policy } = this.#entries[number]!
      for (const identity of this.#candidates(policy)) {
        const isMember = selectsTerms(subject, this.#identities.termsOf(identity))
        if (isMember) touched.add(identity)
        if (isMember !== this.#isSelectedBy(identity, number)) reselected.add(identity)
      }
    }
    return { touched, reselected }
  }

  /** Finds those whom policies that changed have selected until now, and rebuilds what was built of these policies. */
  #visitMembers(touched: Set<number>, reselected: Set<number>): void {
    if (this.#changed.size === 0) return
    const affected = new Map<Selection, boolean>()
    for (const selection of this.#selections.values()) {
      if (!selection.policies.some((policy) => this.#changed.has(policy))) continue
      affected.set(
        selection,
        selection.policies.some((policy) => this.#moved.has(policy)),
      )
      this.#buildLists(selection)
    }
    if (affected.size === 0) return
    for (const [identity, selection] of this.#selectionOf.entries()) {
      const hasMoved = selection && affected.get(selection)
      if (hasMoved === undefined) continue
      touched.add(identity)
      if (hasMoved) reselected.add(identity)
    }
  }

  publish({ tables }: Identities): { tables: PolicyTierTables; evaluator: TierEvaluator } {
    const published: PolicyTierTables = {
      selections: this.#selectionWords.publish(),
      lists: this.#listWords.publish(),
      words: this.#heap.publish(),
    }
    const explain = (step: TierDecision, trace: Trace) => this.#explain(step, tables, trace)
    return { tables: published, evaluator: new TierEvaluator(this.#rules, published, tables, explain) }
  }

  selected(identity: number): number {
    const selection = this.#selectionOf[identity]
    if (!selection) return 0
    const at = selection.number * LIST_COLUMNS + AUDITED_COLUMN
    return (
      (this.#listWords.get(at + EGRESS) === 0 ? 0 : SELECTS_EGRESS) |
      (this.#listWords.get(at + INGRESS) === 0 ? 0 : SELECTS_INGRESS)
    )
  }

  problems(): Problem[] {
    return [...this.#doubtful].flatMap((number) => {
      const { ref, problems } = this.#entries[number]!.policy
      return problems.map((message) => ({ object: ref, message }))
    })
  }

  policies(): PolicyNames {
    this.#names ??= this.#entries.map((entry) => {
      if (!entry) return undefined
      const { kind, namespace, name } = entry.policy.ref
      return { kind, name, ...(namespace !== undefined && { namespace }) }
    })
    return this.#names
  }

  #upsert(policy: Policy): void {
    const key = keyOf(policy)
    const known = this.#numbers.get(key)
    const number = known ?? this.#freeNumbers.pop() ?? this.#entries.length
    const former = known === undefined ? undefined : this.#entries[known]
    const context: RuleContext = {
      terms: this.#identities.terms,
      portName: (name) => this.#identities.portName(name),
      networksOf: (peer, namespace) => this.#world.networksOf(peer, namespace),
      addressesOf: (pattern) => this.#world.addressesOf(pattern),
    }
    const blocks = [policy.egress, policy.ingress].map((rules) => rules && encodeRules(number, policy, rules, context))
    const subject = encodePods(policy.subject, policy.namespace, this.#identities.terms)
    const entry: Entry = { policy, subject, blocks, sizes: blocks.map((block) => (block ? sizeOfBlock(block) : 0)) }
    if (!former) this.#add(number, key, entry)
    const isSameSubject = former !== undefined && sameWords(former.subject, subject)
    const isSameOrder =
      former !== undefined && former.policy.priority === policy.priority && former.policy.isAudited === policy.isAudited
    const isSameRules = former !== undefined && blocks.every((block, i) => sameWords(former.blocks[i], block))
    this.#entries[number] = entry
    if (policy.problems.length > 0) this.#doubtful.add(number)
    else this.#doubtful.delete(number)
    if (isSameSubject && isSameOrder && isSameRules) return
    if (!isSameRules) this.#freeBlocks(number, former)
    this.#changed.add(number)
    if (!isSameOrder) this.#moved.add(number)
    if (!isSameSubject) this.#resubjected.add(number)
  }

  #add(number: number, key: string, { policy }: Entry): void {
    this.#numbers.set(key, number)
    this.#names = undefined
    const scope = policy.namespace
    const inScope = this.#byNamespace.get(scope)
    if (inScope) inScope.add(number)
    else this.#byNamespace.set(scope, new Set([number]))
  }

  #delete(policy: Policy): void {
    const key = keyOf(policy)
    const number = this.#numbers.get(key)
    if (number === undefined) return
    this.#freeBlocks(number, this.#entries[number])
    this.#changed.add(number)
    this.#moved.add(number)
    this.#numbers.delete(key)
    this.#names = undefined
    this.#byNamespace.get(policy.namespace)!.delete(number)
    this.#entries[number] = undefined
    this.#doubtful.delete(number)
    this.#resubjected.delete(number)
    this.#freeNumbers.push(number)
  }

  /** What refers to the former blocks is built again before anybody reads it. */
  #freeBlocks(number: number, former: Entry | undefined): void {
    for (const direction of [EGRESS, INGRESS]) {
      const at = number * 2 + direction
      this.#heap.free(this.#blocks[at] ?? 0, former?.blocks[direction]?.length ?? 0)
      this.#blocks[at] = 0
    }
  }

  /** Where the policy's block stands, for indices; short lists have copies of the rules. */
  #blockOf(number: number, direction: number): number {
    const at = number * 2 + direction
    this.#blocks[at] ||= this.#heap.store(this.#entries[number]!.blocks[direction]!)
    return this.#blocks[at]
  }

  /** The identities that a policy may select at all. */
  *#candidates({ namespace }: Policy): Iterable<number> {
    if (namespace !== undefined) yield* this.#identities.inNamespace(namespace)
    else for (const [number, identity] of this.#identities.identities.entries()) if (identity) yield number
  }

  #isSelectedBy(identity: number, number: number): boolean {
    return this.#selectionOf[identity]?.policies.includes(number) ?? false
  }

  /** Finds out who selects the identity. */
  #select(number: number): void {
    const identity = this.#identities.identities[number]
    const policies: number[] = []
    if (identity) {
      const { namespace } = identity
      const terms = this.#identities.termsOf(number)
      for (const scope of [namespace, undefined]) {
        for (const policy of this.#byNamespace.get(scope) ?? []) {
          if (selectsTerms(this.#entries[policy]!.subject, terms)) policies.push(policy)
        }
      }
      policies.sort((a, b) => comparePolicies(this.#entries[a]!.policy, this.#entries[b]!.policy))
    }
    const former = this.#selectionOf[number]
    const key = policies.join()
    if (former?.key === key) return
    const selection = policies.length === 0 ? undefined : this.#selectionFor(key, policies)
    this.#selectionOf[number] = selection
    if (selection) selection.users++
    this.#selectionWords.set(number, selection?.number ?? 0)
    if (former && --former.users === 0) this.#drop(former)
  }

  #selectionFor(key: string, policies: readonly number[]): Selection {
    const known = this.#selections.get(key)
    if (known) return known
    const number = this.#freeSelections.pop() ?? this.#selectionCount++
    const selection: Selection = { number, key, policies, users: 0, owned: [] }
    this.#selections.set(key, selection)
    this.#listWords.ensure((number + 1) * LIST_COLUMNS)
    this.#buildLists(selection)
    return selection
  }

  #drop(selection: Selection): void {
    this.#selections.delete(selection.key)
    this.#freeLists(selection)
    for (let column = 0; column < LIST_COLUMNS; column++) {
      this.#listWords.set(selection.number * LIST_COLUMNS + column, 0)
    }
    this.#freeSelections.push(selection.number)
  }

  #freeLists(selection: Selection): void {
    for (const { at, length } of selection.owned) this.#heap.free(at, length)
    selection.owned = []
  }

  #buildLists(selection: Selection): void {
    this.#freeLists(selection)
    // Of a policy that is gone nothing is left; those whom it selected are about to get another selection.
    const policies = selection.policies.filter((policy) => this.#entries[policy])
    const isAudited = (policy: number) => this.#entries[policy]!.policy.isAudited
    const row = selection.number * LIST_COLUMNS
    for (const direction of [EGRESS, INGRESS]) {
      const all = policies.filter((policy) => this.#entries[policy]!.blocks[direction])
      const enforced = all.filter((policy) => !isAudited(policy))
      const complete = this.#storeList(selection, all, direction)
      this.#listWords.set(row + AUDITED_COLUMN + direction, complete)
      this.#listWords.set(row + FIRST_POLICY_COLUMN + direction, enforced[0] ?? NO_POLICY)
      this.#listWords.set(row + FIRST_POLICY_COLUMN + AUDITED_COLUMN + direction, all[0] ?? NO_POLICY)
      const isSame = enforced.length === all.length
      this.#listWords.set(row + direction, isSame ? complete : this.#storeList(selection, enforced, direction))
    }
  }

  #storeList(selection: Selection, policies: readonly number[], direction: number): number {
    if (policies.length === 0) return 0
    const size = policies.reduce((sum, policy) => sum + this.#entries[policy]!.sizes[direction]!, 0)
    const words = size < INDEX_FROM ? this.#copyRules(policies, direction) : this.#index(policies, direction)
    const at = this.#heap.store(words)
    selection.owned.push({ at, length: words.length })
    return at
  }

  /** In one piece, so that deciding reads one place. */
  #copyRules(policies: readonly number[], direction: number): number[] {
    const words = [0]
    for (const policy of policies) {
      const block = this.#entries[policy]!.blocks[direction]!
      words[0]! += block[BLOCK_RULES]!
      for (let at = BLOCK_HEADER; at < block.length; at++) words.push(block[at]!)
    }
    return words
  }

  #index(policies: readonly number[], direction: number): number[] {
    const blocks = policies.map((policy) => this.#blockOf(policy, direction))
    return [INDEXED, ...buildRuleIndex(this.#heap, blocks)]
  }

  #explain(decision: TierDecision, tables: IdentityTables, trace: Trace): void {
    const { direction, flow, rule } = decision
    trace.push(
      describeStep({
        ...decision,
        tier: this.#rules,
        policies: this.#policiesOf(direction, flow),
        ...(rule !== 0 && { decided: this.#locate(rule) }),
        world: this.#world,
        identities: this.#identities,
        tables,
      }),
    )
  }

  /** The policies that were asked, in their order. */
  #policiesOf(direction: Direction, { sourceIdentity, destinationIdentity, includesAudited }: Flow): Policy[] {
    const subject = direction === 'egress' ? sourceIdentity : destinationIdentity
    if (subject === OUTSIDE) return []
    return (this.#selectionOf[subject]?.policies ?? [])
      .map((policy) => this.#entries[policy]!.policy)
      .filter((policy) => policy[direction] && (includesAudited || !policy.isAudited))
  }

  /** Whose rule starts there. */
  #locate(rule: number): { policy: Policy; rule: number } {
    const { policy } = this.#entries[this.#heap.get(rule + RULE_POLICY)]!
    return { policy, rule: this.#heap.get(rule + RULE_INDEX) }
  }
}

/** What tells the policies of a tier apart. */
function keyOf({ ref }: Policy): string {
  return `${ref.kind} ${ref.namespace ?? ''}/${ref.name}`
}

/** Whether all clauses (see `Terms`) hold for these terms. */
function selectsTerms(clauses: readonly number[], terms: readonly number[]): boolean {
  let at = 1
  for (let left = clauses[0]!; left > 0; left--) {
    const count = clauses[at + 1]!
    let holds = false
    for (let i = at + 2; i < at + 2 + count && !holds; i++) holds = terms.includes(clauses[i]!)
    if (holds !== (clauses[at] === 1)) return false
    at += 2 + count
  }
  return true
}

function sameWords(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.length === b.length && a.every((word, i) => word === b[i])
}
