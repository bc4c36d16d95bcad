import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import t from 'tap'
import { attachEngine } from '../../src/engine/compile.ts'
import {
  type Because,
  blockContains,
  type CompiledPolicy,
  Compiler,
  type Decision,
  explain,
  formatAddress,
  type Generation,
  HOOK_FORWARD,
  identityTable,
  objectKey,
  type PolicyKind,
  type PolicyObject,
  parseBlock,
  parseQuestion,
  pipelineOf,
  readObject,
  SELECTS_BOTH,
  SELECTS_INGRESS,
  sharedWords,
  type Verdict,
  type WholeKind,
} from '../../src/engine/index.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { shop } from '../fixtures/shop.ts'
import { packet, policyLine } from '../fixtures/world.ts'

const allowAll = policyLine('shop/all', 'podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]')

/** Judges whoever has the label `app: db`, in both directions unless said otherwise. */
function ofDb(answer: (because?: Because[]) => Verdict, more: Partial<WholeKind> = {}, bits = SELECTS_BOTH): WholeKind {
  return {
    name: 'guard',
    compile: (_, identities) => ({
      selected: identityTable(identities, ({ labels }) => (labels.get('app') === 'db' ? bits : 0)),
    }),
    evaluate: () => ({
      evaluateEgress: (_flow, because) => answer(because),
      evaluateIngress: (_flow, because) => answer(because),
    }),
    ...more,
  }
}

interface World {
  readonly kinds: readonly PolicyKind[]
  readonly compiled: CompiledPolicy
  ask(from: string, to: string): Decision
}

function worldWith(kind: WholeKind, yaml = shop + allowAll): World {
  const kinds = pipelineOf([{ kind }])
  const compiler = new Compiler(kinds, 'n1')
  const compiled = compiler.update({ upserts: readManifest(yaml, 'world.yaml').objects, deletes: [] })
  return { kinds, compiled, ask: (from, to) => explain(parseQuestion(from, to), compiler.snapshot(), compiled) }
}

/** The verdict of the packet thread, which has the tables only. */
function attached({ kinds, compiled }: World) {
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(compiled.generation)
  const engine = attachEngine(receiveMessageOnPort(port2)!.message as Generation, kinds)
  port1.close()
  return (source: string, destination: string) =>
    engine.decide(packet({ source, destination, port: 5432 }), HOOK_FORWARD)
}

const web = '10.0.0.1'
const db = '10.0.0.3'

t.test('a kind of a few lines decides, in explain and over the tables alone', async (t) => {
  const world = worldWith(ofDb(() => 'deny'))
  const decide = attached(world)
  t.equal(decide(web, db), 'deny')
  t.equal(decide(db, web), 'deny')
  t.equal(decide(web, '10.0.0.2'), 'accept', 'nobody whom it selects')
  t.equal(world.ask('shop/web', 'shop/db:5432').verdict, 'deny')
  t.equal(attached(worldWith(ofDb(() => 'next')))(web, db), 'accept', 'the control: NetworkPolicy allows it')
})

t.test('who says nothing of why gets a step all the same', async (t) => {
  const { ask } = worldWith(ofDb(() => 'deny'))
  const { decidedBy, stages } = ask('shop/web', 'shop/db:5432')
  t.same(decidedBy, { direction: 'ingress', tier: 'guard', reason: 'guard said deny' })
  t.same(stages.find(({ direction }) => direction === 'egress')!.tiers[1], {
    direction: 'egress',
    tier: 'guard',
    verdict: 'next',
    reason: 'guard does not select the source for egress',
  })
})

t.test('policy, rule and reason of its own stand in the trace', async (t) => {
  const policy = { kind: 'Guard', namespace: 'shop', name: 'db' }
  const { ask } = worldWith(
    ofDb((because) => {
      because?.push({ policy, rule: 2, ruleName: 'night', reason: 'it is night' })
      return 'accept'
    }),
  )
  t.same(ask('shop/web', 'shop/db:5432').decidedBy, {
    direction: 'ingress',
    tier: 'guard',
    policy,
    rule: 2,
    ruleName: 'night',
    reason: 'it is night',
  })
})

