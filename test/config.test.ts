import { chmod, chown, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import {
  type Config,
  type ConfigFlags,
  configDefaults,
  defaultNodeName,
  findControlSocket,
  findEvaluators,
  loadConfig,
  marksOf,
  requireSources,
} from '../src/config.ts'
import type { KnpError } from '../src/errors.ts'
import { formatConfig } from '../src/output/config.ts'

const NO_FILE = '/nonexistent/knp.yaml'
const isRoot = process.geteuid?.() === 0

/** A folder that only its owner may write, gone after the test. */
async function folder(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'knp-config-'))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

async function written(test: Test, text: string, name = 'knp.yaml'): Promise<string> {
  const path = join(await folder(test), name)
  await writeFile(path, text, { mode: 0o600 })
  return path
}

async function refusal(work: Promise<unknown>): Promise<KnpError> {
  const error = await work.then(
    () => undefined,
    (error: KnpError) => error,
  )
  if (!error) throw new Error('nothing was refused')
  return error
}

t.test('without a file and flags the defaults hold', async (t) => {
  const config = await loadConfig({}, NO_FILE)
  t.same(config, { ...configDefaults, sources: [], nodeName: defaultNodeName() })
  t.equal(marksOf(config).packetMask, 0x7f000000)
  t.throws(() => requireSources(config), { code: 'USAGE' }, 'no source')
  t.throws(() => {
    ;(config.queue as { first: number }).first = 1
  }, 'it cannot be changed')
})

t.test('everything that a file can say', async (t) => {
  const config = await written(
    t,
    `
sources:
- files: {path: /srv/a/../policies}
- files: {path: /srv/more.yaml}
nodeName: web-1.example
mode: audit
onFailure: open
denyWith: reject
unknownLocal: allow
hold: 2s
podCIDRs: [10.244.1.7/24, "fd00:1::/64"]
queue: {first: 200, count: 4, maxLength: 64}
remember: {allowed: 2m, denied: 0s, size: 1000, log: false}
marks: {packet: 0x0000ff00, conntrack: "0xF"}
metrics: {address: "[0:0::1]:80"}
control: {socket: /run/other.sock, group: wheel}
stateDir: /srv/state
log: {level: debug, flows: all, format: json}
failsafe:
  inbound: [{protocol: tcp, port: 2222, from: [10.1.2.3/8, "fd00::/8"]}]
  outbound: []
  apiServer: true
evaluators:
- {module: quarantine.js}
- {module: /srv/../opt/a@b.js, after: Baseline}
`,
  )
  const expected: Config = {
    sources: [{ files: { path: '/srv/policies' } }, { files: { path: '/srv/more.yaml' } }],
    nodeName: 'web-1.example',
    mode: 'audit',
    onFailure: 'open',
    denyWith: 'reject',
    unknownLocal: 'allow',
    holdMs: 2000,
    podCIDRs: ['10.244.1.0/24', 'fd00:1::/64'],
    queue: { first: 200, count: 4, maxLength: 64 },
    remember: { allowedMs: 120_000, deniedMs: 0, size: 1000, isLogged: false },
    marks: { packet: 0xff00, conntrack: 0xf },
    metrics: { address: '[0:0::1]:80' },
    control: { socket: '/run/other.sock', group: 'wheel' },
    stateDir: '/srv/state',
    failsafe: {
      inbound: [{ protocol: 'tcp', port: 2222, from: ['10.0.0.0/8', 'fd00::/8'] }],
      outbound: [],
      apiServer: true,
    },
    log: { level: 'debug', flows: 'all', format: 'json' },
    evaluators: [{ module: join(dirname(config), 'quarantine.js') }, { module: '/opt/a@b.js', after: 'Baseline' }],
  }
  const read = await loadConfig({ config }, NO_FILE)
  t.same(read, expected)
  t.same(await loadConfig({}, config), expected, 'the usual place says the same')
  requireSources(read)
  const printed = await written(t, formatConfig(read))
  t.same(await loadConfig({ config: printed }, NO_FILE), expected, 'what is printed can be read again')
  t.match(formatConfig(read), 'packet: 0xff00')
})

