import type { CompiledTier, IncrementalTier, PolicyEvaluator, Problem, TierTables, WholeKind } from './evaluator.ts'
import type { Identities } from './identity.ts'
import type { Snapshot } from './snapshot.ts'

/** A tier that is compiled from the whole picture at every change. */
export class WholeTier implements IncrementalTier {
  readonly #kind: WholeKind
  readonly #publishIdentities: () => Identities
  readonly #snapshot: () => Snapshot
  #compiled: CompiledTier | undefined

  constructor(kind: WholeKind, identities: { publish(): Identities }, snapshot: () => Snapshot) {
    this.#kind = kind
    this.#publishIdentities = () => identities.publish()
    this.#snapshot = snapshot
  }

  prepare(): void {}

  /** What may be decided otherwise by it is not known: everyone whom it selects, now or before, is named. */
  settle(): ReadonlySet<number> {
    const former = this.#compiled?.selected
    this.#compiled = this.#kind.compile(this.#snapshot(), this.#publishIdentities())
    const touched = new Set<number>()
    for (const selected of [former, this.#compiled.selected]) {
      for (const [identity, bits] of (selected ?? []).entries()) if (bits !== 0) touched.add(identity)
    }
    return touched
  }

  publish(): { readonly tables: TierTables; readonly evaluator: PolicyEvaluator } {
    const { tables, evaluator } = this.#compiled!
    return { tables, evaluator }
  }

  selected(identity: number): number {
    return this.#compiled!.selected[identity] ?? 0
  }

  problems(): readonly Problem[] {
    return this.#compiled?.problems ?? []
  }
}
