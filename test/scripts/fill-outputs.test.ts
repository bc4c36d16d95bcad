import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { buildKnp } from '../fixtures/knp.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'knp-docs-'))
t.after(() => rmSync(folder, { recursive: true }))
buildKnp()

function fillOutputs(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/fill-outputs.ts', ...args], {
    cwd: root,
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

function document(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

const asked = 'knp explain 198.51.100.7 shop/web:8080 --source demo/shop'
const answer =
  'ALLOWED  198.51.100.7 -> shop/web:8080/tcp\n  ingress  shop/web  Admin next · NetworkPolicy accept (shop/web rule 0, demo/shop/policies.yaml:2)'
const unknown = 'knp explain shop/nobody shop/web:8080 --source demo/shop'

t.test('the outputs in README.md and docs/explaining.md are what the commands print', async (t) => {
  const { status, stderr } = fillOutputs('--check', 'README.md', 'docs/explaining.md')
  t.equal(status, 0, stderr)
  t.equal(stderr, '')
})

t.test('commands are run, and old output goes', async (t) => {
  const path = document(
    'page.md',
    `Before\n\n<!-- output -->\n\`\`\`console\n$ ${asked}\nan old answer\n\n$ echo $?\n$ ${unknown}\n$ echo $?\n\`\`\`\n\n` +
      `\`\`\`console\n$ ${asked}\nnot marked\n\`\`\`\nAfter\n`,
  )
  t.match(fillOutputs('--check', path), {
    status: 1,
    stderr: `${path}:6: out of date\n  written  an old answer\n  printed  ALLOWED  198.51.100.7 -> shop/web:8080/tcp\n`,
  })
  t.match(readFileSync(path, 'utf8'), /an old answer/, 'a check writes nothing')
  t.same(fillOutputs(path), { status: 0, stdout: `${path}: written\n`, stderr: '' })
  const filled = readFileSync(path, 'utf8')
  t.ok(
    filled.startsWith(
      `Before\n\n<!-- output -->\n\`\`\`console\n$ ${asked}\n${answer}\n$ echo $?\n0\n\n$ ${unknown}\n`,
    ),
  )
  t.match(filled, /knp: no source knows a workload "shop\/nobody".*\n(?: .*\n)*\$ echo \$\?\n3\n```\n/, 'errors too')
  t.ok(filled.endsWith(`\`\`\`console\n$ ${asked}\nnot marked\n\`\`\`\nAfter\n`), 'what is not marked stays')
  t.same(fillOutputs('--check', path), { status: 0, stdout: '', stderr: '' })
  t.same(fillOutputs(path), { status: 0, stdout: '', stderr: '' }, 'nothing is left to write')
})

t.test('what cannot be filled', async (t) => {
  const cases: Readonly<Record<string, readonly [text: string, problem: RegExp]>> = {
    'no block': ['<!-- output -->\ntext\n', /no\.md:1: `<!-- output -->` stands before no `console` block/],
    'no end': ['<!-- output -->\n```console\n$ knp --help\n', /:1: the block has no end/],
    'no command': ['<!-- output -->\n```console\nknp --help\n```\n', /:1: the block has no command/],
    'another command': ['<!-- output -->\n```console\n$ rm -r docs\n```\n', /`rm -r docs` is no knp command/],
    'no mark': ['```console\n$ knp --help\n```\n', /no line is `<!-- output -->`/],
    'a line like a command': [
      "<!-- output -->\n```console\n$ knp -v; echo '$ x'\n```\n",
      /prints what would end its output: \$ x/,
    ],
    'a command that is not there': ['<!-- output -->\n```console\n$ knp -v; nothing-of-that-name\n```\n', /status 127/],
  }
  for (const [name, [text, problem]] of Object.entries(cases)) {
    const path = document('no.md', text)
    const { status, stderr } = fillOutputs(path)
    t.equal(status, 2, name)
    t.match(stderr, problem, name)
    t.equal(readFileSync(path, 'utf8'), text, `${name}: left as it was`)
  }
  t.match(fillOutputs(), { status: 2, stderr: /usage/ })
  t.match(fillOutputs('--unknown', 'docs/explaining.md'), { status: 2, stderr: /usage/ })
})
