import { chmod, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { Compiler } from '../src/engine/index.ts'
import { loadPipeline } from '../src/evaluators.ts'

/** A folder that only its owner may write, gone after the test; answers its real path. */
async function folder(test: Test, files: Readonly<Record<string, string>>): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'knp-evaluators-')))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), text, { mode: 0o600 })
  }
  return path
}

/** A module whose evaluator has this name, and says `next` of everything. @param more members that replace others */
function evaluator(name: string, more = ''): string {
  return `
import { identityTable, SELECTS_BOTH } from 'knp/engine'
const next = () => 'next'
export default {
  name: '${name}',
  compile: (snapshot, identities) => ({ selected: identityTable(identities, () => SELECTS_BOTH) }),
  evaluate: () => ({ evaluateEgress: next, evaluateIngress: next }),
  ${more}
}
`
}

t.test('modules find the engine wherever they lie, and stand in their places', async (t) => {
  const path = await folder(t, {
    'a.js': evaluator('a'),
    'b.mjs': evaluator('b'),
    'c.js': evaluator('c').replace('export default', 'export const kind ='),
    'd.js': "import list from './sub/list.js'\nexport { default } from './sub/d.js'\nif (list.length !== 1) throw list",
    'sub/d.js': evaluator('d'),
    'sub/list.js': "export default ['x']",
  })
  const modules = [
    { module: join(path, 'a.js') },
    { module: join(path, 'b.mjs'), after: 'Baseline' },
    { module: join(path, 'c.js'), before: 'Admin' },
    { module: join(path, 'd.js') },
  ] as const
  const kinds = await loadPipeline(modules)
  t.same(
    kinds.map(({ name }) => name),
    ['c', 'Admin', 'a', 'd', 'NetworkPolicy', 'Baseline', 'b'],
  )
  t.same(
    (await loadPipeline([])).map(({ name }) => name),
    ['Admin', 'NetworkPolicy', 'Baseline'],
  )
  new Compiler(kinds).update({ upserts: [], deletes: [] })
})

t.test('modules that are no evaluators', async (t) => {
  const path = await folder(t, {
    'good.js': evaluator('good'),
    'twin.js': evaluator('good'),
    'admin.js': evaluator('Admin'),
    'default.js': evaluator('Default'),
    'nothing.js': 'export const other = 1',
    'number.js': 'export default 3',
    'nameless.js': evaluator(''),
    'half.js': evaluator('half', 'evaluate: undefined'),
    'syntax.js': 'export default {',
    'throws.js': "throw new Error('no list')",
    'import.js': "import './gone.js'",
    'package.js': "import 'no-such-package'",
  })
  const cases: readonly [modules: readonly string[], message: string][] = [
    [['gone.js'], 'gone.js: no such file'],
    [['.'], ': not a file'],
    [['good.js', 'twin.js'], `twin.js: the name "good" is taken by ${path}/good.js`],
    [['good.js', 'good.js'], `good.js: the name "good" is taken by ${path}/good.js`],
    [['admin.js'], 'admin.js: the name "Admin" is taken by knp itself'],
    [['default.js'], 'default.js: the name "Default" is taken by knp itself'],
    [['nothing.js'], 'nothing.js: exports neither `default` nor `kind`'],
    [['number.js'], 'number.js: exports 3, no evaluator'],
    [['nameless.js'], 'nameless.js: its evaluator has no name'],
    [['half.js'], 'half.js: evaluator half: evaluate is no function'],
    [['syntax.js'], 'syntax.js: cannot be loaded: SyntaxError: '],
    [['throws.js'], 'throws.js: cannot be loaded: Error: no list'],
    [['import.js'], 'import.js: cannot be loaded: Error [ERR_MODULE_NOT_FOUND]: Cannot find module'],
    [
      ['package.js'],
      "package.js: cannot be loaded: Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'no-such-package'",
    ],
  ]
  for (const [modules, message] of cases) {
    const paths = modules.map((name) => ({ module: join(path, name) }))
    await t.rejects(loadPipeline(paths), { code: 'INVALID_CONFIG', message, hint: /\w/ }, message)
  }
})

t.test('what its code gets wrong later is put down to the module', async (t) => {
  const path = await folder(t, {
    'fails.js': evaluator('fails', "compile() { throw new Error('no list') },"),
    'tables.js': evaluator('tables', 'compile: () => ({ tables: {} }),'),
    'silent.js': evaluator('silent', 'evaluate: () => ({}),'),
  })
  const cases = [
    ['fails.js', 'evaluator fails: compile failed: Error: no list'],
    ['tables.js', 'evaluator tables: compile answered no `selected` table'],
    ['silent.js', 'evaluator silent: evaluate answered no evaluateEgress and evaluateIngress'],
  ] as const
  for (const [name, message] of cases) {
    const compiler = new Compiler(await loadPipeline([{ module: join(path, name) }]))
    t.throws(() => compiler.update({ upserts: [], deletes: [] }), {
      code: 'INVALID_CONFIG',
      message: `${join(path, name)}: ${message}`,
    })
  }
})

t.test('modules that others could have written, and what they import', async (t) => {
  const path = await folder(t, {
    'a/main.js': evaluator('main'),
    'a/outer.js': "export { default } from '../b/inner.js'",
    'b/inner.js': evaluator('inner'),
    'c/second.js': evaluator('second'),
  })
  const refused = (module: string, place: string) =>
    t.rejects(
      loadPipeline([{ module }]),
      { code: 'INVALID_CONFIG', message: `not trusted: group or others may write ${place} (mode `, hint: /chmod go-w/ },
      `${module}: ${place}`,
    )
  const main = join(path, 'a/main.js')
  await chmod(main, 0o620)
  await refused(main, main)
  await chmod(main, 0o600)
  await chmod(join(path, 'b'), 0o777)
  await refused(join(path, 'a/outer.js'), join(path, 'b'))
  await chmod(join(path, 'c'), 0o1777)
  await refused(join(path, 'c/second.js'), join(path, 'c'))
  await symlink(main, join(path, 'c/link.js'))
  t.equal((await loadPipeline([{ module: join(path, 'c/link.js') }])).length, 4, 'what a link leads to counts')
})
