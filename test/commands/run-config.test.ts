import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { knp } from '../kernel/product.ts'

interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function run(directory: string, argv: readonly string[]): Promise<Result> {
  const [program, ...args] = argv
  return new Promise((resolve, reject) => {
    execFile(program!, args, { cwd: directory }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error)
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr })
    })
  })
}

async function folder(test: Test, files: Readonly<Record<string, string>> = {}): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'knp-run-'))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), text, { mode: 0o600 })
  }
  return path
}

const settings = `
sources: [{files: {path: /srv/policies}}]
nodeName: web-1
queue: {first: 200, count: 4, maxLength: 300}
remember: {allowed: 90s, denied: 1h}
failsafe: {inbound: [{protocol: tcp, port: 2222}], outbound: []}
`

t.test('the flag wins, the file holds, the rest is default', async (t) => {
  const path = await folder(t, { 'knp.yaml': settings })
  const flags = ['--queue-first', '7', '--remember-denied', '0s', '--failsafe-outbound', 'udp/53@10.0.0.53/32']
  const args = ['run', '--config', 'knp.yaml', ...flags]
  const { code, stdout } = await run(path, knp([...args, '--print-config', '--json']))
  t.equal(code, 0)
  t.same(JSON.parse(stdout), {
    schema: 'knp.config/v1',
    sources: [{ files: { path: '/srv/policies' } }],
    nodeName: 'web-1',
    mode: 'enforce',
    onFailure: 'closed',
    denyWith: 'drop',
    unknownLocal: 'deny',
    hold: '500ms',
    podCIDRs: [],
    queue: { first: 7, count: 4, maxLength: 300 },
    remember: { allowed: '90s', denied: '0s', size: 65_536, log: true },
    marks: { packet: 0x7f000000, conntrack: 0xf0000000 },
    metrics: { address: '127.0.0.1:9080' },
    control: { socket: '/run/knp/control.sock' },
    stateDir: '/var/lib/knp',
    failsafe: {
      inbound: [{ protocol: 'tcp', port: 2222 }],
      outbound: [{ protocol: 'udp', port: 53, to: ['10.0.0.53/32'] }],
      apiServer: false,
    },
    log: { level: 'info', flows: 'denied', format: 'auto' },
    evaluators: [],
  })
})

t.test('what is printed is a configuration', async (t) => {
  const path = await folder(t, { 'knp.yaml': settings })
  const first = await run(path, knp(['run', '--config', 'knp.yaml', '--source', 'a', '--print-config']))
  t.match(first, { code: 0, stderr: '' })
  t.match(first.stdout, `path: ${join(path, 'a')}\n`, 'paths of flags are relative to the working directory')
  t.notMatch(first.stdout, '/srv/policies', "the flag's sources take the place of the file's")
  await writeFile(join(path, 'printed.yaml'), first.stdout, { mode: 0o600 })
  t.same(await run(path, knp(['run', '--config', 'printed.yaml', '--print-config'])), first)
})

t.test('mistakes end the command before anything is done', async (t) => {
  const path = await folder(t, {
    'knp.yaml': 'queue:\n  first: -1\nlogs: {}\n',
    'empty.yaml': '',
    'group.yaml': `${settings}control: {group: no-such-group}\n`,
    'socket.yaml': 'control: {socket: /nonexistent/knp.sock}\nlogs: {}\n',
  })
  const cases: readonly [rule: string, args: readonly string[], code: number, error: string, message: string][] = [
    [
      'every line is named',
      ['run', '--config', 'knp.yaml'],
      2,
      'INVALID_CONFIG',
      `${path}/knp.yaml:2: queue.first: -1 is outside 0-65535\n${path}/knp.yaml:3: logs: unknown key`,
    ],
    ['no source', ['run', '--config', 'empty.yaml'], 2, 'USAGE', 'no source of policies is configured'],
    ['no source to print', ['run', '--config', 'empty.yaml', '--print-config'], 2, 'USAGE', 'no source of policies'],
    ['no file', ['run', '--config', 'none.yaml'], 2, 'INVALID_CONFIG', `${path}/none.yaml: no such file`],
    [
      'a flag',
      ['run', '--source', 'a', '--queue-first', '65536'],
      2,
      'USAGE',
      '--queue-first: 65536 is outside 0-65535',
    ],
    ['a group', ['run', '--config', 'group.yaml'], 2, 'INVALID_CONFIG', 'control.group: /etc/group has no group'],
    ['the ruleset is read from the same file', ['ruleset', 'print', '--config', 'knp.yaml'], 2, 'INVALID_CONFIG', path],
    [
      'status asks there',
      ['status', '--config', 'socket.yaml'],
      4,
      'UNREACHABLE',
      '/nonexistent/knp.sock: no firewall',
    ],
  ]
  for (const [rule, args, code, error, message] of cases) {
    const { stdout, ...result } = await run(path, knp([...args, '--json']))
    t.equal(result.code, code, rule)
    const answer = JSON.parse(stdout)
    t.match(answer, { schema: 'knp.error/v1', code: error, hint: /\w/ }, rule)
    t.ok(answer.message.startsWith(message), rule, { message: answer.message })
  }
})

