import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { runConnectivityTest } from '../src/connectivity-test.ts'
import { compile, type Decision, type NearestChange } from '../src/engine/index.ts'
import type { ObjectRef } from '../src/engine/objects.ts'
import { policyKinds } from '../src/engine/pipeline.ts'
import { findWorlds, loadWorld } from '../src/sources/worlds.ts'
import { type Asked, applyNearest, type PlainFlow, type PlainObject } from './fixtures/apply-nearest.ts'
import { ask, worldOf } from './fixtures/world.ts'

const folder = fileURLToPath(new URL('../demo/platform', import.meta.url))

/** A flow may be denied at both ends, and in a second tier behind the first. */
const MOST_CHANGES = 3

interface WrittenCheck extends PlainFlow {
  readonly expect: 'allow' | 'deny'
}

const documents = readdirSync(folder)
  .filter((file) => file.endsWith('.yaml'))
  .sort()
  .flatMap((file) => parseAllDocuments(readFileSync(join(folder, file), 'utf8')))
  .map((document) => document.toJS() as PlainObject)
const objects = documents.filter(({ kind }) => kind !== 'ConnectivityTest')
const checks = documents
  .filter(({ kind }) => kind === 'ConnectivityTest')
  .flatMap(({ spec }) => spec?.checks as WrittenCheck[])

function target({ to, port, protocol = 'TCP' }: PlainFlow): string {
  const end = to.includes('::') ? `[${to}]` : to
  return `${end}${port === undefined ? '' : `:${port}`}/${protocol.toLowerCase()}`
}

function decide({ objects, flow }: Asked): Decision {
  return ask(worldOf(objects.map((object) => JSON.stringify(object)).join('\n---\n')), flow.from, target(flow))
}

function countOf(kind: string): number {
  return objects.filter((object) => object.kind === kind).length
}

t.test('what the platform is meant to allow and deny', async (t) => {
  const worlds = await findWorlds([folder])
  t.equal(worlds.length, 1)
  const { snapshot, tests, notes } = await loadWorld(worlds[0]!, [])
  t.same(notes, [], 'nothing is left out')
  const compiled = compile(snapshot, policyKinds)
  const results = tests.flatMap((test) => runConnectivityTest(test, snapshot, compiled).checks)
  t.equal(results.length, checks.length)
  for (const result of results) {
    const { check, passed } = result
    const found = 'problem' in result ? result.message : result.decision.decidedBy
    t.ok(passed, `${check.from} -> ${check.to} ${check.question.protocol} ${check.question.port}: ${check.expect}`, {
      found,
    })
  }
})

