import t from 'tap'
import type { Policy, Rule } from '../../src/engine/policy.ts'
import { block, clusterPolicy, lintInput, networkPolicy, pods, podsMatch, port, rule } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const sql = [port('5432/TCP')]
const web = pods('app=web')
const api = pods('app=api')
const everyWeb = pods('app=web', '')
const deny = (given: Parameters<typeof rule>[0] = {}) => rule({ action: 'Deny', ...given })
const one = (...ingress: readonly Rule[]) => [networkPolicy('shop/p', { ingress })]
const cluster = (...ingress: readonly Rule[]) => [clusterPolicy('p', { ingress })]

const cases: readonly [rule: string, policies: readonly Policy[], found: readonly string[]][] = [
  ['NetworkPolicy: different rules', one(rule({ peers: [web] }), rule({ peers: [api] }), rule({ ports: sql })), []],
  [
    'a rule twice: the later adds nothing',
    one(rule({ peers: [web], ports: sql }), rule({ peers: [web], ports: sql })),
    ['note shop/p ingress 1: adds nothing: rule 0 already allows all that it allows'],
  ],
  [
    'the order says nothing',
    one(rule({ peers: [web], ports: sql }), rule({ peers: [web] })),
    ['note shop/p ingress 0: adds nothing: rule 1 already allows all that it allows'],
  ],
  [
    'a rule for everybody',
    one(rule({ peers: [web] }), rule({ ports: sql }), rule()),
    [
      'note shop/p ingress 0: adds nothing: rule 2 already allows all that it allows',
      'note shop/p ingress 1: adds nothing: rule 2 already allows all that it allows',
    ],
  ],
  [
    'several rules together',
    one(rule({ peers: [web] }), rule({ peers: [api] }), rule({ peers: [api, web], ports: sql })),
    ['note shop/p ingress 2: adds nothing: rule 1, rule 0 already allow all that it allows'],
  ],
  [
    'one peer is left',
    one(rule({ peers: [web] }), rule({ peers: [api, web] })),
    ['note shop/p ingress 0: adds nothing: rule 1 already allows all that it allows'],
  ],
  [
    'one port is left',
    one(rule({ ports: sql }), rule({ ports: [port('5432-5433/TCP'), port('1/UDP')] })),
    ['note shop/p ingress 0: adds nothing: rule 1 already allows all that it allows'],
  ],
  ['neither holds the other', one(rule({ peers: [web, api], ports: sql }), rule({ peers: [web] })), []],
  ['every TCP port is not every port', one(rule({ ports: [port('0-65535/TCP')] }), rule({ peers: [web] })), []],
  ['every address is not everybody', one(rule({ peers: [block('0.0.0.0/0')] }), rule({ peers: [pods('', '')] })), []],
  ['rules that match nothing', one(rule({ peers: [] }), rule({ peers: [web] }), rule({ peers: [] })), []],
  ['rules that fail closed', cluster(deny({ failsClosed: 'x' }), rule({ peers: [everyWeb] })), []],
  [
    'other policies add up, and shadow nothing',
    [networkPolicy('shop/a', { ingress: [rule()] }), networkPolicy('shop/b', { ingress: [rule({ peers: [web] })] })],
    [],
  ],
  ['other directions', [networkPolicy('shop/p', { ingress: [rule()], egress: [rule({ peers: [web] })] })], []],
  ['cluster tiers: a narrower rule may stand before', cluster(rule({ peers: [everyWeb], ports: sql }), deny()), []],
  [
    'behind a wider rule it never decides',
    cluster(deny({ ports: [port('1-9999/TCP')] }), rule({ peers: [everyWeb], ports: sql })),
    ['warning p ingress 1: never decides: rule 0, asked before, denies all that it matches'],
  ],
  [
    'with the same action that is harmless',
    cluster(deny(), deny({ peers: [everyWeb] })),
    ['note p ingress 1: never decides: rule 0, asked before, denies all that it matches'],
  ],
  [
    'Pass decides too',
    cluster(rule({ action: 'Pass' }), deny({ peers: [everyWeb] })),
    ['warning p ingress 1: never decides: rule 0, asked before, passes on all that it matches'],
  ],
  [
    'behind several',
    cluster(
      deny({ peers: [everyWeb] }),
      rule({ peers: [pods('app=api', '')] }),
      rule({ peers: [pods('app in api', ''), everyWeb], ports: sql }),
    ),
    ['warning p ingress 2: never decides: rule 1, rule 0, asked before, decide all that it matches'],
  ],
  [
    'behind another policy about the same subjects',
    [
      clusterPolicy('z', { ingress: [rule({ peers: [everyWeb] })], subject: podsMatch('app=db,x=y', ''), priority: 9 }),
      clusterPolicy('a', { ingress: [deny()], subject: podsMatch('app in db api', ''), priority: 8 }),
    ],
    ['warning z ingress 0: never decides: rule 0 of ClusterNetworkPolicy a, asked before, denies all that it matches'],
  ],
  [
    'by the name, where priorities are equal',
    [clusterPolicy('b', { ingress: [rule({ peers: [everyWeb] })] }), clusterPolicy('a', { ingress: [deny()] })],
    ['warning b ingress 0: never decides: rule 0 of ClusterNetworkPolicy a, asked before, denies all that it matches'],
  ],
  [
    'about other subjects',
    [
      clusterPolicy('a', { ingress: [deny()], subject: podsMatch('app=db,x=y', '') }),
      clusterPolicy('b', { ingress: [rule({ peers: [everyWeb] })], subject: podsMatch('app=db', ''), priority: 1 }),
    ],
    [],
  ],
  [
    'in another tier',
    [
      clusterPolicy('a', { ingress: [deny()] }),
      clusterPolicy('b', { ingress: [rule({ peers: [everyWeb] })], tier: 'Baseline' }),
    ],
    [],
  ],
  [
    'an audited policy is not in force',
    [
      clusterPolicy('a', { ingress: [deny()], isAudited: true }),
      clusterPolicy('b', { ingress: [rule({ peers: [everyWeb] })], priority: 1 }),
    ],
    [],
  ],
  [
    'a copy is a finding of its own',
    [clusterPolicy('a', { ingress: [deny()] }), clusterPolicy('b', { ingress: [deny()], priority: 1 })],
    [],
  ],
]

t.test('shadowed-rule', async (t) => {
  for (const [name, policies, expected] of cases)
    t.strictSame(found('shadowed-rule', lintInput(policies)), expected, name)
})