t.test('the documented example and the packaged file', async (t) => {
  const text = async (path: string) => readFile(new URL(`../${path}`, import.meta.url), 'utf8')
  const [, example] = /```yaml\n(.*?)```/s.exec(await text('docs/configuration.md')) ?? []
  const documented = await loadConfig({ config: await written(t, example!) }, NO_FILE)
  t.same(documented.queue, configDefaults.queue)
  t.same(documented.remember, configDefaults.remember)
  t.equal(documented.failsafe.inbound[0]?.from?.length, 2)
  const packaged = await text('packaging/systemd/knp.yaml')
  const begins = await loadConfig({ config: await written(t, packaged) }, NO_FILE)
  t.same(begins.sources, [{ files: { path: '/etc/knp/policies' } }])
  t.equal(begins.mode, 'audit', 'who has just installed it is not locked out')
  const everything = packaged.replace(/^# (?=[a-z]+[A-Z]?[a-z]*: [^`]*$)/gm, '')
  const { nodeName, control, remember } = await loadConfig({ config: await written(t, everything) }, NO_FILE)
  t.equal(nodeName, 'web-1', 'also with what stands in comments')
  t.equal(control.group, 'adm')
  t.match(everything, /^remember: /m)
  t.same(remember, configDefaults.remember)
})

t.test('a cluster as source', async (t) => {
  const file =
    '\nsources:\n- kubernetes: {kubeconfig: /srv/a/../kubeconfig, context: prod}\n- files: {path: /srv}\n- kubernetes:\n'
  const config = await loadConfig({ config: await written(t, file) }, NO_FILE)
  t.same(config.sources, [
    { kubernetes: { kubeconfig: '/srv/kubeconfig', context: 'prod' } },
    { files: { path: '/srv' } },
    { kubernetes: {} },
  ])
  t.equal(config.onFailure, 'open', 'a node must not lose its network with the firewall')
  t.equal((await loadConfig({ config: await written(t, `onFailure: closed${file}`) }, NO_FILE)).onFailure, 'closed')

  const directory = process.cwd()
  const flags = { source: ['kubernetes', 'policies'], kubeconfig: 'kc', context: 'test' }
  const given = await loadConfig(flags, NO_FILE)
  t.same(given.sources, [
    { kubernetes: { kubeconfig: join(directory, 'kc'), context: 'test' } },
    { files: { path: join(directory, 'policies') } },
  ])
  t.same((await loadConfig({ source: ['kubernetes'] }, NO_FILE)).sources, [{ kubernetes: {} }])
  t.same((await loadConfig({ source: ['./kubernetes'] }, NO_FILE)).sources, [{ files: { path: '/kubernetes' } }])
  t.same((await loadConfig({ config: await written(t, formatConfig(given)) }, NO_FILE)).sources, given.sources)
  const [one, other] = [{ kubeconfig: 'kc' }, { context: 'test', source: ['policies'] }]
  t.match(await refusal(loadConfig(one, NO_FILE)), { code: 'USAGE', message: '--kubeconfig: says which cluster' })
  t.match(await refusal(loadConfig(other, NO_FILE)), { code: 'USAGE', message: '--context: says which cluster' })
})

t.test('files that say nothing', async (t) => {
  for (const text of ['', '\n', '# none\n', '---\n', '{}', 'queue:\n#  first: 1\nsources:\n']) {
    const config = await loadConfig({ config: await written(t, text) }, NO_FILE)
    t.same(config, await loadConfig({}, NO_FILE), JSON.stringify(text))
  }
})

t.test('JSON, with tabs too', async (t) => {
  const config = await written(t, '{\n\t"marks": {\n\t\t"packet": "0x00007f00"\n\t}\n}\n', 'knp.json')
  t.equal((await loadConfig({ config }, NO_FILE)).marks.packet, 0x7f00)
  t.equal((await loadConfig({ config: await written(t, 'queue: {first: 3}', 'x.yml') }, NO_FILE)).queue.first, 3)
})

const rejections: readonly [rule: string, text: string, problem: string][] = [
  ['an unknown key', 'nodename: a', '1: nodename: unknown key; known here: sources, nodeName'],
  ['an unknown key below', 'queue:\n  size: 1', '2: queue.size: unknown key; known here: first, count, maxLength'],
  ['a list for a mapping', '- a', '1: expected a mapping, found a list'],
  ['a number for a mapping', 'queue: 3', '1: queue: expected a mapping, found 3'],
  ['a mapping for a list', 'sources: {}', '1: sources: expected a list, found a mapping'],
  ['text for a number', 'queue:\n\n  first: "1"', '3: queue.first: expected an integer, found "1"'],
  ['a queue that is none', 'queue: {first: 65536}', '1: queue.first: 65536 is outside 0-65535'],
  ['no queue length', 'queue: {maxLength: 0}', '1: queue.maxLength: 0 is outside 1-1048576'],
  ['a number for text', '\nnodeName: 3', '2: nodeName: expected a string, found 3'],
  ['a name no node has', 'nodeName: Web_1', '1: nodeName: "Web_1" is no valid node name'],
  ['an empty name', 'nodeName: ""', '1: nodeName: empty'],
  ['neither open nor closed', 'onFailure: ajar', '1: onFailure: "ajar" is none of open, closed'],
  ['a source without a kind', 'sources:\n- {}', '2: sources[0]: files is missing'],
  ['a source of an unknown kind', 'sources:\n- {git: x}', '2: sources[0].git: unknown field "git"'],
  ['files without a path', 'sources:\n- files: {}', '2: sources[0].files.path: expected a string, found nothing'],
  ['a relative path', 'sources:\n- files: {path: a}', '2: sources[0].files.path: "a" is no absolute path'],
  [
    'two kinds in one',
    'sources:\n- {kubernetes: {}, files: {path: /a}}',
    '2: sources[0]: files and kubernetes: name one of them',
  ],
  [
    'a relative kubeconfig',
    'sources:\n- kubernetes: {kubeconfig: a}',
    '2: sources[0].kubernetes.kubeconfig: "a" is no absolute path',
  ],
  [
    'an unknown key of a cluster',
    'sources:\n- kubernetes: {token: a}',
    '2: sources[0].kubernetes.token: unknown field "token"',
  ],
  ['an empty context', 'sources:\n- kubernetes: {context: ""}', '2: sources[0].kubernetes.context: empty'],
  ['a relative folder', 'stateDir: var', '1: stateDir: "var" is no absolute path'],
  ['a socket that is too long', `control: {socket: /${'a'.repeat(107)}}`, '1: control.socket: a path of 108 bytes'],
  ['an empty group', 'control: {group: ""}', '1: control.group: empty'],
  ['too few packet bits', 'marks: {packet: 0x3f00}', '1: marks.packet: 0x00003f00 is not enough: 7 adjoining bits'],
  ['packet bits with gaps', 'marks: {packet: 0x55555555}', '1: marks.packet: 0x55555555 is not enough'],
  ['too few connection bits', 'marks: {conntrack: 7}', '1: marks.conntrack: 0x00000007 is not enough: 4 adjoining'],
  ['a mask that is none', 'marks: {packet: red}', '1: marks.packet: "red" is no mask such as 0x7f000000'],
  ['a mask that is too wide', 'marks: {packet: 0x1ffffffff}', '1: marks.packet: 8589934591 is outside'],
  ['no mode', '\n\nmode: off', '3: mode: "off" is none of enforce, audit'],
  ['neither drop nor reject', 'denyWith: tarpit', '1: denyWith: "tarpit" is none of drop, reject'],
  ['no queue', 'queue: {count: 0}', '1: queue.count: 0 is outside 1-64'],
  ['too many queues', 'queue: {count: 65}', '1: queue.count: 65 is outside 1-64'],
  [
    'queues beyond the last number',
    'queue:\n  first: 65534\n  count: 3',
    '3: queue.count: 3 queues from 65534 on are too many: the last number there is is 65535',
  ],
  ['no verdict', 'unknownLocal: drop', '1: unknownLocal: "drop" is none of deny, allow'],
  ['no time', 'hold: 500', '1: hold: expected a string, found 500'],
  ['too long a time', 'hold: 11s', '1: hold: "11s" is above 10s'],
  ['no block', 'podCIDRs: [10.0.0.0]', '1: podCIDRs[0]: "10.0.0.0" is no CIDR block'],
  [
    'neither yes nor no',
    'failsafe: {apiServer: perhaps}',
    '1: failsafe.apiServer: expected true or false, found "perhaps"',
  ],
  ['a time without a unit', 'remember: {allowed: 30}', '1: remember.allowed: expected a string, found 30'],
  ['a time that is none', 'remember: {denied: soon}', '1: remember.denied: "soon" is no time; write for example 500ms'],
  ['nothing to remember in', 'remember: {size: 0}', '1: remember.size: 0 is outside 1-16777216'],
  ['metrics', 'metrics: "127.0.0.1:1"', '1: metrics: '],
  ['metrics.address', 'metrics: {address: 9080}', '1: metrics.address: '],
  ['metrics.address', 'metrics: {address: "localhost:1"}', '1: metrics.address: "localhost:1" is no address and port'],
  ['an evaluator that is text', 'evaluators: [a]', '1: evaluators[0]: expected a mapping, found "a"'],
  ['an evaluator without a module', 'evaluators:\n- {}', '2: evaluators[0]: module is missing'],
  ['no path', 'evaluators: [{module: ""}]', '1: evaluators[0].module: empty'],
  [
    'a place that is none',
    'evaluators:\n- module: a.js\n  before: Default',
    '3: evaluators[0].before: "Default" is none of Admin, NetworkPolicy, Baseline',
  ],
  [
    'two places',
    'evaluators: [{module: a.js, before: Admin, after: Admin}]',
    '1: evaluators[0]: before and after: name one of them',
  ],
  ['no level', 'log: {level: loud}', '1: log.level: "loud" is none of error, warn, info, debug'],
  ['no flows', 'log: {flows: some}', '1: log.flows: "some" is none of denied, all, none'],
  [
    'a failsafe that is text',
    'failsafe:\n  inbound:\n  - tcp/22',
    '3: failsafe.inbound[0]: expected a mapping, found "tcp/22"',
  ],
  ['a failsafe list that is none', 'failsafe: {inbound: none}', '1: failsafe.inbound: expected a list, found "none"'],
  [
    'the peers of the other direction',
    'failsafe: {inbound: [{protocol: tcp, port: 1, to: []}]}',
    '1: failsafe.inbound[0].to: unknown field "to"; known here: protocol, port, from',
  ],
  [
    'an unknown protocol',
    'failsafe: {inbound: [{protocol: icmp, port: 1}]}',
    '1: failsafe.inbound[0].protocol: "icmp" is none of tcp, udp, sctp',
  ],
  [
    'no port',
    'failsafe: {outbound: [{protocol: tcp}]}',
    '1: failsafe.outbound[0].port: expected an integer, found nothing',
  ],
  ['port 0', 'failsafe: {outbound: [{protocol: tcp, port: 0}]}', '1: failsafe.outbound[0].port: 0 is outside 1-65535'],
  [
    'an address for a block',
    'failsafe:\n  outbound:\n  - protocol: tcp\n    port: 1\n    to:\n    - 10.0.0.0/8\n    - 10.0.0.1',
    '7: failsafe.outbound[0].to[1]: "10.0.0.1" is no CIDR block',
  ],
  [
    'nobody for everybody',
    'failsafe: {inbound: [{protocol: tcp, port: 1, from: []}]}',
    '1: failsafe.inbound[0].from: an empty list: leave it out to mean everywhere',
  ],
  ['a key twice', 'stateDir: /a\nstateDir: /b', '2: Map keys must be unique'],
  ['no YAML', 'a: [', '1: Flow sequence'],
  ['two documents', 'stateDir: /a\n---\nstateDir: /b', '2: Source contains multiple documents'],
  ['a tag of JavaScript', 'a: 1\nb: !!js/function "x"', '2: tag:yaml.org,2002:js/function: tags are not taken here'],
  ['a known tag', 'stateDir: !!binary aGk=', '1: tag:yaml.org,2002:binary: tags are not taken here'],
  ['even a plain tag', 'stateDir: !!str /a', '1: tag:yaml.org,2002:str: tags are not taken here'],
  ['tags of YAML 1.1', '%YAML 1.1\n---\nstateDir: !!timestamp 2001-01-01', '3: tag:yaml.org,2002:timestamp: tags'],
  ['an import', 'stateDir: /a\n$import: ./x.js', '2: $import: a configuration is one file'],
  ['an import below', 'queue:\n  $import: [./x.js]', '2: $import: a configuration is one file'],
  ['an import in disguise', 'a: &i $import\n*i : ./x.js', '1: $import: a configuration is one file'],
  ['a merge key', 'a: &a {first: 1}\nqueue:\n  <<: *a', '3: queue.<<: unknown key'],
  [
    'aliases without end',
    `a: &a [1,1,1,1,1,1,1,1,1]\n${[...'bcdefg'].map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdef'[i]}`)}]`).join('\n')}`,
    '1: Excessive alias count',
  ],
]

