import {
  clusterPolicyApis,
  type ObjectReader,
  type PolicyObject,
  readNamespace,
  readNode,
  readPod,
} from '../../engine/index.ts'
import type { ApiClient } from './api-client.ts'
import { ApiFailure } from './api-failure.ts'
import { fields, type Wanted } from './json-scanner.ts'
import type { WantedMessage } from './protobuf.ts'
import { wantedMetadata, wantedOfPod, wantedPodMessage } from './wanted-pod.ts'

/** A kind of objects that policies are or refer to, as an API server has it. */
export interface Resource {
  readonly kind: string
  readonly apiVersion: string
  readonly scope: 'Namespaced' | 'Cluster'
  /** As rights name it: `pods`, `networkpolicies.networking.k8s.io`. */
  readonly name: string
  /** Path of the collection of all of them. */
  readonly path: string
  /** What is kept of an object. */
  readonly wanted: Wanted
  /** The same in the API server's own encoding, which takes half the bytes and can be read faster: for what there is much of. */
  readonly wantedMessage?: WantedMessage
  /** Reads an object that is no policy. */
  readonly read?: (object: ObjectReader) => PolicyObject
}

const GROUP = 'policy.networking.k8s.io'

/** Every API server has these. */
export const builtInResources: readonly Resource[] = [
  {
    kind: 'Pod',
    apiVersion: 'v1',
    scope: 'Namespaced',
    name: 'pods',
    path: '/api/v1/pods',
    wanted: wantedOfPod,
    wantedMessage: wantedPodMessage,
    read: readPod,
  },
  {
    kind: 'Namespace',
    apiVersion: 'v1',
    scope: 'Cluster',
    name: 'namespaces',
    path: '/api/v1/namespaces',
    wanted: fields({ metadata: wantedMetadata }),
    read: readNamespace,
  },
  {
    kind: 'Node',
    apiVersion: 'v1',
    scope: 'Cluster',
    name: 'nodes',
    path: '/api/v1/nodes',
    wanted: fields({
      metadata: wantedMetadata,
      spec: fields({ podCIDR: 'all', podCIDRs: 'all' }),
      status: fields({ addresses: { items: fields({ type: 'all', address: 'all' }) } }),
    }),
    read: readNode,
  },
  {
    kind: 'NetworkPolicy',
    apiVersion: 'networking.k8s.io/v1',
    scope: 'Namespaced',
    name: 'networkpolicies.networking.k8s.io',
    path: '/apis/networking.k8s.io/v1/networkpolicies',
    wanted: 'all',
  },
]

/**
 * Which kinds of cluster-wide policies the API server serves now, each in the latest version that is known here. One that is
 * served in none of them is listed all the same, in the server's preferred version: its objects are policies that cannot be
 * understood, not policies that are not there. Throws ApiFailure where it cannot be told.
 */
export async function discover(api: ApiClient, signal: AbortSignal): Promise<Resource[]> {
  const group = await readUnlessMissing(api, `/apis/${GROUP}`, signal)
  // The preferred version first, as the server has them.
  const served = new Map<string, { readonly version: string; readonly plural: string }[]>()
  for (const version of versionsOf(group)) {
    const answer = await readUnlessMissing(api, `/apis/${GROUP}/${version}`, signal)
    for (const { kind, name } of resourcesOf(answer)) {
      if (name.includes('/')) continue
      served.set(kind, [...(served.get(kind) ?? []), { version: `${GROUP}/${version}`, plural: name }])
    }
  }
  return clusterPolicyApis.flatMap(({ kind, versions }) => {
    const found = served.get(kind)
    const best = versions.toReversed().flatMap((known) => found?.find(({ version }) => version === known) ?? [])[0]
    const chosen = best ?? found?.[0]
    return chosen ? [clusterPolicies(kind, chosen.version, chosen.plural)] : []
  })
}

function clusterPolicies(kind: string, apiVersion: string, plural: string): Resource {
  const path = `/apis/${apiVersion}/${plural}`
  return { kind, apiVersion, scope: 'Cluster', name: `${plural}.${GROUP}`, path, wanted: 'all' }
}

async function readUnlessMissing(api: ApiClient, path: string, signal: AbortSignal): Promise<unknown> {
  try {
    return await api.read(path, 'all', signal)
  } catch (error) {
    if (error instanceof ApiFailure && error.isMissing) return undefined
    throw error
  }
}

function versionsOf(group: unknown): string[] {
  const { preferredVersion, versions } = (group ?? {}) as {
    preferredVersion?: { version: string }
    versions?: { version: string }[]
  }
  const all = (versions ?? []).map(({ version }) => version)
  return [...new Set([...(preferredVersion ? [preferredVersion.version] : []), ...all])]
}

function resourcesOf(answer: unknown): readonly { readonly kind: string; readonly name: string }[] {
  return ((answer ?? {}) as { resources?: { kind: string; name: string }[] }).resources ?? []
}
