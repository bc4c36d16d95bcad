import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import type { Decision } from '../src/engine/index.ts'
import { loadWorld } from '../src/sources/worlds.ts'
import { ask, worldOf } from './fixtures/world.ts'

/*
 * Every folder of test/cases is a world with a ConnectivityTest, and proves the sentence of docs/policy-semantics.md that
 * its first lines quote. Every folder of test/cases/refused holds a manifest and the problems that are found in it; its
 * file is called `manifest.refused`, so that `knp test test/cases` does not take it for a world.
 */

const root = fileURLToPath(new URL('..', import.meta.url))
const casesPath = 'test/cases'
const refusedPath = join(casesPath, 'refused')
const QUICK_MS = 30_000

/** Sentences that no connection between named ends can show, and the test that proves them. */
const provenElsewhere: Readonly<Record<string, string>> = {
  'Replies to a connection belong to it.': 'test/kernel/rules.test.ts',
  'ICMP errors about a connection belong to it.': 'test/kernel/conntrack.test.ts',
  'Neighbour discovery (ICMPv6 133-137), MLD (130-132, 143) and path-MTU errors (ICMPv6 2, ICMP "fragmentation needed") always pass.':
    'test/kernel/node.test.ts',
  "On the packet path that is a connection that a program of this machine opens; a forwarded packet that merely carries the node's address is judged like any other.":
    'test/kernel/node.test.ts',
  'On the packet path, a pod whose manifest names no node is taken to run on this machine.': 'test/kernel/node.test.ts',
  "On the machine that a HostEndpoint is, all that comes in and all that goes out is the host's, whatever its addresses are at the moment.":
    'test/kernel/host.test.ts',
  "A forwarded packet that merely carries the host's address does not come from it.": 'test/engine/host.test.ts',
  'Loopback traffic is not judged.': 'test/kernel/host.test.ts',
  'What the failsafe lists passes, and its replies with it, whatever the policies say.': 'test/kernel/host.test.ts',
  "With a cluster as source its API server is in the list, and the kubelet's port.": 'test/api-server-failsafe.test.ts',
  'Where two HostEndpoints name one node, the second stands for nothing there, and a warning says so.':
    'test/engine/host.test.ts',
  'What hangs on an address that no source knows is undecidable, and is neither allowed nor denied.':
    'test/commands/test.test.ts',
  'The last good version of an object that cannot be understood stays in force.': 'test/engine/understand.test.ts',
  'Without one, Accept (Allow) rules of a cluster-wide policy match nothing, and its other rules deny everything.':
    'test/engine/understand.test.ts',
  'Without one, a NetworkPolicy isolates what it selects and allows nothing.': 'test/engine/understand.test.ts',
  'Nothing of its source changes until it is mended.': 'test/kernel/changes.test.ts',
  'Other kinds are left out, and a note says so.': 'test/commands/test.test.ts',
}

interface WrittenCheck {
  readonly from: string
  readonly to: string
  readonly protocol?: string
  readonly port?: number
  readonly expect: 'allow' | 'deny'
  readonly decidedBy?: Readonly<Record<string, string | number>>
}

interface Case {
  readonly name: string
  readonly text: string
  readonly proves: readonly string[]
  readonly checks: readonly WrittenCheck[]
}

interface Answer {
  readonly passed: number
  readonly failed: number
  readonly tests: readonly { readonly name: string; readonly file: string; readonly checks: readonly CheckAnswer[] }[]
}

interface CheckAnswer {
  readonly verdict: string
  readonly passed: boolean
}

const cases = foldersOf(casesPath)
  .filter((name) => name !== basename(refusedPath))
  .map(readCase)
const refused = foldersOf(refusedPath).map((name) => ({
  name,
  file: join(refusedPath, name, 'manifest.refused'),
  expected: readText(join(refusedPath, name, 'expected-error.txt')),
}))
const checkCount = cases.reduce((sum, { checks }) => sum + checks.length, 0)

function foldersOf(path: string): string[] {
  return readdirSync(join(root, path), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}

function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

function readCase(name: string): Case {
  const folder = join(casesPath, name)
  const text = readdirSync(join(root, folder))
    .map((file) => readText(join(folder, file)))
    .join('---\n')
  const documents = parseAllDocuments(text).map((document) => document.toJS())
  const checks = documents.flatMap(({ kind, spec }) => (kind === 'ConnectivityTest' ? spec.checks : []))
  return { name, text, proves: quotesOf(text), checks }
}

function quotesOf(text: string): string[] {
  return [...text.matchAll(/^# proves: (.*)$/gm)].map(([, sentence]) => sentence!)
}

/** The list items of the page, each on one line. */
function sentencesOf(page: string): string[] {
  return [...page.matchAll(/^- (.*(?:\n {2}\S.*)*)/gm)].map(([, item]) => item!.replace(/\n {2}/g, ' '))
}

/** `knp ...` as people start it, in the project's folder. */
function knp(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['bin/run.js', ...args], { cwd: root, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
    })
  })
}

function target({ to, port, protocol = 'TCP' }: WrittenCheck): string {
  const end = to.includes('::') ? `[${to}]` : to
  return `${end}${port === undefined ? '' : `:${port}`}/${protocol.toLowerCase()}`
}

function deciderOf({ decidedBy: { policy, rule, direction, tier } }: Decision): Record<string, unknown> {
  return { ...policy, rule, direction, tier }
}