t.test('its size', async (t) => {
  const world = worldOf(objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  t.ok(world.snapshot.namespaces.size >= 5, `${world.snapshot.namespaces.size} namespaces`)
  t.ok(world.snapshot.workloads.length >= 30, `${world.snapshot.workloads.length} workloads`)
  t.equal(world.snapshot.nodes.length, 3)
  for (const kind of ['HostEndpoint', 'NetworkSet', 'DomainName']) t.ok(countOf(kind) > 0, kind)
  t.ok(countOf('NetworkPolicy') >= 12, 'NetworkPolicies')
  t.ok(countOf('ClusterNetworkPolicy') >= 5, 'ClusterNetworkPolicies')
  t.ok(countOf('AdminNetworkPolicy') > 0, 'AdminNetworkPolicies')
  t.equal(countOf('BaselineAdminNetworkPolicy'), 1)
  t.ok(checks.length >= 60, `${checks.length} checks`)
  t.ok(checks.filter(({ expect }) => expect === 'deny').length >= 25, 'denials')
})

t.test('applying the nearest miss opens the flow', async (t) => {
  const denied = checks.filter(({ expect }) => expect === 'deny')
  t.ok(denied.length >= 20, `${denied.length} denied flows`)
  const applied = new Map<NearestChange['type'], number>()
  for (const { from, to, protocol, port } of denied) {
    const flow: PlainFlow = { from, to, ...(protocol && { protocol }), ...(port !== undefined && { port }) }
    t.test(`${from} -> ${target(flow)}`, async (t) => {
      let asked: Asked = { objects, flow }
      let decision = decide(asked)
      t.equal(decision.verdict, 'deny', 'as it is')
      for (let i = 0; i < MOST_CHANGES && decision.verdict === 'deny'; i++) {
        const { nearest, decidedBy } = decision
        if (!nearest || !decidedBy.direction) break
        t.comment(`${nearest.policy.kind} ${nearest.policy.name}: ${nearest.difference}`)
        asked = applyNearest(asked, nearest, decidedBy.direction)
        applied.set(nearest.change.type, (applied.get(nearest.change.type) ?? 0) + 1)
        decision = decide(asked)
      }
      t.equal(decision.verdict, 'allow', 'with what was nearest', { asked: asked.flow, decision: decision.decidedBy })
    })
  }
  t.test('in more than one way', async (t) => {
    t.comment([...applied].map(([type, count]) => `${type} ${count}`).join(', '))
    for (const type of ['label', 'port', 'address', 'rule'] as const) t.ok(applied.has(type), type)
  })
})

const small = parseAllDocuments(`
{apiVersion: v1, kind: Namespace, metadata: {name: lab, labels: {team: research}}}
--- {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
--- {apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {}, status: {podIP: 10.0.0.1}}
--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {}, status: {podIP: 10.0.0.2}}
--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: lab, labels: {app: web, barred: "yes"}}, spec: {}, status: {podIP: 10.0.0.3}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: batch, namespace: shop}
spec: {selector: {matchLabels: {app: batch}}, template: {metadata: {labels: {app: batch}}, spec: {containers: []}}}
--- {apiVersion: knp.dev/v1alpha1, kind: NetworkSet, metadata: {name: office, namespace: shop}, spec: {networks: [198.51.100.0/24]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - {ports: [{port: 5432}], from: [{podSelector: {matchLabels: {app: api}}}]}
  - {ports: [{port: 5432}], from: [{namespaceSelector: {matchLabels: {team: sales}}, podSelector: {matchExpressions: [{key: barred, operator: DoesNotExist}]}}]}
  - {ports: [{port: 5433}], from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/25]}}]}
  - {ports: [{port: 5434}], from: [{ipBlock: {cidr: 192.0.2.1/32}}]}
  - {ports: [{port: 5435}], from: [{podSelector: {}}]}
`).map((document) => document.toJS() as PlainObject)
const db: ObjectRef = { kind: 'NetworkPolicy', namespace: 'shop', name: 'db' }

/** A denied flow, the changes that open it, and what it is asked as at the end. */
interface ApplyCase {
  readonly name: string
  readonly flow: PlainFlow
  readonly changes: readonly NearestChange[]
  readonly becomes?: Partial<PlainFlow>
}

const applyCases: readonly ApplyCase[] = [
  {
    name: 'a label of a pod',
    flow: { from: 'shop/web', to: 'shop/db', port: 5432 },
    changes: [{ type: 'label', of: 'peer', key: 'app', value: 'api' }],
  },
  {
    name: 'a label of a pod that is asked for by its address',
    flow: { from: '10.0.0.2', to: 'shop/db', port: 5432 },
    changes: [{ type: 'label', of: 'peer', key: 'app', value: 'api' }],
  },
  {
    name: 'a label of a pod template, and of its selector',
    flow: { from: 'shop/batch', to: 'shop/db', port: 5432 },
    changes: [{ type: 'label', of: 'peer', key: 'app', value: 'api' }],
  },
  {
    name: 'a label of the set that an outside address is in',
    flow: { from: '198.51.100.9', to: 'shop/db', port: 5432 },
    changes: [
      { type: 'label', of: 'networkSet', networkSet: { namespace: 'shop', name: 'office' }, key: 'app', value: 'api' },
    ],
  },
  {
    name: 'a namespace label, and a label that is to go',
    flow: { from: 'lab/web', to: 'shop/db', port: 5432 },
    changes: [
      { type: 'namespaceLabel', namespace: 'lab', key: 'team', value: 'sales' },
      { type: 'label', of: 'peer', key: 'barred' },
    ],
  },
  {
    name: 'a label of a namespace that has no object',
    flow: { from: 'shop/web', to: 'shop/db', port: 5432 },
    changes: [{ type: 'namespaceLabel', namespace: 'shop', key: 'team', value: 'sales' }],
  },
  {
    name: 'another port and protocol',
    flow: { from: 'shop/web', to: 'shop/db', protocol: 'UDP', port: 1 },
    changes: [{ type: 'port', protocol: 6, port: 5435 }],
    becomes: { protocol: 'TCP', port: 5435 },
  },
  {
    name: 'a port where none was asked',
    flow: { from: 'shop/web', to: 'shop/db', protocol: 'ICMP' },
    changes: [{ type: 'port', protocol: 6, port: 5435 }],
  },
  {
    name: 'an address in the block',
    flow: { from: '198.51.100.9', to: 'shop/db', port: 5433 },
    changes: [{ type: 'address', block: '203.0.113.128/25' }],
  },
  {
    name: "a node's address where the block holds no other",
    flow: { from: '198.51.100.9', to: 'shop/db', port: 5434 },
    changes: [{ type: 'address', block: '192.0.2.1/32' }],
    becomes: { from: '192.0.2.1' },
  },
  {
    name: 'one rule more',
    flow: { from: '198.51.100.9', to: 'shop/db', protocol: 'SCTP', port: 7 },
    changes: [{ type: 'allow' }],
  },
]

t.test('a change is applied as it is written', async (t) => {
  const before = JSON.stringify(small)
  for (const { name, flow, changes, becomes = {} } of applyCases) {
    t.test(name, async (t) => {
      let asked: Asked = { objects: small, flow }
      for (const change of changes) {
        t.equal(decide(asked).verdict, 'deny')
        const nearest = { policy: db, difference: name, change }
        asked = applyNearest(asked, nearest, 'ingress')
      }
      t.equal(decide(asked).verdict, 'allow')
      t.match(asked.flow, becomes)
    })
  }
  t.test('in egress the peer is the destination', async (t) => {
    const open = { objects: small, flow: { from: 'shop/web', to: 'shop/db', port: 5432 } }
    const change: NearestChange = { type: 'address', block: '203.0.113.0/24' }
    const { flow } = applyNearest(open, { policy: db, difference: '', change }, 'egress')
    t.match(flow, { from: 'shop/web', to: /^203\.0\.113\./ })
  })
  t.test('a rule that decides goes', async (t) => {
    const change: NearestChange = { type: 'rule' }
    const asked = { objects: small, flow: { from: 'shop/web', to: 'shop/db', port: 5435 } }
    const closed = applyNearest(asked, { policy: db, rule: 4, difference: '', change }, 'ingress')
    t.equal(decide(asked).verdict, 'allow')
    t.equal(decide(closed).verdict, 'deny')
    t.throws(() => applyNearest(asked, { policy: db, rule: 5, difference: '', change }, 'ingress'), /no ingress rule 5/)
  })
  t.test('what cannot be changed is said', async (t) => {
    const change: NearestChange = { type: 'label', of: 'peer', key: 'app', value: 'api' }
    const asked = { objects: small, flow: { from: '203.0.113.1', to: 'shop/db', port: 5432 } }
    t.throws(() => applyNearest(asked, { policy: db, difference: '', change }, 'ingress'), /no labels/)
  })
  t.equal(JSON.stringify(small), before, 'the world it was asked of is left alone')
})
