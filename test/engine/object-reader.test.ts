import t from 'tap'
import {
  attempt,
  formatPath,
  InvalidObject,
  isSubdomain,
  ObjectReader,
  readMetadata,
  UnknownField,
} from '../../src/engine/object-reader.ts'

const at = (value: unknown) => new ObjectReader(value, ['spec', 'ports', 0, 'port'])

type Case = readonly [rule: string, read: () => unknown, problem: string]

const cases: readonly Case[] = [
  ['a list is no mapping', () => at([]).fields(), 'expected a mapping, found a list'],
  ['a text is no mapping', () => at('a').fields(), 'expected a mapping, found "a"'],
  ['a mapping is no list', () => at({}).items(), 'expected a list, found a mapping'],
  ['a number is no list', () => at(7).items(), 'expected a list, found 7'],
  ['nothing is no text', () => at(null).string(), 'expected a string, found nothing'],
  ['a number is no text', () => at(7).string(), 'expected a string, found 7'],
  ['false is no text', () => at(false).optionalString(), 'expected a string, found false'],
  ['a text is no truth value', () => at('true').optionalBoolean(), 'expected true or false, found "true"'],
  ['a choice', () => at('tcp').oneOf(['TCP', 'UDP']), '"tcp" is none of TCP, UDP'],
  ['a text is no number', () => at('80').integer(1, 65535), 'expected an integer, found "80"'],
  ['a fraction', () => at(80.5).integer(1, 65535), 'expected an integer, found 80.5'],
  ['not a number', () => at(Number.NaN).integer(1, 65535), 'expected an integer, found NaN'],
  ['below the range', () => at(0).integer(1, 65535), '0 is outside 1-65535'],
  ['above the range', () => at(65536).integer(1, 65535), '65536 is outside 1-65535'],
  ['a truth value as label value', () => at(true).labelValue(), 'a label value is a string, found true: quote it'],
]

t.test('what a reader refuses', async (t) => {
  for (const [rule, read, problem] of cases) {
    t.throws(read, { problem, message: `spec.ports[0].port: ${problem}`, path: ['spec', 'ports', 0, 'port'] }, rule)
  }
})

t.test('an unknown field is refused at its own place', async (t) => {
  t.throws(() => at({ name: 'a', prot: 1 }).fields(['name', 'port']), {
    name: 'InvalidObject',
    path: ['spec', 'ports', 0, 'port', 'prot'],
    problem: 'unknown field "prot"; known here: name, port',
  })
})

t.test('an unknown field is told apart from other mistakes', async (t) => {
  const errorOf = (value: unknown): unknown => {
    try {
      return at(value).fields(['name'])
    } catch (error) {
      return error
    }
  }
  const unknown = errorOf({ name: 'a', prot: 1 })
  t.ok(unknown instanceof UnknownField && unknown.field === 'prot')
  const other = errorOf([])
  t.ok(other instanceof InvalidObject && !(other instanceof UnknownField))
})

t.test('an attempt fails where the object is at fault, and only there', async (t) => {
  t.equal(
    attempt(() => at('a').string()),
    'a',
  )
  t.equal(
    attempt(() => at(7).string()),
    undefined,
  )
  const broken = () => {
    throw new TypeError('broken')
  }
  t.throws(() => attempt(broken), { message: 'broken' })
})

t.test("a policy's mode is read when it is asked for", async (t) => {
  const read = (annotations: unknown) =>
    readMetadata(new ObjectReader({ metadata: { name: 'a', annotations } }), 'Thing', 'Namespaced')
  t.equal(read(undefined).isAudited, false)
  t.equal(read({ 'knp.dev/mode': 'enforce' }).isAudited, false)
  t.equal(read({ 'knp.dev/mode': 'audit' }).isAudited, true)
  const metadata = read({ 'knp.dev/mode': 'Audit' })
  t.equal(metadata.ref.name, 'a', 'on what is no policy it says nothing')
  t.throws(() => metadata.isAudited, {
    message: 'metadata.annotations.knp.dev/mode: "Audit" is none of enforce, audit',
  })
})

