import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Plugin } from '@oclif/core'
import t from 'tap'
import {
  bashCompletion,
  type CommandEntry,
  fishCompletion,
  manualPage,
  type Program,
  zshCompletion,
} from '../../scripts/command-reference.ts'
import { buildKnp } from '../fixtures/knp.ts'

const run = promisify(execFile)

/** Two commands that have everything that can be said of one. */
const program: Program = {
  name: 'knp',
  version: '1.2.3',
  description: 'A firewall.',
  commands: [
    {
      id: 'explain',
      summary: "Why it's so",
      description: 'Decides `one` flow: a\\b.\n\n.Starts with a dot.',
      examples: ['<%= config.bin %> explain a b'],
      args: { from: { description: 'who', required: true }, to: { description: 'whom' } },
      flags: {
        mode: {
          type: 'option',
          description: "the engine's mode: one of two",
          options: ['open', 'closed'],
          default: 'open',
        },
        quiet: { type: 'boolean', char: 'q', description: 'nothing [at all]' },
        secret: { type: 'boolean', hidden: true },
        source: { type: 'option', description: 'from here', helpValue: 'PATH', multiple: true },
      },
    },
    { id: 'ruleset:print', summary: 'Prints it', args: {}, flags: {} },
    { id: 'ruleset:remove', summary: 'Removes it', args: {}, flags: { force: { type: 'boolean' } } },
  ],
}

t.test('the manual page says everything, as troff shows it', async (t) => {
  const page = manualPage(program)
  for (const text of [
    '.TH KNP 1 "" "knp 1.2.3" "User Commands"',
    'knp \\- a firewall',
    '.B knp explain\nFROM [TO] [options]',
    '.SS knp ruleset print',
    "Why it's so.",
    'Decides \\(gaone\\(ga flow: a\\eb.',
    '\\&.Starts with a dot.',
    '.I FROM\nwho',
    ".B \\-\\-mode=open|closed\nthe engine's mode: one of two [default: open]",
    '.B \\-q, \\-\\-quiet\n',
    '.B \\-\\-source=PATH...\nfrom here',
    'knp explain a b',
    '.B 70\na defect of the program',
  ])
    t.ok(page.includes(text), text)
  t.notOk(page.includes('secret'))
})

t.test('bash completes commands, flags and their values', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'knp-completion-'))
  t.after(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'knp.bash'), bashCompletion(program))
  const complete = async (...words: readonly string[]) => {
    const script = `compopt() { :; }; . '${join(folder, 'knp.bash')}'; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _knp; echo "\${COMPREPLY[@]}"`
    const { stdout } = await run('bash', ['-c', script, 'bash', 'knp', ...words])
    return stdout.trim().split(' ').filter(Boolean)
  }
  t.same(await complete(''), ['explain', 'ruleset', 'help'])
  t.same(await complete('ex'), ['explain'])
  t.same(await complete('ruleset', ''), ['print', 'remove'])
  t.same(await complete('ruleset', 'remove', '--f'), ['--force'])
  t.same(await complete('explain', '--'), ['--mode', '--quiet', '--source'])
  t.same(await complete('explain', 'a', 'b', '--so'), ['--source'])
  t.same(await complete('explain', '--mode', ''), ['open', 'closed'])
  t.same(await complete('explain', '--mode', 'c'), ['closed'])
  t.same(await complete('explain', '--source', 'x'), [], "files are the shell's")
})

t.test('the shells themselves understand their files', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'knp-completion-'))
  t.after(() => rm(folder, { recursive: true }))
  const texts = { bash: bashCompletion(program), zsh: zshCompletion(program), fish: fishCompletion(program) }
  for (const [shell, text] of Object.entries(texts)) {
    const file = join(folder, shell)
    await writeFile(file, text)
    const isThere = await run('sh', ['-c', `command -v ${shell}`]).then(
      () => true,
      () => false,
    )
    // bash is everywhere; the others where they are installed.
    if (isThere) await t.resolves(run(shell, ['-n', file]), shell)
    t.notOk(text.includes('secret'), shell)
    for (const word of ['explain', 'remove', 'mode', 'open']) t.ok(text.includes(word), `${shell}: ${word}`)
  }
})

t.test('every command has a summary and an example, and is in every text', async (t) => {
  await buildKnp()
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const plugin = new Plugin({ root, ignoreManifest: true, respectNoCacheDefault: true, errorOnManifestCreate: true })
  await plugin.load()
  const commands = Object.values(plugin.manifest.commands) as unknown as readonly CommandEntry[]
  t.ok(commands.length >= 12)
  const real = { ...program, commands }
  const page = manualPage(real)
  for (const { id, summary, examples = [] } of commands) {
    const words = id.replace(':', ' ')
    t.ok(summary, id)
    t.ok(examples.length > 0, `${id} has an example`)
    for (const example of examples) t.ok(example.startsWith(`<%= config.bin %> `), example)
    t.ok(page.includes(`.SS knp ${words}\n`), id)
    t.ok(bashCompletion(real).includes(`'${words}')`), id)
  }
  // Of no particular machine.
  t.equal(commands.find(({ id }) => id === 'run')?.flags['node-name']?.default, undefined, 'no host name')
})
