import t from 'tap'
import { type Address, formatAddress, parseAddress } from '../../src/engine/address.ts'
import { coversName, ResolvedNames, readDomainName } from '../../src/engine/domain-name.ts'
import { InvalidObject, ObjectReader } from '../../src/engine/object-reader.ts'

const object = (spec: unknown, metadata: object = { name: 'api.example.com' }) =>
  new ObjectReader({ apiVersion: 'knp.dev/v1alpha1', kind: 'DomainName', metadata, spec })

t.test('a DomainName', async (t) => {
  const { addresses, ...read } = readDomainName(object({ addresses: ['203.0.113.9', '2001:db8::9'] }))
  t.same(read, {
    type: 'DomainName',
    ref: { kind: 'DomainName', name: 'api.example.com' },
    name: 'api.example.com',
  })
  t.same(addresses.map(formatAddress), ['203.0.113.9', '2001:db8::9'])
  t.same(readDomainName(object({ addresses: [] })).addresses, [], 'a name may have no address')
})

t.test('what a DomainName may not be', async (t) => {
  const refused: readonly [rule: string, object: ObjectReader, message: string | RegExp][] = [
    ['no spec', object(undefined), 'spec: addresses is missing; a name without any is written []'],
    ['no addresses', object({}), 'spec: addresses is missing; a name without any is written []'],
    ['an unknown field', object({ addresses: [], ttl: 1 }), /^spec\.ttl: unknown field "ttl"/],
    ['a network', object({ addresses: ['10.0.0.0/8'] }), 'spec.addresses[0]: "10.0.0.0/8" is no IP address'],
    ['a name', object({ addresses: ['example.com'] }), 'spec.addresses[0]: "example.com" is no IP address'],
    ['a wildcard', object({ addresses: [] }, { name: '*.example.com' }), /^metadata\.name: "\*\.example\.com" is no/],
    ['a name in capitals', object({ addresses: [] }, { name: 'A.b' }), 'metadata.name: "A.b" is no valid object name'],
    ['a trailing dot', object({ addresses: [] }, { name: 'a.b.' }), 'metadata.name: "a.b." is no valid object name'],
    [
      'a namespace',
      object({ addresses: [] }, { name: 'a.b', namespace: 'shop' }),
      'metadata.namespace: a DomainName has no namespace',
    ],
  ]
  for (const [rule, object, message] of refused) {
    t.throws(() => readDomainName(object), InvalidObject, rule)
    t.throws(() => readDomainName(object), { message }, rule)
  }
})

t.test('which names a pattern covers', async (t) => {
  const cases: readonly [rule: string, pattern: string, name: string, covers: boolean][] = [
    ['itself', 'kubernetes.io', 'kubernetes.io', true],
    ['no name below', 'kubernetes.io', 'www.kubernetes.io', false],
    ['no name that ends alike', 'kubernetes.io', 'my-kubernetes.io', false],
    ['no name above', 'www.kubernetes.io', 'kubernetes.io', false],
    ['a wildcard: one label', '*.kubernetes.io', 'www.kubernetes.io', true],
    ['a wildcard: more labels', '*.kubernetes.io', 'latest.blog.kubernetes.io', true],
    ['a wildcard: not none', '*.kubernetes.io', 'kubernetes.io', false],
    ['a wildcard: no empty label', '*.kubernetes.io', '.kubernetes.io', false],
    ['a wildcard: no part of a label', '*.kubernetes.io', 'my-kubernetes.io', false],
    ['a wildcard: no other end', '*.kubernetes.io', 'www.kubernetes.io.example.com', false],
    ['case does not matter', 'Kubernetes.IO', 'kUBERNETES.io', true],
    ['case of a wildcard does not matter', '*.Kubernetes.io', 'WWW.kubernetes.IO', true],
    ['only ASCII letters have a case', 'kubernetes.io', '\u212aubernetes.io', false],
    ['a trailing dot of the name', 'kubernetes.io', 'kubernetes.io.', true],
    ['a trailing dot of the pattern', '*.kubernetes.io.', 'www.kubernetes.io', true],
    ['two trailing dots are none', 'kubernetes.io', 'kubernetes.io..', false],
    ['dots are not any character', 'a.b', 'axb', false],
  ]
  for (const [rule, pattern, name, covers] of cases) t.equal(coversName(pattern, name), covers, rule)
})

const at = (...texts: string[]): Address[] => texts.map((text) => parseAddress(text)!)

t.test('what DNS answers gave', async (t) => {
  const names = new ResolvedNames()
  const known = (name: string) => names.addressesOf(name).map(formatAddress)
  t.same(known('a.example.com'), [], 'a name never heard of')
  t.equal(names.learn('A.example.com.', at('192.0.2.1', '2001:db8::1'), 1000), true)
  t.same(known('a.EXAMPLE.com.'), ['192.0.2.1', '2001:db8::1'], 'however it is written')
  t.equal(names.learn('a.example.com', at('192.0.2.1'), 2000), false, 'nothing new')
  t.equal(names.learn('a.example.com', at('192.0.2.2'), 500), true, 'answers add up')
  t.same(known('a.example.com'), ['192.0.2.1', '2001:db8::1', '192.0.2.2'])
  t.equal(names.learn('b.example.com', at('192.0.2.1', '192.0.2.9'), 3000), true)
  t.equal(names.learn('example.com', at('192.0.2.100'), 3000), true)
  t.equal(names.learn('c.example.com', [], 9000), false, 'an answer without addresses')
  t.same(
    known('*.example.com'),
    ['192.0.2.1', '2001:db8::1', '192.0.2.2', '192.0.2.9'],
    'of all names below, each once',
  )
  t.equal(names.size, 3, 'names that have an address')
  t.same(names.expire(499), [], 'nothing is old')
  t.same(names.expire(500), ['a.example.com'])
  t.same(known('a.example.com'), ['192.0.2.1', '2001:db8::1'])
  t.same(names.expire(1999), ['a.example.com'])
  t.same(known('a.example.com'), ['192.0.2.1'], 'the longer of two lives')
  t.equal(names.learn('a.example.com', at('192.0.2.1'), 1999), false)
  t.same(names.expire(1999), [], 'an answer shortens no life')
  t.same(names.expire(5000), ['a.example.com', 'b.example.com', 'example.com'])
  t.same(known('*.example.com'), [])
  t.equal(names.size, 0)
  t.same(names.expire(9000), [], 'what is gone is gone')
  t.equal(names.learn('a.example.com', at('192.0.2.1'), 9000), true, 'and comes anew')
})
