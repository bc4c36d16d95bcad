import { performance } from 'node:perf_hooks'
import type { Compiler, PolicyObject } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { TCP } from '../../src/engine/packet.ts'
import type { Policy, Rule } from '../../src/engine/policy.ts'
import { podAddress } from './cluster.ts'
import { Random } from './random.ts'
import type { BenchWorld } from './worlds.ts'

/** Milliseconds of single updates, by what they change. Every change is taken back, which is an update too. */
export type UpdateTimes = Readonly<Record<string, readonly number[]>>

/** How many objects are changed, each back and forth. */
const podCount = 125
const policyCount = 52

/** Changes single objects of a world that is compiled; afterwards it is the same as before. */
export function measureUpdates(world: BenchWorld, compiler: Compiler): UpdateTimes {
  const { workloads, networkPolicies, clusterPolicies } = world
  const random = new Random(11)
  const timesOf = (objects: readonly PolicyObject[], change: (object: PolicyObject, i: number) => PolicyObject) => {
    const changed = objects.map(change)
    return objects.flatMap((object, i) => [timeOf(compiler, changed[i]!), timeOf(compiler, object)])
  }
  const pods = Array.from({ length: podCount }, () => random.of(workloads))
  const withPeers = networkPolicies.filter(hasPeers)
  const narrow = Array.from({ length: policyCount }, () => random.of(withPeers))
  const wide = clusterPolicies.filter(
    ({ tier, subject }) => tier === 'Admin' && isEverything(subject.namespaceSelector),
  )
  const admin = Array.from({ length: policyCount }, () => random.of(wide))
  return {
    'pod update, labels of another': timesOf(pods, (pod) => withLabelsOfAnother(pod as Workload, world)),
    'pod update, new labels': timesOf(pods, (pod, i) => withNewLabel(pod as Workload, i)),
    'pod update, address': timesOf(pods, (pod, i) => withAddress(pod as Workload, workloads.length + i)),
    'NetworkPolicy update, port': timesOf(narrow, (policy, i) => withPort(policy as Policy, 20_000 + i)),
    'NetworkPolicy update, new peer': timesOf(narrow, (policy, i) => withPeer(policy as Policy, `new-${i}`)),
    'Admin policy update, port': timesOf(admin, (policy, i) => withPort(policy as Policy, 20_000 + i)),
  }
}

function timeOf(compiler: Compiler, object: PolicyObject): number {
  const start = performance.now()
  compiler.update({ upserts: [object], deletes: [] })
  return performance.now() - start
}

function withLabelsOfAnother(pod: Workload, { workloads }: BenchWorld): Workload {
  const other = workloads.find(
    ({ namespace, labels, ports }) =>
      namespace === pod.namespace && ports === pod.ports && labels.get('app') !== pod.labels.get('app'),
  )
  return { ...pod, labels: new Map(other?.labels ?? pod.labels) }
}

function withNewLabel(pod: Workload, i: number): Workload {
  return { ...pod, labels: new Map([...pod.labels, ['debug', `run-${i}`]]) }
}

function withAddress(pod: Workload, index: number): Workload {
  return { ...pod, addresses: [podAddress(index), ...pod.addresses.slice(1)] }
}

function hasPeers({ ingress }: Policy): boolean {
  return ingress !== undefined && ingress.length > 0
}

function isEverything(selector: Policy['subject']['namespaceSelector']): boolean {
  return selector?.requirements.length === 0
}

function withPort(policy: Policy, port: number): Policy {
  return withRule(policy, (rule) => ({ ...rule, ports: [{ protocol: TCP, first: port, last: port }] }))
}

/** Asks for a label that no policy has asked for before. */
function withPeer(policy: Policy, app: string): Policy {
  const podSelector = { requirements: [{ key: 'app', operator: 'In' as const, values: [app] }] }
  const namespaceSelector = policy.namespace === undefined ? { requirements: [] } : undefined
  return withRule(policy, (rule) => ({ ...rule, peers: [{ type: 'pods', namespaceSelector, podSelector }] }))
}

function withRule(policy: Policy, change: (rule: Rule) => Rule): Policy {
  const [first, ...others] = policy.ingress!
  return { ...policy, ingress: [change(first!), ...others] }
}
