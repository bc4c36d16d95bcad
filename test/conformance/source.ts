import type { Test } from 'tap'
import { type Delta, objectKey, type PolicyObject, type Workload } from '../../src/engine/index.ts'
import { KnpError } from '../../src/errors.ts'
import type { Source, SourceHealth } from '../../src/sources/source.ts'
import { until } from '../until.ts'

/** A pod of namespace `shop`. */
export interface SourcePod {
  readonly name: string
  readonly app: string
}

/** A source, and what it reads. */
export interface SourceUnderTest {
  readonly source: Source
  put(pod: SourcePod): Promise<void>
  remove(name: string): Promise<void>
  /** From now on the source cannot read; what is put and removed meanwhile is read after `mend`. */
  break(): Promise<void>
  mend(): Promise<void>
}

const CHANGE_TIMEOUT_MS = 20_000

/** What every {@link Source} promises. @param open a source that would read these pods */
export function testSource(
  t: Test,
  open: (t: Test, onHealth: (health: SourceHealth) => void, pods: readonly SourcePod[]) => Promise<SourceUnderTest>,
): void {
  async function begin(t: Test, pods: readonly SourcePod[], isBroken = false) {
    const healths: SourceHealth[] = []
    const subject = await open(t, (health) => healths.push(health), pods)
    if (isBroken) await subject.break()
    const deltas: Delta[] = []
    const objects = new Map<string, PolicyObject>()
    const abort = new AbortController()
    t.teardown(() => abort.abort())
    const started = subject.source.start((delta) => {
      deltas.push(delta)
      for (const key of delta.deletes) objects.delete(key)
      for (const object of delta.upserts) objects.set(objectKey(object), object)
    }, abort.signal)
    const picture = () => {
      const texts = [...objects.values()].map(
        (object) => `${object.ref.name}=${(object as Workload).labels.get('app')}`,
      )
      return texts.sort().join(' ')
    }
    const becomes = async (expected: string) => {
      await soon(() => picture() === expected)
      t.equal(picture(), expected)
    }
    return { ...subject, healths, deltas, abort, started, picture, becomes }
  }

  t.test('the first picture is delivered whole before the start resolves', async (t) => {
    const { started, picture, source } = await begin(t, [
      { name: 'a', app: 'x' },
      { name: 'b', app: 'y' },
    ])
    await started
    t.equal(picture(), 'a=x b=y')
    t.match(source.health(), { name: source.name, isCurrent: true, error: undefined, syncedAtMs: Number, notes: [] })
  })

  t.test('a first picture without anything is one too', async (t) => {
    const { started, deltas } = await begin(t, [])
    await started
    t.match(deltas, [{ upserts: [], deletes: [] }])
    t.equal(deltas.length, 1)
  })

  t.test('changes are followed', async (t) => {
    const { started, becomes, put, remove, deltas, healths } = await begin(t, [{ name: 'a', app: 'x' }])
    await started
    await put({ name: 'b', app: 'y' })
    await becomes('a=x b=y')
    await put({ name: 'b', app: 'z' })
    await becomes('a=x b=z')
    await remove('a')
    await becomes('b=z')
    const told = deltas.slice(1).flatMap(({ upserts, deletes }) => [...upserts.map(objectKey), ...deletes])
    t.same(told, ['Pod shop/b', 'Pod shop/b', 'Pod shop/a'], 'and only what has changed is told')
    t.same(healths, [], 'nobody is told that all is well')
  })

  t.test('while nothing can be read the last picture stays', async (t) => {
    const subject = await begin(t, [
      { name: 'a', app: 'x' },
      { name: 'b', app: 'y' },
    ])
    const { source, healths } = subject
    await subject.started
    await subject.break()
    await soon(() => healths.length > 0)
    t.match(healths.at(-1), { name: source.name, isCurrent: false, error: /./ })
    t.match(source.health(), { isCurrent: false, error: /./ })
    await subject.put({ name: 'c', app: 'z' })
    await subject.remove('a')
    t.equal(subject.picture(), 'a=x b=y')
    const known = subject.deltas.length
    await subject.mend()
    await subject.becomes('b=y c=z')
    await soon(() => source.health().isCurrent)
    t.match(healths.at(-1), { isCurrent: true, error: undefined })
    const told = subject.deltas.slice(known).flatMap(({ upserts }) => upserts.map(({ ref }) => ref.name))
    t.same(told, ['c'], 'only the difference is told')
  })

  t.test('a start without a first picture is refused, and tried on', async (t) => {
    const subject = await begin(t, [{ name: 'a', app: 'x' }], true)
    await t.rejects(subject.started, KnpError)
    t.same(subject.deltas, [])
    t.match(subject.source.health(), { isCurrent: false, error: /./ })
    await subject.mend()
    await subject.becomes('a=x')
    t.equal(subject.deltas.length, 1, 'the first delta is the whole picture')
    await soon(() => subject.source.health().isCurrent)
  })

  t.test('nothing is told after the end', async (t) => {
    const { started, abort, put, deltas, source } = await begin(t, [])
    await started
    abort.abort()
    await put({ name: 'a', app: 'x' })
    // Whatever still was under way has its chance.
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
    t.equal(deltas.length, 1)
    source.health()
  })
}

function soon(isSo: () => boolean): Promise<void> {
  return until(async () => {
    await new Promise((resolve) => setImmediate(resolve))
    return isSo()
  }, CHANGE_TIMEOUT_MS)
}
