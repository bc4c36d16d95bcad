import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import t from 'tap'
import { replaceManifests } from '../../src/sources/replace-manifests.ts'

type Files = Readonly<Record<string, string>>

interface Folders {
  readonly target: string
  readonly source: string
  readonly backup: string
}

async function foldersOf(
  test: { after: (end: () => Promise<void>) => void },
  target: Files,
  source: Files,
): Promise<Folders> {
  const root = await mkdtemp(join(tmpdir(), 'knp-replace-'))
  test.after(() => rm(root, { recursive: true, force: true }))
  const folders = { target: join(root, 'target'), source: join(root, 'source'), backup: join(root, 'state', 'backup') }
  for (const folder of [folders.target, folders.source]) await mkdir(folder)
  await write(folders.target, target)
  await write(folders.source, source)
  return folders
}

async function write(folder: string, files: Files): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
}

/** Every file below a folder, with its text. */
async function filesIn(folder: string): Promise<Files> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
  const pairs = await Promise.all(
    paths.sort().map(async (path) => [relative(folder, path), await readFile(path, 'utf8')] as const),
  )
  return Object.fromEntries(pairs)
}

const former = { 'a.yaml': 'former a', 'b.yml': 'former b', 'sub/c.json': 'former c' }
const wanted = { 'a.yaml': 'new a', 'sub/c.json': 'new c', 'sub/deep/d.yaml': 'new d' }

t.test('the manifests of one folder take the place of the other’s, which are kept', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, wanted)
  await replaceManifests(target, source, backup)
  t.same(await filesIn(target), wanted)
  t.same(await filesIn(source), wanted, 'they are copied')
  t.same(await filesIn(backup), former)
  t.same(await readdir(dirname(backup)), ['backup'], 'nothing else is left')
  t.equal((await stat(backup)).mode & 0o777, 0o700)
})

t.test('only the last replacement can be undone: the backup is emptied first', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, wanted)
  await mkdir(backup, { recursive: true })
  await write(backup, { 'older.yaml': 'older' })
  await write(`${backup}.new`, { 'half.yaml': 'left by a crash' })
  await replaceManifests(target, source, backup)
  t.same(await filesIn(backup), former)
})

t.test('from the backup itself: back, and forth again', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, wanted)
  await replaceManifests(target, source, backup)
  await replaceManifests(target, backup, backup)
  t.same(await filesIn(target), former)
  t.same(await filesIn(backup), wanted)
  await replaceManifests(target, backup, backup)
  t.same(await filesIn(target), wanted)
})

t.test('what is no manifest is left alone, and none is taken', async (t) => {
  const others = { README: 'text', 'notes.txt': 'text', '.hidden.yaml': 'hidden', '.git/x.yaml': 'hidden' }
  const { target, source, backup } = await foldersOf(
    t,
    { ...former, ...others },
    { ...wanted, 'other.txt': 'text', '.secret.yaml': 'hidden', '..data/e.yaml': 'hidden' },
  )
  await replaceManifests(target, source, backup)
  t.same(await filesIn(target), { ...wanted, ...others })
  t.same(await filesIn(backup), former)
})

t.test('an empty folder empties it', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, {})
  await replaceManifests(target, source, backup)
  t.same(await filesIn(target), {})
  t.same(await filesIn(backup), former)
})

t.test('a link is replaced by a file, not written through', async (t) => {
  const { target, source, backup } = await foldersOf(t, {}, { 'a.yaml': 'new a' })
  const elsewhere = join(dirname(target), 'elsewhere.yaml')
  await writeFile(elsewhere, 'linked')
  await symlink(elsewhere, join(target, 'a.yaml'))
  await replaceManifests(target, source, backup)
  t.same(await filesIn(target), { 'a.yaml': 'new a' })
  t.equal(await readFile(elsewhere, 'utf8'), 'linked')
  t.same(await filesIn(backup), { 'a.yaml': 'linked' }, 'what it led to is kept')
})

t.test('permissions come along', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, wanted)
  await chmod(join(source, 'a.yaml'), 0o640)
  await replaceManifests(target, source, backup)
  t.equal((await stat(join(target, 'a.yaml'))).mode & 0o777, 0o640)
})

t.test('what is no folder is refused, and nothing is touched', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, wanted)
  const file = join(target, 'a.yaml')
  const cases: readonly [rule: string, from: string, to: string][] = [
    ['a source that is not there', join(source, 'none'), target],
    ['a source that is a file', file, target],
    ['a target that is a file', source, file],
  ]
  for (const [rule, from, to] of cases) {
    await t.rejects(replaceManifests(to, from, backup), { code: 'UNREADABLE_SOURCE', message: /: no folder$/ }, rule)
  }
  t.same(await filesIn(target), former)
  t.same(await readdir(dirname(target)), ['source', 'target'])
})

t.test('failing midway puts back what was there', async (t) => {
  const { target, source, backup } = await foldersOf(t, former, { ...wanted, 'z.yaml': 'new z' })
  await mkdir(backup, { recursive: true })
  await write(backup, { 'older.yaml': 'older' })
  // A folder in the way of the last file: root may write anything else.
  await mkdir(join(target, 'z.yaml'))
  await t.rejects(replaceManifests(target, source, backup), { code: 'EISDIR' })
  t.same(await filesIn(target), former, 'the former manifests, and no part of a file')
  t.same(await filesIn(backup), { 'older.yaml': 'older' }, 'what was kept before is kept still')
  t.same(await readdir(dirname(backup)), ['backup'])
})
