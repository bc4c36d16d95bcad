import type { Labels } from './objects.ts'
import type { LabelSelector } from './selector.ts'

/** Whose labels a term is about. */
export type TermScope = 'workload' | 'namespace' | 'node'

/** `value` is `undefined` for "has this key, whatever its value". */
export interface Term {
  readonly scope: TermScope
  readonly key: string
  readonly value: string | undefined
  readonly number: number
}

/** The terms about one key: that it is there, and each value that it may have. */
interface KeyTerms {
  number: number | undefined
  readonly values: Map<string, number>
}

/**
 * The facts about labels that selectors ask for, numbered from 1: "has key" and "has key with this value", of a workload,
 * its namespace or a node. What is to be selected is a set of terms; a selector is a conjunction of clauses over them. A
 * label that no selector mentions is no term. Terms are never forgotten: there are as many as policies ever mentioned.
 */
export class Terms {
  readonly #keys: Record<TermScope, Map<string, KeyTerms>> = {
    workload: new Map(),
    namespace: new Map(),
    node: new Map(),
  }
  #count = 0
  #fresh: Term[] = []

  /**
   * The selector's clauses, as words: 1 (one of the terms holds) or 0 (none of them does), how many terms, the terms.
   * Appends them to `words` and answers how many clauses they are.
   */
  addClauses(scope: TermScope, selector: LabelSelector, words: number[]): number {
    for (const { key, operator, values } of selector.requirements) {
      const isPositive = operator === 'In' || operator === 'Exists'
      const terms =
        operator === 'In' || operator === 'NotIn'
          ? values.map((value) => this.#number(scope, key, value))
          : [this.#number(scope, key, undefined)]
      words.push(isPositive ? 1 : 0, terms.length, ...terms)
    }
    return selector.requirements.length
  }

  /** The terms that hold for these labels, appended to `terms`. */
  collect(scope: TermScope, labels: Labels, terms: number[]): void {
    for (const [key, value] of labels) {
      const known = this.#keys[scope].get(key)
      if (!known) continue
      if (known.number !== undefined) terms.push(known.number)
      const number = known.values.get(value)
      if (number !== undefined) terms.push(number)
    }
  }

  /** The terms that are new since the last call: what was collected before lacks them. */
  takeFresh(): readonly Term[] {
    const fresh = this.#fresh
    this.#fresh = []
    return fresh
  }

  #number(scope: TermScope, key: string, value: string | undefined): number {
    let known = this.#keys[scope].get(key)
    if (!known) {
      known = { number: undefined, values: new Map() }
      this.#keys[scope].set(key, known)
    }
    const existing = value === undefined ? known.number : known.values.get(value)
    if (existing !== undefined) return existing
    const number = ++this.#count
    if (value === undefined) known.number = number
    else known.values.set(value, number)
    this.#fresh.push({ scope, key, value, number })
    return number
  }
}

/** Whether a term is a fact about these labels. */
export function holds({ key, value }: Term, labels: Labels): boolean {
  const held = labels.get(key)
  return held !== undefined && (value === undefined || value === held)
}

/** Whether both are the same terms, in whatever order. */
export function sameTerms(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((each) => b.includes(each))
}
