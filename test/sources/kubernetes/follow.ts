import type { Test } from 'tap'
import { type Delta, objectKey, type PolicyObject } from '../../../src/engine/index.ts'
import type { Access } from '../../../src/sources/kubernetes/access.ts'
import { KubernetesSource } from '../../../src/sources/kubernetes/kubernetes.ts'
import { ListedPod } from '../../../src/sources/kubernetes/listed-pod.ts'
import type { Timing } from '../../../src/sources/kubernetes/timing.ts'
import type { SourceHealth } from '../../../src/sources/source.ts'
import { until } from '../../until.ts'
import { type ApiObject, ApiServer } from './api-server.ts'

/** So short that a test need not wait, and long enough to tell one thing from another. */
export const quick: Timing = {
  silenceMs: 5000,
  answerMs: 5000,
  watchMs: 60_000,
  firstPauseMs: 5,
  longestPauseMs: 40,
  discoveryMs: 60,
  firstPictureMs: 5000,
  freshMs: 0,
  pageSize: 3,
}

/** A source that follows a server, and what it has told so far. */
export interface Following {
  readonly source: KubernetesSource
  /** Keys of the objects, as whoever takes the deltas has them. */
  readonly objects: ReadonlyMap<string, PolicyObject>
  readonly deltas: readonly Delta[]
  readonly healths: readonly SourceHealth[]
  readonly abort: AbortController
  /** Waits until exactly these objects are there. */
  has(...keys: readonly string[]): Promise<void>
  /** Waits until the source says that it is well, or not for a reason that matches. */
  isWell(): Promise<void>
  isBroken(reason: RegExp): Promise<void>
}

/** A server that is gone after the test. */
export async function serve(t: Test): Promise<ApiServer> {
  const server = await ApiServer.start()
  t.teardown(() => server.down())
  return server
}

/** A source that has begun; `started` is how that ends. */
export function begin(
  t: Test,
  readAccess: () => Promise<Access>,
  timing: Partial<Timing> = {},
): Following & { readonly started: Promise<void> } {
  const healths: SourceHealth[] = []
  const source = new KubernetesSource(
    {},
    { onHealth: (health) => healths.push(health), timing: { ...quick, ...timing }, readAccess },
  )
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const objects = new Map<string, PolicyObject>()
  const deltas: Delta[] = []
  const started = source.start((delta) => {
    const upserts = delta.upserts.map(said)
    deltas.push({ ...delta, upserts })
    for (const key of delta.deletes) objects.delete(key)
    for (const object of upserts) objects.set(objectKey(object), object)
  }, abort.signal)
  const keys = () => [...objects.keys()].sort().join('\n')
  return {
    source,
    objects,
    deltas,
    healths,
    abort,
    started,
    has: async (...wanted) => {
      await soon(
        () => keys() === wanted.toSorted().join('\n'),
        () => `the objects are ${[...objects.keys()].join(', ')}`,
      )
    },
    isWell: () =>
      soon(
        () => source.health().isCurrent,
        () => `health: ${source.health().error}`,
      ),
    isBroken: (reason) =>
      soon(
        () => reason.test(source.health().error ?? ''),
        () => `health: ${source.health().error}`,
      ),
  }
}

/** A source that has a first picture. */
export async function follow(t: Test, server: ApiServer, timing: Partial<Timing> = {}): Promise<Following> {
  const following = begin(t, async () => server.access(), timing)
  await following.started
  return following
}

/** All that an object says: a pod of a list has no fields of its own that could be compared. */
export function said(object: PolicyObject): PolicyObject {
  return object instanceof ListedPod ? object.toJSON() : object
}

/** Waits until it is so. */
export async function soon(isSo: () => boolean, instead: () => string = () => ''): Promise<void> {
  try {
    await until(async () => {
      await new Promise((resolve) => setImmediate(resolve))
      return isSo()
    }, 20_000)
  } catch (cause) {
    throw new Error(`${(cause as Error).message}; ${instead()}`, { cause })
  }
}

export function pod(name: string, labels: Record<string, string> = { app: name }, ip = '10.0.0.1'): ApiObject {
  return {
    kind: 'Pod',
    metadata: { name, namespace: 'shop', labels, uid: 'x', managedFields: [{ manager: 'kubelet', 'f:x': {} }] },
    spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'i', ports: [{ name: 'http', containerPort: 80 }] }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], hostIP: '192.0.2.1' },
  }
}

export function namespace(name: string, labels: Record<string, string> = {}): ApiObject {
  return {
    kind: 'Namespace',
    metadata: { name, labels },
    spec: { finalizers: ['kubernetes'] },
    status: { phase: 'Active' },
  }
}

export function node(name: string, ip: string): ApiObject {
  const addresses = [
    { type: 'InternalIP', address: ip },
    { type: 'Hostname', address: name },
  ]
  return {
    kind: 'Node',
    metadata: { name, labels: { zone: 'a' } },
    spec: {},
    status: { addresses, images: [{ names: [] }] },
  }
}

export function networkPolicy(name: string, spec: object = { podSelector: {} }): ApiObject {
  return { kind: 'NetworkPolicy', metadata: { name, namespace: 'shop' }, spec }
}

export function clusterPolicy(name: string, action = 'Deny'): ApiObject {
  const ingress = [{ action, from: [{ namespaces: {} }] }]
  return {
    kind: 'ClusterNetworkPolicy',
    metadata: { name },
    spec: { tier: 'Admin', priority: 10, subject: { namespaces: {} }, ingress },
  }
}
