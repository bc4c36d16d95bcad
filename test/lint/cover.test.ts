import t from 'tap'
import { parseBlock } from '../../src/engine/address.ts'
import { ANY_PROTOCOL, type PeerMatch } from '../../src/engine/policy.ts'
import { isWide, peerCovers, portCovers, selectorCovers } from '../../src/lint/cover.ts'
import { block, domainName, nodes, pods, port, selector } from '../fixtures/lint-input.ts'

t.test('selectors', async (t) => {
  const cases: readonly [wide: string, narrow: string, covers: boolean][] = [
    ['', '', true],
    ['', 'a=1', true],
    ['a=1', '', false],
    ['a=1', 'a=1', true],
    ['a=1', 'a=1,b=2', true],
    ['a=1,b=2', 'a=1', false],
    ['a=1', 'a=2', false],
    ['a=1', 'b=1', false],
    ['a in 1 2', 'a=1', true],
    ['a=1', 'a in 1 2', false],
    ['a', 'a=1', true],
    ['a', 'a', true],
    ['a', 'a notin 1', false],
    ['a', '!a', false],
    ['a=1', 'a', false],
    ['!a', '!a', true],
    ['!a', 'a notin 1', false],
    ['!a', 'a', false],
    ['a notin 1', 'a=2', true],
    ['a notin 1', 'a=1', false],
    ['a notin 1', 'a in 1 2', false],
    ['a notin 1', 'a notin 1 2', true],
    ['a notin 1 2', 'a notin 1', false],
    ['a notin 1', '!a', true],
    ['a notin 1', 'a', false],
  ]
  for (const [wide, narrow, covers] of cases)
    t.equal(selectorCovers(selector(wide), selector(narrow)), covers, `${wide || 'all'} covers ${narrow || 'all'}`)
})

t.test('peers', async (t) => {
  const cases: readonly [rule: string, wide: PeerMatch, narrow: PeerMatch, covers: boolean][] = [
    ['pods, the same', pods('a=1'), pods('a=1'), true],
    ['pods, one label more', pods('a=1'), pods('a=1,b=2'), true],
    ['pods, one label less', pods('a=1,b=2'), pods('a=1'), false],
    ['own namespace in all', pods('a=1', ''), pods('a=1'), true],
    ['all not in own namespace', pods('a=1'), pods('a=1', ''), false],
    ['own namespace by its name', pods('a=1', 'kubernetes.io/metadata.name=shop'), pods('a=1'), true],
    ['the name of the own namespace', pods('a=1'), pods('a=1', 'kubernetes.io/metadata.name=shop'), true],
    ['the name of another namespace', pods('a=1'), pods('a=1', 'kubernetes.io/metadata.name=lab'), false],
    ['a label of the own namespace is not certain', pods('a=1', 'team=x'), pods('a=1'), false],
    ['an empty selector matches no NetworkSet', pods('', ''), pods('a=1', ''), false],
    ['nor does one that asks for no label', pods('b notin 1', ''), pods('a=1,b=2', ''), false],
    ['without NetworkSets it covers', pods('', ''), pods('a notin 1', ''), true],
    ['nodes', nodes('role'), nodes('role=edge'), true],
    ['nodes the other way', nodes('role=edge'), nodes('role'), false],
    ['every node is no pod', nodes(''), pods('a=1'), false],
    ['every pod is no node', pods('', ''), nodes('a=1'), false],
    ['a block in it', block('10.0.0.0/8'), block('10.1.0.0/16'), true],
    ['the same block', block('10.0.0.0/8'), block('10.0.0.0/8'), true],
    ['a block around it', block('10.1.0.0/16'), block('10.0.0.0/8'), false],
    ['a block beside it', block('10.1.0.0/16'), block('10.2.0.0/16'), false],
    ['the other family', block('::/0'), block('10.0.0.0/8'), false],
    ['and the other way', block('0.0.0.0/0'), block('::/0'), false],
    ['an exception beside it', block('10.0.0.0/8', '10.2.0.0/16'), block('10.1.0.0/16'), true],
    ['an exception that holds it', block('10.0.0.0/8', '10.0.0.0/9'), block('10.1.0.0/16'), false],
    ['an exception in it', block('10.0.0.0/8', '10.1.2.0/24'), block('10.1.0.0/16'), false],
    ['an exception of both', block('10.0.0.0/8', '10.1.2.0/24'), block('10.1.0.0/16', '10.1.2.0/23'), true],
    ['a narrower exception', block('10.0.0.0/8', '10.1.2.0/23'), block('10.1.0.0/16', '10.1.2.0/24'), false],
    ['an exception of the narrower alone', block('10.0.0.0/8'), block('10.0.0.0/8', '10.1.0.0/16'), true],
    ['no block holds every pod', block('0.0.0.0/0'), pods('', ''), false],
    ['a name', domainName('a.example'), domainName('a.example'), true],
    ['another name', domainName('a.example'), domainName('b.example'), false],
    ['a name under it', domainName('*.example'), domainName('a.b.example'), true],
    ['names under it', domainName('*.example'), domainName('*.b.example'), true],
    ['names above it', domainName('*.b.example'), domainName('*.example'), false],
    ['a wildcard is not its parent', domainName('*.b.example'), domainName('b.example'), false],
    ['nor a name that ends like it', domainName('*.b.example'), domainName('ab.example'), false],
  ]
  for (const [rule, wide, narrow, covers] of cases) {
    const inShop = (match: PeerMatch) => ({ match, namespace: 'shop' })
    t.equal(peerCovers(inShop(wide), inShop(narrow)), covers, rule)
  }
})

t.test('ports', async (t) => {
  const any = { protocol: ANY_PROTOCOL, first: 0, last: 0, portName: 'http' }
  const cases: readonly [wide: string, narrow: string, covers: boolean][] = [
    ['80/TCP', '80/TCP', true],
    ['80/TCP', '80/UDP', false],
    ['80/TCP', '81/TCP', false],
    ['1-80/TCP', '79-80/TCP', true],
    ['1-80/TCP', '80-81/TCP', false],
    ['2-80/TCP', '1-79/TCP', false],
    ['http/TCP', 'http/TCP', true],
    ['http/TCP', 'http/UDP', false],
    ['http/TCP', 'web/TCP', false],
    ['http/TCP', '80/TCP', false],
    ['80/TCP', 'http/TCP', false],
    ['0-65535/TCP', 'http/TCP', true],
    ['0-65535/UDP', 'http/TCP', false],
    ['1-65534/TCP', 'http/TCP', false],
  ]
  for (const [wide, narrow, covers] of cases)
    t.equal(portCovers(port(wide), port(narrow)), covers, `${wide} covers ${narrow}`)
  t.equal(portCovers(any, port('http/TCP')), true, 'a name of any protocol')
  t.equal(portCovers(port('http/TCP'), any), false)
  t.equal(portCovers(port('0-65535/TCP'), any), false)
  t.equal(portCovers(any, any), true)
  t.equal(portCovers(any, port('80/TCP')), false)
})

t.test('wide blocks', async (t) => {
  for (const [cidr, wide] of [
    ['0.0.0.0/0', true],
    ['128.0.0.0/1', true],
    ['10.0.0.0/8', false],
    ['::/0', true],
    ['2000::/3', true],
    ['fc00::/7', false],
  ] as const)
    t.equal(isWide(parseBlock(cidr)!), wide, cidr)
})
