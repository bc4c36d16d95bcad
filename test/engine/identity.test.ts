import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import { Compiler } from '../../src/engine/compile.ts'
import { identityOf, workloadOf } from '../../src/engine/identity.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { address } from '../fixtures/packets.ts'
import { shop } from '../fixtures/shop.ts'
import { podLine, policyLine, type World, worldOf } from '../fixtures/world.ts'

function ownerOf({ compiled: { identities } }: World, text: string): string | undefined {
  return identities.workloads[workloadOf(identities.tables, address(text))]?.name
}

function pod(name: string, phase: string, created?: string): string {
  const metadata = `{name: ${name}, namespace: shop${created ? `, creationTimestamp: ${created}` : ''}}`
  return `--- {apiVersion: v1, kind: Pod, metadata: ${metadata}, status: {phase: ${phase}, podIP: 10.0.0.1}}\n`
}

const older = '"2026-01-01T00:00:00Z"'
const younger = '"2026-01-01T00:00:01Z"'

t.test('where two pods claim one address', async (t) => {
  const cases: readonly [rule: string, pods: readonly string[], owner: string | undefined][] = [
    ['Running wins over Pending', [pod('a', 'Running', older), pod('b', 'Pending', younger)], 'a'],
    ['then the younger', [pod('a', 'Running', older), pod('b', 'Running', younger)], 'b'],
    ['of two that are pending too', [pod('a', 'Pending', younger), pod('b', 'Pending', older)], 'a'],
    ['one that finished owns nothing', [pod('a', 'Succeeded', younger), pod('b', 'Pending', older)], 'b'],
    ['nor one that failed', [pod('a', 'Failed', younger), pod('b', 'Running', older)], 'b'],
    ['when all have finished, nobody', [pod('a', 'Failed'), pod('b', 'Succeeded')], undefined],
  ]
  for (const [rule, pods, owner] of cases) {
    t.equal(ownerOf(worldOf(pods.join('')), '10.0.0.1'), owner, rule)
    t.equal(ownerOf(worldOf(pods.toReversed().join('')), '10.0.0.1'), owner, `${rule}, in the other order`)
  }
})

t.test('addresses and their owners', async (t) => {
  const world = worldOf(shop)
  t.equal(ownerOf(world, '10.0.0.3'), 'db')
  t.equal(ownerOf(world, 'fd00::3'), 'db')
  t.equal(ownerOf(world, '10.9.0.1'), undefined, 'a host-network pod owns none')
  t.equal(ownerOf(world, '::'), undefined)
})

t.test('ten thousand addresses are found, and no others', async (t) => {
  const names = Array.from({ length: 10_000 }, (_, i) => `p${i}`)
  const ip = (i: number) => (i % 2 ? `10.${i >> 8}.${i & 255}.1` : `fd00::${i.toString(16)}:0:1`)
  const world = worldOf(names.map((name, i) => podLine(`shop/${name}`, ip(i), `n: ${name}`)).join(''))
  t.same(
    names.filter((name, i) => ownerOf(world, ip(i)) !== name),
    [],
  )
  t.same(
    names.filter((_, i) => ownerOf(world, ip(i).replace(/1$/, '2')) !== undefined),
    [],
  )
})

t.test('workloads that share their labels, as sources give them, are told apart by everything else', async (t) => {
  const labels = new Map([['app', 'web']])
  const http = [{ name: 'http', protocol: 6, port: 80 }]
  const named = (name: string, namespace: string, ports = none, its = labels): Workload => ({
    type: 'Workload',
    ref: { kind: 'Pod', namespace, name },
    isHost: false,
    namespace,
    name,
    labels: its,
    node: undefined,
    hostNetwork: false,
    addresses: [],
    ports,
    forwards: [],
    phase: 'Running',
    createdMs: 0,
  })
  const none: Workload['ports'] = []
  const compiler = new Compiler(policyKinds)
  const workloads = [named('a', 'shop'), named('b', 'shop'), named('c', 'bank'), named('d', 'bank', http)]
  const deltas = [
    { upserts: workloads, deletes: [] },
    // The identity goes, and its number becomes another's.
    { upserts: [], deletes: ['Pod bank/d'] },
    { upserts: [named('e', 'bank', http, new Map([['app', 'db']])), named('f', 'bank', http)], deletes: [] },
  ]
  const seen = deltas.map((delta) => {
    const { identities } = compiler.update(delta)
    return identities.workloads.flatMap((workload, slot) => {
      const identity = workload && identities.identities[identityOf(identities.tables, slot)]
      const app = identity?.labels.get('app')
      return identity ? [`${workload.name}: ${identity.namespace} ${app} ${identity.ports.length}`] : []
    })
  })
  t.strictSame(seen[0], ['a: shop web 0', 'b: shop web 0', 'c: bank web 0', 'd: bank web 1'])
  t.strictSame(seen[2]?.slice(-2).toSorted(), ['e: bank db 1', 'f: bank web 1'])
})

t.test('workloads that policies cannot tell apart share one identity', async (t) => {
  const { identities } = worldOf(
    podLine('shop/a', '10.0.0.1', 'app: web, tier: x') +
      podLine('shop/b', '10.0.0.2', 'tier: x, app: web') +
      podLine('shop/c', '10.0.0.3', 'app: web') +
      podLine('lab/a', '10.0.0.4', 'app: web, tier: x') +
      podLine('shop/d', '10.0.0.5', 'app: web', 'containers: [{ports: [{name: http, containerPort: 80}]}]') +
      podLine('shop/e', '10.0.0.6', 'app: web', 'containers: [{ports: [{name: http, containerPort: 81}]}]'),
  ).compiled
  t.same(
    [0, 1, 2, 3, 4, 5].map((workload) => identityOf(identities.tables, workload)),
    [0, 0, 1, 2, 3, 4],
  )
})

const select = policyLine(
  'shop/p',
  'podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db, agent]}]}',
)

t.test('what this machine decides for', async (t) => {
  const subjectsOf = (localNode?: string) =>
    worldOf(shop + select, localNode)
      .compiled.subjects.map(formatAddress)
      .sort()
  t.same(subjectsOf('n1'), ['10.0.0.1', '10.0.0.3', 'fd00::3'], 'selected workloads that run here, all their addresses')
  t.same(subjectsOf('n2'), [], 'and none where none of them runs')
  t.same(subjectsOf('gateway'), subjectsOf('n1'), 'a machine that is no node is a gateway')
  t.match(worldOf(shop + select, 'gateway').compiled, { isGateway: true, areSubjectsOwnPods: false })
  t.equal(worldOf(shop + select, 'n1').compiled.areSubjectsOwnPods, true)
  const { isGateway, protectedWorkloads, selectedWorkloads } = worldOf(shop + select, 'n2').compiled
  t.same(
    { isGateway, protectedWorkloads, selectedWorkloads },
    { isGateway: false, protectedWorkloads: 0, selectedWorkloads: 2 },
  )
  t.same(worldOf(shop, 'n1').compiled.subjects, [], 'nobody without policies')
})

t.test('what has no address is selected, and not protected', async (t) => {
  const deployment =
    '--- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}}}}\n'
  for (const localNode of ['n1', 'gateway']) {
    t.match(worldOf(deployment + select, localNode).compiled, {
      subjects: [],
      selectedWorkloads: 1,
      protectedWorkloads: 0,
    })
  }
})
