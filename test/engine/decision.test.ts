import t from 'tap'
import { shop } from '../fixtures/shop.ts'
import { ask, policyLine, worldOf } from '../fixtures/world.ts'

/** Pods that have no address yet: on n1, and with no node named. */
const nameless = `
--- {apiVersion: v1, kind: Pod, metadata: {name: new, namespace: shop, labels: {app: new}}, spec: {nodeName: n1}, status: {phase: Pending}}
--- {apiVersion: v1, kind: Pod, metadata: {name: loose, namespace: shop, labels: {app: loose}}, spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}}
`
const onDb = 'podSelector: {matchLabels: {app: db}}'
const block = '{ipBlock: {cidr: 10.0.0.0/16}}'

function undecidable(message: string) {
  return { name: 'QuestionError', kind: 'unknown', message }
}

t.test('a workload without an address is judged by its labels', async (t) => {
  const world = worldOf(
    shop + nameless + policyLine('shop/p', `${onDb}, ingress: [{from: [{podSelector: {matchLabels: {app: new}}}]}]`),
  )
  t.match(ask(world, 'shop/new', 'shop/db:1'), { verdict: 'allow', addresses: { source: undefined } })
  t.equal(ask(world, 'shop/loose', 'shop/db:1').verdict, 'deny')
  t.equal(ask(world, 'shop/new', 'shop/loose:1').verdict, 'allow')
})

t.test('what hangs on an address that nobody knows is undecidable', async (t) => {
  const ingress = worldOf(shop + nameless + policyLine('shop/p', `${onDb}, ingress: [{from: [${block}]}]`))
  t.throws(
    () => ask(ingress, 'shop/new', 'shop/db:1'),
    undecidable(
      'shop/new -> shop/db:1/tcp: undecidable, a policy asks for the address of shop/new, which no source knows',
    ),
  )
  const egress = worldOf(
    shop + nameless + policyLine('shop/p', `podSelector: {}, policyTypes: [Egress], egress: [{to: [${block}]}]`),
  )
  t.throws(() => ask(egress, 'shop/web', 'shop/new:1'), { name: 'QuestionError' })
})

t.test('and what does not is decided', async (t) => {
  const both = `${onDb}, ingress: [{from: [${block}, {podSelector: {}}]}]`
  t.equal(
    ask(worldOf(shop + nameless + policyLine('shop/p', both)), 'shop/new', 'shop/db:1').verdict,
    'allow',
    'another peer allows it',
  )
  const denied =
    policyLine('shop/p', `${onDb}, ingress: [{from: [${block}]}]`) +
    policyLine('shop/new', 'podSelector: {matchLabels: {app: new}}, policyTypes: [Egress]')
  t.equal(
    ask(worldOf(shop + nameless + denied), 'shop/new', 'shop/db:1').verdict,
    'deny',
    'the other direction denies it',
  )
  const otherPort = policyLine('shop/p', `${onDb}, ingress: [{from: [${block}], ports: [{port: 5432}]}]`)
  t.equal(ask(worldOf(shop + nameless + otherPort), 'shop/new', 'shop/db:1').verdict, 'deny', 'its ports do not match')
  t.throws(() => ask(worldOf(shop + nameless + otherPort), 'shop/new', 'shop/db:5432'), { name: 'QuestionError' })
})

t.test('a certain denial decides before one that may be wrong', async (t) => {
  const policies =
    policyLine(
      'shop/out',
      `podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [${block}]}]`,
    ) + policyLine('shop/in', 'podSelector: {matchLabels: {app: new}}')
  t.match(ask(worldOf(shop + nameless + policies), 'shop/web', 'shop/new:1'), {
    verdict: 'deny',
    decidedBy: { direction: 'ingress', policy: { name: 'in' } },
  })
})

t.test('it is the peer whose address is missing', async (t) => {
  const egress = 'podSelector: {matchLabels: {app: new}}, policyTypes: [Egress]'
  const world = worldOf(shop + nameless + policyLine('shop/out', `${egress}, egress: [{to: [${block}]}]`))
  t.throws(() => ask(world, 'shop/new', 'shop/loose:1'), { message: /asks for the address of shop\/loose, which/ })
})

t.test('the own node needs no address of the pod', async (t) => {
  const world = worldOf(shop + nameless + policyLine('shop/deny', 'podSelector: {}, policyTypes: [Ingress, Egress]'))
  t.match(ask(world, 'node:n1', 'shop/new:1'), { verdict: 'allow', decidedBy: { tier: 'Exempt' } })
  t.match(ask(world, 'shop/new', 'node:n1:1'), { verdict: 'allow', decidedBy: { tier: 'NetworkPolicy' } })
  t.equal(ask(world, 'node:n2', 'shop/new:1').verdict, 'deny')
  t.equal(ask(world, 'shop/new', 'shop/new:1').verdict, 'allow', 'nor does a pod to itself')
})

