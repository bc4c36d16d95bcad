/**
 * Fills a real API server with the world of the cluster bench and changes it: `node filled-server.ts PODS KUBECONFIG`. Speaks
 * as server.ts does; the times of events are those at which their requests were sent, so what the API server itself takes is in
 * the delays. Nothing is taken back.
 */
import type { Workload } from '../../src/engine/objects.ts'
import { readAccess } from '../../src/sources/kubernetes/credentials.ts'
import { manifestOf } from '../datapath/manifests.ts'
import { ApiWriter, addressOf } from './api-writer.ts'
import { followPhases, type MeasuredEvent } from './change-phases.ts'
import type { PodChange } from './changes.ts'
import { monotonicMs } from './clock.ts'
import type { PodState } from './pods.ts'
import { clusterWorld } from './world.ts'

const [count, kubeconfig] = process.argv.slice(2) as [string, string]
const { pods, others } = clusterWorld(Number(count))
const writer = new ApiWriter(await readAccess({ kubeconfig }))
/** Those that are beyond the world: they go when their phase ends. */
const born = new Set<Workload>()
const known = new Set(pods)
const labelKeys = new Set(pods.flatMap(({ labels }) => [...labels.keys()]))
const namespaces = others.filter((object) => object.type === 'Namespace')
const rest = others.filter((object) => object.type !== 'Namespace')
// Nobody runs the pods, so nobody has to admit them.
const open = namespaces.map((object) => ({
  ...object,
  labels: new Map([...object.labels].filter(([key]) => !key.startsWith('pod-security.kubernetes.io/'))),
}))
for (const part of [open, rest]) {
  await writer.putAll(part.map((object) => manifestOf(object as Parameters<typeof manifestOf>[0])))
}
await writer.putPods(pods, (number) => stateOf(number))

let number = pods.length
const underWay = new Set<Promise<void>>()
followPhases(pods, tell, async () => {
  await Promise.all(underWay)
  for (const pod of born) await writer.deletePod(pod)
  born.clear()
})
process.once('SIGTERM', () => process.exit(0))
process.stdout.write('ready\n')

function tell(change: PodChange, note: (event: MeasuredEvent) => void): void {
  const applied = apply(change, note).catch((error: Error) => {
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  })
  underWay.add(applied)
  void applied.then(() => underWay.delete(applied))
}

async function apply({ type, pod, isReady, isMeasured }: PodChange, note: (event: MeasuredEvent) => void) {
  if (type === 'ADDED') {
    born.add(pod)
    await writer.createPod(pod, stateOf(++number))
  } else if (type === 'DELETED') born.delete(pod)
  if (isMeasured) note({ address: addressOf(pod), isSubject: type === 'ADDED', atMs: monotonicMs() })
  if (type === 'DELETED') await writer.deletePod(pod)
  else if (isMeasured || !hasNewLabels(pod)) await writer.reportPod(pod, stateOf(number, isReady))
  else await writer.labelPod(pod, labelKeys)
}

/** Changes of labels make another pod of it, changes of its state do not. */
function hasNewLabels(pod: Workload): boolean {
  return !known.has(pod)
}

function stateOf(number: number, isReady = true): PodState {
  return { number, changedAt: Math.floor(Date.now() / 1000), isReady, resourceVersion: '' }
}
