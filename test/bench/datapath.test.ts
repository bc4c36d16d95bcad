import t from 'tap'
import { manifestOf } from '../../bench/datapath/manifests.ts'
import { labelChanges, Updates } from '../../bench/datapath/updates.ts'
import { type Ends, OWN_NAMESPACE, POLICIES, WORKLOADS, worldManifests, worldYaml } from '../../bench/datapath/world.ts'
import { judgeDatapath } from '../../bench/datapath.ts'
import { makeWorld } from '../../bench/engine/worlds.ts'
import { formatTable, type Row, relateTo } from '../../bench/rows.ts'
import { names } from '../../bench/scenarios.ts'
import { Compiler, type Delta, explain, objectKey, parseQuestion, readObject } from '../../src/engine/index.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { MemorySource } from '../../src/sources/memory.ts'

const ends: Ends = { clients: ['10.77.1.2', '10.77.1.3'], servers: ['10.77.2.2'] }
const objects = worldManifests(ends).map((manifest) => readObject(manifest)!)

t.test('the world lets clients in to servers, and nobody else', async (t) => {
  const compiler = new Compiler(policyKinds)
  const compiled = compiler.update({ upserts: objects, deletes: [] })
  t.match(compiled, { known: { workloads: WORKLOADS, policies: POLICIES }, problems: [] })
  const decide = (from: string, to: string) => {
    const { verdict, decidedBy } = explain(parseQuestion(from, to), compiler.snapshot(), compiled)
    return `${verdict} by ${decidedBy.policy?.name}`
  }
  t.equal(decide('10.77.1.3', '10.77.2.2:20001'), 'allow by servers')
  t.equal(decide('10.77.1.2', '10.77.2.2:24096/udp'), 'allow by servers')
  t.match(decide('10.77.2.2', '10.77.1.2:20001'), /^deny/)
  t.match(decide('10.0.3.2', '10.77.2.2:20001'), /^deny/)
})

t.test('its file says the same', async (t) => {
  const some = worldYaml(ends).split('\n---\n').slice(-400).join('\n---\n')
  const read = readManifest(some, 'world.yaml').objects.map(({ ref: { file, line, ...ref }, ...rest }) => {
    return { ...rest, ref }
  })
  t.strictSame(read, objects.slice(-400))
})

t.test('a manifest is read as the object that it was made of', async (t) => {
  const { namespaces, nodes, workloads, networkPolicies } = makeWorld({
    name: 'small',
    workloads: 500,
    policies: 60,
    isOnePod: false,
  })
  const made = [...namespaces, ...nodes, ...workloads.map((pod) => ({ ...pod, createdMs: 0 })), ...networkPolicies]
  for (const object of made) {
    const read = readObject(manifestOf(object))
    if (!t.strictSame(read, object, objectKey(object))) break
  }
})

t.test('label changes are one by one, and leave the world as it was', async (t) => {
  const changes = labelChanges(objects)
  const before = new Map(objects.map((object) => [objectKey(object), object]))
  const half = changes.length / 2
  const wasChanged = (change: (typeof changes)[number]) => {
    const former = before.get(objectKey(change))
    return former?.type === 'Workload' && JSON.stringify([...former.labels]) !== JSON.stringify([...change.labels])
  }
  t.equal(new Set(changes.map(objectKey)).size, half)
  t.equal(changes.slice(0, half).filter(wasChanged).length, half)
  t.equal(changes.slice(half).filter(wasChanged).length, 0)
  const own = changes.slice(0, half).filter(({ namespace }) => namespace === OWN_NAMESPACE)
  t.same(own.map(({ labels }) => labels.get('role')).sort(), ['client', 'server'])
  const deltas: Delta[] = []
  const source = new MemorySource(objects)
  await source.start((delta) => deltas.push(delta), new AbortController().signal)
  const updates = new Updates(source, changes)
  updates.setRate(10_000)
  while (deltas.length < 20) await new Promise((resolve) => setTimeout(resolve, 5))
  const given = updates.setRate(0)
  t.equal(given, deltas.length - 1)
  t.same(
    deltas.slice(1).map(({ upserts }) => upserts),
    changes.slice(0, given).map((change) => [change]),
  )
})

t.test('each scenario is compared with its own, and judged by it', async (t) => {
  const row = (scenario: string, metric: string, value: number): Row => ({ scenario, metric, value, unit: '' })
  const related = (mine: string, other: string, metric: string, value: number) =>
    relateTo(
      ({ scenario }) => (scenario === mine ? other : undefined),
      [row(other, metric, 100), row(mine, metric, value)],
    )
  const cases: [scenario: string, metric: string, value: number, isGood: boolean | undefined][] = [
    [names.warm, 'TCP, 1 at a time: connections', 95, true],
    [names.unlogged, 'TCP, 1 at a time: connections', 94, false],
    [names.warm, 'UDP, 64 sockets: answered packets', 94, false],
    [names.warm, 'TCP, 1 at a time: connections per CPU second', 10, undefined],
    [names.cold, 'TCP, 64 at a time: connections per CPU second', 90, true],
    [names.cold, 'UDP, a new socket each: answered packets per CPU second', 89, false],
    [names.cold, 'TCP, 64 at a time: connections', 10, undefined],
    [names.updated, 'TCP, 2000/s: p99', 150, true],
    [names.updated, 'TCP, 2000/s: p99', 151, false],
    [names.updated, 'TCP, 2000/s: p50', 900, undefined],
    [names.free, 'TCP, 1 at a time: connections', 10, undefined],
  ]
  for (const [scenario, metric, value, isGood] of cases) {
    const [reference, judged] = related(scenario, 'other', metric, value)
    t.equal(judgeDatapath(reference!), undefined)
    t.equal(judgeDatapath(judged!), isGood, `${scenario} ${metric} ${value}`)
  }
  const table = formatTable([...related('a', 'b', 'm', 50), ...related('c', 'd', 'm', 50)])
  t.match(table, 'relative to b (a), d (c)')
})