t.test('what is absent', async (t) => {
  for (const value of [null, undefined]) {
    const reader = at(value)
    t.notOk(reader.isPresent)
    t.same(reader.items(), [])
    t.equal(reader.optionalString(), undefined)
    t.equal(reader.optionalBoolean(), undefined)
    t.equal(reader.labels().size, 0)
    t.notOk(reader.fields(['a'])('a').isPresent)
  }
  t.notOk(at({}).fields()('toString').isPresent, 'what every JavaScript object has is no field')
})

t.test('paths', async (t) => {
  t.equal(formatPath(['spec', 'ingress', 0, 'from', 1]), 'spec.ingress[0].from[1]')
  t.equal(new InvalidObject([], 'is wrong').message, 'is wrong')
  const nested = at({ list: [{ a: 1 }] })
    .fields()('list')
    .items()[0]!
    .fields()('a')
  t.same(nested.path, ['spec', 'ports', 0, 'port', 'list', 0, 'a'])
})

t.test('names of objects', async (t) => {
  for (const name of ['a', 'a-b', 'a.b', '0', `${'a'.repeat(250)}.bc`]) t.ok(isSubdomain(name), name)
  for (const name of ['', 'A', '-a', 'a-', 'a..b', '.a', 'a_b', 'a/b', `${'a'.repeat(251)}.bc`])
    t.notOk(isSubdomain(name), name)
})

t.test('metadata', async (t) => {
  const read = (metadata: unknown, scope: 'Namespaced' | 'Cluster' = 'Namespaced') =>
    readMetadata(new ObjectReader({ metadata }), 'Thing', scope)
  t.same(read({ name: 'a' }).ref, { kind: 'Thing', namespace: 'default', name: 'a' }, 'the namespace is default')
  t.same(read({ name: 'a', namespace: '' }).ref.namespace, 'default', 'an empty namespace too')
  t.same(read({ name: 'a', namespace: 'shop' }).ref, { kind: 'Thing', namespace: 'shop', name: 'a' })
  t.same(read({ name: 'a' }, 'Cluster').ref, { kind: 'Thing', name: 'a' }, 'what is cluster-wide has none')
  t.equal(read({ name: 'a', creationTimestamp: '2026-01-02T03:04:05Z' }).createdMs, Date.UTC(2026, 0, 2, 3, 4, 5))
  t.equal(read({ name: 'a', creationTimestamp: null }).createdMs, 0)
  t.same(
    [...read({ name: 'a', labels: { x: 'y', empty: null } }).labels],
    [
      ['x', 'y'],
      ['empty', ''],
    ],
  )
  const refused: readonly [rule: string, metadata: unknown, message: string | RegExp, scope?: 'Cluster'][] = [
    ['nothing', undefined, 'metadata: name is missing'],
    ['no name', { namespace: 'shop' }, 'metadata: name is missing'],
    ['a name that is none', { name: 'Web' }, 'metadata.name: "Web" is no valid object name'],
    [
      'a namespace that is none',
      { name: 'a', namespace: 'a b' },
      'metadata.namespace: "a b" is no valid namespace name',
    ],
    [
      'a namespace of a cluster-wide object',
      { name: 'a', namespace: 'b' },
      'metadata.namespace: a Thing has no namespace',
      'Cluster',
    ],
    [
      'a time that is none',
      { name: 'a', creationTimestamp: 'soon' },
      'metadata.creationTimestamp: "soon" is no timestamp',
    ],
    ['an unknown field', { name: 'a', label: {} }, /^metadata\.label: unknown field "label"; known here: /],
    ['a label that is a list', { name: 'a', labels: { x: [] } }, 'metadata.labels.x: expected a string, found a list'],
  ]
  for (const [rule, metadata, message, scope] of refused) t.throws(() => read(metadata, scope), { message }, rule)
})