t.test('named ports need no address', async (t) => {
  const world = worldOf(
    shop +
      nameless +
      policyLine('shop/p', 'podSelector: {matchLabels: {app: loose}}, ingress: [{ports: [{port: http}]}]'),
  )
  t.equal(ask(world, 'shop/web', 'shop/loose:80').verdict, 'allow')
  t.equal(ask(world, 'shop/web', 'shop/loose:81').verdict, 'deny')
})

t.test('a name means its workload, also where another one owns the address', async (t) => {
  const twins = `
--- {apiVersion: v1, kind: Pod, metadata: {name: old, namespace: shop, labels: {app: old}}, spec: {nodeName: n2}, status: {phase: Pending, podIP: 10.0.0.1}}
`
  const world = worldOf(
    shop + twins + policyLine('shop/p', 'podSelector: {matchLabels: {app: old}}, policyTypes: [Ingress, Egress]'),
  )
  t.equal(ask(world, 'shop/old', 'shop/db:1').verdict, 'deny')
  t.equal(ask(world, '10.0.0.1', 'shop/db:1').verdict, 'allow', 'its address means who owns it: shop/web')
  t.equal(ask(world, 'node:n2', 'shop/old:1').verdict, 'allow', 'and its own node is the one it runs on')
  t.equal(ask(world, 'node:n1', 'shop/old:1').verdict, 'deny', 'not the one of who owns the address')
})

t.test('the nearest miss', async (t) => {
  const peer = '{podSelector: {matchLabels: {app: web}}}'
  const cases: readonly [rule: string, ingress: string, from: string, to: string, difference: string][] = [
    [
      'the port',
      `{from: [${peer}], ports: [{port: 5432}]}`,
      'shop/web',
      'shop/db:1',
      'rule 0 allows this peer on port 5432/tcp, not on port 1/tcp',
    ],
    ['one label', `{from: [${peer}]}`, 'shop/api', 'shop/db:1', 'rule 0 allows port 1/tcp, peer lacks app=web'],
    [
      'the namespace',
      `{from: [${peer}]}`,
      'lab/web',
      'shop/db:1',
      'rule 0 allows port 1/tcp, peer is in namespace lab, the rule means shop',
    ],
    [
      'labels of the namespace',
      '{from: [{namespaceSelector: {matchLabels: {team: sales}}}]}',
      'lab/web',
      'shop/db:1',
      "rule 0 allows port 1/tcp, peer's namespace lab lacks team=sales",
    ],
    [
      'an exclusion',
      '{from: [{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}]}',
      'shop/api',
      'shop/db:1',
      'rule 0 allows port 1/tcp, peer is excluded by !tier',
    ],
    ['no pod', `{from: [${peer}]}`, '203.0.113.9', 'shop/db:1', 'rule 0 allows port 1/tcp, peer 203.0.113.9 is no pod'],
    [
      'a block',
      '{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}',
      '203.0.113.9',
      'shop/db:1',
      'rule 0 allows port 1/tcp, peer 203.0.113.9 is outside 198.51.100.0/24',
    ],
    [
      'an exception',
      '{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}]}',
      '203.0.113.9',
      'shop/db:1',
      'rule 0 allows port 1/tcp, peer 203.0.113.9 is excepted by 203.0.113.8/29 of 203.0.113.0/24',
    ],
    [
      'both',
      `{from: [${peer}], ports: [{port: sql}, {port: 1, endPort: 9, protocol: UDP}]}`,
      'shop/api',
      'shop/db:1',
      'rule 0 allows port "sql"/tcp (5432), port 1-9/udp, not port 1/tcp, and peer lacks app=web',
    ],
    ['ICMP', '{ports: [{}]}', 'shop/web', 'shop/db/icmp', 'rule 0 allows this peer on every tcp port, not on icmp'],
    [
      'the closest of several',
      `{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}, {from: [${peer}]}`,
      'shop/api',
      'shop/db:1',
      'rule 1 allows port 1/tcp, peer lacks app=web',
    ],
  ]
  for (const [rule, ingress, from, to, difference] of cases) {
    const world = worldOf(shop + policyLine('shop/p', `${onDb}, ingress: [${ingress}]`))
    t.equal(ask(world, from, to).nearest?.difference, difference, rule)
  }
})

t.test('the reason of a denial', async (t) => {
  const one = worldOf(shop + policyLine('shop/p', `${onDb}, ingress: []`))
  t.match(ask(one, 'shop/web', 'shop/db:1'), {
    decidedBy: { reason: 'shop/p isolates the destination for ingress and allows nothing' },
  })
  t.match(ask(one, 'shop/web', 'shop/db:1').nearest, {
    policy: { name: 'p' },
    rule: undefined,
    change: { type: 'allow' },
  })
  const three = ['p', 'q', 'r'].map((name) => policyLine(`shop/${name}`, `${onDb}, ingress: [{ports: [{port: 9}]}]`))
  t.equal(
    ask(worldOf(shop + three.join('')), 'shop/web', 'shop/db:1').decidedBy.reason,
    'shop/p isolates the destination for ingress (with 2 other policies) and no rule allows this flow',
  )
})
