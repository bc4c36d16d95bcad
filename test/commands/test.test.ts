import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { podLine, policyLine } from '../fixtures/world.ts'

const program = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

const world =
  podLine('shop/web', '10.0.0.1', 'app: web') +
  podLine('shop/db', '10.0.0.2', 'app: db') +
  policyLine('shop/db', 'podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]')

function testLine(name: string, ...checks: string[]): string {
  return `--- {apiVersion: knp.dev/v1alpha1, kind: ConnectivityTest, metadata: {name: ${name}}, spec: {checks: [${checks.map((each) => `{${each}}`).join()}]}}\n`
}

const passing = testLine('passing', 'from: shop/web, to: shop/db, port: 5432, expect: allow')
const failing = testLine('failing', 'from: shop/web, to: shop/db, port: 80, expect: allow')
const unknown = testLine('unknown', 'from: shop/nobody, to: shop/db, port: 80, expect: allow')
const broken = '--- {apiVersion: v1, kind: Pod, metadata: {name: x}, specs: {}}\n'

/** A folder with these files, and `knp test` in it. */
async function folderOf(t: Test, files: Readonly<Record<string, string>>) {
  const path = await mkdtemp(join(tmpdir(), 'knp-test-'))
  t.after(() => rm(path, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), text)
  }
  const knp = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, [program, 'test', ...args], { cwd: path }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
      })
    })
  return { path, knp }
}

t.test('a long answer comes whole through a pipe, whatever the exit status', async (t) => {
  const many = (check: string) => world + testLine('many', ...Array.from({ length: 2000 }, () => check))
  const { knp } = await folderOf(t, {
    'passing.yaml': many('from: shop/web, to: shop/db, port: 5432, expect: allow'),
    'failing.yaml': many('from: shop/web, to: shop/db, port: 80, expect: allow'),
  })
  for (const [file, code, counts] of [
    ['passing.yaml', 0, { passed: 2000, failed: 0 }],
    ['failing.yaml', 1, { passed: 0, failed: 2000 }],
  ] as const) {
    const answer = await knp(file, '--json')
    t.equal(answer.code, code)
    t.ok(answer.stdout.length > 300_000, `${answer.stdout.length} characters, more than a pipe holds`)
    t.match(JSON.parse(answer.stdout), counts)
  }
})

t.test('worlds', async (t) => {
  const { path, knp } = await folderOf(t, {
    'a/world.yaml': world,
    'a/tests.yml': passing,
    'a/inner/all.json': '{"apiVersion": "v1", "kind": "List", "items": []}',
    'b.yaml': world + passing,
    'b/none.txt': broken,
    '.hidden/x.yaml': broken,
    'only-tests/t.yaml': passing,
  })
  t.match(
    await knp('a'),
    { code: 0, stdout: '1 of 1 checks passed\n', stderr: '' },
    'the files of a folder are one world',
  )
  t.match(await knp('b.yaml'), { code: 0, stdout: '1 of 1 checks passed\n' }, 'a file is one')
  t.match(await knp('a/tests.yml'), { code: 3 }, 'and sees nothing of its neighbours')
  t.match(
    await knp('.'),
    { code: 3, stdout: /^2 of 3 checks passed, 1 undecidable$/m },
    'a folder is all that are in it',
  )
  t.match(await knp('.', 'a', './a'), { stdout: /^2 of 3 /m }, 'each of them once')
  t.match(
    await knp('only-tests', '--source', 'b.yaml'),
    { code: 0, stdout: '1 of 1 checks passed\n' },
    '--source is part of each world, and its tests are not',
  )
  t.match(await knp('a', '--source', 'a'), { code: 0 }, 'also where it is the world itself')
  await symlink(path, join(path, 'a', 'again'))
  t.match(await knp('a'), { code: 0, stdout: '1 of 1 checks passed\n' }, 'links to folders are not followed')
})

t.test('a broken world hides no other, and the worst counts', async (t) => {
  const { knp } = await folderOf(t, {
    'passing/w.yaml': world + passing,
    'failing/w.yaml': world + failing,
    'unknown/w.yaml': world + unknown,
    'broken/w.yaml': world + broken + failing,
    'invalid/w.yaml': world + testLine('invalid', 'from: shop/web, to: shop/db, expect: allow'),
    'twice/w.yaml': passing + passing,
  })
  t.match(await knp('passing', 'failing'), { code: 1, stdout: /^1 of 2 checks passed, 1 failed$/m })
  t.match(await knp('failing', 'unknown', 'passing'), { code: 3, stdout: /no source knows a workload "shop\/nobody"/ })
  const all = await knp('.')
  t.equal(all.code, 2)
  t.match(all.stdout, /^1 of 3 checks passed, 1 failed, 1 undecidable, 3 worlds could not be read$/m)
  t.match(all.stderr, 'knp: broken/w.yaml:4: Pod x: specs: unknown field "specs"')
  t.match(all.stderr, 'knp: invalid/w.yaml:4: ConnectivityTest invalid: spec.checks[0]: port is missing')
  t.match(all.stderr, 'knp: twice/w.yaml:2: ConnectivityTest default/passing stands already at twice/w.yaml:1')

  const json = await knp('.', '--json')
  t.equal(json.code, 2)
  t.match(JSON.parse(json.stdout), { schema: 'knp.test/v1', passed: 1, failed: 2 })
  t.match(json.stderr, 'knp: unknown/w.yaml:4: no source knows a workload "shop/nobody"', 'it is named all the same')

  const quiet = await knp('failing', '-q')
  t.same(quiet, { code: 1, stdout: '', stderr: '' })
})

t.test('nothing to test', async (t) => {
  const { knp } = await folderOf(t, { 'world.yaml': world, 'broken/a.yaml': broken, 'broken/b/c.yaml': broken })
  const none = await knp('world.yaml', '--json')
  t.equal(none.code, 2)
  t.match(JSON.parse(none.stdout), {
    schema: 'knp.error/v1',
    code: 'NO_CHECKS',
    message: 'world.yaml: no checks found',
  })
  const invalid = await knp('broken', '--json')
  t.equal(invalid.code, 2)
  t.match(JSON.parse(invalid.stdout), {
    code: 'INVALID_MANIFEST',
    message: /^broken\/a\.yaml:1: .*\nbroken\/b\/c\.yaml:1: /,
  })
  t.match(await knp('missing'), { code: 2, stderr: 'knp: missing: no such file or folder' })
  t.match(await knp(), { code: 2 })
})

t.test('other kinds are left out, and a note says so', async (t) => {
  const service = '--- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}}\n'
  const { knp } = await folderOf(t, { 'w.yaml': world + service + passing })
  t.match(await knp('w.yaml'), {
    code: 0,
    stderr: 'note: w.yaml:4: Service shop/web: not a kind that policies refer to; left out\n',
  })
  t.same(await knp('w.yaml', '-q'), { code: 0, stdout: '', stderr: '' })
})

t.test('what hangs on an address that no source knows is neither allowed nor denied', async (t) => {
  const block = policyLine(
    'shop/db',
    'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]',
  )
  const nameless = '--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}}\n'
  const checks = ['allow', 'deny'].map((expect) => `from: shop/web, to: shop/db, port: 1, expect: ${expect}`)
  const { knp } = await folderOf(t, {
    'w.yaml': podLine('shop/db', '10.0.0.2', 'app: db') + nameless + block + testLine('t', ...checks),
  })
  t.match(await knp('w.yaml'), { code: 3, stdout: /a policy asks for the address of shop\/web, which no source knows/ })
  t.match(await knp('w.yaml'), { stdout: /^0 of 2 checks passed, 2 undecidable$/m })
})
