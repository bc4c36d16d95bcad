import t from 'tap'
import { buildKnp, type Finished, knp } from '../fixtures/knp.ts'
import { shop } from '../fixtures/shop.ts'

const dbOnly = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 203.0.113.0/24}}]
    ports: [{port: 5432}]
`
const nameless = '--- {apiVersion: v1, kind: Pod, metadata: {name: new, namespace: shop}}\n'
const folder = t.testdir({
  'world.yaml': shop,
  policies: { 'db.yaml': dbOnly },
  more: {
    'new.yaml': nameless,
    'service.yaml': 'apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\n',
  },
  broken: { 'p.yaml': dbOnly.replace('port: 5432', 'port: 543200').replace('ports:', 'ports:\n     ') },
  twice: { 'a.yaml': dbOnly, 'b.yaml': dbOnly },
  syntax: { 'p.yaml': 'kind: [\n' },
})
const sources = ['--source', 'world.yaml', '--source', 'policies']

t.before(buildKnp)

type Case = readonly [
  rule: string,
  args: readonly string[],
  status: number,
  stdout: string | RegExp,
  stderr: string | RegExp,
]

const usage = (message: string) =>
  `knp: ${message}\n     for example: knp explain shop/web shop/db:5432/tcp --source policies/\n`

const cases: readonly Case[] = [
  [
    'allowed',
    ['shop/web', 'shop/db:5432', ...sources],
    0,
    'ALLOWED  shop/web -> shop/db:5432/tcp\n  egress   shop/web  Admin next · NetworkPolicy next · Baseline next\n                     no policy decides this direction: allowed by default\n  ingress  shop/db   Admin next · NetworkPolicy accept (shop/db-only rule 0, policies/db.yaml:2)\n',
    '',
  ],
  [
    'denied, with the file and line of the policy',
    ['shop/web', 'shop/db:5433', ...sources],
    1,
    /^DENIED {2}shop\/web -> shop\/db:5433\/tcp\n[\s\S]*no rule allows this flow \(policies\/db\.yaml:2\)\n +nearest: shop\/db-only rule 0 allows this peer on port 5432\/tcp, not on port 5433\/tcp\n$/,
    '',
  ],
  [
    'an address from outside',
    ['203.0.113.9', 'shop/db:5432', ...sources],
    0,
    /^ALLOWED {2}203\.0\.113\.9 -> shop\/db:5432\/tcp\n/,
    '',
  ],
  ['IPv6', ['2001:db8::9', '[fd00::3]:5432', ...sources], 1, /^DENIED {2}2001:db8::9 -> shop\/db:5432\/tcp\n/, ''],
  [
    'port and protocol apart',
    ['shop/web', 'shop/db', '--port', '53', '--protocol', 'udp', ...sources],
    1,
    /^DENIED {2}shop\/web -> shop\/db:53\/udp\n/,
    '',
  ],
  ['ICMP', ['shop/db', 'shop/web/icmp', ...sources], 0, /^ALLOWED {2}shop\/db -> shop\/web\/icmp\n/, ''],
  [
    'the node',
    ['node:n1', 'shop/db:1', ...sources],
    0,
    'ALLOWED  node:n1 -> shop/db:1/tcp\n  Exempt: the node always reaches a pod that runs on it\n',
    '',
  ],
  ['flags may stand first', [...sources, 'shop/web', 'shop/db:5432'], 0, /^ALLOWED/, ''],
  ['quiet: allowed', ['-q', 'shop/web', 'shop/db:5432', ...sources], 0, '', ''],
  ['quiet: denied', ['-q', 'shop/web', 'shop/db:5433', ...sources], 1, '', ''],
  [
    'what is left out is noted beside the result',
    ['shop/web', 'shop/db:5432', ...sources, '--source', 'more'],
    0,
    /^ALLOWED/,
    'note: more/service.yaml:1: Service shop/db: not a kind that policies refer to; left out\n',
  ],
  ['and not when it is quiet', ['-q', 'shop/web', 'shop/db:5432', ...sources, '--source', 'more'], 0, '', ''],
  ['a missing port', ['shop/web', 'shop/db', ...sources], 2, '', usage('shop/db: port missing; write shop/db:PORT')],
  [
    'a port that is none',
    ['shop/web', 'shop/db:70000', ...sources],
    2,
    '',
    usage('shop/db:70000: port 70000 is outside 1-65535'),
  ],
  [
    'a protocol that is none',
    ['shop/web', 'shop/db:1', '--protocol', 'gre', ...sources],
    2,
    '',
    'knp: Expected --protocol=gre to be one of: tcp, udp, sctp, icmp\n     see --help\n',
  ],
  [
    'a name that is none',
    ['web', 'shop/db:1', ...sources],
    2,
    '',
    usage('"web" is neither namespace/name, node:NAME nor an IP address'),
  ],
  ['a missing argument', ['shop/web', ...sources], 2, '', /^knp: Missing 1 required arg:\nto /],
  [
    'a missing source',
    ['shop/web', 'shop/db:1'],
    2,
    '',
    /^knp: [\s\S]*nothing is known to decide by\n {5}name manifests /,
  ],
  [
    'an unknown flag',
    ['shop/web', 'shop/db:1', '--prot', 'tcp', ...sources],
    2,
    '',
    /^knp: Nonexistent flag: --prot\n/,
  ],
  [
    'a missing file',
    ['shop/web', 'shop/db:1', '--source', 'nowhere.yaml'],
    2,
    '',
    'knp: nowhere.yaml: no such file or folder\n     name a YAML file, or a folder of YAML files\n',
  ],
  [
    'a broken policy, with its line',
    ['shop/web', 'shop/db:1', '--source', 'world.yaml', '--source', 'broken'],
    2,
    '',
    /^knp: broken\/p\.yaml:10: NetworkPolicy shop\/db-only: spec\.ingress\[0\]\.ports\[0\]\.port: 543200 is outside 1-65535\n {5}correct the line named; /,
  ],
  ['a file that is no YAML', ['shop/web', 'shop/db:1', '--source', 'syntax'], 2, '', /^knp: syntax\/p\.yaml:\d: /],
  [
    'one policy twice',
    ['shop/web', 'shop/db:1', '--source', 'twice'],
    2,
    '',
    /^knp: twice\/b\.yaml:2: NetworkPolicy shop\/db-only stands already at twice\/a\.yaml:2\n/,
  ],
  [
    'an unknown workload',
    ['shop/nobody', 'shop/db:1', ...sources],
    3,
    '',
    'knp: no source knows a workload "shop/nobody"; known there: web, api, db, agent\n',
  ],
  [
    'an unknown node',
    ['node:n9', 'shop/db:1', ...sources],
    3,
    '',
    'knp: no source knows a node "n9"; known there: n1, n2\n',
  ],
  [
    'an address that a policy needs and nobody knows',
    ['shop/new', 'shop/db:5432', ...sources, '--source', 'more'],
    3,
    '',
    /\nknp: shop\/new -> shop\/db:5432\/tcp: undecidable, /,
  ],
]

t.test('status, result and the rest', async (t) => {
  const runs = await inPairs(
    cases.map(
      ([, args]) =>
        () =>
          knp(folder, 'explain', ...args),
    ),
  )
  for (const [i, [rule, , status, stdout, stderr]] of cases.entries()) {
    t.equal(runs[i]!.status, status, `${rule}: exit status`)
    if (typeof stdout === 'string') t.equal(runs[i]!.stdout, stdout, `${rule}: stdout`)
    else t.match(runs[i]!.stdout, stdout, `${rule}: stdout`)
    if (typeof stderr === 'string') t.equal(runs[i]!.stderr, stderr, `${rule}: stderr`)
    else t.match(runs[i]!.stderr, stderr, `${rule}: stderr`)
  }
})

t.test('JSON', async (t) => {
  const json = async (status: number, ...args: readonly string[]) => {
    const run = await knp(folder, 'explain', '--json', ...args)
    t.equal(run.status, status, args.join(' '))
    t.equal(run.stderr, '', 'nothing beside it')
    t.equal(run.stdout.trimEnd().split('\n').length, 1, 'one line')
    return JSON.parse(run.stdout)
  }
  t.match(await json(0, 'shop/web', 'shop/db:5432', ...sources), {
    schema: 'knp.explain/v1',
    verdict: 'allow',
    flow: {
      protocol: 'TCP',
      source: { name: 'shop/web', address: '10.0.0.1' },
      destination: { name: 'shop/db', address: '10.0.0.3', port: 5432 },
    },
    decidedBy: {
      direction: 'ingress',
      tier: 'NetworkPolicy',
      policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-only', file: 'policies/db.yaml', line: 2 },
      rule: 0,
    },
    stages: [
      { direction: 'egress', verdict: 'allow' },
      { direction: 'ingress', subject: 'shop/db', verdict: 'allow' },
    ],
    generation: 1,
  })
  t.match(await json(1, 'shop/web', 'shop/db:1', ...sources), {
    verdict: 'deny',
    nearest: { policy: { name: 'db-only' }, rule: 0 },
  })
  const errors: readonly [status: number, code: string, args: readonly string[]][] = [
    [2, 'USAGE', ['shop/web', 'shop/db', ...sources]],
    [2, 'USAGE', ['shop/web', 'shop/db:1']],
    [2, 'UNREADABLE_SOURCE', ['shop/web', 'shop/db:1', '--source', 'nowhere']],
    [2, 'INVALID_MANIFEST', ['shop/web', 'shop/db:1', '--source', 'broken']],
    [3, 'UNKNOWN_NAME', ['shop/nobody', 'shop/db:1', ...sources]],
  ]
  for (const [status, code, args] of errors) {
    const error = await json(status, ...args)
    t.match(error, { schema: 'knp.error/v1', code, message: String })
    t.same(
      Object.keys(error).filter((key) => !['schema', 'code', 'message', 'hint'].includes(key)),
      [],
    )
  }
})

/** Runs two at a time: as many as the smallest machine has processors. */
async function inPairs(jobs: readonly (() => Promise<Finished>)[]): Promise<Finished[]> {
  const runs: Finished[] = []
  for (let i = 0; i < jobs.length; i += 2) runs.push(...(await Promise.all(jobs.slice(i, i + 2).map((job) => job()))))
  return runs
}
