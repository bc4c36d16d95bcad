import t from 'tap'
import { ANY_PROTOCOL, type Policy } from '../../src/engine/policy.ts'
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
  workload('shop/db', 'app=db', { ports: ['sql:5432/TCP', 'dns:53/UDP'] }),
  workload('shop/web', 'app=web', { ports: ['http:80/TCP'] }),
  workload('lab/web', 'app=web'),
]
const byName = (...names: readonly string[]) => names.map(port)
const db = podsMatch('app=db')
const ingress = (...names: readonly string[]) =>
  networkPolicy('shop/p', { subject: db, ingress: [rule({ ports: byName(...names) })] })
const egress = (names: readonly string[], given: Parameters<typeof rule>[0] = {}) =>
  networkPolicy('shop/p', { subject: db, egress: [rule({ ports: byName(...names), ...given })] })
const none = (whom: string) => `matches nothing: no port has this name among those of ${whom}`

const cases: readonly [rule: string, policy: Policy, found: readonly string[]][] = [
  ['ingress: a port of the subject', ingress('sql/TCP', 'dns/UDP', '9/TCP'), []],
  [
    'ingress: a name that only others have',
    ingress('sql/TCP', 'http/TCP'),
    [`warning shop/p ingress 0: port "http" ${none('shop/db')}`],
  ],
  [
    'ingress: another protocol',
    ingress('dns/TCP'),
    ['warning shop/p ingress 0: port "dns" matches nothing: it is a port of udp, not tcp, of shop/db'],
  ],
  [
    'any protocol',
    networkPolicy('shop/p', {
      subject: db,
      ingress: [rule({ ports: [{ protocol: ANY_PROTOCOL, first: 0, last: 0, portName: 'dns' }] })],
    }),
    [],
  ],
  ['some of the subjects have it', networkPolicy('shop/p', { ingress: [rule({ ports: byName('sql/TCP') })] }), []],
  ['no subject', networkPolicy('none/p', { ingress: [rule({ ports: byName('sql/TCP') })] }), []],
  ['egress: a port of the peer', egress(['http/TCP'], { peers: [pods('app=web')] }), []],
  [
    'egress: a name that only the subject has',
    egress(['sql/TCP'], { peers: [pods('app=web')] }),
    [`warning shop/p egress 0: port "sql" ${none('shop/web')}`],
  ],
  ['egress: one of the peers has it', egress(['sql/TCP'], { peers: [pods('app=web'), pods('', '')] }), []],
  ['egress: a peer that is not known may have it', egress(['x/TCP'], { peers: [pods('app=web'), pods('app=no')] }), []],
  ['egress to everybody', egress(['http/TCP']), []],
  [
    'egress to everybody, a name that nobody has',
    egress(['https/TCP']),
    [`warning shop/p egress 0: port "https" ${none('shop/db, shop/web, lab/web')}`],
  ],
  ['egress to a block may mean workloads in it', egress(['http/TCP'], { peers: [block('10.0.0.0/8')] }), []],
  [
    'in the cluster tiers addresses are nobody',
    clusterPolicy('p', {
      egress: [
        rule({ ports: byName('sql/TCP'), peers: [block('10.0.0.0/8'), nodes(''), domainName('a.example')] }),
        rule({ ports: byName('sql/TCP'), peers: [block('10.0.0.0/8'), pods('app=web', '')] }),
      ],
      ingress: [rule({ ports: byName('http/TCP'), peers: [pods('app=web', '')] })],
    }),
    [`warning p egress 1: port "sql" ${none('shop/web, lab/web')}`],
  ],
]

t.test('unknown-port-name', async (t) => {
  for (const [name, policy, expected] of cases)
    t.strictSame(found('unknown-port-name', lintInput([policy], { workloads })), expected, name)
})
