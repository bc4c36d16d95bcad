import t from 'tap'
import { ObjectReader, readPod } from '../../../src/engine/index.ts'
import { attempt } from '../../../src/engine/object-reader.ts'
import { Interner } from '../../../src/sources/kubernetes/interner.ts'
import { readJson } from '../../../src/sources/kubernetes/json-scanner.ts'
import { PlainPods } from '../../../src/sources/kubernetes/plain-pods.ts'
import { builtInResources } from '../../../src/sources/kubernetes/resources.ts'
import { type Random, seededRandom } from '../../fixtures/random.ts'
import { pod } from './follow.ts'

/** What may stand in the place of any value. */
const odd: readonly unknown[] = [
  undefined,
  null,
  '',
  'A',
  0,
  true,
  [],
  {},
  [{}],
  ['x'],
  { x: 'y' },
  { '-': 'y' },
  '300.0.0.1',
]

/** A plain pod with some of its values replaced. */
function somePod(random: Random, replaced: number): unknown {
  const { kind: _, ...plain } = pod(
    `p${random.below(3)}`,
    { app: random.pick(['a', 'b']) },
    `10.0.0.${random.below(300)}`,
  )
  const metadata = {
    ...plain.metadata,
    uid: undefined,
    managedFields: undefined,
    creationTimestamp: '2026-01-01T00:00:00Z',
  }
  const value = structuredClone({ ...plain, metadata })
  for (let i = 0; i < replaced; i++) replaceOne(random, value)
  return readJson(Buffer.from(JSON.stringify(value)), builtInResources[0]!.wanted)
}

function replaceOne(random: Random, value: object): void {
  const places = Object.keys(value)
  if (places.length === 0) return
  const place = random.pick([...places, ...more])
  const inner = (value as Record<string, unknown>)[place]
  if (typeof inner === 'object' && inner !== null && !random.oneIn(4)) replaceOne(random, inner)
  else if (!Array.isArray(value) || places.includes(place))
    Object.assign(value, { [place]: structuredClone(random.pick(odd)) })
}

/** Fields that a plain pod does not have. */
const more = ['hostNetwork', 'initContainers', 'podIPs', 'podIP', 'phase', 'nodeName', 'ports', 'labels']

t.test('what is read quickly is what the reader of pods reads', async (t) => {
  const random = seededRandom(7)
  const pods = new PlainPods(new Interner())
  let plain = 0
  for (let i = 0; i < 20_000; i++) {
    const value = somePod(random, random.below(4))
    const read = pods.read(value)
    if (!read) continue
    plain++
    const expected = attempt(() => readPod(new ObjectReader(value)))
    if (JSON.stringify(text(read)) !== JSON.stringify(text(expected))) t.same(read, expected, JSON.stringify(value))
  }
  t.ok(plain > 3000, `${plain} were plain`)
})

t.test('pods as nearly all are, are read quickly', async (t) => {
  const { kind: _, ...value } = pod('a')
  const { uid: __, managedFields: ___, ...metadata } = value.metadata
  const plain = { ...value, metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' } }
  const { status } = pod('a') as unknown as { status: object }
  const pods = new PlainPods(new Interner())
  t.same(pods.read(plain), readPod(new ObjectReader(plain)))
  t.equal(pods.read(plain)!.labels, pods.read(plain)!.labels)
  for (const phase of ['Succeeded', 'Failed', 'Unknown', 'Other']) {
    t.equal(pods.read({ ...plain, status: { ...status, phase } }), undefined, phase)
  }
})

function text(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null, (_, inner) => (inner instanceof Map ? [...inner] : inner)))
}