t.test('what a file cannot say, by file, line and key', async (t) => {
  for (const [rule, text, problem] of rejections) {
    const config = await written(t, text)
    const { code, message, hint } = await refusal(loadConfig({ config }, NO_FILE))
    t.equal(code, 'INVALID_CONFIG', rule)
    t.ok(
      message.split('\n').some((line) => line.startsWith(`${config}:${problem}`)),
      rule,
      { message, problem },
    )
    t.match(hint, 'docs/configuration.md', rule)
  }
})

t.test('all problems at once, in the order of lines', async (t) => {
  const config = await written(t, 'logs: {}\nqueue:\n  first: -1\n  maxLength: x\n  y: 1\n\n\n\n\nnodeName: []\n')
  const { message } = await refusal(loadConfig({ config }, NO_FILE))
  t.same(
    message.split('\n').map((line) => line.slice(config.length + 1).split(': ', 2)),
    [
      ['1', 'logs'],
      ['3', 'queue.first'],
      ['4', 'queue.maxLength'],
      ['5', 'queue.y'],
      ['10', 'nodeName'],
    ],
  )
})

t.test('flags win over the file', async (t) => {
  const config = await written(
    t,
    'sources: [{files: {path: /a}}]\nqueue: {first: 5, maxLength: 6}\nfailsafe: {inbound: []}\ncontrol: {group: wheel}',
  )
  process.chdir(tmpdir())
  const flags: ConfigFlags = {
    config,
    source: ['b', '/c'],
    'node-name': 'n1',
    mode: 'audit',
    'log-level': 'warn',
    'log-flows': 'none',
    'log-format': 'text',
    'on-failure': 'open',
    'deny-with': 'reject',
    'unknown-local': 'allow',
    hold: '0s',
    'pod-cidr': ['10.1.0.0/16', 'fd00::/64'],
    'queue-first': 7,
    'queue-count': 8,
    'remember-allowed': '1h',
    'remember-denied': '0s',
    'remember-size': 9,
    'remember-log': false,
    'marks-packet': '0x00007f00',
    'marks-conntrack': '15',
    'metrics-address': 'none',
    'control-socket': 'c.sock',
    'control-group': 'staff',
    'state-dir': '../s',
    'failsafe-inbound': ['tcp/22', 'tcp/23@10.0.0.1/8', 'udp/1@fd00::/8'],
    'failsafe-outbound': ['none'],
    'failsafe-api-server': true,
    evaluator: ['d.js@after:Admin', '/e@x/f.js', 'g.js@before:Baseline'],
  }
  t.same(await loadConfig(flags, NO_FILE), {
    sources: [{ files: { path: join(tmpdir(), 'b') } }, { files: { path: '/c' } }],
    nodeName: 'n1',
    mode: 'audit',
    onFailure: 'open',
    denyWith: 'reject',
    unknownLocal: 'allow',
    holdMs: 0,
    podCIDRs: ['10.1.0.0/16', 'fd00::/64'],
    queue: { first: 7, count: 8, maxLength: 6 },
    remember: { allowedMs: 3_600_000, deniedMs: 0, size: 9, isLogged: false },
    marks: { packet: 0x7f00, conntrack: 15 },
    metrics: { address: 'none' },
    control: { socket: join(tmpdir(), 'c.sock'), group: 'staff' },
    stateDir: join(tmpdir(), '../s'),
    failsafe: {
      inbound: [
        { protocol: 'tcp', port: 22 },
        { protocol: 'tcp', port: 23, from: ['10.0.0.0/8'] },
        { protocol: 'udp', port: 1, from: ['fd00::/8'] },
      ],
      outbound: [],
      apiServer: true,
    },
    log: { level: 'warn', flows: 'none', format: 'text' },
    evaluators: [
      { module: join(tmpdir(), 'd.js'), after: 'Admin' },
      { module: '/e@x/f.js' },
      { module: join(tmpdir(), 'g.js'), before: 'Baseline' },
    ],
  })
  t.equal(process.cwd(), '/', 'the working directory is the root')
})

