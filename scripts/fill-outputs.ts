// Writes into documents what the commands in them print, so that no output is ever typed by hand.
//
//   node scripts/fill-outputs.ts README.md docs/explaining.md            writes
//   node scripts/fill-outputs.ts --check README.md docs/explaining.md    says what is out of date, and exits with 1
//
// A fenced `console` block behind a line `<!-- output -->` is filled. Its lines that begin with `$ knp ` are run in the
// project's folder, by the compiled program (`npm run build:js`); `$ echo $?` shows the exit status of the one before.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const MARK = '<!-- output -->'
/** Statuses from here on are no answer: a defect, a command that is not there, a signal. */
const FIRST_FAILURE = 70

interface Ran {
  readonly output: readonly string[]
  readonly status: number
}

/** A document that cannot be filled. */
class DocumentError extends Error {}

const known = new Map<string, Ran>()

/** What a reader who types the command sees. */
function run(command: string): Ran {
  const ran = known.get(command)
  if (ran) return ran
  const script = `knp() { "$KNP_NODE" bin/run.js "$@"; }\n{ ${command}\n} 2>&1`
  const { status, stdout, error } = spawnSync('sh', ['-c', script], {
    cwd: root,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, KNP_NODE: process.execPath, NO_COLOR: '1' },
  })
  if (error) throw error
  if (status === null || status >= FIRST_FAILURE) {
    throw new DocumentError(`\`${command}\` ended with status ${status}:\n${stdout}`)
  }
  const output = stdout.trimEnd().split('\n')
  const misread = output.find((line) => line.startsWith('```') || line.startsWith('$ '))
  if (misread !== undefined) throw new DocumentError(`\`${command}\` prints what would end its output: ${misread}`)
  const result = { output, status }
  known.set(command, result)
  return result
}

/** The lines of a block from its commands; what else is in it is old output. */
function fillBlock(lines: readonly string[], place: string): string[] {
  const commands = lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2))
  if (commands.length === 0) throw new DocumentError(`${place}: the block has no command; begin a line with \`$ knp\``)
  const filled: string[] = []
  let last: Ran | undefined
  for (const command of commands) {
    if (command === 'echo $?' && last) {
      filled.push(`$ ${command}`, String(last.status))
      continue
    }
    if (!command.startsWith('knp ')) throw new DocumentError(`${place}: \`${command}\` is no knp command`)
    last = run(command)
    if (filled.length > 0) filled.push('')
    filled.push(`$ ${command}`, ...last.output)
  }
  return filled
}

/** The document with every marked block filled. */
function fill(text: string, file: string): string {
  const lines = text.split('\n')
  const filled: string[] = []
  for (let at = 0; at < lines.length; at++) {
    filled.push(lines[at]!)
    if (lines[at] !== MARK) continue
    const place = `${file}:${at + 1}`
    const opening = lines[at + 1]
    if (opening !== '```console') throw new DocumentError(`${place}: \`${MARK}\` stands before no \`console\` block`)
    const end = lines.indexOf('```', at + 2)
    if (end < 0) throw new DocumentError(`${place}: the block has no end`)
    filled.push(opening, ...fillBlock(lines.slice(at + 2, end), place), '```')
    at = end
  }
  if (!lines.includes(MARK)) throw new DocumentError(`${file}: no line is \`${MARK}\``)
  return filled.join('\n')
}

/** Where the two part, with both lines. */
function difference(file: string, before: string, after: string): string {
  const [old, fresh] = [before.split('\n'), after.split('\n')]
  const at = fresh.findIndex((line, i) => line !== old[i])
  const line = at < 0 ? fresh.length : at
  return `${file}:${line + 1}: out of date\n  written  ${old[line] ?? '(end)'}\n  printed  ${fresh[line] ?? '(end)'}`
}

function main(args: readonly string[]): number {
  const isCheck = args.includes('--check')
  const files = args.filter((arg) => arg !== '--check')
  if (files.length === 0 || files.some((file) => file.startsWith('-'))) {
    console.error('usage: node scripts/fill-outputs.ts [--check] FILE...')
    return 2
  }
  let status = 0
  for (const file of files) {
    const before = readFileSync(file, 'utf8')
    const after = fill(before, file)
    if (after === before) continue
    if (!isCheck) {
      writeFileSync(file, after)
      console.log(`${file}: written`)
      continue
    }
    console.error(difference(file, before, after))
    console.error(`  npm run build:js && node scripts/fill-outputs.ts ${file}`)
    status = 1
  }
  return status
}

try {
  process.exitCode = main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof DocumentError)) throw error
  console.error(error.message)
  process.exitCode = 2
}
