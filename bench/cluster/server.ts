/**
 * The API server of the cluster bench, in a process of its own: `node server.ts PODS KUBECONFIG`. It has all pods as bytes
 * before anybody asks, writes a kubeconfig and prints `ready`. Then it is told which changes its watches are told of, as
 * `followPhases` reads it; an event's time is when it was written.
 */
import { writeFileSync } from 'node:fs'
import { formatAddress } from '../../src/engine/index.ts'
import { PROTOBUF } from '../../src/sources/kubernetes/protobuf-list-reader.ts'
import { type ApiObject, ApiServer, listsOf } from '../../test/sources/kubernetes/api-server.ts'
import { encodePodItem, encodePodListHead, podListEnd } from '../../test/sources/kubernetes/protobuf-encoder.ts'
import { manifestOf } from '../datapath/manifests.ts'
import { followPhases, type MeasuredEvent } from './change-phases.ts'
import type { PodChange } from './changes.ts'
import { monotonicMs } from './clock.ts'
import { podOf } from './pods.ts'
import { clusterWorld } from './world.ts'

const FIRST_NEW_VERSION = 1_000_000_000

const [count, kubeconfig] = process.argv.slice(2) as [string, string]
const { pods, others } = clusterWorld(Number(count))
const server = await ApiServer.start()
server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
for (const object of others) server.put(manifestOf(object as Parameters<typeof manifestOf>[0]) as unknown as ApiObject)
const { asJSON, asProtobuf } = encodePods()
server.disturb(
  listsOf('pods'),
  (response, { query, accept }) => {
    const limit = Number(query.get('limit') ?? pods.length)
    const start = Number(query.get('continue') ?? 0)
    const end = Math.min(pods.length, start + limit)
    const left = pods.length - end
    const metadata = { resourceVersion: '100', ...(left > 0 && { continue: `${end}`, remainingItemCount: left }) }
    const isProtobuf = accept.includes(PROTOBUF)
    const { bytes, starts } = isProtobuf ? asProtobuf : asJSON
    const items = bytes.subarray(starts[start]!, starts[end]!)
    response.writeHead(200, { 'Content-Type': isProtobuf ? PROTOBUF : 'application/json' })
    if (isProtobuf) {
      response.write(encodePodListHead(metadata, items.length))
      response.write(items)
      response.end(podListEnd)
    } else {
      response.write(JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata, items: [] }).slice(0, -2))
      response.write(items.subarray(0, -1))
      response.end(']}\n')
    }
  },
  Number.POSITIVE_INFINITY,
)
writeFileSync(kubeconfig, JSON.stringify(server.kubeconfig()), { mode: 0o600 })

let version = FIRST_NEW_VERSION
followPhases(pods, tell)
process.once('SIGTERM', () => process.exit(0))
process.stdout.write('ready\n')

function tell({ type, pod, isReady, isMeasured }: PodChange, note: (event: MeasuredEvent) => void): void {
  version++
  const state = { number: version, changedAt: Math.floor(Date.now() / 1000), isReady, resourceVersion: `${version}` }
  const object = { kind: 'Pod', apiVersion: 'v1', ...podOf(pod, state) }
  const text = `${JSON.stringify({ type, object })}\n`
  if (isMeasured) {
    const address = formatAddress(pod.addresses[0]!)
    note({ address, isSubject: type === 'ADDED', atMs: monotonicMs() })
  }
  server.writeToWatches('Pod', text)
}

/** Items one after another; `starts` has where each begins, and the end. */
interface Items {
  readonly bytes: Buffer
  readonly starts: readonly number[]
}

/** All pods in both encodings. In JSON a comma follows each. */
function encodePods(): { readonly asJSON: Items; readonly asProtobuf: Items } {
  const json: Buffer[] = []
  const protobuf: Buffer[] = []
  for (const [number, pod] of pods.entries()) {
    const changedAt = Math.floor(pod.createdMs / 1000) + 5
    const object = podOf(pod, { number, changedAt, isReady: true, resourceVersion: `${number}` })
    json.push(Buffer.from(`${JSON.stringify(object)},`))
    protobuf.push(encodePodItem(object))
  }
  return { asJSON: join(json), asProtobuf: join(protobuf) }
}

function join(items: readonly Buffer[]): Items {
  const starts = [0]
  for (const { length } of items) starts.push(starts.at(-1)! + length)
  return { bytes: Buffer.concat(items), starts }
}
