import t from 'tap'
import type { PeerMatch, Policy } from '../../src/engine/policy.ts'
import {
  block,
  clusterPolicy,
  domainName,
  lintInput,
  networkPolicy,
  nodes,
  pods,
  podsMatch,
  port,
  rule,
  workload,
} from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const workloads = [
  workload('shop/web', 'app=web', { ports: ['http:80/TCP', 'zone:53/TCP', 'named:54/UDP'] }),
  workload('shop/db', 'app=db'),
  workload('lab/web', 'app=web'),
  workload('shop/host', 'app=host', { isHost: true }),
]
const web = podsMatch('app=web')
const to = (peer: PeerMatch, ports = '5432/TCP') => rule({ peers: [peer], ports: [port(ports)] })
const toDb = networkPolicy('shop/web', { subject: web, egress: [to(pods('app=db'))] })
const sealed = networkPolicy('shop/sealed', { egress: [] })
const dns = (ports: string, peer: PeerMatch = pods('', 'x=y')) =>
  networkPolicy('shop/dns', { egress: [to(peer, ports)] })
const lost = (whom = 'shop/web', others = '') =>
  `isolates ${whom}${others}, and nothing allows UDP or TCP port 53: no name can be looked up there`

const cases: readonly [rule: string, policies: readonly Policy[], found: readonly string[]][] = [
  ['forgotten', [toDb], [`warning shop/web egress: ${lost()}`]],
  [
    'by several policies',
    [sealed, networkPolicy('shop/in', { ingress: [] }), toDb],
    [`warning shop/web egress: ${lost('shop/web', ' together with NetworkPolicy shop/sealed')}`],
  ],
  [
    'for several workloads',
    [networkPolicy('shop/all', { egress: [to(pods('app=db'))] })],
    [`warning shop/all egress: ${lost('shop/web, shop/db')}`],
  ],
  ['UDP', [toDb, dns('53/UDP')], []],
  ['TCP', [toDb, dns('53/TCP')], []],
  ['in a range', [toDb, dns('1-99/UDP')], []],
  [
    'beside a range',
    [networkPolicy('shop/web', { subject: web, egress: [to(pods(''), '1-52/UDP'), to(pods(''), '54-99/UDP')] })],
    [`warning shop/web egress: ${lost()}`],
  ],
  ['to an address', [toDb, dns('53/UDP', block('192.0.2.1/32'))], []],
  [
    'SCTP is no DNS',
    [toDb, dns('53/SCTP')],
    [
      `warning shop/web egress: ${lost('shop/web', ' together with NetworkPolicy shop/dns')}`,
      'warning shop/dns egress: isolates shop/db, and nothing allows UDP or TCP port 53: no name can be looked up there',
    ],
  ],
  ['every port', [toDb, networkPolicy('shop/all', { egress: [rule()] })], []],
  ['a name that is port 53', [toDb, dns('zone/TCP')], []],
  ['a name that nobody here has', [toDb, dns('dns/UDP')], []],
  [
    'a name that is another port',
    [networkPolicy('shop/web', { subject: web, egress: [to(pods(''), 'named/UDP')] })],
    [`warning shop/web egress: ${lost()}`],
  ],
  [
    'to nobody',
    [toDb, networkPolicy('shop/dns', { subject: web, egress: [rule({ peers: [] })] })],
    [`warning shop/web egress: ${lost('shop/web', ' together with NetworkPolicy shop/dns')}`],
  ],
  [
    'for another workload',
    [toDb, networkPolicy('shop/dns', { subject: podsMatch('app=db'), egress: [rule()] })],
    [`warning shop/web egress: ${lost()}`],
  ],
  ['what may open nothing is meant so', [sealed], []],
  [
    'what may open given addresses only too',
    [networkPolicy('shop/p', { egress: [to(block('192.0.2.0/24')), to(nodes(''))] })],
    [],
  ],
  [
    'the internet is reached by name',
    [networkPolicy('lab/p', { egress: [to(block('0.0.0.0/0'))] })],
    [`warning lab/p egress: ${lost('lab/web')}`],
  ],
  [
    'so is a name',
    [networkPolicy('lab/p', { egress: [to(domainName('a.example'))] })],
    [`warning lab/p egress: ${lost('lab/web')}`],
  ],
  ['an Admin policy may allow it', [toDb, clusterPolicy('dns', { egress: [to(pods('', ''), '53/UDP')] })], []],
  [
    'and may deny',
    [toDb, clusterPolicy('dns', { egress: [rule({ action: 'Deny', ports: [port('53/UDP')] })] })],
    [`warning shop/web egress: ${lost()}`],
  ],
  [
    'Baseline is not asked',
    [toDb, clusterPolicy('dns', { tier: 'Baseline', egress: [rule()] })],
    [`warning shop/web egress: ${lost()}`],
  ],
  ['cluster policies alone leave the rest open', [clusterPolicy('p', { egress: [to(pods('app=db', ''))] })], []],
  [
    'hosts ask by the failsafe',
    [networkPolicy('shop/host', { subject: podsMatch('app=host'), egress: [to(pods('app=db'))] })],
    [],
  ],
]

t.test('dns-forgotten', async (t) => {
  for (const [name, policies, expected] of cases)
    t.strictSame(found('dns-forgotten', lintInput(policies, { workloads })).sort(), [...expected].sort(), name)
})
