import t from 'tap'
import type { PeerMatch, Policy } from '../../src/engine/policy.ts'
import {
  block,
  clusterPolicy,
  lintInput,
  networkPolicy,
  pods,
  podsMatch,
  rule,
  workload,
} from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const workloads = [
  workload('shop/web', 'app=web', { addresses: ['10.0.0.1', 'fd00::1'] }),
  workload('shop/db', 'app=db', { addresses: ['10.0.0.2'] }),
  workload('shop/new', 'app=new'),
  workload('shop/host', 'app=host', { isHost: true, addresses: ['192.0.2.1'] }),
]
const to = (...peers: readonly PeerMatch[]) => networkPolicy('shop/p', { egress: [rule({ peers })] })
const everything = [rule({ peers: [block('0.0.0.0/0')] })]

const cases: readonly [rule: string, policy: Policy, found: readonly string[]][] = [
  [
    'the internet with workloads in it',
    to(block('0.0.0.0/0')),
    ['note shop/p egress 0: 0.0.0.0/0 matches workloads too: shop/web, shop/db'],
  ],
  ['of the other family', to(block('::/0')), ['note shop/p egress 0: ::/0 matches workloads too: shop/web']],
  ['without them', to(block('0.0.0.0/0', '10.0.0.0/8')), []],
  [
    'without some of them',
    to(block('0.0.0.0/0', '10.0.0.1/32')),
    ['note shop/p egress 0: 0.0.0.0/0 matches workloads too: shop/db'],
  ],
  [
    'the only subject itself',
    networkPolicy('shop/p', { subject: podsMatch('app=web'), egress: [rule({ peers: [block('::/0')] })] }),
    [],
  ],
  ['a block without workloads', to(block('192.0.0.0/4')), []],
  ['a block as narrow as a cluster', to(block('10.0.0.0/8')), []],
  ['every workload is meant', to(block('0.0.0.0/0'), pods('', '')), []],
  [
    'some workloads are meant',
    to(block('0.0.0.0/0'), pods('app=web', '')),
    ['note shop/p egress 0: 0.0.0.0/0 matches workloads too: shop/web, shop/db'],
  ],
  ['everybody, for ingress', networkPolicy('shop/p', { ingress: everything }), []],
  [
    'cluster policies',
    clusterPolicy('p', { egress: everything }),
    ['note p egress 0: 0.0.0.0/0 matches workloads too: shop/web, shop/db'],
  ],
  ['that deny', clusterPolicy('p', { egress: [{ ...everything[0]!, action: 'Deny' }] }), []],
]

t.test('block-covers-workloads', async (t) => {
  for (const [name, policy, expected] of cases)
    t.strictSame(found('block-covers-workloads', lintInput([policy], { workloads })), expected, name)
})
