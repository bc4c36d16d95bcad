import type { Address, Block } from './address.ts'
import { createEngine, type Engine } from './engine.ts'
import {
  type CompiledTier,
  type PolicyKind,
  type Problem,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type TierTables,
} from './evaluator.ts'
import { type Identities, type IdentityTables, identify, isLocal, NO_NODE, OUTSIDE } from './identity.ts'
import { refName, type Workload } from './objects.ts'
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
  /** This machine itself, where a HostEndpoint says it is a workload. */
  readonly host?: HostProtection
  /** This machine is none of the nodes known: it decides for every workload whose traffic passes. */
  readonly isGateway: boolean
  readonly problems: readonly Problem[]
}

/** What of this machine's own traffic has to be decided. */
export interface HostProtection {
  readonly name: string
  /** Whether policies select it for ingress: what comes in, and what is forwarded to `forwards`. */
  readonly ingress: boolean
  readonly egress: boolean
  readonly forwards: readonly Block[]
}

/** @param kinds the policy APIs, in order of precedence */
export function compile(snapshot: Snapshot, kinds: readonly PolicyKind[]): CompiledPolicy {
  const identities = identify(snapshot)
  const tiers = kinds.map((kind) => kind.compile(snapshot, identities))
  const { tables, workloads } = identities
  const selected = workloads.map((_, i) =>
    tiers.reduce((bits, tier) => bits | tier.selected[tables.workloadIdentity[i]!]!, 0),
  )
  // A machine that is none of the nodes is on the way of others' traffic, a gateway: there every workload's is decided.
  const isGateway = tables.localNode === NO_NODE
  const { localHost } = tables
  // What has no address has no traffic; this machine has, whatever its addresses are.
  const isProtected = workloads.map(({ addresses }, i) => {
    return selected[i] !== 0 && (addresses.length > 0 || i === localHost) && (isGateway || isLocal(tables, i))
  })
  return {
    generation: { number: snapshot.generation, identities: tables, tiers: tiers.map((tier) => tier.tables) },
    identities,
    engine: createEngine(
      tables,
      tiers.map((tier) => tier.evaluator),
    ),
    subjects: workloads.flatMap((workload, i) => (isProtected[i] && i !== localHost ? workload.addresses : [])),
    protectedWorkloads: isProtected.filter(Boolean).length,
    selectedWorkloads: selected.filter((bits) => bits !== 0).length,
    isGateway,
    ...(localHost !== OUTSIDE && { host: protectHost(workloads[localHost]!, selected[localHost]!) }),
    problems: [...doubledHosts(workloads), ...tiers.flatMap((tier: CompiledTier) => tier.problems)],
  }
}

function doubledHosts(workloads: readonly Workload[]): Problem[] {
  const hosts = workloads.filter(({ isHost }) => isHost)
  return hosts.flatMap(({ ref, node }, i) => {
    const first = hosts.findIndex((other) => other.node === node)
    if (first === i) return []
    return [
      {
        object: ref,
        message: `node ${node} is ${refName(hosts[first]!.ref)} already; this one stands for nothing there`,
      },
    ]
  })
}

function protectHost(host: Workload, selected: number): HostProtection {
  const ingress = (selected & SELECTS_INGRESS) !== 0
  return {
    name: `${host.namespace}/${host.name}`,
    ingress,
    egress: (selected & SELECTS_EGRESS) !== 0,
    forwards: ingress ? host.forwards : [],
  }
}

/** The engine of the packet thread, over tables that another thread compiled with the same kinds. */
export function attachEngine(generation: Generation, kinds: readonly PolicyKind[]): Engine {
  return createEngine(
    generation.identities,
    kinds.map((kind, i) => kind.evaluate(generation.tiers[i]!, generation.identities)),
  )
}