t.test('flags that cannot be understood', async (t) => {
  const cases: readonly [flags: ConfigFlags, message: string][] = [
    [{ config: '' }, '--config: empty'],
    [{ source: ['a', ''] }, '--source: empty'],
    [{ 'node-name': 'A' }, '--node-name: "A" is no valid node name'],
    [
      { 'queue-first': 65536, 'queue-max-length': 0 },
      '--queue-first: 65536 is outside 0-65535\n--queue-max-length: 0 is',
    ],
    [{ 'queue-count': 65 }, '--queue-count: 65 is outside 1-64'],
    [{ 'queue-first': 65535, 'queue-count': 2 }, '--queue-count: 2 queues from 65535 on are too many: the last'],
    [{ 'remember-allowed': '-1s' }, '--remember-allowed: "-1s" is no time'],
    [{ 'marks-packet': '0x7g' }, '--marks-packet: "0x7g" is no mask such as 0x7f000000'],
    [{ 'marks-packet': '9999999999' }, '--marks-packet: 9999999999 is outside 0-4294967295'],
    [{ 'marks-conntrack': '1' }, '--marks-conntrack: 0x00000001 is not enough: 4 adjoining bits are needed'],
    [{ 'metrics-address': ':9080' }, '--metrics-address: ":9080" is no address and port such as 127.0.0.1:9080'],
    [{ 'control-socket': '' }, '--control-socket: empty'],
    [{ 'state-dir': '' }, '--state-dir: empty'],
    [{ 'failsafe-inbound': ['22'] }, '--failsafe-inbound: "22" is not of the form tcp/22, tcp/22@10.0.0.0/8 or none'],
    [{ 'failsafe-inbound': ['none', 'tcp/22'] }, '--failsafe-inbound: none stands alone'],
    [{ 'failsafe-outbound': ['tcp/0'] }, '--failsafe-outbound: 0 is outside 1-65535'],
    [{ 'failsafe-outbound': ['tcp/1@10.0.0.1'] }, '--failsafe-outbound: "10.0.0.1" is no CIDR block'],
    [{ evaluator: [''] }, '--evaluator: empty'],
    [{ evaluator: ['a.js@after:Egress'] }, '--evaluator: "Egress" is none of Admin, NetworkPolicy, Baseline'],
  ]
  for (const [flags, message] of cases) {
    const error = await refusal(loadConfig(flags, NO_FILE))
    t.equal(error.code, 'USAGE', message)
    t.ok(error.message.startsWith(message), message, { found: error.message })
  }
})

