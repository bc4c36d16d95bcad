import type { Policy } from '../engine/policy.ts'

/** The policies of one tier as they are asked: by priority, then kind, then name. */
export function inOrder(policies: readonly Policy[]): Policy[] {
  return [...policies].sort(
    (a, b) =>
      a.priority - b.priority ||
      compareText(a.ref.kind, b.ref.kind) ||
      compareText(a.ref.namespace ?? '', b.ref.namespace ?? '') ||
      compareText(a.ref.name, b.ref.name),
  )
}

/** Order by code units, the same everywhere. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