t.test('every case, by the engine', async (t) => {
  for (const { name, text, proves, checks } of cases) {
    t.test(name, async (t) => {
      t.ok(proves.length > 0, 'it says what it proves')
      t.same([...new Set(checks.map(({ expect }) => expect))].sort(), ['allow', 'deny'], 'it allows and denies')
      const world = worldOf(text)
      for (const check of checks) {
        const decision = ask(world, check.from, target(check))
        const label = `${check.from} -> ${target(check)}`
        t.equal(decision.verdict, check.expect, label)
        t.ok(check.decidedBy, `${label}: the check says what decides`)
        t.match(deciderOf(decision), check.decidedBy ?? {}, `${label}: decided by`)
      }
    })
  }
})

t.test('every case, by knp test', async (t) => {
  const { code, stdout, stderr } = await knp('test', casesPath, '--json')
  t.equal(code, 0, stderr)
  const answer = JSON.parse(stdout) as Answer
  t.match(answer, { schema: 'knp.test/v1', passed: checkCount, failed: 0 })
  t.same(
    answer.tests.map(({ file }) => file),
    cases.map(({ name }) => `${casesPath}/${name}/case.yaml`),
  )
  t.same(
    answer.tests.map(({ checks }) => checks.map(({ verdict }) => verdict)),
    cases.map(({ checks }) => checks.map(({ expect }) => expect)),
  )
  const text = await knp('test', casesPath)
  t.match(text, { code: 0, stdout: `${checkCount} of ${checkCount} checks passed\n` })
  const warnings = text.stderr.trimEnd().split('\n')
  t.ok(warnings.length > 10, 'cases in which rules fail closed')
  for (const line of warnings) t.match(line, new RegExp(`^warning: ${casesPath}/[a-z0-9-]+/case.yaml:\\d+: `))
  t.comment(`${cases.length} cases, ${checkCount} checks, ${refused.length} refused manifests`)
})

t.test('what is refused', async (t) => {
  for (const { name, file, expected } of refused) {
    t.test(name, async (t) => {
      t.ok(quotesOf(readText(file)).length > 0, 'it says what it proves')
      const path = join(root, file)
      try {
        await loadWorld({ path, files: [path] }, [])
        t.fail('it was taken')
      } catch (error) {
        t.match(error, { code: 'INVALID_MANIFEST' })
        t.equal((error as Error).message.replaceAll(path, basename(path)), expected.trimEnd())
      }
    })
  }
  const { code, stdout, stderr } = await knp('test', ...refused.map(({ file }) => file))
  t.equal(code, 2)
  t.equal(stdout, '')
  for (const { name, file, expected } of refused) {
    const lines = expected.trimEnd().replaceAll(basename(file), file)
    t.ok(stderr.includes(lines), `${name}: one refused world hides no other`)
  }
})

t.test('every sentence about policies is proven', async (t) => {
  const sentences = sentencesOf(readText('docs/policy-semantics.md'))
  const quoted = new Set([
    ...cases.flatMap(({ proves }) => proves),
    ...refused.flatMap(({ file }) => quotesOf(readText(file))),
  ])
  for (const sentence of sentences) {
    const elsewhere = provenElsewhere[sentence]
    t.notMatch(sentence, /\. \S/, `one sentence an item: ${sentence}`)
    if (elsewhere === undefined) t.ok(quoted.has(sentence), `a case proves: ${sentence}`)
    else t.ok(existsSync(join(root, elsewhere)) && !quoted.has(sentence), `${elsewhere} proves: ${sentence}`)
  }
  for (const quote of [...quoted, ...Object.keys(provenElsewhere)]) {
    t.ok(sentences.includes(quote), `the page says: ${quote}`)
  }
})

t.test('a wrong expectation fails', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'knp-cases-'))
  t.after(() => rm(folder, { recursive: true }))
  await cp(join(root, casesPath), folder, { recursive: true })
  for (const { name, text } of cases) {
    const swapped = text.replace(
      /expect: (allow|deny)/g,
      (_, verdict) => `expect: ${verdict === 'allow' ? 'deny' : 'allow'}`,
    )
    await writeFile(join(folder, name, 'case.yaml'), swapped)
  }
  const verdicts = await knp('test', folder, '--json')
  t.equal(verdicts.code, 1)
  t.match(JSON.parse(verdicts.stdout), { passed: 0, failed: checkCount }, 'every check, where its verdict is swapped')

  for (const { name, text } of cases) {
    await writeFile(
      join(folder, name, 'case.yaml'),
      text.replace(/decidedBy: \{[^}]*\}/g, 'decidedBy: { name: nobody }'),
    )
  }
  const deciders = await knp('test', folder, '--json')
  t.equal(deciders.code, 1)
  t.match(JSON.parse(deciders.stdout), { passed: 0, failed: checkCount }, 'and where another policy is said to decide')
})

t.test('150 worlds take seconds, not a start of knp for each', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'knp-cases-'))
  t.after(() => rm(folder, { recursive: true }))
  const text = await readFile(join(root, casesPath, 'peer-and-port', 'case.yaml'), 'utf8')
  for (let i = 0; i < 150; i++) {
    await mkdir(join(folder, `world-${i}`))
    await writeFile(join(folder, `world-${i}`, 'case.yaml'), text)
  }
  const start = performance.now()
  const { code } = await knp('test', folder, '-q')
  const tookMs = performance.now() - start
  t.equal(code, 0)
  t.ok(tookMs < QUICK_MS, `${Math.round(tookMs)} ms`)
  t.comment(`150 worlds in ${Math.round(tookMs)} ms`)
})
