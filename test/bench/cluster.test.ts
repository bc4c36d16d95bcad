import t from 'tap'
import { podChanges, stateChanges } from '../../bench/cluster/changes.ts'
import { newPodOf, podOf } from '../../bench/cluster/pods.ts'
import { cpuSecondsOf, memoryOf } from '../../bench/cluster/proc.ts'
import { clusterWorld, LOCAL_NODE, POLICIES } from '../../bench/cluster/world.ts'
import { delaysOf, judgeCluster } from '../../bench/cluster.ts'
import { Compiler, formatAddress, readObject } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'

const { pods, others } = clusterWorld(1000)
const state = { number: 5, changedAt: 1_700_000_005, isReady: true, resourceVersion: '7' }

t.test('a pod is as large as those of a cluster, and says of itself what the world does', async (t) => {
  const bytes = pods.map((pod, number) => JSON.stringify(podOf(pod, { ...state, number })).length)
  const mean = bytes.reduce((sum, each) => sum + each) / bytes.length
  t.ok(mean > 3500 && mean < 5000, `${mean} bytes`)
  const pod = pods[17]!
  t.strictSame(sorted(readObject({ apiVersion: 'v1', kind: 'Pod', ...podOf(pod, state) }) as Workload), sorted(pod))
  t.notOk('status' in newPodOf(pod, state), 'whoever makes a pod does not say what state it is in')
})

t.test('pods are in the order of an API server, the policies as many as said', async (t) => {
  const keys = pods.map(({ namespace, name }) => `${namespace}/${name}`)
  t.strictSame(keys, keys.toSorted())
  t.equal(others.filter(({ type }) => type === 'Policy').length, POLICIES)
})

t.test('states change nothing that policies could name', async (t) => {
  const changes = take(stateChanges(pods), 100)
  for (const { pod, isReady } of changes) {
    const read = readObject({ apiVersion: 'v1', kind: 'Pod', ...podOf(pod, { ...state, isReady }) })
    if (!t.strictSame(sorted(read as Workload), sorted(pod))) break
  }
  t.equal(new Set(changes.map(({ isReady }) => isReady)).size, 2)
})

t.test('of pods that change a fourth come to the local node, or go; each of these moves the subjects', async (t) => {
  const compiler = new Compiler(policyKinds, LOCAL_NODE)
  compiler.update({ upserts: [...others, ...pods], deletes: [] })
  const changes = take(podChanges(pods), 600)
  const measured = changes.filter(({ isMeasured }) => isMeasured)
  t.equal(measured.length, 150)
  t.ok(measured.some(({ type }) => type === 'DELETED'))
  for (const { type, pod, isMeasured } of changes) {
    const isGone = type === 'DELETED'
    const key = `Pod ${pod.namespace}/${pod.name}`
    const { subjectChange } = compiler.update({ upserts: isGone ? [] : [pod], deletes: isGone ? [key] : [] })
    const moved = subjectChange[isGone ? 'removed' : 'added'].map(formatAddress)
    const isRight = isMeasured ? moved.includes(formatAddress(pod.addresses[0]!)) : moved.length === 0
    if (!isRight) t.fail(`${type} ${key}: ${moved}`)
  }
})

t.test('the way of an event is from its writing to the element that follows from it', async (t) => {
  const measured = [
    { address: '10.255.0.0', isSubject: true, atMs: 100 },
    { address: '10.255.0.0', isSubject: false, atMs: 200 },
    { address: '10.255.0.1', isSubject: true, atMs: 300 },
  ]
  const lines = [
    { address: '10.255.0.0', isSubject: true, atMs: 107 },
    { address: '10.255.0.0', isSubject: false, atMs: 209 },
    { address: '10.0.0.1', isSubject: true, atMs: 301 },
  ].map((line) => JSON.stringify(line))
  t.strictSame(delaysOf({ seconds: 1, changes: 3, measured }, lines), { delaysMs: [7, 9], missing: 1 })
})

t.test('the marks hold where there are most pods', async (t) => {
  const judge = (pods: number, metric: string, value: number) => {
    return judgeCluster({ scenario: `${pods} pods`, metric, value, unit: '' })
  }
  t.equal(judge(100_000, 'resident memory', 300), true)
  t.equal(judge(100_000, 'resident memory', 301), false)
  t.equal(judge(10_000, 'resident memory', 301), undefined)
  t.equal(judge(100_000, 'first enforcement, in readings', 2.1), false)
  t.equal(judge(100_000, 'event to enforcement, p99', 100), false)
  t.equal(judge(100_000, 'event to enforcement, p99', 99), true)
  t.equal(judge(1000, 'events that were not enforced', 1), false)
})

t.test('what a process takes is read of this one', async (t) => {
  const { resident, peak } = memoryOf(process.pid)
  t.ok(resident > 20 && peak >= resident * 0.9, `${resident} and ${peak} MB`)
  const before = cpuSecondsOf(process.pid)
  const usage = process.cpuUsage()
  t.ok(Math.abs(before - (usage.user + usage.system) / 1e6) < 0.5, `${before} s`)
})

function take<T>(all: Iterator<T, never>, count: number): T[] {
  return Array.from({ length: count }, () => all.next().value)
}

/** Labels in one order. */
function sorted(workload: Workload): object {
  return { ...workload, labels: [...workload.labels].sort(([a], [b]) => (a < b ? -1 : 1)) }
}
