import t from 'tap'
import { compile, identityTable, parseBlock, pipelineOf, SELECTS_BOTH, type WholeKind } from '../src/engine/index.ts'
import { requireKept } from '../src/kept-connection.ts'
import type { Failsafe, FailsafeRule } from '../src/ruleset/failsafe.ts'
import { hostLine, networkSetLine, podLine, policyLine, worldOf } from './fixtures/world.ts'

const host = hostLine('edge/web1', 'role: web', "node: n1, addresses: [192.0.2.1, '2001:db8::1']")
const admins = networkSetLine('edge/admins', 'role: admin', "203.0.113.0/24, '2001:db8:a::/64'")
const ingress = (rules: string) => policyLine('edge/p', `podSelector: {}, ingress: [${rules}]`)
const denyAll = ingress('')
const onlyAdmins = ingress('{from: [{podSelector: {matchLabels: {role: admin}}}], ports: [{port: 22}]}')

const none: Failsafe = { inbound: [], outbound: [] }
const inbound = (protocol: FailsafeRule['protocol'], port: number, ...peers: string[]): Failsafe => ({
  inbound: [{ protocol, port, peers: peers.map((text) => parseBlock(text)!) }],
  outbound: [],
})

const admin = '203.0.113.9'
const stranger = '198.51.100.9'

type Case = readonly [
  rule: string,
  yaml: string,
  failsafe: Failsafe,
  client: string,
  kept: boolean,
  more?: { readonly server?: string; readonly port?: number },
]

const cases: readonly Case[] = [
  ['a machine that no HostEndpoint is, is safe', denyAll, none, stranger, true],
  ['a host that no policy selects, too', host, none, stranger, true],
  ['what a policy allows', host + admins + onlyAdmins, none, admin, true],
  ['what no policy allows', host + admins + onlyAdmins, none, stranger, false],
  ['another port', host + admins + onlyAdmins, none, admin, false, { port: 2222 }],
  ['a port that a policy allows', host + ingress('{ports: [{port: 2222}]}'), none, stranger, true, { port: 2222 }],
  ['the same port of UDP is another', host + ingress('{ports: [{port: 22, protocol: UDP}]}'), none, stranger, false],
  ['whatever address it is asked at', host + denyAll, none, stranger, false, { server: '198.51.100.50' }],
  ['one of IPv6', host + admins + onlyAdmins, none, '2001:db8:a::9', true, { server: '2001:db8::1' }],
  [
    'one of IPv6 that is not allowed',
    host + admins + onlyAdmins,
    none,
    '2001:db8:b::9',
    false,
    { server: '2001:db8::1' },
  ],
  [
    'IPv4 in IPv6 is IPv4',
    host + admins + onlyAdmins,
    none,
    '::ffff:203.0.113.9',
    true,
    { server: '::ffff:192.0.2.1' },
  ],
  ['what the failsafe passes', host + denyAll, inbound('tcp', 22), stranger, true],
  ['not what it does for another port', host + denyAll, inbound('tcp', 23), stranger, false],
  ['nor for UDP', host + denyAll, inbound('udp', 22), stranger, false],
  ['what it passes from there', host + denyAll, inbound('tcp', 22, '203.0.113.0/24'), admin, true],
  ['and not from elsewhere', host + denyAll, inbound('tcp', 22, '203.0.113.0/24'), stranger, false],
  ['any of its blocks', host + denyAll, inbound('tcp', 22, '10.0.0.0/8', '198.51.100.0/24'), stranger, true],
  ['a block of the other family is none', host + denyAll, inbound('tcp', 22, '::/0'), stranger, false],
  [
    'what it passes outward helps nobody in',
    host + denyAll,
    { inbound: [], outbound: [{ protocol: 'tcp', port: 22, peers: [] }] },
    stranger,
    false,
  ],
  [
    'its replies belong to it: egress policies do not count',
    host + policyLine('edge/p', 'podSelector: {}, policyTypes: [Egress]'),
    none,
    stranger,
    true,
  ],
  [
    'a pod on this machine may be denied its host',
    host + podLine('shop/a', '10.0.0.1', 'app: a', 'nodeName: n1') + denyAll,
    none,
    '10.0.0.1',
    false,
  ],
]

t.test('the administrator’s own connection', async (t) => {
  for (const [rule, yaml, failsafe, client, kept, { server = '192.0.2.1', port = 22 } = {}] of cases) {
    const check = () => requireKept({ client, server, port }, worldOf(yaml, 'n1').compiled, failsafe)
    if (kept) t.doesNotThrow(check, rule)
    else t.throws(check, { code: 'LOCKED_OUT' }, rule)
  }
})

t.test('what is said', async (t) => {
  const { compiled } = worldOf(host + denyAll, 'n1')
  t.throws(() => requireKept({ client: stranger, server: '192.0.2.1', port: 22 }, compiled, none), {
    code: 'LOCKED_OUT',
    message: '198.51.100.9 -> 192.0.2.1:22/tcp, your own connection, would be denied by these policies',
    hint: /--force/,
  })
  for (const [client, server] of [
    ['here', '192.0.2.1'],
    [stranger, ''],
  ] as const) {
    t.throws(() => requireKept({ client, server, port: 22 }, compiled, none), { code: 'USAGE' })
  }
})

t.test('an evaluator of a third party that throws cuts it', async (t) => {
  const { snapshot } = worldOf(host, 'n1')
  const kept = { client: stranger, server: '192.0.2.1', port: 22 }
  const kindOf = (judge: () => 'next'): WholeKind => ({
    name: 'other',
    compile: (_, identities) => ({ selected: identityTable(identities, () => SELECTS_BOTH) }),
    evaluate: () => ({ evaluateEgress: judge, evaluateIngress: judge }),
  })
  const check = (judge: () => 'next') => () =>
    requireKept(kept, compile(snapshot, pipelineOf([{ kind: kindOf(judge) }])), none)
  t.doesNotThrow(check(() => 'next'))
  t.throws(
    check(() => {
      throw new Error('defect')
    }),
    { code: 'LOCKED_OUT' },
  )
})
