import t from 'tap'
import { ANY_HOOK, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, type PacketFields, packet, policyLine, worldOf } from '../fixtures/world.ts'

const denyAll = ['shop', 'lab'].map((name) =>
  policyLine(`${name}/deny-all`, 'podSelector: {}, policyTypes: [Ingress, Egress]'),
)
const manifests = shop + denyAll.join('')
const onN1 = worldOf(manifests, 'n1')
const gateway = worldOf(manifests)

const web = '10.0.0.1' // on n1
const api = '10.0.0.2' // on n2
const db = '10.0.0.3' // on n1
const node1 = '10.9.0.1'
const outside = '203.0.113.9'

function decide(fields: PacketFields, hook: number, world = onN1): 'accept' | 'deny' {
  return world.compiled.engine.decide(packet({ port: 80, ...fields }), hook)
}

t.test('neighbour discovery, MLD and path-MTU errors pass; other ICMP is judged', async (t) => {
  const v6 = { source: 'fd00::11', destination: 'fd00::3', protocol: 58 }
  const v4 = { source: web, destination: db, protocol: 1 }
  const cases: readonly (readonly [rule: string, fields: PacketFields, verdict: 'accept' | 'deny'])[] = [
    ...[133, 134, 135, 136, 137].map(
      (icmpType) => [`neighbour discovery ${icmpType}`, { ...v6, icmpType }, 'accept'] as const,
    ),
    ...[130, 131, 132, 143].map((icmpType) => [`MLD ${icmpType}`, { ...v6, icmpType }, 'accept'] as const),
    ['packet too big', { ...v6, icmpType: 2 }, 'accept'],
    ['fragmentation needed', { ...v4, icmpType: 3, icmpCode: 4 }, 'accept'],
    ['port unreachable', { ...v4, icmpType: 3, icmpCode: 3 }, 'deny'],
    ['ICMP echo', { ...v4, icmpType: 8 }, 'deny'],
    ['ICMP type 135 is no neighbour discovery', { ...v4, icmpType: 135 }, 'deny'],
    ['ICMPv6 echo', { ...v6, icmpType: 128 }, 'deny'],
    ['ICMPv6 destination unreachable', { ...v6, icmpType: 1 }, 'deny'],
    ['ICMPv6 type 3 code 4 is no path-MTU error', { ...v6, icmpType: 3, icmpCode: 4 }, 'deny'],
    ['ICMPv6 node information', { ...v6, icmpType: 139 }, 'deny'],
  ]
  for (const [rule, fields, verdict] of cases) t.equal(decide(fields, HOOK_FORWARD), verdict, rule)
})

t.test('a pod reaches its own address, each of them', async (t) => {
  t.equal(decide({ source: db, destination: db }, HOOK_FORWARD), 'accept')
  t.match(ask(gateway, 'shop/db', 'shop/db:1'), { verdict: 'allow', decidedBy: { tier: 'Exempt' }, stages: [] })
  t.match(ask(gateway, '10.0.0.3', 'shop/db:1'), { verdict: 'allow', decidedBy: { tier: 'Exempt' } })
  t.equal(decide({ source: web, destination: db }, HOOK_FORWARD), 'deny', 'and no other of its node')
})

t.test('on the packet path its hook tells the own node', async (t) => {
  const cases: readonly [rule: string, fields: PacketFields, hook: number, verdict: 'accept' | 'deny'][] = [
    ['built locally, to a pod here', { source: node1, destination: web }, HOOK_OUTPUT, 'accept'],
    ['built locally, whatever its address', { source: '172.17.0.1', destination: web }, HOOK_OUTPUT, 'accept'],
    ['forwarded with the node’s address', { source: node1, destination: web }, HOOK_FORWARD, 'deny'],
    ['built locally, to a pod elsewhere', { source: node1, destination: api }, HOOK_OUTPUT, 'deny'],
    ['from a pod here, to this machine', { source: web, destination: node1 }, HOOK_INPUT, 'accept'],
    ['from a pod here, whatever the address', { source: web, destination: '172.17.0.1' }, HOOK_INPUT, 'accept'],
    ['from a pod here, forwarded to the node’s address', { source: web, destination: node1 }, HOOK_FORWARD, 'deny'],
    ['from a pod elsewhere, to this machine', { source: api, destination: node1 }, HOOK_INPUT, 'deny'],
    ['another node', { source: web, destination: '10.9.0.2' }, HOOK_FORWARD, 'deny'],
    ['from a pod, seen on output, is no packet of the node', { source: web, destination: db }, HOOK_OUTPUT, 'deny'],
    ['from outside, on input to a pod', { source: outside, destination: web }, HOOK_INPUT, 'deny'],
  ]
  for (const [rule, fields, hook, verdict] of cases) t.equal(decide(fields, hook), verdict, rule)
})

