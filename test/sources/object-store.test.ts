import t from 'tap'
import { objectKey, type PolicyObject } from '../../src/engine/index.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { ObjectStore } from '../../src/sources/object-store.ts'
import { hostLine, networkSetLine, worldOf } from '../fixtures/world.ts'

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
      .policies.map(({ namespace, ref }) => `${namespace}/${ref.name}`)
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
  const { workloads, policies } = store.snapshot()
  t.equal(workloads.length, 2)
  t.equal(policies.length, 1)
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

const labelled = (label: string) =>
  objects(`--- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {of: ${label}}}}\n`)
const everything = (upserts: readonly PolicyObject[]) => ({ upserts, deletes: [] })
const namesIn = (store: ObjectStore) => store.snapshot().workloads.map(({ name }) => name)
const ownerOf = (store: ObjectStore) => store.snapshot().workloads.map(({ labels }) => labels.get('of'))

t.test('several sources', async (t) => {
  const store = new ObjectStore()
  store.apply('first', everything(labelled('first')))
  store.apply('second', everything(labelled('second')))
  t.same(ownerOf(store), ['second'], 'where two have one object, the later source wins')
  store.apply('first', everything(labelled('first')))
  t.same(ownerOf(store), ['second'], 'whichever spoke last')
  const [object] = labelled('')
  store.apply('second', { upserts: [], deletes: [objectKey(object!)] })
  t.same(ownerOf(store), ['first'], 'where one deletes it, it is the other’s')
  store.apply('second', { upserts: [], deletes: [objectKey(object!)] })
  t.same(ownerOf(store), ['first'])
  store.apply('first', { upserts: [], deletes: [objectKey(object!)] })
  t.same(ownerOf(store), [], 'where both do, it is gone')
})

t.test('an earlier run’s picture holds until the source delivers one', async (t) => {
  const store = new ObjectStore()
  store.restore('broken', objects(pod('a', 'shop') + pod('b', 'shop')))
  store.apply('well', everything(objects(pod('x', 'shop'))))
  t.same(namesIn(store), ['a', 'b', 'x'])
  store.apply('broken', everything(objects(pod('c', 'shop'))))
  t.same(namesIn(store), ['c', 'x'], 'its first delta replaces all of it')
  store.apply('broken', everything(objects(pod('d', 'shop'))))
  t.same(namesIn(store), ['c', 'd', 'x'], 'and the next only adds')
})

t.test('a source that recovers keeps its place among the others', async (t) => {
  const store = new ObjectStore()
  store.restore('first', labelled('first'))
  store.apply('second', everything(labelled('second')))
  store.apply('first', everything(labelled('first')))
  t.same(ownerOf(store), ['second'])
})

t.test('an empty first delta is a picture too', async (t) => {
  const store = new ObjectStore()
  store.restore('broken', objects(pod('a', 'shop')))
  store.apply('broken', everything([]))
  t.same(namesIn(store), [])
})

t.test('a trial stands in one source’s place until it ends', async (t) => {
  const store = new ObjectStore()
  store.apply('files', everything(objects(pod('a', 'shop'))))
  store.apply('other', everything(objects(pod('x', 'shop'))))
  store.beginTrial('files', objects(pod('t', 'shop')))
  t.same(namesIn(store), ['t', 'x'])
  store.apply('files', everything(objects(pod('b', 'shop'))))
  store.apply('other', everything(objects(pod('y', 'shop'))))
  t.same(namesIn(store), ['t', 'x', 'y'], 'what the others deliver counts')
  t.same(
    [...store.picture()].map(([source, all]) => [source, all.map(({ ref }) => ref.name)]),
    [
      ['files', ['a', 'b']],
      ['other', ['x', 'y']],
    ],
    'what is saved for the next start is not on trial',
  )
  store.beginTrial('files', objects(pod('u', 'shop')))
  t.same(namesIn(store), ['u', 'x', 'y'], 'another takes its place')
  store.endTrial()
  t.same(namesIn(store), ['a', 'b', 'x', 'y'], 'what the source delivered meanwhile was kept')
  store.beginTrial('files', [])
  t.same(namesIn(store), ['x', 'y'], 'an empty one is one too')
})

t.test('the place of each kind', async (t) => {
  const { snapshot } = worldOf(
    hostLine('edge/web1', 'role: web', 'node: n1') + networkSetLine('far/partners', 'role: partner', '203.0.113.0/24'),
  )
  t.match(snapshot, { workloads: [{ name: 'web1' }], networkSets: [{ ref: { name: 'partners' } }] })
  t.same([...snapshot.namespaces.keys()].sort(), ['edge', 'far'], 'their namespaces exist')
})

t.test('the first delta is all there is, the next one what has changed', async (t) => {
  const [a, b, c] = objects(pod('a', 'shop') + pod('b', 'shop') + pod('c', 'shop'))
  const store = storeOf([a!, b!])
  store.apply('files', { upserts: [], deletes: [objectKey(a!)] })
  t.same(store.takeDelta(), { upserts: [b], keys: [objectKey(b!)], deletes: [] })
  store.apply('files', { upserts: [c!], deletes: [objectKey(b!)] })
  t.same(store.takeDelta(), { upserts: [c], keys: [objectKey(c!)], deletes: [objectKey(b!)] })
  t.same(store.takeDelta(), { upserts: [], keys: [], deletes: [] })
})