t.test('what throws or answers no verdict denies, and explain says so', async (t) => {
  const failing = worldWith(
    ofDb(() => {
      throw new Error('no list')
    }),
  )
  t.match(failing.ask('shop/web', 'shop/db:5432'), {
    verdict: 'deny',
    decidedBy: { tier: 'guard', reason: 'guard failed, and what cannot be judged is denied: Error: no list' },
  })
  t.throws(
    () => attached(failing)(web, db),
    { message: 'no list' },
    'the packet thread denies what throws, and counts it',
  )
  t.equal(attached(failing)(web, '10.0.0.2'), 'accept')
  const silent = worldWith(ofDb(() => undefined as unknown as Verdict))
  t.match(silent.ask('shop/db', 'shop/web:1'), {
    verdict: 'deny',
    decidedBy: { reason: /answered undefined instead of accept, deny or next$/ },
  })
  t.throws(() => attached(silent)(db, web), { message: /answered undefined/ })
})

t.test('it is asked of nobody whom it does not select, so that explain and the queue agree', async (t) => {
  const world = worldWith(
    ofDb(() => 'deny', {}, SELECTS_INGRESS),
    shop,
  )
  t.equal(world.ask('shop/db', 'shop/web:1').verdict, 'allow')
  t.equal(world.ask('shop/web', 'shop/db:1').verdict, 'deny')
  t.same(world.compiled.subjects.map(formatAddress).sort(), ['10.0.0.3', 'fd00::3'])
  t.equal(world.compiled.selectedWorkloads, 1, 'db is queued, though no NetworkPolicy selects it')
})

t.test('tables reach the packet thread; "selected" is taken', async (t) => {
  const block = parseBlock('10.0.0.0/31')!
  const kind = ofDb(() => 'next', {
    compile: (_, identities) => ({
      selected: identityTable(identities, () => SELECTS_BOTH),
      tables: { blocked: sharedWords(1).fill(1) },
    }),
    evaluate: ({ blocked }) => ({
      evaluateEgress: ({ packet }) => (blocked![0] === 1 && blockContains(block, packet.source) ? 'deny' : 'next'),
      evaluateIngress: () => 'next',
    }),
  })
  t.equal(attached(worldWith(kind))(web, db), 'deny')
  t.equal(attached(worldWith(kind))(db, web), 'accept')
  const taken = ofDb(() => 'next', {
    compile: (_, identities) => ({
      selected: identityTable(identities, () => 0),
      tables: { selected: sharedWords(1) },
    }),
  })
  t.throws(() => worldWith(taken), { message: 'evaluator guard: no table may be named "selected"' })
})

t.test('a change touches whom it selects, before and now', async (t) => {
  const kind = ofDb(() => 'deny', {
    compile: ({ networkSets }, identities) => ({
      selected: identityTable(identities, ({ labels }) =>
        networkSets.length > 0 && labels.get('app') === 'db' ? SELECTS_BOTH : 0,
      ),
    }),
  })
  const compiler = new Compiler(pipelineOf([{ kind }]), 'n1')
  const changed = (upserts: readonly PolicyObject[], deletes: readonly string[] = []) => {
    const { affected, selectedWorkloads } = compiler.update({ upserts, deletes })
    return [selectedWorkloads, affected.addresses.map(formatAddress).sort()]
  }
  changed(readManifest(shop, 'world.yaml').objects)
  const set = readObject({
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'NetworkSet',
    metadata: { name: 'any' },
    spec: { networks: ['192.0.2.0/24'] },
  })!
  t.same(changed([set]), [1, ['10.0.0.3', 'fd00::3']])
  t.same(changed([], [objectKey(set)]), [0, ['10.0.0.3', 'fd00::3']])
  t.same(changed([], []), [0, []])
})

t.test('places in the pipeline', async (t) => {
  const named = (name: string) => ofDb(() => 'next', { name })
  const names = (...others: Parameters<typeof pipelineOf>[0]) => pipelineOf(others).map(({ name }) => name)
  t.same(names(), ['Admin', 'NetworkPolicy', 'Baseline'])
  t.same(
    names(
      { kind: named('a') },
      { kind: named('last'), after: 'Baseline' },
      { kind: named('first'), before: 'Admin' },
      { kind: named('b'), before: 'NetworkPolicy' },
      { kind: named('c'), after: 'Admin' },
    ),
    ['first', 'Admin', 'c', 'a', 'b', 'NetworkPolicy', 'Baseline', 'last'],
  )
})
