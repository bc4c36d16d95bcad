import { type Labels, type NamedPort, type NetworkSet, type Node, refName, type Workload } from '../engine/objects.ts'
import type { PodsMatch, Policy } from '../engine/policy.ts'
import { type LabelSelector, selectorKey, selects } from '../engine/selector.ts'
import { mayNameSets } from './cover.ts'
import type { LintInput } from './finding.ts'

/** Workloads that no policy can tell apart. */
export interface Group {
  readonly namespace: string
  readonly labels: Labels
  readonly ports: readonly NamedPort[]
  readonly isHost: boolean
  readonly members: readonly Workload[]
}

const NO_GROUPS: readonly number[] = []

/**
 * The input of the checks with its workloads in groups, and who is selected by what. Selections are remembered: many
 * policies have the same selectors.
 */
export class LintWorld {
  readonly input: LintInput
  readonly groups: readonly Group[]
  /** Workloads that policies never see: on the host network, or finished. */
  readonly #unseen: readonly Workload[]
  /** Groups by place (see `placeKey`). */
  readonly #index = new Map<string, number[]>()
  /** The indices of all groups. */
  readonly everyGroup: readonly number[]
  readonly #everyNamespace: ReadonlySet<string>
  readonly #namespaceSelections = new Map<string, ReadonlySet<string>>()
  readonly #selections = new Map<string, readonly number[]>()
  readonly #networkSetsByNamespace: ReadonlyMap<string, readonly NetworkSet[]>

  constructor(input: LintInput) {
    this.input = input
    this.#everyNamespace = new Set(input.namespaces.keys())
    const isSeen = ({ hostNetwork, phase }: Workload) => {
      return !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed'
    }
    this.#unseen = input.workloads.filter((workload) => !isSeen(workload))
    this.groups = groupsOf(input.workloads.filter(isSeen))
    this.everyGroup = this.groups.map((_, i) => i)
    for (const [i, { namespace, labels }] of this.groups.entries()) {
      this.#add(placeKey(namespace), i)
      for (const [key, value] of labels) {
        this.#add(placeKey(namespace, key, value), i)
        this.#add(placeKey(undefined, key, value), i)
      }
    }
    this.#networkSetsByNamespace = Map.groupBy(input.networkSets, ({ namespace }) => namespace)
  }

  /** The groups that the labels select, by index. @param namespace the policy's own; `undefined` where it has none */
  select(match: PodsMatch, namespace: string | undefined): readonly number[] {
    const { namespaceSelector, podSelector } = match
    const where = namespaceSelector ? `selector ${selectorKey(namespaceSelector)}` : `name ${namespace}`
    const key = `${where}\n${selectorKey(podSelector)}`
    let selection = this.#selections.get(key)
    if (!selection) {
      selection = this.#select(this.namespacesOf(match, namespace), podSelector)
      this.#selections.set(key, selection)
    }
    return selection
  }

  /** Whether a policy is about a group. */
  isSelected({ subject, namespace }: Policy, group: number): boolean {
    const { labels, namespace: own } = this.groups[group]!
    return selects(subject.podSelector, labels) && this.namespacesOf(subject, namespace).has(own)
  }

  /** The names of the known namespaces that a match looks into. */
  namespacesOf({ namespaceSelector }: PodsMatch, namespace: string | undefined): ReadonlySet<string> {
    if (!namespaceSelector) return new Set(namespace === undefined ? [] : [namespace])
    const key = selectorKey(namespaceSelector)
    let selection = this.#namespaceSelections.get(key)
    if (!selection) {
      const matching = [...this.input.namespaces.values()].filter(({ labels }) => selects(namespaceSelector, labels))
      const isEvery = matching.length === this.#everyNamespace.size
      selection = isEvery ? this.#everyNamespace : new Set(matching.map(({ name }) => name))
      this.#namespaceSelections.set(key, selection)
    }
    return selection
  }

  /** Whether a namespace holds a workload that policies see. */
  isInhabited(namespace: string): boolean {
    return this.#index.has(placeKey(namespace))
  }

  /** The NetworkSets that a peer names. */
  networkSetsOf(match: PodsMatch, namespace: string | undefined): readonly NetworkSet[] {
    if (this.input.networkSets.length === 0 || !mayNameSets(match)) return []
    return [...this.namespacesOf(match, namespace)].flatMap((name) =>
      (this.#networkSetsByNamespace.get(name) ?? []).filter(({ labels }) => selects(match.podSelector, labels)),
    )
  }

  nodesOf(selector: LabelSelector): readonly Node[] {
    return this.input.nodes.filter(({ labels }) => selects(selector, labels))
  }

  /** Workloads with such labels that policies do not see: on the host network, or finished. */
  unseenBy(match: PodsMatch, namespace: string | undefined): readonly Workload[] {
    if (this.#unseen.length === 0) return []
    const namespaces = this.namespacesOf(match, namespace)
    return this.#unseen.filter((each) => namespaces.has(each.namespace) && selects(match.podSelector, each.labels))
  }

  /** The names of the workloads of these groups. */
  namesOf(groups: readonly number[]): string[] {
    return groups.flatMap((group) => this.groups[group]!.members.map(({ ref }) => refName(ref)))
  }

  #select(namespaces: ReadonlySet<string>, selector: LabelSelector): readonly number[] {
    if (namespaces.size === 0) return NO_GROUPS
    const isMatch = (group: number) => selects(selector, this.groups[group]!.labels)
    const asked = selector.requirements.find(({ operator }) => operator === 'In')
    if (asked === undefined) {
      if (selector.requirements.length === 0 && namespaces === this.#everyNamespace) return this.everyGroup
      return [...namespaces].flatMap((name) => (this.#index.get(placeKey(name)) ?? NO_GROUPS).filter(isMatch))
    }
    const [only] = namespaces
    const one = namespaces.size === 1 ? only : undefined
    const candidates = [...new Set(asked.values)].flatMap(
      (value) => this.#index.get(placeKey(one, asked.key, value)) ?? NO_GROUPS,
    )
    return candidates.filter((group) => namespaces.has(this.groups[group]!.namespace) && isMatch(group))
  }

  #add(key: string, group: number): void {
    const groups = this.#index.get(key)
    if (groups) groups.push(group)
    else this.#index.set(key, [group])
  }
}

/** What the index is asked for: the groups of a namespace, or of all, that have a label. No part can hold a line end. */
function placeKey(namespace: string | undefined, key = '', value = ''): string {
  return `${namespace ?? ''}\n${key}\n${value}`
}

function groupsOf(workloads: readonly Workload[]): Group[] {
  const groups = new Map<string, Workload[]>()
  for (const workload of workloads) {
    const { namespace, labels, ports, isHost } = workload
    const key = JSON.stringify([
      namespace,
      isHost,
      [...labels].sort(([a], [b]) => (a < b ? -1 : 1)),
      ports.map(({ name, protocol, port }) => [name, protocol, port]),
    ])
    const group = groups.get(key)
    if (group) group.push(workload)
    else groups.set(key, [workload])
  }
  return [...groups.values()].map((members) => {
    const { namespace, labels, ports, isHost } = members[0]!
    return { namespace, labels, ports, isHost, members }
  })
}
