import t from 'tap'
import { shop } from '../fixtures/shop.ts'
import { ask, policyLine, worldOf } from '../fixtures/world.ts'

const onDb = 'podSelector: {matchLabels: {app: db}}'
const fromWeb = policyLine('shop/from-web', `${onDb}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]`)
const onPort = policyLine('shop/on-port', `${onDb}, ingress: [{ports: [{port: 5432}]}]`)
const denyAll = policyLine('shop/deny-all', 'podSelector: {}')
const elsewhere = policyLine('lab/open', 'podSelector: {}, ingress: [{}], egress: [{}]')

t.test('policies that select a pod add up', async (t) => {
  const world = worldOf(shop + fromWeb + onPort + denyAll)
  t.match(ask(world, 'shop/web', 'shop/db:1'), {
    verdict: 'allow',
    decidedBy: { policy: { name: 'from-web' }, rule: 0 },
  })
  t.match(ask(world, 'shop/api', 'shop/db:5432'), {
    verdict: 'allow',
    decidedBy: { policy: { name: 'on-port' }, rule: 0 },
  })
  t.match(ask(world, 'shop/api', 'shop/db:1'), { verdict: 'deny', decidedBy: { direction: 'ingress' } })
  t.match(ask(world, 'shop/api', 'shop/web:1'), { verdict: 'deny', decidedBy: { policy: { name: 'deny-all' } } })
})

t.test('a policy that denies all takes nothing from what another allows', async (t) => {
  for (const order of [fromWeb + denyAll, denyAll + fromWeb]) {
    t.equal(ask(worldOf(shop + order), 'shop/web', 'shop/db:1').verdict, 'allow')
  }
})

t.test('the policies of another namespace neither isolate nor allow', async (t) => {
  t.equal(ask(worldOf(shop + denyAll + elsewhere), 'lab/web', 'shop/db:1').verdict, 'deny')
  t.equal(ask(worldOf(shop + elsewhere), 'lab/web', 'shop/db:1').verdict, 'allow')
})

t.test('both directions must allow', async (t) => {
  const outOfWeb = policyLine(
    'shop/out',
    'podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]',
  )
  t.equal(ask(worldOf(shop + outOfWeb + fromWeb), 'shop/web', 'shop/db:1').verdict, 'allow')
  t.match(ask(worldOf(shop + outOfWeb + denyAll), 'shop/web', 'shop/db:1'), {
    verdict: 'deny',
    decidedBy: { direction: 'ingress' },
  })
  t.match(ask(worldOf(shop + outOfWeb + fromWeb), 'shop/web', 'shop/api:1'), {
    verdict: 'deny',
    decidedBy: { direction: 'egress' },
  })
})

t.test('the tier says next where no policy selects, and never where one does', async (t) => {
  const verdicts = (policies: string, from: string) =>
    ask(worldOf(shop + policies), from, 'shop/db:1').stages.map(({ direction, tiers }) => [
      direction,
      tiers.find(({ tier }) => tier === 'NetworkPolicy')!.verdict,
    ])
  t.same(verdicts('', 'shop/web'), [
    ['egress', 'next'],
    ['ingress', 'next'],
  ])
  t.same(verdicts(fromWeb, 'shop/web'), [
    ['egress', 'next'],
    ['ingress', 'accept'],
  ])
  t.same(verdicts(fromWeb, 'shop/api'), [
    ['egress', 'next'],
    ['ingress', 'deny'],
  ])
  t.same(verdicts(fromWeb, '203.0.113.9'), [['ingress', 'deny']], 'an end outside has no stage')
})

t.test('what no policy decides is allowed', async (t) => {
  t.match(ask(worldOf(shop), 'shop/web', 'shop/db:1'), { verdict: 'allow', decidedBy: { tier: 'Default' } })
  t.match(ask(worldOf(shop + denyAll), '203.0.113.9', '198.51.100.1:1'), {
    verdict: 'allow',
    stages: [],
    decidedBy: { tier: 'Default' },
  })
})

t.test('the number of a rule is its place in the policy', async (t) => {
  const rules = '{ports: [{port: 1}]}, {from: [{podSelector: {}}], ports: [{port: 2}]}, {ports: [{port: 3}]}'
  const world = worldOf(shop + policyLine('shop/p', `${onDb}, ingress: [${rules}]`))
  for (const rule of [0, 1, 2]) t.equal(ask(world, 'shop/web', `shop/db:${rule + 1}`).decidedBy.rule, rule)
})

t.test('equal policies of two namespaces stay apart', async (t) => {
  const spec = 'podSelector: {}, ingress: [{from: [{podSelector: {}}]}]'
  const world = worldOf(shop + policyLine('shop/p', spec) + policyLine('lab/p', spec))
  t.match(ask(world, 'shop/web', 'shop/db:1'), { verdict: 'allow', decidedBy: { policy: { namespace: 'shop' } } })
  t.match(ask(world, 'lab/web', 'lab/batch:1'), { verdict: 'allow', decidedBy: { policy: { namespace: 'lab' } } })
  t.equal(ask(world, 'lab/web', 'shop/db:1').verdict, 'deny')
})
