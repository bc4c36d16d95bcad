import type { PodsMatch } from '../engine/policy.ts'
import { formatRequirement, type LabelSelector } from '../engine/selector.ts'

/** Whom a match means: `workload with app=db in namespace shop`. @param namespace the policy's own */
export function podsText({ namespaceSelector, podSelector }: PodsMatch, namespace: string | undefined): string {
  const who = `workload${withText(podSelector)}`
  if (!namespaceSelector) return `${who} in namespace ${namespace}`
  if (namespaceSelector.requirements.length === 0) return `${who} in any namespace`
  return `${who} in a namespace${withText(namespaceSelector)}`
}

/** Which nodes a selector means: `node with role=edge`. */
export function nodesText(selector: LabelSelector): string {
  return `node${withText(selector)}`
}

function withText({ requirements }: LabelSelector): string {
  return requirements.length === 0 ? '' : ` with ${requirements.map(formatRequirement).join(', ')}`
}