t.test('how many queues there are room for is asked of the numbers in force', async (t) => {
  const config = await written(t, 'queue: {first: 65530, count: 6}')
  t.match((await loadConfig({ config }, NO_FILE)).queue, { first: 65530, count: 6 }, 'the last one is 65535')
  t.match(await refusal(loadConfig({ config, 'queue-first': 65531 }, NO_FILE)), {
    code: 'INVALID_CONFIG',
    message: `${config}:1: queue.count: 6 queues from 65531 on are too many`,
  })
  t.match((await loadConfig({ config, 'queue-first': 65531, 'queue-count': 5 }, NO_FILE)).queue, { count: 5 })
})

t.test('a flag hides no mistake of the file', async (t) => {
  const config = await written(t, 'queue: {first: x}')
  t.match(await refusal(loadConfig({ config, 'queue-first': 1 }, NO_FILE)), { code: 'INVALID_CONFIG' })
})

t.test('files that are not there, or of the wrong kind', async (t) => {
  const path = await folder(t)
  const cases: readonly [name: string, message: string][] = [
    ['none.yaml', 'none.yaml: no such file'],
    ['.', ': not a file'],
    ['knp.js', 'knp.js: not a YAML or JSON file'],
    ['knp.ts', 'knp.ts: not a YAML or JSON file'],
    ['knp.toml', 'knp.toml: not a YAML or JSON file'],
    ['.knprc', '.knprc: not a YAML or JSON file'],
    ['package.json', 'package.json: a package file is no configuration of knp'],
  ]
  for (const name of ['knp.js', 'knp.ts', 'knp.toml', '.knprc', 'package.json'])
    await writeFile(join(path, name), '{"knp": {"stateDir": "/a"}}', { mode: 0o600 })
  for (const [name, message] of cases) {
    const error = await refusal(loadConfig({ config: join(path, name) }, NO_FILE))
    t.equal(error.code, 'INVALID_CONFIG', name)
    t.ok(error.message.endsWith(message), name, { found: error.message })
  }
  await symlink(join(path, 'gone'), join(path, 'knp.yaml'))
  t.match(
    await refusal(loadConfig({}, join(path, 'knp.yaml'))),
    { code: 'INVALID_CONFIG', message: /no such file/ },
    'a link that leads nowhere is not the absence of a configuration',
  )
})

