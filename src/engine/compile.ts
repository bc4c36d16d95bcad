import type { Address } from './address.ts'
import { createEngine, type Engine } from './engine.ts'
import type { CompiledTier, PolicyKind, Problem, TierTables } from './evaluator.ts'
import { type Identities, type IdentityTables, identify, isLocal, NO_NODE } from './identity.ts'
import type { Snapshot } from './snapshot.ts'

/** One generation as the packet path reads it: plain data in shared memory, handed to another thread without a copy. */
export interface Generation {
  readonly number: number
  readonly identities: IdentityTables
  /** The tables of each policy kind, in the pipeline's order. */
  readonly tiers: readonly TierTables[]
}

/** A generation with everything that has a name: what explains decisions, and what the ruleset needs. */
export interface CompiledPolicy {
  readonly generation: Generation
  readonly identities: Identities
  /** Decides exactly as the packet thread does, and can fill traces. */
  readonly engine: Engine
  /** The addresses whose traffic has to be decided on this machine. */
  readonly subjects: readonly Address[]
  /** How many workloads `subjects` belong to. */
  readonly protectedWorkloads: number
  /** How many workloads some policy selects, wherever they run. */
  readonly selectedWorkloads: number
  /** This machine is none of the nodes known: it decides for every workload whose traffic passes. */
  readonly isGateway: boolean
  readonly problems: readonly Problem[]
}

/** @param kinds the policy APIs, in order of precedence */
export function compile(snapshot: Snapshot, kinds: readonly PolicyKind[]): CompiledPolicy {
  const identities = identify(snapshot)
  const tiers = kinds.map((kind) => kind.compile(snapshot, identities))
  const { tables, workloads } = identities
  const selected = workloads.map((_, i) => tiers.some((tier) => tier.selected[tables.workloadIdentity[i]!] === 1))
  // A machine that is none of the nodes is on the way of others' traffic, a gateway: there every workload's is decided.
  const isGateway = tables.localNode === NO_NODE
  const isProtected = workloads.map(
    ({ addresses }, i) => selected[i]! && addresses.length > 0 && (isGateway || isLocal(tables, i)),
  )
  return {
    generation: { number: snapshot.generation, identities: tables, tiers: tiers.map((tier) => tier.tables) },
    identities,
    engine: createEngine(
      tables,
      tiers.map((tier) => tier.evaluator),
    ),
    subjects: workloads.flatMap((workload, i) => (isProtected[i] ? workload.addresses : [])),
    protectedWorkloads: isProtected.filter(Boolean).length,
    selectedWorkloads: selected.filter(Boolean).length,
    isGateway,
    problems: tiers.flatMap((tier: CompiledTier) => tier.problems),
  }
}

/** The engine of the packet thread, over tables that another thread compiled with the same kinds. */
export function attachEngine(generation: Generation, kinds: readonly PolicyKind[]): Engine {
  return createEngine(
    generation.identities,
    kinds.map((kind, i) => kind.evaluate(generation.tiers[i]!, generation.identities)),
  )
}
