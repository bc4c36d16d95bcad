import t from 'tap'
import { ObjectReader } from '../../src/engine/object-reader.ts'
import {
  everything,
  formatRequirement,
  isMet,
  type Operator,
  readSelector,
  selectorKey,
  selects,
} from '../../src/engine/selector.ts'

const labels = new Map([
  ['app', 'web'],
  ['tier', ''],
])

type Case = readonly [rule: string, operator: Operator, key: string, values: readonly string[], expected: boolean]

const cases: readonly Case[] = [
  ['In: the value is in it', 'In', 'app', ['api', 'web'], true],
  ['In: the value is not in it', 'In', 'app', ['api'], false],
  ['In: a missing key does not match', 'In', 'zone', ['web'], false],
  ['In: a missing key is not the empty value', 'In', 'zone', [''], false],
  ['In: the empty value', 'In', 'tier', [''], true],
  ['NotIn: the value is in it', 'NotIn', 'app', ['api', 'web'], false],
  ['NotIn: the value is not in it', 'NotIn', 'app', ['api'], true],
  ['NotIn: a missing key matches', 'NotIn', 'zone', ['web'], true],
  ['Exists: present', 'Exists', 'app', [], true],
  ['Exists: present with the empty value', 'Exists', 'tier', [], true],
  ['Exists: missing', 'Exists', 'zone', [], false],
  ['DoesNotExist: present', 'DoesNotExist', 'app', [], false],
  ['DoesNotExist: present with the empty value', 'DoesNotExist', 'tier', [], false],
  ['DoesNotExist: missing', 'DoesNotExist', 'zone', [], true],
]

t.test('requirements', async (t) => {
  for (const [rule, operator, key, values, expected] of cases) {
    t.equal(isMet({ key, operator, values }, labels), expected, rule)
  }
})

function read(value: unknown) {
  return readSelector(new ObjectReader(value))
}

t.test('selectors', async (t) => {
  t.ok(selects(everything, labels), 'no requirement selects everything')
  t.ok(selects(read({}), new Map()), 'an empty one selects what has no label')
  t.ok(selects(read(undefined), labels), 'an absent one is empty')
  t.ok(selects(read({ matchLabels: null, matchExpressions: null }), labels), 'null counts as absent')
  const both = read({ matchLabels: { app: 'web' }, matchExpressions: [{ key: 'tier', operator: 'Exists' }] })
  t.ok(selects(both, labels), 'all requirements hold')
  t.notOk(selects(both, new Map([['app', 'web']])), 'requirements are ANDed')
  t.notOk(selects(both, new Map([['tier', 'x']])), 'matchLabels is one of them')
  t.ok(selects(read({ matchLabels: { tier: null } }), labels), 'a null value is the empty one')
})

t.test('what the API refuses', async (t) => {
  const long = 'a'.repeat(64)
  const expression = (fields: object) => ({
    matchExpressions: [{ key: 'app', operator: 'In', values: ['a'], ...fields }],
  })
  const refused: readonly [rule: string, selector: unknown, message: string | RegExp][] = [
    ['a list', [], 'expected a mapping, found a list'],
    ['an unknown field', { matchLabel: {} }, /^matchLabel: unknown field "matchLabel"; known here: matchLabels, /],
    [
      'an unknown operator',
      expression({ operator: 'in' }),
      'matchExpressions[0].operator: "in" is none of In, NotIn, Exists, DoesNotExist',
    ],
    [
      'a missing operator',
      expression({ operator: null }),
      'matchExpressions[0].operator: expected a string, found nothing',
    ],
    ['a missing key', expression({ key: undefined }), 'matchExpressions[0].key: expected a string, found nothing'],
    ['In without values', expression({ values: [] }), 'matchExpressions[0]: operator In needs values'],
    [
      'NotIn without values',
      expression({ operator: 'NotIn', values: null }),
      'matchExpressions[0]: operator NotIn needs values',
    ],
    [
      'Exists with values',
      expression({ operator: 'Exists' }),
      'matchExpressions[0].values: operator Exists takes no values',
    ],
    [
      'DoesNotExist with values',
      expression({ operator: 'DoesNotExist' }),
      'matchExpressions[0].values: operator DoesNotExist takes no values',
    ],
    [
      'a number as value',
      expression({ values: [1] }),
      'matchExpressions[0].values[0]: a label value is a string, found 1: quote it',
    ],
    [
      'a value that is no label value',
      expression({ values: ['a b'] }),
      'matchExpressions[0].values[0]: "a b" is no valid label value',
    ],
    ['a value of 64 characters', { matchLabels: { app: long } }, `matchLabels.app: "${long}" is no valid label value`],
    [
      'a key of 64 characters',
      { matchLabels: { [long]: 'a' } },
      `matchLabels.${long}: "${long}" is no valid label key`,
    ],
    ['a key with two slashes', { matchLabels: { 'a/b/c': 'a' } }, 'matchLabels.a/b/c: "a/b/c" is no valid label key'],
    ['a key with an empty prefix', { matchLabels: { '/b': 'a' } }, 'matchLabels./b: "/b" is no valid label key'],
    [
      'a key with a prefix in capitals',
      { matchLabels: { 'A.b/c': 'a' } },
      'matchLabels.A.b/c: "A.b/c" is no valid label key',
    ],
    ['a key without a name', { matchLabels: { 'a.b/': 'a' } }, 'matchLabels.a.b/: "a.b/" is no valid label key'],
  ]
  for (const [rule, selector, message] of refused) {
    t.throws(() => read(selector), { name: 'InvalidObject', message }, rule)
  }
})

t.test('they are written as kubectl writes them', async (t) => {
  const texts: readonly [operator: Operator, values: readonly string[], text: string][] = [
    ['In', ['web'], 'app=web'],
    ['In', ['web', 'api'], 'app in (web, api)'],
    ['NotIn', ['web'], 'app!=web'],
    ['NotIn', ['web', 'api'], 'app notin (web, api)'],
    ['Exists', [], 'app'],
    ['DoesNotExist', [], '!app'],
  ]
  for (const [operator, values, text] of texts) t.equal(formatRequirement({ key: 'app', operator, values }), text)
})

t.test('the key is equal for the same selector in another order, and for no other', async (t) => {
  const one = read({
    matchExpressions: [
      { key: 'a', operator: 'In', values: ['x', 'y'] },
      { key: 'b', operator: 'Exists' },
    ],
  })
  const other = read({
    matchExpressions: [
      { key: 'b', operator: 'Exists' },
      { key: 'a', operator: 'In', values: ['y', 'x'] },
    ],
  })
  t.equal(selectorKey(one), selectorKey(other))
  t.equal(
    selectorKey(read({ matchLabels: { a: 'x' } })),
    selectorKey(read({ matchExpressions: [{ key: 'a', operator: 'In', values: ['x'] }] })),
  )
  const different = [
    read({ matchExpressions: [{ key: 'a', operator: 'In', values: ['x.y'] }] }).requirements,
    read({ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['x', 'y'] }] }).requirements,
    one.requirements,
    [],
  ].map((requirements) => selectorKey({ requirements }))
  t.equal(new Set(different).size, different.length)
})