t.test('files that others could have written', async (t) => {
  const path = await folder(t)
  const config = join(path, 'knp.yaml')
  const load = () => loadConfig({ config }, NO_FILE)
  await writeFile(config, 'stateDir: /a')
  for (const mode of [0o600, 0o644, 0o440]) {
    await chmod(config, mode)
    t.equal((await load()).stateDir, '/a', `mode ${mode.toString(8)}`)
  }
  for (const mode of [0o620, 0o602, 0o666]) {
    await chmod(config, mode)
    const message = `${config}: not trusted: group or others may write ${config} (mode ${mode.toString(8)})`
    t.match(await refusal(load()), { code: 'INVALID_CONFIG', message, hint: `chmod go-w ${config}` })
  }
  await chmod(config, 0o600)
  await chmod(path, 0o1777)
  const message = `${config}: not trusted: group or others may write ${path} (mode 1777)`
  t.match(await refusal(load()), { code: 'INVALID_CONFIG', message })
  await chmod(path, 0o755)

  const elsewhere = await folder(t)
  await chmod(elsewhere, 0o777)
  const link = join(elsewhere, 'link.yaml')
  await symlink(config, link)
  t.equal((await loadConfig({ config: link }, NO_FILE)).stateDir, '/a', 'what a link leads to counts')
})

