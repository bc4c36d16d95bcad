import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import { attachEngine, Compiler, type Generation } from '../../src/engine/compile.ts'
import { ANY_HOOK, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import type { Trace } from '../../src/engine/index.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { objectKey } from '../../src/engine/snapshot.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { seededRandom } from '../fixtures/random.ts'
import { randomFlow, randomWorld } from '../fixtures/random-world.ts'
import { shop } from '../fixtures/shop.ts'
import { packet, podLine, policyLine, worldOf, worldOfPlain } from '../fixtures/world.ts'
import { objectsOf } from './oracle/objects.ts'

/** The generation as another thread receives it. */
function handOver(generation: Generation): Generation {
  const { port1, port2 } = new MessageChannel()
  try {
    port1.postMessage(generation)
    return receiveMessageOnPort(port2)!.message as Generation
  } finally {
    port1.close()
  }
}

const denyAll = policyLine('shop/deny-all', 'podSelector: {}, policyTypes: [Ingress, Egress]')

t.test('a generation is handed over without a copy', async (t) => {
  const { generation } = worldOf(shop + denyAll, 'n1').compiled
  const received = handOver(generation)
  t.equal(received.number, generation.number)
  t.equal(received.identities.localNode, generation.identities.localNode)
  const tables = (value: object): Int32Array<SharedArrayBuffer>[] =>
    Object.values(value).flatMap((each: unknown) => {
      if (each instanceof Int32Array) return [each as Int32Array<SharedArrayBuffer>]
      return typeof each === 'object' && each !== null ? tables(each) : []
    })
  t.ok(tables(generation).length >= 20)
  for (const [i, table] of tables(received).entries()) {
    t.ok(table.buffer instanceof SharedArrayBuffer)
    const original = tables(generation)[i]!
    const before = table[0]
    original[0] = 12345
    t.equal(table[0], table.length > 0 ? 12345 : undefined, 'both read the same memory')
    if (before !== undefined) original[0] = before
  }
})

t.test('the engine attached from the tables alone decides as the traced one', async (t) => {
  const random = seededRandom(4242)
  const verdicts = { accept: 0, deny: 0 }
  for (let number = 0; number < 100; number++) {
    const plain = randomWorld(random)
    const { compiled } = worldOfPlain(objectsOf(plain), random.pick(['n1', 'n2', 'gateway']))
    const attached = attachEngine(handOver(compiled.generation), policyKinds)
    for (let left = 80; left > 0; left--) {
      const { source, destination, port, icmpType, icmpCode } = randomFlow(random, plain)
      const protocol = random.pick([6, 6, 6, 17, 17, 132, destination.includes(':') ? 58 : 1, 47])
      const asked = packet({ source, destination, port, protocol, icmpType, icmpCode })
      const hook = random.pick([ANY_HOOK, HOOK_INPUT, HOOK_FORWARD, HOOK_OUTPUT])
      const trace: Trace = []
      const expected = compiled.engine.decideFlow(compiled.engine.identify(asked, hook), trace)
      const found = attached.decide(asked, hook)
      if (found !== expected) return t.equal(found, expected, JSON.stringify({ asked, hook, plain }))
      verdicts[found]++
    }
  }
  t.ok(verdicts.accept > 1000 && verdicts.deny > 1000, `${verdicts.accept} accepted, ${verdicts.deny} denied`)
})

t.test('the attached engine has no names, and says so when it is asked for a trace', async (t) => {
  const engine = attachEngine(handOver(worldOf(shop + denyAll, 'n1').compiled.generation), policyKinds)
  const flow = engine.identify(packet({ source: '10.0.0.1', destination: '10.0.0.3', port: 1 }), HOOK_FORWARD)
  t.throws(() => engine.decideFlow(flow, []), { message: /has no names$/ })
})

t.test('a later tier is asked only where the earlier ones say next', async (t) => {
  const { compiled } = worldOf(
    shop + policyLine('shop/p', 'podSelector: {matchLabels: {app: db}}, ingress: [{}]'),
    'n1',
  )
  t.equal(compiled.generation.tiers.length, policyKinds.length)
  t.same(compiled.problems, [])
  t.same(
    compiled.engine.evaluators.map(({ name }) => name),
    policyKinds.map(({ name }) => name),
  )
})

t.test('a world without anything', async (t) => {
  const { compiled } = worldOf('', 'n1')
  const attached = attachEngine(handOver(compiled.generation), policyKinds)
  t.equal(attached.decide(packet(), HOOK_FORWARD), 'accept')
  t.match(compiled, { subjects: [], protectedWorkloads: 0, selectedWorkloads: 0, isGateway: true })
})

t.test('which addresses become subjects, and which no longer are: two pods may claim one', async (t) => {
  const objects = (yaml: string) => readManifest(yaml, 'world.yaml').objects
  const compiler = new Compiler(policyKinds, undefined)
  const steps: readonly [rule: string, upserts: string, deletes: string, added: string[], removed: string[]][] = [
    ['nothing is selected yet', podLine('shop/a', '10.0.0.2', 'app: a'), '', [], []],
    ['selected', policyLine('shop/p', 'podSelector: {}'), '', ['10.0.0.2'], []],
    ['another with the same address', podLine('shop/b', '10.0.0.2', 'app: b'), '', [], []],
    ['one of them has another one', podLine('shop/a', '10.0.0.3', 'app: a'), '', ['10.0.0.3'], []],
    ['and comes back', podLine('shop/a', '10.0.0.2', 'app: a'), '', [], ['10.0.0.3']],
    ['one goes', '', podLine('shop/a', '10.0.0.2', 'app: a'), [], []],
    [
      'both change places',
      podLine('shop/a', '10.0.0.2', 'app: a') + podLine('shop/b', '10.0.0.4', 'app: b'),
      '',
      ['10.0.0.4'],
      [],
    ],
    ['no policy selects the other', policyLine('shop/p', 'podSelector: {matchLabels: {app: a}}'), '', [], ['10.0.0.4']],
    ['labels that select nothing else', podLine('shop/a', '10.0.0.2', 'app: a, tier: x'), '', [], []],
    ['nobody is selected', '', policyLine('shop/p', 'podSelector: {}'), [], ['10.0.0.2']],
  ]
  for (const [rule, upserts, deletes, added, removed] of steps) {
    const { subjectChange } = compiler.update({ upserts: objects(upserts), deletes: objects(deletes).map(objectKey) })
    t.same(subjectChange.added.map(formatAddress), added, rule)
    t.same(subjectChange.removed.map(formatAddress), removed, rule)
  }
})
