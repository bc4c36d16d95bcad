import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Delta } from '../../src/engine/index.ts'
import { FilesSource } from '../../src/sources/files.ts'
import type { SourceHealth } from '../../src/sources/source.ts'

const pod = (name: string, ip = '10.0.0.1') =>
  `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nstatus: {podIP: ${ip}}\n`

/** What is told, one after the other; asking waits for the next. */
class Told<T> {
  readonly #told: T[] = []
  #wake: (() => void) | undefined

  readonly tell = (value: T) => {
    this.#told.push(value)
    this.#wake?.()
  }

  async next(): Promise<T> {
    while (this.#told.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#told.shift()!
  }
}

async function follow(t: Test, path: string) {
  const deltas = new Told<Delta>()
  const healths = new Told<SourceHealth>()
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const source = new FilesSource(path, healths.tell)
  await source.start(deltas.tell, abort.signal)
  const nextChange = async () => {
    const { upserts, deletes } = await deltas.next()
    return [...upserts.map(({ ref }) => ref.name), ...deletes.map((key) => `-${key}`)]
  }
  return { source, abort, nextChange, nextHealth: () => healths.next() }
}

/** Replaces a file as editors and tools do: all at once. */
async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text)
  await rename(`${path}.new`, path)
}

t.test('start delivers the first picture before it resolves', async (t) => {
  const folder = t.testdir({ 'a.yaml': pod('a') })
  const { nextChange } = await follow(t, folder)
  t.same(await nextChange(), ['a'])
})

t.test('start is refused where there is no first picture', async (t) => {
  const folder = t.testdir({ 'a.yaml': pod('A') })
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const deltas: Delta[] = []
  const start = new FilesSource(folder).start((delta) => deltas.push(delta), abort.signal)
  await t.rejects(start, { code: 'INVALID_MANIFEST' })
  t.same(deltas, [])
})

t.test('changes in a folder are followed', async (t) => {
  const folder = t.testdir({ 'a.yaml': pod('a') })
  const { nextChange } = await follow(t, folder)
  await nextChange()
  await writeFile(join(folder, 'a.yaml'), pod('a', '10.0.0.2'))
  t.same(await nextChange(), ['a'], 'written in place')
  await replace(join(folder, 'a.yaml'), pod('a', '10.0.0.3'))
  t.same(await nextChange(), ['a'], 'replaced')
  await writeFile(join(folder, 'b.yaml'), pod('b'))
  t.same(await nextChange(), ['b'], 'a new file')
  await mkdir(join(folder, 'sub'))
  await writeFile(join(folder, 'sub', 'c.yaml'), pod('c'))
  t.same(await nextChange(), ['c'], 'a new file in a new folder')
  await rm(join(folder, 'b.yaml'))
  t.same(await nextChange(), ['-Pod default/b'], 'a file that is gone')
})

t.test('one file is followed, also when it is replaced again and again', async (t) => {
  const folder = t.testdir({ 'world.yaml': pod('a') })
  const path = join(folder, 'world.yaml')
  const { nextChange } = await follow(t, path)
  await nextChange()
  for (let last = 2; last < 5; last++) {
    const startedMs = performance.now()
    await replace(path, pod('a', `10.0.0.${last}`))
    t.same(await nextChange(), ['a'])
    t.ok(performance.now() - startedMs < 3000, 'at the change, not at the next regular look')
  }
})

t.test('a ConfigMap’s swap is followed, again and again', async (t) => {
  const folder = t.testdir({ '..v1': { 'a.yaml': pod('a') } })
  await symlink('..v1', join(folder, '..data'))
  await symlink(join('..data', 'a.yaml'), join(folder, 'a.yaml'))
  const { nextChange } = await follow(t, folder)
  await nextChange()
  for (let version = 2; version < 5; version++) {
    const startedMs = performance.now()
    await mkdir(join(folder, `..v${version}`))
    await writeFile(join(folder, `..v${version}`, 'a.yaml'), pod('a', `10.0.0.${version}`))
    await symlink(`..v${version}`, join(folder, '..data_tmp'))
    await rename(join(folder, '..data_tmp'), join(folder, '..data'))
    await rm(join(folder, `..v${version - 1}`), { recursive: true })
    t.same(await nextChange(), ['a'])
    t.ok(performance.now() - startedMs < 3000, 'at the change, not at the next regular look')
  }
})

t.test('a broken file keeps the last picture, and is told once; so is its recovery', async (t) => {
  const folder = t.testdir({ 'a.yaml': pod('a'), 'b.yaml': pod('b') })
  const { source, nextChange, nextHealth } = await follow(t, folder)
  await nextChange()
  await replace(join(folder, 'a.yaml'), pod('A'))
  const broken = await nextHealth()
  t.match(broken, { isCurrent: false, error: /a\.yaml:3: Pod A: metadata\.name: "A" is no valid object name/ })
  t.same(source.health(), broken, 'health says so')

  await replace(join(folder, 'b.yaml'), pod('b', 'x'))
  t.match((await nextHealth()).error, /a\.yaml:3: .*\n.*b\.yaml:4: /, 'other trouble is news')

  await replace(join(folder, 'a.yaml'), pod('a'))
  t.match((await nextHealth()).error, /^.*b\.yaml:4: .*$/)
  await replace(join(folder, 'b.yaml'), pod('b', '10.0.0.9'))
  t.match(await nextHealth(), { isCurrent: true, error: undefined })
  t.same(await nextChange(), ['b'], 'only what differs from the last good picture')
})

t.test('where there was no first picture, the first one is told also when it is empty', async (t) => {
  const folder = t.testdir({ 'a.yaml': pod('A') })
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const deltas = new Told<Delta>()
  const source = new FilesSource(folder)
  await t.rejects(source.start(deltas.tell, abort.signal), { code: 'INVALID_MANIFEST' })
  await rm(join(folder, 'a.yaml'))
  t.same(await deltas.next(), { upserts: [], deletes: [] })
})

t.test('a folder that goes away keeps the last picture', async (t) => {
  const folder = t.testdir({ policies: { 'a.yaml': pod('a') } })
  const path = join(folder, 'policies')
  const { nextChange, nextHealth } = await follow(t, path)
  await nextChange()
  await rename(path, join(folder, 'away'))
  t.match(await nextHealth(), { isCurrent: false, error: `${path}: no such file or folder` })
  await rename(join(folder, 'away'), path)
  t.match(await nextHealth(), { isCurrent: true })
})