t.test('files and folders of other users', { skip: !isRoot && 'needs root: gives files away' }, async (t) => {
  const path = await folder(t)
  await mkdir(join(path, 'sub'))
  const config = join(path, 'sub', 'knp.yaml')
  const load = () => loadConfig({ config }, NO_FILE)
  await writeFile(config, 'stateDir: /a', { mode: 0o600 })
  t.equal((await load()).stateDir, '/a')
  await chown(config, 1, 0)
  t.match(await refusal(load()), { code: 'INVALID_CONFIG', message: `${config} belongs to user 1` })
  await chown(config, 0, 0)
  await chown(join(path, 'sub'), 1, 0)
  t.match(await refusal(load()), { code: 'INVALID_CONFIG', message: `${join(path, 'sub')} belongs to user 1` })
})

t.test('where the running firewall answers', async (t) => {
  const config = await written(t, 'control: {socket: /run/a.sock}\nlogs: {}')
  t.equal(await findControlSocket({}, NO_FILE), '/run/knp/control.sock')
  t.equal(await findControlSocket({ config }, NO_FILE), '/run/a.sock', 'although another key is refused')
  t.equal(await findControlSocket({ config, 'control-socket': '/run/b.sock' }, NO_FILE), '/run/b.sock')
  t.match(await refusal(findControlSocket({ 'control-socket': '' }, NO_FILE)), { code: 'USAGE' })
  const broken = await written(t, 'control: {socket: a}')
  t.match(await refusal(findControlSocket({ config: broken }, NO_FILE)), { code: 'INVALID_CONFIG' })
})

t.test('the evaluators of commands that only ask', async (t) => {
  const config = await written(t, 'evaluators: [{module: a.js, after: Admin}]\nlogs: {}')
  const directory = process.cwd()
  process.chdir(tmpdir())
  t.teardown(() => process.chdir(directory))
  t.same(await findEvaluators({}), [], 'the usual file is not looked for')
  const fromFile = [{ module: join(dirname(config), 'a.js'), after: 'Admin' }]
  t.same(await findEvaluators({ config }), fromFile, 'although another key is refused')
  t.equal(process.cwd(), tmpdir(), 'the working directory stays: other paths are relative to it')
  t.same(await findEvaluators({ config, evaluator: ['b.js'] }), [{ module: join(tmpdir(), 'b.js') }])
  t.match(await refusal(findEvaluators({ evaluator: ['b.js@before:'] })), { code: 'USAGE' })
  const broken = await written(t, 'evaluators: [b.js]')
  t.match(await refusal(findEvaluators({ config: broken })), { code: 'INVALID_CONFIG', message: `${broken}:1: ` })
  t.equal(process.cwd(), tmpdir())
})