t.test('help shows the defaults', async (t) => {
  const { stdout } = await run('/', knp(['run', '--help']))
  for (const text of [
    'closed',
    '100',
    '8192',
    '30s',
    '5s',
    '65536',
    '0x7f000000',
    '0xf0000000',
    '127.0.0.1:9080',
    '/run/knp/control.sock',
    '/var/lib/knp',
  ])
    t.match(stdout, `[default: ${text}]`)
})

/** A working directory full of everything that configuration loaders run; what runs leaves a file in `marker`. */
async function trap(test: Test, marker: string): Promise<string> {
  const esm = (name: string) =>
    `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(join(marker, name))}, '')\nexport default {}\n`
  const cjs = (name: string) =>
    `require('node:fs').writeFileSync(${JSON.stringify(join(marker, name))}, '')\nmodule.exports = {}\n`
  const rest = { queue: { first: 666 }, $import: './sprung.mjs' }
  const files: Record<string, string> = {
    'package.json': JSON.stringify({
      name: 'trap',
      type: 'commonjs',
      knp: rest,
      cosmiconfig: rest,
      oclif: { hooks: { init: './sprung.cjs' } },
    }),
    'package.yaml': JSON.stringify({ knp: rest, cosmiconfig: rest }),
    '.knprc': JSON.stringify(rest),
    'knp.yaml': JSON.stringify(rest),
    'knp.json': JSON.stringify(rest),
    '.config/config.json': JSON.stringify({ cosmiconfig: rest }),
    'sprung.mjs': esm('sprung.mjs'),
    'sprung.cjs': cjs('sprung.cjs'),
    'node_modules/cosmiconfig/index.js': cjs('node_modules'),
    'node_modules/yaml/index.js': cjs('node_modules-yaml'),
  }
  for (const name of ['.config/config', '.config/knprc', 'knp.config', '.knprc', 'oclif.config', '.oclifrc']) {
    for (const extension of ['js', 'cjs']) files[`${name}.${extension}`] = cjs(`${name.replace('/', '-')}.${extension}`)
    for (const extension of ['mjs', 'ts', 'mts'])
      files[`${name}.${extension}`] = esm(`${name.replace('/', '-')}.${extension}`)
  }
  return folder(test, files)
}

const cosmiconfig = fileURLToPath(import.meta.resolve('cosmiconfig'))
/** A program that does with cosmiconfig what a careless one would. */
const careless = (work: string) => [
  ...[process.execPath, '--input-type=commonjs', '--eval'],
  `const { cosmiconfig } = require(${JSON.stringify(cosmiconfig)}); ${work}`,
]

t.test('a booby-trapped working directory runs nothing and changes nothing', async (t) => {
  const marker = await folder(t)
  const trusted = await folder(t, { 'knp.yaml': settings })
  const clean = await folder(t)
  // Only the working directory's own script: the trap's package.json alone stops cosmiconfig with an error.
  const bait = await folder(t, {
    '.config/config.js': `require('node:fs').writeFileSync(${JSON.stringify(join(marker, 'bait'))}, '')`,
  })
  const commands = [
    ['run', '--config', join(trusted, 'knp.yaml'), '--print-config'],
    ['run', '--source', '/srv/policies', '--print-config'],
    ['ruleset', 'print', '--config', join(trusted, 'knp.yaml')],
    ['status', '--config', join(trusted, 'knp.yaml'), '--control-socket', '/nonexistent/knp.sock'],
    ['status', '--config', join(trusted, 'knp.yaml')],
  ]
  for (const directory of [await trap(t, marker), bait]) {
    for (const args of commands) {
      const found = await run(directory, knp(args))
      t.same(found, await run(clean, knp(args)), `knp ${args.join(' ')}: as in an empty folder`)
      t.same(await readdir(marker), [], 'nothing was run')
    }
  }
  await run(bait, careless("cosmiconfig('knp')"))
  t.same(await readdir(marker), ['bait'], 'without our care the bait is taken')
})

t.test('a booby-trapped configuration runs nothing', async (t) => {
  const marker = await folder(t)
  const script = `require('node:fs').writeFileSync(${JSON.stringify(join(marker, 'sprung'))}, '')`
  const traps: readonly [name: string, text: string][] = [
    ['import.yaml', '$import: ./x.js\n'],
    ['list.yaml', '$import: [./x.js]\n'],
    ['deep.yaml', 'queue: {$import: ./x.js}\n'],
    ['disguise.yaml', '"$\\x69mport": ./x.js\n'],
    ['import.json', '{"$import": "./x.js"}'],
    ['tag.yaml', `nodeName: !!js/function >\n  ${script}\n`],
    ['package.yaml', 'knp: {$import: ./x.js}\n$import: ./x.js\n'],
    ['x.js', script],
    ['x.cjs', script],
    ['x.ts', script],
    ['x', script],
  ]
  const path = await folder(t, Object.fromEntries(traps))
  await symlink('x.js', join(path, 'link.yaml'))
  for (const name of [...traps.map(([name]) => name), 'link.yaml']) {
    const { code, stderr } = await run(path, knp(['run', '--config', name, '--print-config']))
    t.equal(code, 2, name)
    t.match(stderr, `knp: ${join(path, name)}:`, name)
    t.same(await readdir(marker), [], `${name}: nothing was run`)
  }
  await run('/', careless(`cosmiconfig('knp').load(${JSON.stringify(join(path, 'import.yaml'))})`))
  t.same(await readdir(marker), ['sprung'], 'without our care it is')
})
