import fc from 'fast-check'
import t from 'tap'
import { fields, readJson, type Wanted } from '../../../src/sources/kubernetes/json-scanner.ts'
import { ListReader } from '../../../src/sources/kubernetes/list-reader.ts'

const invalid = { name: 'InvalidJson' }
const names = ['name', 'labels', 'items', 'a', 'metadata', '"', 'é', '\\n', '', '__proto__']
const nameOf = fc.constantFrom(...names)

const { value: jsonValue } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(null, true, false, '', '"', '\\', '\\"', '}', ']', '{[', 'é\u2028😀', '\ud800'),
    fc.string(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc
      .uniqueArray(fc.tuple(nameOf, tie('value')), { maxLength: 5, selector: ([name]) => name })
      .map((entries) => Object.fromEntries(entries)),
  ),
}))

const { wanted: someWanted } = fc.letrec<{ wanted: Wanted }>((tie) => ({
  wanted: fc.oneof(
    { depthSize: 'small' },
    fc.constant<Wanted>('all'),
    tie('wanted').map((alike): Wanted => ({ alike })),
    tie('wanted').map((items): Wanted => ({ items })),
    fc
      .uniqueArray(fc.tuple(fc.constantFrom('name', 'labels', 'items', 'a', 'é', '"', ''), tie('wanted')), {
        maxLength: 4,
        selector: ([name]) => name,
      })
      .map((entries) => fields(Object.fromEntries(entries))),
  ),
}))

/** What is wanted of a value, taken from the whole of it. */
function pick(value: unknown, wanted: Wanted): unknown {
  if (wanted !== 'all' && 'alike' in wanted) return pick(value, wanted.alike)
  if (wanted === 'all' || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return 'items' in wanted ? value.map((item) => pick(item, wanted.items)) : value
  if (!('fields' in wanted)) return value
  const picked: Record<string, unknown> = {}
  for (const { name, wanted: inner } of wanted.fields) {
    if (Object.hasOwn(value, name)) picked[name] = pick((value as Record<string, unknown>)[name], inner)
  }
  return picked
}

t.test('what is wanted is what JSON.parse would have there', async (t) => {
  fc.assert(
    fc.property(jsonValue, someWanted, fc.constantFrom(undefined, 1, '\t'), (value, wanted, indent) => {
      const text = JSON.stringify(value, undefined, indent)
      const read = readJson(Buffer.from(` ${text} `), wanted)
      t.equal(canonical(read), canonical(pick(JSON.parse(text), wanted)))
    }),
    { numRuns: 2000 },
  )
})

t.test('names may be escaped, and the last of two counts', async (t) => {
  const wanted = fields({ name: 'all' })
  t.same(readJson(Buffer.from('{"n\\u0061me": 1}'), wanted), { name: 1 })
  t.same(readJson(Buffer.from('{"name": 1, "name": {"x": 2}}'), wanted), { name: { x: 2 } })
})

t.test('a list is read the same however it is cut', async (t) => {
  fc.assert(
    fc.property(
      fc.array(jsonValue, { maxLength: 6 }),
      someWanted,
      fc.constantFrom(undefined, 2),
      fc.boolean(),
      fc.array(fc.nat(400), { maxLength: 12 }),
      (items, wanted, indent, isMetadataLast, cuts) => {
        const metadata = { resourceVersion: '7', continue: 'é', remaining: { items: [1] } }
        const list = isMetadataLast ? { kind: 'List', items, metadata } : { kind: 'List', metadata, items, x: [{}] }
        const text = Buffer.from(JSON.stringify(list, undefined, indent))
        const taken: unknown[] = []
        const reader = new ListReader(wanted, (item) => taken.push(item))
        const places = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length]
        for (const [i, place] of places.slice(1).entries()) reader.write(text.subarray(places[i], place))
        t.same(reader.end(), { resourceVersion: '7', next: 'é' })
        const expected = (JSON.parse(text.toString()) as { items: unknown[] }).items
        t.equal(canonical(taken), canonical(expected.map((item) => pick(item, wanted))))
      },
    ),
    { numRuns: 1000 },
  )
})

t.test('what is alike is made once, for each purpose', async (t) => {
  const items: { a: object; b: object }[] = []
  const wanted = fields({ a: { alike: fields({ x: 'all' }) }, b: { alike: 'all' } })
  const reader = new ListReader(wanted, (item) => items.push(item as { a: object; b: object }))
  const item = '{"a":{"x":1,"y":2},"b":{"x":1,"y":2}}'
  reader.write(Buffer.from(`{"metadata":{"resourceVersion":"1"},"items":[${item},${item}]}`))
  reader.end()
  t.same(items, [
    { a: { x: 1 }, b: { x: 1, y: 2 } },
    { a: { x: 1 }, b: { x: 1, y: 2 } },
  ])
  t.equal(items[1]!.b, items[0]!.b)
})

t.test('what is cut off or broken is no JSON', async (t) => {
  const text = '{"a": [1, {"b": "c\\""}], "name": "x", "n": null}'
  for (let end = 0; end < text.length; end++) {
    t.throws(() => readJson(Buffer.from(text.slice(0, end)), fields({ name: 'all' })), invalid, text.slice(0, end))
  }
  const broken = ['{"name" 1}', '{"name": tru}', '{"name": 1,}', '{name: 1}', '{"name": 1} x', '{"name": 1]', '{"a": }']
  for (const text of broken) t.throws(() => readJson(Buffer.from(text), fields({ name: 'all' })), invalid, text)
})

t.test('a list that is not whole is none', async (t) => {
  const text = '{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{"name":"a"},{"name":"b"}]}'
  for (let end = 0; end < text.length; end++) {
    const reader = new ListReader('all', () => {})
    reader.write(Buffer.from(text.slice(0, end)))
    t.throws(() => reader.end(), invalid, text.slice(0, end))
  }
  const reader = new ListReader('all', () => {})
  reader.write(Buffer.from('{"kind":"PodList","items":null}'))
  t.throws(() => reader.end(), /resourceVersion/, 'without a version nothing can follow it')
})

/** The same for the same values: -0 and 0 are one in JSON. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
