import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { type Delta, objectKey } from '../../src/engine/index.ts'
import { FilesSource } from '../../src/sources/files.ts'
import { loadSnapshot } from '../../src/sources/load.ts'

const pod = (name: string, ip = '10.0.0.1') =>
  `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, namespace: shop}\nstatus: {podIP: ${ip}}\n`

/** Writes files into a folder of the test's own; answers its path. */
async function folderWith(t: Test, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = t.testdir()
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  return folder
}

function summary({ upserts, deletes }: Delta): { upserts: string[]; deletes: string[] } {
  return { upserts: upserts.map((object) => object.ref.name).sort(), deletes: deletes.toSorted() }
}

t.test('a folder is all manifests in it and its sub-folders', async (t) => {
  const folder = await folderWith(t, {
    'a.yaml': pod('a'),
    'b.yml': pod('b'),
    'c.json': JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'c' } }),
    'sub/deep/d.YAML': pod('d'),
    'readme.md': 'not a manifest',
    'e.yaml.bak': pod('e'),
    '.hidden.yaml': pod('f'),
    '.git/g.yaml': pod('g'),
  })
  t.same(summary(await new FilesSource(folder).read()), { upserts: ['a', 'b', 'c', 'd'], deletes: [] })
})

t.test('a file is itself, whatever its name', async (t) => {
  const folder = await folderWith(t, { 'world.txt': pod('a') + pod('b'), 'other.yaml': pod('c') })
  t.same(summary(await new FilesSource(join(folder, 'world.txt')).read()).upserts, ['a', 'b'])
})

t.test('only what has changed is delivered', async (t) => {
  const folder = await folderWith(t, { 'a.yaml': pod('a'), 'b.yaml': pod('b') + pod('c') })
  const source = new FilesSource(folder)
  await source.read()
  t.same(summary(await source.read()), { upserts: [], deletes: [] }, 'nothing has')

  await writeFile(join(folder, 'b.yaml'), pod('b') + pod('c', '10.0.0.9'))
  t.same(summary(await source.read()), { upserts: ['c'], deletes: [] }, 'not the rest of its file')

  await writeFile(join(folder, 'b.yaml'), pod('b') + pod('d'))
  t.same(summary(await source.read()), { upserts: ['d'], deletes: ['Pod shop/c'] })

  await rm(join(folder, 'a.yaml'))
  t.same(
    summary(await source.read()),
    { upserts: [], deletes: ['Pod shop/a'] },
    'a file that is gone takes its objects along',
  )
})

t.test('an object that moves to another place is not lost', async (t) => {
  const folder = await folderWith(t, { 'a.yaml': pod('a') })
  const source = new FilesSource(folder)
  await source.read()
  await rename(join(folder, 'a.yaml'), join(folder, 'z.yaml'))
  const delta = await source.read()
  t.same(summary(delta), { upserts: ['a'], deletes: [] })
  t.equal(delta.upserts[0]!.ref.file, join(folder, 'z.yaml'), 'and is named where it stands now')

  await writeFile(join(folder, 'z.yaml'), `# moved\n${pod('a')}`)
  t.equal((await source.read()).upserts[0]!.ref.line, 3)
})

t.test('a file that cannot be read refuses all of them', async (t) => {
  const folder = await folderWith(t, { 'a.yaml': pod('a'), 'b.yaml': pod('b') })
  const source = new FilesSource(folder)
  await source.read()
  await writeFile(join(folder, 'a.yaml'), pod('A'))
  await writeFile(join(folder, 'b.yaml'), pod('b', 'x') + pod('c'))
  const both = new RegExp(`^${folder}/a.yaml:4: Pod shop/A: .*\n${folder}/b.yaml:5: Pod shop/b: .*$`)
  await t.rejects(source.read(), { code: 'INVALID_MANIFEST', message: both }, 'the problems of both are named')

  await writeFile(join(folder, 'a.yaml'), pod('a'))
  await writeFile(join(folder, 'b.yaml'), pod('b') + pod('c'))
  t.same(summary(await source.read()).upserts, ['c'], 'once they can, the difference to the last good picture is told')
})

t.test('two objects of one name are refused, both places named', async (t) => {
  const folder = await folderWith(t, { 'a.yaml': pod('x') + pod('a'), 'b.yaml': pod('a') })
  await t.rejects(new FilesSource(folder).read(), {
    code: 'INVALID_MANIFEST',
    message: `${folder}/b.yaml:2: Pod shop/a stands already at ${folder}/a.yaml:7`,
  })
  const alone = await folderWith(t, { 'a.yaml': pod('a') + pod('a') })
  await t.rejects(new FilesSource(alone).read(), {
    message: `${alone}/a.yaml:7: Pod shop/a stands already at ${alone}/a.yaml:2`,
  })
})

t.test('what cannot be found', async (t) => {
  const missing = join(t.testdir(), 'missing')
  await t.rejects(new FilesSource(missing).read(), {
    code: 'UNREADABLE_SOURCE',
    message: `${missing}: no such file or folder`,
  })
})

t.test('a ConfigMap as Kubernetes mounts it is read once', async (t) => {
  const folder = await folderWith(t, { '..one/a.yaml': pod('a'), '..one/b.yaml': pod('b') })
  await symlink('..one', join(folder, '..data'))
  for (const name of ['a.yaml', 'b.yaml']) await symlink(join('..data', name), join(folder, name))
  const source = new FilesSource(folder)
  t.same(summary(await source.read()), { upserts: ['a', 'b'], deletes: [] })

  await mkdir(join(folder, '..two'))
  await writeFile(join(folder, '..two', 'a.yaml'), pod('a', '10.0.0.8'))
  await writeFile(join(folder, '..two', 'b.yaml'), pod('b'))
  await symlink('..two', join(folder, '..data_tmp'))
  await rename(join(folder, '..data_tmp'), join(folder, '..data'))
  t.same(summary(await source.read()), { upserts: ['a'], deletes: [] })
})

t.test('notes are those of the picture in force', async (t) => {
  const folder = await folderWith(t, { 'a.yaml': 'apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n' })
  const source = new FilesSource(folder)
  t.match(source.health(), { isCurrent: true, notes: [] })
  await source.read()
  t.match(source.health(), { name: `files ${folder}`, isCurrent: true, syncedAtMs: Number })
  t.same(source.health().notes, [`${folder}/a.yaml:1: Secret s: not a kind that policies refer to; left out`])
})

t.test('several sources are one snapshot', async (t) => {
  const folder = await folderWith(t, { 'one/a.yaml': pod('a'), 'two/b.yaml': pod('b') })
  const { snapshot } = await loadSnapshot(['one', 'two'].map((name) => ({ files: { path: join(folder, name) } })))
  t.same(
    snapshot.workloads.map(({ name }) => name),
    ['a', 'b'],
  )
  t.equal(objectKey(snapshot.workloads[0]!), 'Pod shop/a')
})