t.test('the node to its pod is exempt; a pod to its node is accepted by the tier', async (t) => {
  t.match(ask(gateway, 'node:n1', 'shop/web:1'), { verdict: 'allow', decidedBy: { tier: 'Exempt' }, stages: [] })
  t.match(ask(gateway, 'shop/web', 'node:n1:1'), {
    verdict: 'allow',
    decidedBy: { direction: 'egress', tier: 'NetworkPolicy', reason: 'a pod always reaches the node it runs on' },
  })
  const stages = ask(gateway, 'shop/web', 'node:n1:1').stages
  t.same(
    stages[0]!.tiers.map(({ tier, verdict }) => `${tier} ${verdict}`),
    ['Admin next', 'NetworkPolicy accept'],
    'so that the Baseline tier is not asked',
  )
})

t.test('explain tells the own node by any of its addresses', async (t) => {
  const cases: readonly [from: string, to: string, verdict: 'allow' | 'deny'][] = [
    ['10.9.0.1', 'shop/web:1', 'allow'],
    ['shop/web', '10.9.0.1:1', 'allow'],
    ['fd00:9::1', 'shop/db:1', 'allow'],
    ['shop/db', '[fd00:9::1]:1', 'allow'],
    ['node:n2', 'shop/web:1', 'deny'],
    ['shop/web', 'node:n2:1', 'deny'],
    ['shop/agent', 'shop/web:1', 'allow'],
    ['shop/agent', 'shop/api:1', 'deny'],
    ['shop/web', 'shop/agent:1', 'allow'],
    ['shop/web', 'shop/agent/icmp', 'allow'],
  ]
  for (const [from, to, verdict] of cases) t.equal(ask(gateway, from, to).verdict, verdict, `${from} -> ${to}`)
})

t.test('a policy that allows the own node anyway is named', async (t) => {
  const world = worldOf(
    manifests +
      policyLine(
        'shop/to-nodes',
        'podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.9.0.0/24}}]}]',
      ),
  )
  t.match(ask(world, 'shop/web', 'node:n1:1'), {
    verdict: 'allow',
    decidedBy: { policy: { name: 'to-nodes' }, rule: 0 },
  })
})

t.test('host-network pods are never subject of a policy', async (t) => {
  t.match(ask(gateway, 'shop/agent', '203.0.113.9:1'), { verdict: 'allow', stages: [], source: { name: 'node:n1' } })
  t.equal(decide({ source: node1, destination: outside }, HOOK_OUTPUT), 'accept')
  t.notOk(onN1.compiled.subjects.some(({ w3 }) => w3 === packet({ source: node1 }).source.w3))
})

t.test('one that names no node is taken to run here', async (t) => {
  const world = worldOf(
    `${manifests}--- {apiVersion: v1, kind: Pod, metadata: {name: loose, namespace: shop}, status: {podIP: 10.0.0.77}}\n`,
    'n1',
  )
  t.equal(decide({ source: '172.17.0.1', destination: '10.0.0.77' }, HOOK_OUTPUT, world), 'accept')
})

t.test('without a hook and without a node of that address nobody is exempt', async (t) => {
  t.equal(decide({ source: '172.17.0.1', destination: web }, ANY_HOOK), 'deny')
  t.equal(decide({ source: node1, destination: web }, ANY_HOOK), 'accept')
})

t.test('with a trace both stages are walked to the end', async (t) => {
  const stages = ask(gateway, 'shop/web', 'shop/db:1').stages
  t.same(
    stages.map(({ direction, verdict }) => [direction, verdict]),
    [
      ['egress', 'deny'],
      ['ingress', 'deny'],
    ],
  )
})
