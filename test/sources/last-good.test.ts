import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { compile, type Delta } from '../../src/engine/index.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { objectKey } from '../../src/engine/snapshot.ts'
import { LastGood, type Picture, type PictureKeeper } from '../../src/sources/last-good.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { ObjectStore } from '../../src/sources/object-store.ts'
import { shop } from '../fixtures/shop.ts'
import { hostLine, networkSetLine, podLine, policyLine } from '../fixtures/world.ts'

const FILE = 'last-good.jsonl'

async function folderFor(test: { after: (end: () => Promise<void>) => void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-last-good-'))
  test.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const objects = (yaml: string) => readManifest(yaml, 'world.yaml').objects

/** A field that is `undefined` is as good as none. */
function asText(picture: Picture): string {
  return JSON.stringify(picture, (_, value) => (value instanceof Map ? [...value] : value), 1)
}

const everyKind = `${shop}
--- {apiVersion: apps/v1, kind: Deployment, metadata: {name: front, namespace: shop}, spec: {selector: {matchLabels: {app: front}}, template: {metadata: {labels: {app: front}}}}}
${hostLine('edge/web1', 'role: web', "node: n1, addresses: [192.0.2.1, '2001:db8::1'], forwards: [172.17.0.0/16], ports: [{name: http, port: 80}]")}
${networkSetLine('shop/partners', 'role: partner', "203.0.113.0/24, '2001:db8::/32'")}
${policyLine('shop/a', 'podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [x, y]}]}, egress: [{}]')}
${policyLine('shop/b', 'podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {namespaceSelector: {}}, {podSelector: {matchLabels: {role: partner}}}], ports: [{port: sql}, {port: 1, endPort: 9, protocol: UDP}]}]')}
`

t.test('every kind of object comes back as it was', async (t) => {
  const folder = await folderFor(t)
  const picture: Picture = new Map([
    ['files a', objects(everyKind)],
    ['files b', objects(podLine('lab/x', '10.5.0.1', 'app: x'))],
    ['files c', []],
  ])
  t.same(
    [...new Set(picture.get('files a')!.map(({ ref }) => ref.kind))].sort(),
    ['Deployment', 'HostEndpoint', 'Namespace', 'NetworkPolicy', 'NetworkSet', 'Node', 'Pod'],
    'there is one of each',
  )
  const before = Date.now()
  await new LastGood(folder).save(picture)
  const saved = await new LastGood(folder).load()
  t.ok(saved!.savedAtMs >= before && saved!.savedAtMs <= Date.now())
  t.equal(asText(saved!.sources), asText(picture))

  const compiled = (sources: Picture) => {
    const store = new ObjectStore('n1')
    for (const [source, upserts] of sources) store.apply(source, { upserts, deletes: [] })
    return compile(store.snapshot(), policyKinds)
  }
  t.same(compiled(saved!.sources).generation, compiled(picture).generation, 'and decides as it did')
})

t.test('the next picture takes its place', async (t) => {
  const lastGood = new LastGood(await folderFor(t))
  await lastGood.save(new Map([['files a', objects(everyKind)]]))
  await lastGood.save(new Map([['files a', []]]))
  t.same((await lastGood.load())!.sources, new Map([['files a', []]]))
})

/** A store whose picture is saved by `save`: what has changed where that is known, or all of it. */
function savedStore(lastGood: LastGood) {
  const store = new ObjectStore()
  const save = async () => {
    const change = store.takeUnsaved()
    const isAppended = change !== undefined && (await lastGood.append(change))
    if (!isAppended) await lastGood.save(store.picture())
    return isAppended ? 'appended' : 'whole'
  }
  return { store, save }
}

const podOf = (name: string, address: string, labels = 'app: x') => objects(podLine(name, address, labels))

t.test('what changes is appended, and comes back with the rest', async (t) => {
  const lastGood = new LastGood(await folderFor(t))
  const { store, save } = savedStore(lastGood)
  store.apply('a', { upserts: objects(shop), deletes: [] })
  t.equal(await save(), 'whole')
  const [web, db] = [podOf('lab/web', '10.5.0.1'), podOf('lab/db', '10.5.0.2')]
  const changes: readonly (readonly [rule: string, source: string, Delta])[] = [
    ['a new object', 'a', { upserts: web, deletes: [] }],
    ['another one of its name', 'a', { upserts: podOf('lab/web', '10.5.0.3', 'app: y'), deletes: [] }],
    ['an object that is gone', 'a', { upserts: db, deletes: [objectKey(web[0]!)] }],
    ['another source', 'b', { upserts: web, deletes: [] }],
    ['a source without objects', 'c', { upserts: [], deletes: [] }],
    ['none', 'a', { upserts: [], deletes: [] }],
  ]
  for (const [rule, source, delta] of changes) {
    store.apply(source, delta)
    t.equal(await save(), 'appended', rule)
    const saved = await lastGood.load()
    t.equal(asText(saved!.sources), asText(store.picture()), rule)
    t.equal(saved!.savedAtMs, lastGood.savedAtMs)
  }
  // Several at once.
  store.apply('a', { upserts: web, deletes: [] })
  store.apply('a', { upserts: [], deletes: [objectKey(db[0]!)] })
  store.apply('b', { upserts: db, deletes: [objectKey(web[0]!)] })
  t.equal(await save(), 'appended')
  t.equal(asText((await lastGood.load())!.sources), asText(store.picture()))
})

t.test('a change without its end has not happened', async (t) => {
  const folder = await folderFor(t)
  const lastGood = new LastGood(folder)
  const { store, save } = savedStore(lastGood)
  store.apply('a', { upserts: objects(shop), deletes: [] })
  await save()
  const path = join(folder, FILE)
  const { size } = await stat(path)
  const before = asText((await lastGood.load())!.sources)
  store.apply('a', { upserts: podOf('lab/web', '10.5.0.1'), deletes: [objectKey(objects(shop)[0]!)] })
  store.apply('b', { upserts: podOf('lab/db', '10.5.0.2'), deletes: [] })
  await save()
  const whole = await readFile(path)
  for (let length = size; length < whole.length - 1; length++) {
    await writeFile(path, whole.subarray(0, length))
    const saved = await lastGood.load()
    if (saved === undefined || asText(saved.sources) !== before)
      t.fail(`cut off after ${length} bytes of ${whole.length}`)
  }
  await writeFile(path, whole)
  t.equal(asText((await lastGood.load())!.sources), asText(store.picture()))
})

t.test('nothing is appended to what others have touched, after an error, and for ever', async (t) => {
  const folder = await folderFor(t)
  const path = join(folder, FILE)
  const lastGood = new LastGood(folder)
  const { store, save } = savedStore(lastGood)
  let number = 0
  const change = () => store.apply('a', { upserts: podOf('lab/web', `10.5.0.${(number++ % 250) + 1}`), deletes: [] })
  const next = async () => {
    change()
    const how = await save()
    t.equal(asText((await lastGood.load())!.sources), asText(store.picture()))
    return how
  }
  store.apply('a', { upserts: objects(shop), deletes: [] })
  t.equal(await next(), 'whole')
  t.equal(await next(), 'appended')
  await rm(path)
  t.equal(await next(), 'whole', 'it was removed')
  await appendFile(path, 'x')
  t.equal(await next(), 'whole', 'it was longer')
  t.equal(await next(), 'appended')

  const before = await lastGood.load()
  const unwritable = { ...objects(shop)[0]!, generation: 1n }
  await t.rejects(lastGood.append(new Map([['a', { upserts: [unwritable], deletes: [] }]])), TypeError)
  t.same(await lastGood.load(), before, 'what was written of it does not count')
  t.equal(await next(), 'whole', 'after an error')

  store.restore('b', podOf('lab/old', '10.5.1.1'))
  t.equal(await next(), 'appended')
  store.apply('b', { upserts: podOf('lab/new', '10.5.1.2'), deletes: [] })
  t.equal(await next(), 'whole', 'a source has replaced what stood for it')

  const { size } = await stat(path)
  const many = objects(
    Array.from({ length: 3000 }, (_, i) => podLine(`lab/p${i}`, `10.6.${i >> 8}.${i & 255}`, 'app: x')).join(''),
  )
  for (let round = 0; (await stat(path)).size < size + (1 << 20); round++) {
    if (round > 10) throw new Error('it does not grow')
    store.apply('a', { upserts: many, deletes: [] })
    t.equal(await next(), 'appended')
  }
  t.equal(await next(), 'whole', 'what was appended is longer than the picture, and than 1 MiB')
  t.equal(await next(), 'appended')
})

t.test('what is of no use is as if there were nothing', async (t) => {
  const folder = await folderFor(t)
  const lastGood = new LastGood(folder)
  t.equal(await lastGood.load(), undefined, 'nothing there')
  await lastGood.save(new Map([['files a', objects(shop)]]))
  const path = join(folder, FILE)
  const whole = await readFile(path, 'utf8')
  const damaged: readonly (readonly [rule: string, text: string])[] = [
    ['an empty file', ''],
    ['no JSON', 'nonsense'],
    ['null', 'null'],
    ['a list', '[]'],
    ['another format', whole.replace('"format":2', '"format":3')],
    ['no format', whole.replace('"format":2,', '')],
    ['no sources, and no end', '{"format":2,"savedAtMs":1}\n'],
    ['an object of no source', whole.replace('{"source":"files a"}\n', '')],
    ['without its last line', whole.replace(/\{"end":true\}\n$/, '')],
    ...[1, 10, 100, whole.length - 2].map((length) => [`cut off after ${length}`, whole.slice(0, length)] as const),
  ]
  for (const [rule, text] of damaged) {
    await writeFile(path, text)
    t.equal(await lastGood.load(), undefined, rule)
  }
  await rm(path)
  await mkdir(path)
  t.equal(await lastGood.load(), undefined, 'a folder')
})

t.test('for its owner alone', async (t) => {
  const folder = join(await folderFor(t), 'state', 'knp')
  await new LastGood(folder).save(new Map())
  t.equal((await stat(folder)).mode & 0o777, 0o700)
  t.equal((await stat(join(folder, FILE))).mode & 0o777, 0o600)
})

t.test('where it cannot be written the former picture stays', async (t) => {
  const folder = await folderFor(t)
  const lastGood = new LastGood(folder)
  await lastGood.save(new Map([['files a', objects(shop)]]))
  const before = await lastGood.load()
  // A folder in its way: root may write anything else.
  await mkdir(join(folder, `${FILE}.new`))
  await t.rejects(lastGood.save(new Map()), { code: 'EISDIR' })
  t.same(await lastGood.load(), before)

  const file = join(await folderFor(t), 'file')
  await writeFile(file, '')
  await t.rejects(new LastGood(join(file, 'state')).save(new Map()), { code: 'ENOTDIR' })
})

t.test('a full disk leaves the former picture', async (t) => {
  const folder = await folderFor(t)
  const lastGood = new LastGood(folder)
  await lastGood.save(new Map([['files a', objects(shop)]]))
  const before = await lastGood.load()
  await symlink('/dev/full', join(folder, `${FILE}.new`))
  await t.rejects(lastGood.save(new Map()), { code: 'ENOSPC' })
  t.same(await lastGood.load(), before)
  await rm(join(folder, `${FILE}.new`))
  await lastGood.save(new Map())
  t.same(await readdir(folder), [FILE], 'and nothing is left behind when it works again')
})

t.test('a picture that takes long to save is saved less often', async (t) => {
  const lastGood = new LastGood(await folderFor(t))
  const ending = new AbortController()
  const askedAt: number[] = []
  const picture = (ms: number): PictureKeeper => ({
    picture() {
      askedAt.push(performance.now())
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
      return new Map()
    },
    takeUnsaved: () => undefined,
  })
  lastGood.keep(picture(60), ending.signal)
  await lastGood.settled()
  lastGood.keep(picture(1000), ending.signal)
  await lastGood.settled()
  const [first, second] = askedAt
  t.ok(second! - first! >= 60 + 20 * 60, `asked again after ${second! - first!} ms, twenty times as long as it took`)
  // Twenty seconds from now.
  lastGood.keep(picture(0), ending.signal)
  const endedAt = performance.now()
  ending.abort()
  await lastGood.settled()
  t.ok(askedAt[2]! - endedAt < 10_000, 'at the end it is saved at once')
})
