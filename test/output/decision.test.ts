import t from 'tap'
import { decisionJson, formatDecision } from '../../src/output/decision.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, policyLine, worldOf } from '../fixtures/world.ts'

const fromWeb = policyLine(
  'shop/db-only',
  'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]',
)
const outOfWeb = policyLine(
  'shop/web-egress',
  'podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]',
)
const world = worldOf(`${shop}${fromWeb}${outOfWeb}`)

/** The lines at which the fixture's policies stand. */
const [dbOnly, webEgress] = ['db-only', 'web-egress'].map(
  (name) => world.snapshot.policies.find(({ ref }) => ref.name === name)!.ref.line,
)

type Case = readonly [rule: string, from: string, to: string, text: string]

const cases: readonly Case[] = [
  [
    'allowed',
    'shop/web',
    'shop/db:5432',
    `ALLOWED  shop/web -> shop/db:5432/tcp
  egress   shop/web  Admin next · NetworkPolicy accept (shop/web-egress rule 0, world.yaml:${webEgress})
  ingress  shop/db   Admin next · NetworkPolicy accept (shop/db-only rule 0, world.yaml:${dbOnly})
`,
  ],
  [
    'denied, with the nearest miss',
    'shop/web',
    'shop/db:80',
    `DENIED  shop/web -> shop/db:80/tcp
  egress   shop/web  Admin next · NetworkPolicy accept (shop/web-egress rule 0, world.yaml:${webEgress})
  ingress  shop/db   Admin next · NetworkPolicy deny
                     shop/db-only isolates the destination for ingress and no rule allows this flow (world.yaml:${dbOnly})
                     nearest: shop/db-only rule 0 allows this peer on port 5432/tcp, not on port 80/tcp
`,
  ],
  [
    'denied on the way out, to an address without a name',
    'shop/web',
    '203.0.113.9:443',
    `DENIED  shop/web -> 203.0.113.9:443/tcp
  egress   shop/web  Admin next · NetworkPolicy deny
                     shop/web-egress isolates the source for egress and no rule allows this flow (world.yaml:${webEgress})
                     nearest: shop/web-egress rule 0 allows port 443/tcp, peer 203.0.113.9 is no pod
`,
  ],
  [
    'exempt',
    'node:n1',
    'shop/db:80',
    `ALLOWED  node:n1 -> shop/db:80/tcp
  Exempt: the node always reaches a pod that runs on it
`,
  ],
  [
    'by default, without a stage',
    '203.0.113.9',
    '198.51.100.1:53/udp',
    `ALLOWED  203.0.113.9 -> 198.51.100.1:53/udp
  Default: no policy decides this flow, and what no policy decides is allowed
`,
  ],
  [
    'by default, asked in vain',
    'shop/api',
    'lab/batch/icmp',
    `ALLOWED  shop/api -> lab/batch/icmp
  egress   shop/api   Admin next · NetworkPolicy next · Baseline next
                      no policy decides this direction: allowed by default
  ingress  lab/batch  Admin next · NetworkPolicy next · Baseline next
                      no policy decides this direction: allowed by default
`,
  ],
  [
    'the own node',
    'shop/web',
    'node:n1:10250',
    `ALLOWED  shop/web -> node:n1:10250/tcp
  egress   shop/web  Admin next · NetworkPolicy accept (a pod always reaches the node it runs on)
`,
  ],
]

t.test('decisions as text', async (t) => {
  for (const [rule, from, to, text] of cases) {
    t.equal(formatDecision(ask(world, from, to)), text, rule)
  }
})

t.test('decisions as JSON', async (t) => {
  const policy = { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-only', file: 'world.yaml', line: dbOnly }
  const reason = 'shop/db-only isolates the destination for ingress and no rule allows this flow'
  t.strictSame(JSON.parse(JSON.stringify(decisionJson(ask(world, 'shop/api', 'shop/db:80')))), {
    schema: 'knp.explain/v1',
    verdict: 'deny',
    flow: {
      protocol: 'TCP',
      source: { name: 'shop/api', address: '10.0.0.2' },
      destination: { name: 'shop/db', address: '10.0.0.3', port: 80 },
    },
    decidedBy: { direction: 'ingress', tier: 'NetworkPolicy', policy, reason },
    stages: [
      {
        direction: 'egress',
        subject: 'shop/api',
        verdict: 'allow',
        tiers: [
          { tier: 'Admin', verdict: 'next', reason: 'no policy of the Admin tier selects the source for egress' },
          { tier: 'NetworkPolicy', verdict: 'next', reason: 'no NetworkPolicy selects the source for egress' },
          { tier: 'Baseline', verdict: 'next', reason: 'no policy of the Baseline tier selects the source for egress' },
        ],
      },
      {
        direction: 'ingress',
        subject: 'shop/db',
        verdict: 'deny',
        tiers: [
          { tier: 'Admin', verdict: 'next', reason: 'no policy of the Admin tier selects the destination for ingress' },
          { tier: 'NetworkPolicy', verdict: 'deny', policy, reason },
        ],
      },
    ],
    nearest: {
      policy,
      rule: 0,
      difference: 'rule 0 allows port 5432/tcp, not port 80/tcp, and peer lacks app=web',
      change: { type: 'allow' },
    },
    generation: 1,
  })
})

t.test('fields that are not there', async (t) => {
  const json = JSON.parse(JSON.stringify(decisionJson(ask(world, '203.0.113.9', '198.51.100.1/icmp'))))
  t.strictSame(json, {
    schema: 'knp.explain/v1',
    verdict: 'allow',
    flow: { protocol: 'ICMP', source: { address: '203.0.113.9' }, destination: { address: '198.51.100.1' } },
    decidedBy: { tier: 'Default', reason: 'no policy decides this flow, and what no policy decides is allowed' },
    stages: [],
    generation: 1,
  })
})

t.test('a workload without an address', async (t) => {
  const nameless = worldOf(
    '--- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}}\n--- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}}\n',
  )
  t.match(decisionJson(ask(nameless, 'shop/a', 'shop/b:1')), {
    flow: { source: { name: 'shop/a', address: null }, destination: { name: 'shop/b', address: null, port: 1 } },
  })
})

t.test('what stands in files cannot speak to the terminal', async (t) => {
  const decision = ask(world, 'shop/web', 'shop/db:80')
  const last = decision.stages[1]!.tiers.at(-1)!
  const policy = { ...last.policy!, file: 'a\u001b[2J.yaml' }
  const stages = [{ ...decision.stages[1]!, tiers: [{ ...last, policy }] }]
  t.match(formatDecision({ ...decision, stages }), 'a\\u{1b}[2J.yaml')
})
