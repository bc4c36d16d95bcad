import t from 'tap'
import { readManifest } from '../../src/sources/manifest.ts'
import { ObjectStore } from '../../src/sources/object-store.ts'
import { objectKey, type PolicyObject } from '../../src/sources/source.ts'

const objects = (yaml: string) => readManifest(yaml, 'f.yaml').objects
const pod = (name: string, namespace: string) =>
  `--- {apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: ${namespace}}}\n`
const policy = (name: string, namespace: string) =>
  `--- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ${name}, namespace: ${namespace}}, spec: {}}\n`

function storeOf(...deltas: (readonly PolicyObject[])[]): ObjectStore {
  const store = new ObjectStore('n1')
  for (const upserts of deltas) store.apply('files', { upserts, deletes: [] })
  return store
}

t.test('a namespace that only its pods mention exists with the label of its name alone', async (t) => {
  const written = '--- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}\n'
  const { namespaces } = storeOf(objects(pod('a', 'lab') + pod('b', 'shop') + written)).snapshot()
  t.same([...namespaces.keys()].sort(), ['lab', 'shop'])
  t.same(Object.fromEntries(namespaces.get('lab')!.labels), { 'kubernetes.io/metadata.name': 'lab' })
  t.same(Object.fromEntries(namespaces.get('shop')!.labels), { team: 'a', 'kubernetes.io/metadata.name': 'shop' })
})

t.test('policies are in order of namespace and name, whatever came first', async (t) => {
  const all = objects(policy('b', 'shop') + policy('a', 'shop') + policy('z', 'lab'))
  for (const order of [all, all.toReversed()]) {
    const names = storeOf(order)
      .snapshot()
      .networkPolicies.map(({ namespace, ref }) => `${namespace}/${ref.name}`)
    t.same(names, ['lab/z', 'shop/a', 'shop/b'])
  }
})

t.test('deltas', async (t) => {
  const [a, b] = objects(pod('a', 'shop') + pod('b', 'shop'))
  const store = storeOf([a!, b!])
  const first = store.snapshot()
  store.apply('files', { upserts: objects(pod('c', 'shop')), deletes: [objectKey(a!), 'Pod none/none'] })
  const second = store.snapshot()
  t.same(
    second.workloads.map(({ name }) => name),
    ['b', 'c'],
  )
  t.same(
    first.workloads.map(({ name }) => name),
    ['a', 'b'],
    'an earlier snapshot stays what it was',
  )
  t.equal(second.generation, first.generation + 1, 'the generation rises')
  t.equal(second.localNode, 'n1')
})

t.test('an object replaces the one of its kind, namespace and name', async (t) => {
  const store = storeOf(objects(pod('a', 'shop') + policy('a', 'shop') + pod('a', 'lab')), objects(pod('a', 'shop')))
  const { workloads, networkPolicies } = store.snapshot()
  t.equal(workloads.length, 2)
  t.equal(networkPolicies.length, 1)
})

t.test("an earlier run's picture stands for a source until it delivers one, be it empty", async (t) => {
  const store = new ObjectStore()
  store.restore('files', objects(pod('a', 'shop')))
  t.equal(store.hasRestored, true)
  t.equal(store.snapshot().workloads.length, 1)
  store.apply('files', { upserts: [], deletes: [] })
  t.equal(store.hasRestored, false)
  t.equal(store.snapshot().workloads.length, 0)
})
