import type { Flow } from './flow.ts'
import type { Identities, IdentityTables } from './identity.ts'
import type { IdentityIndex } from './identity-index.ts'
import type { ObjectRef } from './objects.ts'
import type { Snapshot } from './snapshot.ts'
import type { Words } from './twin-words.ts'
import type { World, WorldChange } from './world.ts'

/** What a tier says of a flow in one direction: final, final, or ask the next tier. */
export type Verdict = 'accept' | 'deny' | 'next'

export type Direction = 'egress' | 'ingress'

/** What would let a denied flow through the tier that denied it. */
export type NearestChange =
  /** The other end (peer) would have this label; without a value, would not have any by this key. */
  | { readonly type: 'label'; readonly of: 'peer'; readonly key: string; readonly value?: string }
  /** The same of the NetworkSet that the other end's address is in. */
  | {
      readonly type: 'label'
      readonly of: 'networkSet'
      readonly networkSet: { readonly namespace: string; readonly name: string }
      readonly key: string
      readonly value?: string
    }
  /** The same of the other end's namespace. */
  | { readonly type: 'namespaceLabel'; readonly namespace: string; readonly key: string; readonly value?: string }
  /** Another port: `protocol` is an IP protocol number. */
  | { readonly type: 'port'; readonly protocol: number; readonly port: number }
  /** The other end would have an address in this block, none of which the rule excepts. */
  | { readonly type: 'address'; readonly block: string }
  /** The policy would have a rule for it: of those that it has, no one is a single change away. */
  | { readonly type: 'allow' }
  /** The rule that denies it would not be there: none ahead of it is a single change away. */
  | { readonly type: 'rule' }

/** The closest that a denied flow came to being allowed. */
export interface NearestMiss {
  readonly policy: ObjectRef
  /** The rule that came closest, or that denies it (`rule`); left out where the policies have no rule. */
  readonly rule?: number
  /** All that would have to be different, in words. */
  readonly difference: string
  /** The same for programs, where it is a single change. */
  readonly change: NearestChange
}

/** What one tier said, and why. */
export interface TraceStep {
  readonly direction: Direction
  readonly tier: string
  readonly verdict: Verdict
  readonly policy?: ObjectRef
  /** Index in the policy's rules of that direction. */
  readonly rule?: number
  readonly ruleName?: string
  readonly reason: string
  readonly nearest?: NearestMiss
  /** The verdict would need the address of a workload that has none: it may be wrong. */
  readonly isUndecidable?: boolean
}

/** Collects the steps of a decision; passed in only when somebody reads it. */
export type Trace = TraceStep[]

/** In place of a policy's number. */
export const NO_POLICY = -1

/** One tier. Synchronous, never throws on a valid Flow; with a trace it appends exactly one step per call. */
export interface PolicyEvaluator {
  readonly name: string
  /**
   * Behind the last `accept` or `deny`: the number of the policy whose rule it was, or that comes first of those that isolate
   * the subject. NO_POLICY, or left out, where it was none.
   */
  readonly decidedPolicy?: number
  /** Judges as the source's policies do. Only called when the source is a workload. */
  evaluateEgress(flow: Flow, trace?: Trace): Verdict
  /** Judges as the destination's policies do. Only called when the destination is a workload. */
  evaluateIngress(flow: Flow, trace?: Trace): Verdict
}

/** Typed arrays in shared memory, by name: what an evaluator reads on the packet path. */
export type TierTables = Readonly<Record<string, Words>>

/** Something a person should know about a policy; it is in force all the same. */
export interface Problem {
  readonly object: ObjectRef
  readonly message: string
}

export const SELECTS_INGRESS = 1
export const SELECTS_EGRESS = 2
export const SELECTS_BOTH = SELECTS_INGRESS | SELECTS_EGRESS

/** What a third party's evaluator may say of its verdict. */
export type Because = Partial<Pick<TraceStep, 'policy' | 'rule' | 'ruleName' | 'nearest'>> & Pick<TraceStep, 'reason'>

/**
 * What a third party writes to judge flows. Asked only of flows whose subject `selected` names for the direction; synchronous,
 * and quick: it runs for each new connection. What throws, or answers no verdict, denies. Where `because` is given,
 * somebody reads it: then it takes one entry with what led to the verdict.
 */
export interface WholeEvaluator {
  /** Judges as the source's policies do. */
  evaluateEgress(flow: Flow, because?: Because[]): Verdict
  /** Judges as the destination's policies do. */
  evaluateIngress(flow: Flow, because?: Because[]): Verdict
}

/** What a third party's kind makes of a picture. */
export interface CompiledWhole {
  /**
   * Per identity, SELECTS_INGRESS and SELECTS_EGRESS: whose traffic has to be decided. Nobody else's reaches the
   * evaluator. `identityTable` builds it.
   */
  readonly selected: ArrayLike<number>
  /** What `evaluate` reads. */
  readonly tables?: TierTables
  /** Stands in for what `evaluate` makes where somebody reads why, with names at hand. It must decide the same. */
  readonly evaluator?: WholeEvaluator
  readonly problems?: readonly Problem[]
}

/**
 * How a third party's evaluator plugs in: it is compiled from the whole picture at every change. The order of an array of
 * kinds is their precedence.
 */
export interface WholeKind {
  /** What people see it under, as they see `Admin` and `NetworkPolicy`. */
  readonly name: string
  /** Runs in the main thread. */
  compile(snapshot: Snapshot, identities: Identities): CompiledWhole
  /** Runs in the thread that decides, over tables that `compile` may have made in another one. */
  evaluate(tables: TierTables, identities: IdentityTables): WholeEvaluator
}

/** How a policy API plugs in that follows changes. */
export interface IncrementalKind {
  readonly name: string
  start(world: World, identities: IdentityIndex): IncrementalTier
  evaluate(tables: TierTables, identities: IdentityTables): PolicyEvaluator
}

export type PolicyKind = WholeKind | IncrementalKind

/** A tier that is kept compiled. For each delta: `prepare`, then identities follow, then `settle`, then `publish`. */
export interface IncrementalTier {
  /** Takes policies in; asks for terms that identities have to learn. */
  prepare(change: WorldChange): void
  /**
   * Finds out who selects whom. Answers the identities whose own policies changed in any way.
   * @param changed identities that are new or gone, or whose facts changed
   */
  settle(changed: ReadonlySet<number>): ReadonlySet<number>
  /**
   * Does of `settle` what can be done before the first picture is whole. Left out where a tier is made of a whole picture.
   * @param added identities that are new
   */
  settleAhead?(added: ReadonlySet<number>): void
  publish(identities: Identities): { readonly tables: TierTables; readonly evaluator: PolicyEvaluator }
  /** SELECTS_INGRESS and SELECTS_EGRESS of an identity. */
  selected(identity: number): number
  problems(): readonly Problem[]
  /** What its policies are called; the same array as long as none comes or goes. Left out where policies have no numbers. */
  policies?(): PolicyNames
}

/** What tells a policy from all others. */
export type PolicyName = Pick<ObjectRef, 'kind' | 'namespace' | 'name'>

/** By number; nothing where a number is free. */
export type PolicyNames = readonly (PolicyName | undefined)[]
