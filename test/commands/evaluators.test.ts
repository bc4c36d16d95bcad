import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { buildKnp, knp } from '../fixtures/knp.ts'
import { podLine, policyLine } from '../fixtures/world.ts'

const world =
  podLine('shop/web', '10.0.0.1', 'app: web') +
  podLine('shop/db', '10.0.0.2', 'app: db') +
  policyLine('shop/db', 'podSelector: {matchLabels: {app: db}}, ingress: [{}]')
const check = (expect: string, tier = 'NetworkPolicy') =>
  `--- {apiVersion: knp.dev/v1alpha1, kind: ConnectivityTest, metadata: {name: t}, spec: {checks: [{from: shop/web, to: shop/db, port: 80, expect: ${expect}, decidedBy: {tier: ${tier}}}]}}\n`

/** An evaluator that says this of everything that goes to `app: db`. */
const ofDb = (name: string, saying: string) => `
import { identityTable, SELECTS_INGRESS } from 'knp/engine'
export default {
  name: '${name}',
  compile: (_, identities) => ({
    selected: identityTable(identities, ({ labels }) => (labels.get('app') === 'db' ? SELECTS_INGRESS : 0)),
  }),
  evaluate: () => ({ evaluateEgress: () => 'next', evaluateIngress: () => { ${saying} } }),
}
`

async function folder(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'knp-evaluators-'))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  const files = {
    'world/world.yaml': world,
    'denied/world.yaml': world + check('deny', 'guard'),
    'allowed/world.yaml': world + check('allow'),
    'conf/deny.js': ofDb('guard', "return 'deny'"),
    'conf/accept.js': ofDb('door', "return 'accept'"),
    'conf/throw.js': ofDb('faulty', "throw new Error('no list')"),
    'conf/compile.js': ofDb('broken', '').replace('compile: ', 'compile: () => missing, unused: '),
    'conf/none.js': 'export const x = 1\n',
    'conf/knp.yaml': 'evaluators: [{module: deny.js}]\nsources: [{files: {path: /nonexistent}}]\n',
    'conf/none.yaml': 'evaluators: [{module: none.js}]\nsources: [{files: {path: /nonexistent}}]\n',
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true, mode: 0o700 })
    await writeFile(join(path, name), text, { mode: 0o600 })
  }
  return path
}

t.before(buildKnp)

t.test('explain', async (t) => {
  const path = await folder(t)
  const explain = (...args: string[]) => knp(path, 'explain', 'shop/web', 'shop/db:80', '--source', 'world', ...args)
  t.match(await explain(), { status: 0 }, 'the policies alone allow it')
  t.match(await explain('--evaluator', 'conf/deny.js'), { status: 1, stdout: '· guard deny\n' })
  t.match(await explain('--config', 'conf/knp.yaml'), { status: 1, stdout: '· guard deny\n' })
  t.match(
    await explain('--evaluator', 'conf/deny.js@after:NetworkPolicy'),
    { status: 0 },
    'NetworkPolicy has accepted it',
  )
  t.match(
    await explain('--evaluator', 'conf/accept.js', '--evaluator', 'conf/deny.js'),
    { status: 0, stdout: 'door accept (door said accept)' },
    'at one place the first is asked first',
  )
  t.match(await explain('--evaluator', 'conf/throw.js'), {
    status: 1,
    stdout: 'faulty failed, and what cannot be judged is denied: Error: no list',
  })
})

t.test('test', async (t) => {
  const path = await folder(t)
  t.match(await knp(path, 'test', 'allowed'), { status: 0 })
  t.match(await knp(path, 'test', 'allowed', '--evaluator', 'conf/deny.js'), { status: 1 })
  t.match(await knp(path, 'test', 'denied', '--config', 'conf/knp.yaml'), { status: 0 })
  t.match(await knp(path, 'test', 'denied'), {
    status: 2,
    stdout: 'decidedBy.tier: "guard" is none of Admin, NetworkPolicy, Baseline, Default, Exempt',
  })
})

t.test('an evaluator that is none ends the command', async (t) => {
  const path = await folder(t)
  const commands = [
    ['explain', 'shop/web', 'shop/db:80', '--source', 'world', '--evaluator', 'conf/none.js'],
    ['test', 'denied', '--config', 'conf/none.yaml'],
    ['run', '--source', 'world', '--evaluator', 'conf/none.js'],
    ['run', '--config', 'conf/none.yaml'],
  ]
  for (const command of commands) {
    const { status, stdout } = await knp(path, ...command, '--json')
    t.equal(status, 2, command.join(' '))
    const message = `${path}/conf/none.js: exports neither \`default\` nor \`kind\``
    t.match(JSON.parse(stdout), { code: 'INVALID_CONFIG', message, hint: /\w/ })
  }
  const broken = await knp(
    path,
    'explain',
    'shop/web',
    'shop/db:80',
    '--source',
    'world',
    '--evaluator',
    'conf/compile.js',
  )
  t.equal(broken.status, 2)
  t.match(broken.stderr, 'conf/compile.js: evaluator broken: compile failed: ReferenceError: missing is not defined')
})
