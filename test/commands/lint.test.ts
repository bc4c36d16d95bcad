import t from 'tap'
import { buildKnp, knp } from '../fixtures/knp.ts'
import { shop } from '../fixtures/shop.ts'

const clean = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: sql}]
`
const misspelt = clean.replace('app: db', 'app: bd')
const deadPeer = clean.replace('app: web', 'app: wbe')
const folder = t.testdir({
  'world.yaml': shop,
  clean: { 'db.yaml': clean, 'service.yaml': 'apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\n' },
  misspelt: { 'db.yaml': misspelt },
  peer: { 'db.yaml': deadPeer },
  broken: { 'db.yaml': clean.replace('port: sql', 'port: 70000') },
})
const world = ['--source', 'world.yaml']
const warning =
  'misspelt/db.yaml:2: warning: NetworkPolicy shop/db-only: selects nothing: no workload with app=bd in namespace shop is known; correct the selector, or add the manifests of what it means\n'
const note =
  'peer/db.yaml:2: note: NetworkPolicy shop/db-only rule 0 (ingress): a peer selects nothing: no workload with app=wbe in namespace shop is known; correct the selector, or add the manifests of what it means\n'
const leftOut = 'note: clean/service.yaml:1: Service shop/db: not a kind that policies refer to; left out\n'

t.before(buildKnp)

const cases: readonly [
  rule: string,
  args: readonly string[],
  status: number,
  stdout: string,
  stderr: string | RegExp,
][] = [
  ['clean', ['clean', ...world], 0, 'no findings in 1 policy\n', leftOut],
  ['quiet: clean', ['-q', 'clean', ...world], 0, '', ''],
  ['a warning', ['misspelt', ...world], 1, `${warning}1 warning in 1 policy\n`, ''],
  ['all paths are sources', ['world.yaml', '--source', 'misspelt'], 1, `${warning}1 warning in 1 policy\n`, ''],
  ['one path given twice', ['misspelt', '--source', 'misspelt', ...world], 1, `${warning}1 warning in 1 policy\n`, ''],
  ['quiet: findings', ['misspelt', ...world, '-q'], 1, '', ''],
  ['a note is a finding', ['peer', ...world], 1, `${note}1 note in 1 policy\n`, ''],
  ['unless warnings are asked for', ['peer', ...world, '--severity', 'warning'], 0, 'no findings in 1 policy\n', ''],
  ['warnings alone', ['misspelt', ...world, '--severity', 'warning'], 1, `${warning}1 warning in 1 policy\n`, ''],
  [
    'policies alone',
    ['misspelt'],
    0,
    'no findings in 1 policy\n',
    'note: the sources hold no workloads, so nothing is said about whom the policies select\n',
  ],
  ['policies alone, quiet', ['misspelt', '-q'], 0, '', ''],
  ['a broken policy', ['broken', ...world], 2, '', /^knp: broken\/db\.yaml:9: NetworkPolicy shop\/db-only: /],
  ['a missing path', ['nowhere'], 2, '', /^knp: nowhere: no such file or folder\n/],
  [
    'no policies',
    ['world.yaml'],
    2,
    '',
    'knp: world.yaml: no policies found\n     name the files or folders that hold them\n',
  ],
  ['nothing', [], 2, '', 'knp: nothing to lint\n     name files or folders: knp lint policies/\n'],
  [
    'an unknown severity',
    ['clean', '--severity', 'error'],
    2,
    '',
    /^knp: Expected --severity=error to be one of: warning, note\n/,
  ],
]

t.test('status, result and the rest', async (t) => {
  for (const [rule, args, status, stdout, stderr] of cases) {
    const run = await knp(folder, 'lint', ...args)
    t.equal(run.status, status, `${rule}: exit status`)
    t.equal(run.stdout, stdout, `${rule}: stdout`)
    if (typeof stderr === 'string') t.equal(run.stderr, stderr, `${rule}: stderr`)
    else t.match(run.stderr, stderr, `${rule}: stderr`)
  }
})

t.test('JSON', async (t) => {
  const run = await knp(folder, 'lint', '--json', 'misspelt', ...world)
  t.match(run, { status: 1, stderr: '' })
  t.equal(run.stdout.trimEnd().split('\n').length, 1, 'one line')
  t.strictSame(JSON.parse(run.stdout), {
    schema: 'knp.lint/v1',
    findings: [
      {
        check: 'selects-nothing',
        severity: 'warning',
        object: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db-only', file: 'misspelt/db.yaml', line: 2 },
        message: 'selects nothing: no workload with app=bd in namespace shop is known',
        hint: 'correct the selector, or add the manifests of what it means',
      },
    ],
    counts: { policies: 1, warnings: 1, notes: 0 },
  })
  const none = await knp(folder, 'lint', '--json', 'clean', ...world)
  t.match(none, { status: 0 })
  t.strictSame(JSON.parse(none.stdout), {
    schema: 'knp.lint/v1',
    findings: [],
    counts: { policies: 1, warnings: 0, notes: 0 },
  })
  const error = await knp(folder, 'lint', '--json', 'world.yaml')
  t.match(error, { status: 2, stderr: '' })
  t.match(JSON.parse(error.stdout), { schema: 'knp.error/v1', code: 'NO_CHECKS', hint: String })
})
