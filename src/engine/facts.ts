import type { Words } from './twin-words.ts'

/**
 * The terms that hold for somebody, as words: two words with a bit for each term (by its last six bits), which say of most
 * other terms at a glance that they do not hold; how many terms; the terms.
 */
const COUNT = 2
const TERMS = 3

/** @param terms numbers of `Terms` */
export function encodeFacts(terms: readonly number[]): number[] {
  const words = [0, 0, terms.length, ...terms]
  for (const term of terms) words[(term >>> 5) & 1]! |= 1 << (term & 31)
  return words
}

/** @param facts where they start in `words` */
export function hasTerm(words: Words, facts: number, term: number): boolean {
  if ((words[facts + ((term >>> 5) & 1)]! & (1 << (term & 31))) === 0) return false
  const end = facts + TERMS + words[facts + COUNT]!
  for (let at = facts + TERMS; at < end; at++) if (words[at] === term) return true
  return false
}

/** Where the terms start. */
export function firstTerm(facts: number): number {
  return facts + TERMS
}

/** Where the terms end, and what follows them starts. */
export function endOfTerms(words: Words, facts: number): number {
  return facts + TERMS + words[facts + COUNT]!
}
