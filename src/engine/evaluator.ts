import type { Flow } from './flow.ts'
import type { Identities, IdentityTables } from './identity.ts'
import type { ObjectRef } from './objects.ts'
import type { Snapshot } from './snapshot.ts'

/** What a tier says of a flow in one direction: final, final, or ask the next tier. */
export type Verdict = 'accept' | 'deny' | 'next'

export type Direction = 'egress' | 'ingress'

/** The closest that a denied flow came to a rule. */
export interface NearestMiss {
  readonly policy: ObjectRef
  readonly rule?: number
  /** What would have to be different, in words. */
  readonly difference: string
}

/** What one tier said, and why. */
export interface TraceStep {
  readonly direction: Direction
  readonly tier: string
  readonly verdict: Verdict
  readonly policy?: ObjectRef
  /** Index in the policy's rules of that direction. */
  readonly rule?: number
  readonly reason: string
  readonly nearest?: NearestMiss
  /** The verdict would need the address of a workload that has none: it may be wrong. */
  readonly isUndecidable?: boolean
}

/** Collects the steps of a decision; passed in only when somebody reads it. */
export type Trace = TraceStep[]

/** One tier. Immutable, synchronous, never throws on a valid Flow; with a trace it appends exactly one step per call. */
export interface PolicyEvaluator {
  readonly name: string
  /** Judges as the source's policies do. Only called when the source is a workload. */
  evaluateEgress(flow: Flow, trace?: Trace): Verdict
  /** Judges as the destination's policies do. Only called when the destination is a workload. */
  evaluateIngress(flow: Flow, trace?: Trace): Verdict
}

/** Typed arrays in shared memory, by name: what an evaluator reads on the packet path. */
export type TierTables = Readonly<Record<string, Int32Array<SharedArrayBuffer>>>

/** Something a person should know about a policy; it is in force all the same. */
export interface Problem {
  readonly object: ObjectRef
  readonly message: string
}

export const SELECTS_INGRESS = 1
export const SELECTS_EGRESS = 2

export interface CompiledTier {
  readonly tables: TierTables
  /** Evaluates over the tables, with the names at hand that a trace needs. */
  readonly evaluator: PolicyEvaluator
  /** Per identity, SELECTS_INGRESS and SELECTS_EGRESS as policies of this tier select it: only its traffic has to be decided. */
  readonly selected: Uint8Array
  readonly problems: readonly Problem[]
}

/** How a policy API plugs in. The order of an array of these is their precedence. */
export interface PolicyKind {
  readonly name: string
  compile(snapshot: Snapshot, identities: Identities): CompiledTier
  /** The evaluator of the packet thread, from tables that `compile` made in another thread; it cannot fill a trace. */
  evaluate(tables: TierTables, identities: IdentityTables): PolicyEvaluator
}
