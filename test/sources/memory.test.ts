import t from 'tap'
import { type Delta, objectKey } from '../../src/engine/index.ts'
import { readManifest } from '../../src/sources/manifest.ts'
import { MemorySource } from '../../src/sources/memory.ts'
import { podLine } from '../fixtures/world.ts'

const pod = (name: string, labels: string) =>
  readManifest(podLine(`lab/${name}`, '10.5.0.1', labels), 'world.yaml').objects[0]!
const web = pod('web', 'app: web')
const db = pod('db', 'app: db')
const otherWeb = pod('web', 'app: other')

t.test('the first picture is delivered by the start, with what was changed before it', async (t) => {
  const source = new MemorySource([web, db])
  t.equal(source.health().syncedAtMs, undefined)
  source.change({ upserts: [otherWeb], deletes: [objectKey(db)] })
  const deltas: Delta[] = []
  await source.start((delta) => deltas.push(delta), new AbortController().signal)
  t.same(deltas, [{ upserts: [otherWeb], deletes: [] }])
  t.match(source.health(), { name: 'memory', isCurrent: true, syncedAtMs: Number, notes: [] })
})

t.test('changes are delivered as they come, until the signal aborts', async (t) => {
  const source = new MemorySource([web], 'cluster')
  const abort = new AbortController()
  const deltas: Delta[] = []
  await source.start((delta) => deltas.push(delta), abort.signal)
  deltas.length = 0
  const added = { upserts: [db], deletes: [] }
  const replaced = { upserts: [otherWeb], deletes: [objectKey(db)] }
  source.change(added)
  source.change(replaced)
  t.same(deltas, [added, replaced])
  t.same(source.objects, [otherWeb])
  abort.abort()
  source.change({ upserts: [], deletes: [objectKey(web)] })
  t.equal(deltas.length, 2)
  t.same(source.objects, [])
  t.equal(source.name, 'cluster')
})

t.test('a start that is aborted before it begins delivers nothing', async (t) => {
  const source = new MemorySource([web])
  await t.rejects(
    source.start(() => t.fail('delivered'), AbortSignal.abort()),
    { name: 'AbortError' },
  )
})
