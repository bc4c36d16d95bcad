import { join } from 'node:path'
import t from 'tap'
import { buildKnp, knp } from '../fixtures/knp.ts'

t.before(buildKnp)

t.test('help of every command: on stdout, without doing anything', async (t) => {
  const folder = t.testdir()
  const commands: readonly (readonly string[])[] = [
    [],
    ['run'],
    ['explain'],
    ['lint'],
    ['status'],
    ['dashboard'],
    ['doctor'],
    ['demo'],
    ['ruleset'],
    ['ruleset', 'print'],
    ['ruleset', 'remove'],
  ]
  for (const command of commands) {
    const { status, stdout, stderr } = await knp(folder, ...command, '--help')
    t.equal(status, 0, `knp ${command.join(' ')} --help`)
    t.match(stdout, new RegExp(`USAGE\n  \\$ ${['knp', ...command].join(' ')}`))
    t.equal(stderr, '')
  }
})

t.test('help names every command', async (t) => {
  const { stdout } = await knp(t.testdir(), '--help')
  for (const command of ['run', 'explain', 'lint', 'status', 'dashboard', 'doctor', 'demo', 'ruleset'])
    t.match(stdout, new RegExp(`^  ${command} `, 'm'))
})

t.test('the version', async (t) => {
  t.match((await knp(t.testdir(), '--version')).stdout, /^knp\/\d+\.\d+\.\d+/)
})

t.test('a command that does not exist is wrong usage', async (t) => {
  const { status, stdout, stderr } = await knp(t.testdir(), 'nonsense')
  t.equal(status, 2)
  t.equal(stdout, '')
  t.match(stderr, /nonsense/)
})

t.test('status without a firewall', async (t) => {
  const folder = t.testdir()
  const socket = join(folder, 'none.sock')
  const plain = await knp(folder, 'status', '--control-socket', 'none.sock')
  t.same(plain, {
    status: 4,
    stdout: '',
    stderr: `knp: ${socket}: no firewall runs here\n     start it with \`knp run\`, or name its socket with --control-socket\n`,
  })
  const json = await knp(folder, 'status', '--json', '--control-socket', 'none.sock')
  t.match(json, { status: 4, stderr: '' })
  t.strictSame(JSON.parse(json.stdout), {
    schema: 'knp.error/v1',
    code: 'UNREACHABLE',
    message: `${socket}: no firewall runs here`,
    hint: 'start it with `knp run`, or name its socket with --control-socket',
  })
})

t.test('the ruleset as text', async (t) => {
  const folder = t.testdir()
  const print = (...flags: readonly string[]) => knp(folder, 'ruleset', 'print', ...flags)
  const [first, again, json] = [await print(), await print(), await print('--json')]
  t.match(first, { status: 0, stderr: '' })
  t.equal(first.stdout, again.stdout, 'the same every time')
  t.match(first.stdout, /^table inet knp \{\n[\s\S]*\n# divert_output: .* queue flags bypass to 100\n$/)
  t.strictSame(JSON.parse(json.stdout), { schema: 'knp.ruleset/v1', text: first.stdout })

  const changed = await print('--on-failure', 'open', '--queue-first', '7', '--marks-packet', '0xfe00')
  t.equal(changed.status, 0)
  t.match(changed.stdout, 'meta mark & 0x00008000 == 0x00008000 queue flags bypass to 7\n')
  t.notMatch(changed.stdout, '0x7f000000')
  t.notMatch(first.stdout, 'reject with')
  t.match((await print('--deny-with', 'reject')).stdout, '    meta l4proto tcp reject with tcp reset\n')
  t.match((await print('--queue-count', '4')).stdout, / queue flags bypass to 100-103\n$/)

  const wrong: readonly [flags: readonly string[], stderr: RegExp][] = [
    [['--marks-packet', '0xf'], /^knp: --marks-packet: 0x0000000f is not enough: 7 adjoining bits are needed\n/],
    [['--marks-conntrack', 'x'], /^knp: --marks-conntrack: "x" is no mask such as 0x7f000000\n/],
    [['--on-failure', 'maybe'], /^knp: Expected --on-failure=maybe to be one of: open, closed\n/],
    [['--deny-with', 'maybe'], /^knp: Expected --deny-with=maybe to be one of: drop, reject\n/],
    [['--queue-first', '70000'], /^knp: --queue-first: 70000 is outside 0-65535\n/],
  ]
  for (const [flags, stderr] of wrong) {
    const run = await print(...flags)
    t.match(run, { status: 2, stdout: '' }, flags.join(' '))
    t.match(run.stderr, stderr)
  }
})

t.test('run refuses what it cannot understand before it touches anything', async (t) => {
  const folder = t.testdir({ 'a.yaml': 'kind: x\n' })
  const { status, stdout } = await knp(folder, 'run', '--source', 'a.yaml', '--marks-packet', '1')
  t.same({ status, stdout }, { status: 2, stdout: '' })
})
