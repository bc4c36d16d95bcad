/**
 * The API server of the cluster bench, in a process of its own: `node server.ts PODS KUBECONFIG`. It has all pods as bytes
 * before anybody asks, writes a kubeconfig and prints `ready`. Each line on standard input is a kind of changes and how
 * many of them a second the watches are told from then on: `state 100`, `pods 100`, `none 0`. The answer is what was
 * written since the line before, as JSON.
 */
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { formatAddress } from '../../src/engine/index.ts'
import { PROTOBUF } from '../../src/sources/kubernetes/protobuf-list-reader.ts'
import { type ApiObject, ApiServer, listsOf } from '../../test/sources/kubernetes/api-server.ts'
import { encodePodItem, encodePodListHead, podListEnd } from '../../test/sources/kubernetes/protobuf-encoder.ts'
import { manifestOf } from '../datapath/manifests.ts'
import { type PodChange, podChanges, stateChanges } from './changes.ts'
import { monotonicMs } from './clock.ts'
import { podOf } from './pods.ts'
import { clusterWorld } from './world.ts'

/** What the watches were told while the rate was the same. */
export interface ChangePhase {
  readonly seconds: number
  readonly changes: number
  /** When an event was written after which an address is a subject, or no longer: ms on the machine's monotonic clock. */
  readonly measured: readonly { readonly address: string; readonly isSubject: boolean; readonly atMs: number }[]
}

const TICK_MS = 5
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

let timer: NodeJS.Timeout | undefined
let phase = { begunMs: monotonicMs(), changes: 0, measured: [] as ChangePhase['measured'][number][] }
let version = FIRST_NEW_VERSION
const kinds = { state: stateChanges, pods: podChanges }

createInterface({ input: process.stdin }).on('line', (line) => {
  clearInterval(timer)
  const { begunMs, changes, measured } = phase
  const told: ChangePhase = { seconds: (monotonicMs() - begunMs) / 1000, changes, measured }
  process.stdout.write(`${JSON.stringify(told)}\n`)
  const [kind, rate] = line.split(' ')
  phase = { begunMs: monotonicMs(), changes: 0, measured: [] }
  if (kind !== 'state' && kind !== 'pods') return
  const current = phase
  // From the beginning: who lists the pods is told of none that changed before.
  const source = kinds[kind](pods)
  timer = setInterval(() => {
    const due = ((monotonicMs() - current.begunMs) / 1000) * Number(rate)
    while (current.changes < due) tell(source.next().value)
  }, TICK_MS)
})
process.once('SIGTERM', () => process.exit(0))
process.stdout.write('ready\n')

function tell({ type, pod, isReady, isMeasured }: PodChange): void {
  version++
  const state = { number: version, changedAt: Math.floor(Date.now() / 1000), isReady, resourceVersion: `${version}` }
  const object = { kind: 'Pod', apiVersion: 'v1', ...podOf(pod, state) }
  const text = `${JSON.stringify({ type, object })}\n`
  phase.changes++
  if (isMeasured) {
    const address = formatAddress(pod.addresses[0]!)
    phase.measured.push({ address, isSubject: type === 'ADDED', atMs: monotonicMs() })
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
