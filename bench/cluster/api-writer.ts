import { Agent, request } from 'node:https'
import { formatAddress } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import type { Access } from '../../src/sources/kubernetes/access.ts'
import type { Manifest } from '../datapath/manifests.ts'
import { newPodOf, type PodState, podOf } from './pods.ts'

/** Where objects of a kind are written, and whether they lie in namespaces. */
const places: Readonly<Record<string, { readonly root: string; readonly plural: string }>> = {
  Namespace: { root: '/api/v1', plural: 'namespaces' },
  Node: { root: '/api/v1', plural: 'nodes' },
  Pod: { root: '/api/v1', plural: 'pods' },
  NetworkPolicy: { root: '/apis/networking.k8s.io/v1', plural: 'networkpolicies' },
  ClusterNetworkPolicy: { root: '/apis/policy.networking.k8s.io/v1alpha2', plural: 'clusternetworkpolicies' },
}

const MERGE_PATCH = 'application/merge-patch+json'
const MAX_CONNECTIONS = 16
/** The account of a new namespace takes the controllers a moment. */
const TRIES = 100
const PAUSE_MS = 200

interface Answer {
  readonly status: number
  readonly text: string
}

/** Writes a world into an API server that others follow. */
export class ApiWriter {
  readonly #access: Access
  readonly #agent: Agent

  constructor(access: Access) {
    this.#access = access
    this.#agent = new Agent({ ...access.tls, keepAlive: true, maxSockets: MAX_CONNECTIONS })
  }

  /** Writes each of them, several at a time. Throws what the API server says of one that it does not take. */
  async putAll(manifests: readonly Manifest[]): Promise<void> {
    await inParallel(manifests, (manifest) => this.#put(manifest))
  }

  /** Makes pods as the scheduler and kubelet leave them. */
  async putPods(pods: readonly Workload[], stateOf: (index: number) => PodState): Promise<void> {
    await inParallel(pods, async (pod, index) => {
      await this.createPod(pod, stateOf(index))
      await this.reportPod(pod, stateOf(index))
    })
  }

  /** A pod that runs nowhere yet. */
  async createPod(pod: Workload, state: PodState): Promise<void> {
    await this.#put(newPodOf(pod, state))
  }

  /** What the kubelet says of it. */
  async reportPod(pod: Workload, state: PodState): Promise<void> {
    const { status } = podOf(pod, state)
    await this.#write('PATCH', `${pathOf('Pod', pod)}/status`, { status }, MERGE_PATCH)
  }

  /** @param former keys of labels that it may have had */
  async labelPod(pod: Workload, former: Iterable<string>): Promise<void> {
    const none = [...former].map((key) => [key, null])
    const labels = { ...Object.fromEntries(none), ...Object.fromEntries(pod.labels) }
    await this.#write('PATCH', pathOf('Pod', pod), { metadata: { labels } }, MERGE_PATCH)
  }

  /** At once: nobody runs it. */
  async deletePod(pod: Workload): Promise<void> {
    await this.#write('DELETE', pathOf('Pod', pod), { gracePeriodSeconds: 0 })
  }

  close(): void {
    this.#agent.destroy()
  }

  async #put(manifest: Manifest): Promise<void> {
    const { kind, metadata, status } = manifest as { kind: string; metadata: Manifest; status?: Manifest }
    const { name, namespace } = metadata as { name: string; namespace?: string }
    const folder = pathOf(kind, { namespace })
    for (let tries = 1; ; tries++) {
      const answer = await this.#send('POST', folder, manifest)
      if (answer.status === 409) await this.#write('PATCH', `${folder}/${name}`, { metadata }, MERGE_PATCH)
      else if (answer.status === 403 && tries < TRIES) {
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
        continue
      } else if (answer.status >= 300) throw refusal('POST', `${folder}/${name}`, answer)
      break
    }
    if (kind === 'Node' && status) await this.#write('PATCH', `${folder}/${name}/status`, { status }, MERGE_PATCH)
  }

  async #write(method: string, path: string, body: Manifest, type?: string): Promise<void> {
    const answer = await this.#send(method, path, body, type)
    if (answer.status >= 300) throw refusal(method, path, answer)
  }

  async #send(method: string, path: string, body: Manifest, type = 'application/json'): Promise<Answer> {
    const { server } = this.#access
    const content = Buffer.from(JSON.stringify(body))
    // A DELETE has no length of its own.
    const headers = { ...this.#access.headers, 'Content-Type': type, 'Content-Length': content.length }
    return await new Promise((resolve, reject) => {
      const sent = request(`${server}${path}`, { method, agent: this.#agent, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part
        })
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text })).once('error', reject)
      })
      sent.once('error', reject)
      sent.end(content)
    })
  }
}

/** The address that events tell of. */
export function addressOf(pod: Workload): string {
  return formatAddress(pod.addresses[0]!)
}

function pathOf(
  kind: string,
  { namespace, name }: { readonly namespace?: string | undefined; readonly name?: string },
): string {
  const place = places[kind]
  if (!place) throw new Error(`${kind}: nobody knows where these are written`)
  const folder = namespace === undefined ? '' : `/namespaces/${namespace}`
  return `${place.root}${folder}/${place.plural}${name === undefined ? '' : `/${name}`}`
}

function refusal(method: string, path: string, { status, text }: Answer): Error {
  return new Error(`${method} ${path}: ${status} ${text.slice(0, 500)}`)
}

async function inParallel<T>(all: readonly T[], write: (item: T, index: number) => Promise<void>): Promise<void> {
  const left = all.entries()
  await Promise.all(
    Array.from({ length: MAX_CONNECTIONS }, async () => {
      for (const [index, item] of left) await write(item, index)
    }),
  )
}
