import t from 'tap'
import { InvalidObject, podTemplateKinds, readObject } from '../../src/engine/index.ts'

const template = { metadata: { labels: { app: 'a' } }, spec: { containers: [] } }
const selector = { matchLabels: { app: 'a' } }
const isBatch = (kind: string) => kind === 'Job' || kind === 'CronJob'
const versionOf = (kind: string) => (kind === 'ReplicationController' ? 'v1' : isBatch(kind) ? 'batch/v1' : 'apps/v1')
const specOf = (kind: string) => {
  if (kind === 'CronJob') return { jobTemplate: { spec: { template } } }
  if (kind === 'Job') return { template }
  return { selector: kind === 'ReplicationController' ? selector.matchLabels : selector, template }
}
const cluster = { tier: 'Admin', priority: 1, subject: { namespaces: {} } }
const rules = { subject: { namespaces: {} } }

const objects: readonly [version: string, kind: string, type: string, more?: object][] = [
  ['v1', 'Pod', 'Workload'],
  ['v1', 'Namespace', 'Namespace'],
  ['v1', 'Node', 'Node'],
  ['networking.k8s.io/v1', 'NetworkPolicy', 'Policy', { podSelector: {} }],
  ['policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', 'Policy', cluster],
  ['policy.networking.k8s.io/v1alpha1', 'AdminNetworkPolicy', 'Policy', { ...rules, priority: 1 }],
  ['policy.networking.k8s.io/v1alpha1', 'BaselineAdminNetworkPolicy', 'Policy', rules],
  ['knp.dev/v1alpha1', 'DomainName', 'DomainName', { addresses: [] }],
  ['knp.dev/v1alpha1', 'HostEndpoint', 'Workload', { node: 'n1' }],
  ['knp.dev/v1alpha1', 'NetworkSet', 'NetworkSet', { networks: ['192.0.2.0/24'] }],
  ...podTemplateKinds.map((kind) => [versionOf(kind), kind, 'Workload', specOf(kind)] as const),
].map((each) => each as [string, string, string, object?])

const named = (apiVersion: string, kind: string, spec?: object) => ({
  apiVersion,
  kind,
  metadata: { name: kind === 'BaselineAdminNetworkPolicy' ? 'default' : kind === 'DomainName' ? 'a.example' : 'a' },
  ...(spec && { spec }),
})

t.test('every kind that policies are made of or refer to', async (t) => {
  for (const [version, kind, type, spec] of objects) {
    const read = readObject(named(version, kind, spec))
    t.match(read, { type, ref: { kind } }, `${version} ${kind}`)
  }
})

t.test('what no policy refers to is nothing', async (t) => {
  t.equal(readObject(named('v1', 'Service')), undefined)
  t.equal(readObject(named('apps/v1', 'Job')), undefined, 'a kind is one of its own API')
})

t.test('what promises protection and is not known is refused', async (t) => {
  for (const [version, kind] of [
    ['extensions/v1beta1', 'NetworkPolicy'],
    ['networking.k8s.io/v1', 'networkpolicy'],
    ['policy.networking.k8s.io/v1', 'TenantPolicy'],
    ['knp.dev/v2', 'HostEndpoint'],
  ] as const) {
    t.throws(() => readObject(named(version, kind)), InvalidObject, `${version} ${kind}`)
  }
  for (const value of [undefined, null, 3, [], {}, { kind: 'Pod' }, { apiVersion: 'v1' }])
    t.throws(() => readObject(value), InvalidObject, JSON.stringify(value))
})
