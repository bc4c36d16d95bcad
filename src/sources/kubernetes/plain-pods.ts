import { ObjectReader, parseAddress, type Workload } from '../../engine/index.ts'
import { attempt, isSubdomain } from '../../engine/object-reader.ts'
import type { Labels, NamedPort } from '../../engine/objects.ts'
import { readPodSpec } from '../../engine/workload.ts'
import type { Interner } from './interner.ts'

type Mapping = Readonly<Record<string, unknown>>

/**
 * Reads pods that are as nearly all are, as `readPod` does and many times as fast: a cluster has a hundred thousand, and
 * their labels and ports are those of a few hundred workloads.
 */
export class PlainPods {
  readonly #interner: Interner
  /** By what the scanner made once of many that are alike. */
  readonly #labels = new WeakMap<object, Labels>()
  readonly #ports = new WeakMap<object, readonly NamedPort[]>()

  constructor(interner: Interner) {
    this.#interner = interner
  }

  /** `undefined` for a pod that is not plain: it is `readPod`'s. What it has alike with others is shared with them. */
  read(value: unknown): Workload | undefined {
    if (!isMapping(value)) return undefined
    const { metadata, spec, status } = value
    if (!isMapping(metadata) || !isMapping(spec) || !isMapping(status)) return undefined
    const { name, namespace, creationTimestamp } = metadata
    const { nodeName, hostNetwork, initContainers } = spec
    const phase = status.phase === 'Running' || status.phase === 'Pending' ? status.phase : undefined
    if (typeof name !== 'string' || typeof namespace !== 'string' || typeof creationTimestamp !== 'string')
      return undefined
    if (typeof nodeName !== 'string' || nodeName === '' || !phase) return undefined
    if ((hostNetwork ?? false) !== false || (initContainers ?? undefined) !== undefined) return undefined
    if (!isSubdomain(name) || !isSubdomain(namespace)) return undefined
    const labels = this.#labelsOf(metadata.labels)
    const ports = this.#portsOf(spec.containers)
    const addresses = addressesOf(status)
    const createdMs = Date.parse(creationTimestamp)
    if (!labels || !ports || !addresses || Number.isNaN(createdMs)) return undefined
    const place = this.#interner.text(namespace)
    return {
      type: 'Workload',
      ref: { kind: 'Pod', namespace: place, name },
      isHost: false,
      namespace: place,
      name,
      labels,
      node: this.#interner.text(nodeName),
      hostNetwork: false,
      addresses,
      ports,
      forwards: none,
      phase,
      createdMs,
    }
  }

  #labelsOf(value: unknown): Labels | undefined {
    if (!isMapping(value)) return undefined
    const known = this.#labels.get(value)
    if (known) return known
    const read = attempt(() => new ObjectReader(value).labels())
    if (!read) return undefined
    const labels = this.#interner.labels(read)
    this.#labels.set(value, labels)
    return labels
  }

  /** Of pods that have ports in one container at most. */
  #portsOf(containers: unknown): readonly NamedPort[] | undefined {
    if (!Array.isArray(containers)) return undefined
    let ports: unknown
    for (const container of containers as unknown[]) {
      if (!isMapping(container)) return undefined
      if (container.ports === undefined) continue
      if (ports !== undefined) return undefined
      ports = container.ports
    }
    if (ports === undefined) return none
    if (!Array.isArray(ports)) return undefined
    const known = this.#ports.get(ports)
    if (known) return known
    const read = attempt(() => readPodSpec(new ObjectReader({ containers: [{ ports }] })).ports)
    if (!read) return undefined
    const shared = this.#interner.ports(read)
    this.#ports.set(ports, shared)
    return shared
  }
}

const none: readonly never[] = Object.freeze([])

function addressesOf({ podIP, podIPs }: Mapping): Workload['addresses'] | undefined {
  if (podIPs === undefined) return podIP === undefined ? none : undefined
  if (!Array.isArray(podIPs) || podIPs.length === 0) return undefined
  // As long as it must be: a list that grows has room for sixteen more, and there is one for each pod.
  const addresses = podIPs.map((item: unknown) => {
    return isMapping(item) && typeof item.ip === 'string' ? parseAddress(item.ip) : undefined
  })
  return addresses.every((address) => address !== undefined) ? addresses : undefined
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
