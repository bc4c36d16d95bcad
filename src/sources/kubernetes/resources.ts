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
import { message, type WantedMessage } from './protobuf.ts'

/** A kind of objects that policies are or refer to, as an API server has it. */
export interface Resource {
  readonly kind: string
  readonly apiVersion: string
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

const metadata = fields({
  name: 'all',
  namespace: 'all',
  labels: { alike: 'all' },
  creationTimestamp: 'all',
  resourceVersion: 'all',
})

const ports: Wanted = { alike: { items: fields({ name: 'all', containerPort: 'all', protocol: 'all' }) } }

const wantedOfPod = fields({
  metadata,
  spec: fields({
    nodeName: 'all',
    hostNetwork: 'all',
    containers: { items: fields({ ports }) },
    initContainers: { items: fields({ ports, restartPolicy: 'all' }) },
  }),
  status: fields({ phase: 'all', podIP: 'all', podIPs: { items: fields({ ip: 'all' }) } }),
})

const portMessages = {
  name: 'ports',
  type: 'alike messages',
  of: message({
    1: { name: 'name', type: 'text' },
    3: { name: 'containerPort', type: 'number' },
    4: { name: 'protocol', type: 'text' },
  }),
} as const

const labelsMessage = { name: 'labels', type: 'alike texts' } as const

/** Of a pod's metadata and of its containers what many have alike. */
export const wantedLabelsMessage = message({ 11: labelsMessage })
export const wantedPortsMessage = message({ 6: portMessages })

/** `wantedOfPod` by the numbers of k8s.io/api/core/v1/generated.proto and k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto. */
const wantedPodMessage = message({
  1: {
    name: 'metadata',
    type: 'message',
    of: message({
      1: { name: 'name', type: 'text' },
      3: { name: 'namespace', type: 'text' },
      8: { name: 'creationTimestamp', type: 'time' },
      11: labelsMessage,
    }),
  },
  2: {
    name: 'spec',
    type: 'message',
    of: message({
      2: { name: 'containers', type: 'messages', of: wantedPortsMessage },
      10: { name: 'nodeName', type: 'text' },
      11: { name: 'hostNetwork', type: 'boolean' },
      20: {
        name: 'initContainers',
        type: 'messages',
        of: message({ 6: portMessages, 24: { name: 'restartPolicy', type: 'text' } }),
      },
    }),
  },
  3: {
    name: 'status',
    type: 'message',
    of: message({
      1: { name: 'phase', type: 'text' },
      6: { name: 'podIP', type: 'text' },
      12: { name: 'podIPs', type: 'messages', of: message({ 1: { name: 'ip', type: 'text' } }) },
    }),
  },
})

/** Every API server has these. */
export const builtInResources: readonly Resource[] = [
  {
    kind: 'Pod',
    apiVersion: 'v1',
    name: 'pods',
    path: '/api/v1/pods',
    wanted: wantedOfPod,
    wantedMessage: wantedPodMessage,
    read: readPod,
  },
  {
    kind: 'Namespace',
    apiVersion: 'v1',
    name: 'namespaces',
    path: '/api/v1/namespaces',
    wanted: fields({ metadata }),
    read: readNamespace,
  },
  {
    kind: 'Node',
    apiVersion: 'v1',
    name: 'nodes',
    path: '/api/v1/nodes',
    wanted: fields({
      metadata,
      spec: fields({ podCIDR: 'all', podCIDRs: 'all' }),
      status: fields({ addresses: { items: fields({ type: 'all', address: 'all' }) } }),
    }),
    read: readNode,
  },
  {
    kind: 'NetworkPolicy',
    apiVersion: 'networking.k8s.io/v1',
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
  return { kind, apiVersion, name: `${plural}.${GROUP}`, path: `/apis/${apiVersion}/${plural}`, wanted: 'all' }
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
