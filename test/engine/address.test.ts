import fc from 'fast-check'
import t from 'tap'
import {
  type Address,
  blockContains,
  formatAddress,
  formatBlock,
  isIPv4,
  parseAddress,
  parseBlock,
  sameAddress,
} from '../../src/engine/address.ts'
import { address } from '../fixtures/packets.ts'

/** Text of an address, and how it is written back; `undefined`: it is none. */
type Case = readonly [rule: string, text: string, formatted: string | undefined]

const cases: readonly Case[] = [
  ['IPv4 is dotted', '10.0.0.1', '10.0.0.1'],
  ['IPv4 with the highest bit', '255.255.255.255', '255.255.255.255'],
  ['a leading zero in IPv4 is ambiguous', '10.0.0.01', undefined],
  ['IPv4 has four parts', '10.0.1', undefined],
  ['IPv4 has no more than four parts', '10.0.0.0.1', undefined],
  ['a part of IPv4 is at most 255', '10.0.0.256', undefined],
  ['a part of IPv4 is not empty', '10..0.1', undefined],
  ['a part of IPv4 has no sign', '10.0.0.+1', undefined],
  ['spaces do not belong to an address', ' 10.0.0.1', undefined],
  ['the unspecified address', '::', '::'],
  ['eight groups', 'fd00:1:2:3:4:5:6:7', 'fd00:1:2:3:4:5:6:7'],
  ['hex digits are written small', 'FD00::ABCD', 'fd00::abcd'],
  ['leading zeros of a group are left out', 'fd00:0001::0002', 'fd00:1::2'],
  ['the longest run of zeros is shortened', 'fd00:0:0:1:0:0:0:1', 'fd00:0:0:1::1'],
  ['the first of two equal runs is shortened', 'fd00:0:0:1:1:0:0:1', 'fd00::1:1:0:0:1'],
  ['one zero group is no run', 'fd00:0:1:1:1:1:1:1', 'fd00:0:1:1:1:1:1:1'],
  [':: may stand for one group', '1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  [':: stands for at least one group', '1:2:3:4::5:6:7:8', undefined],
  [':: stands once', '1::2::3', undefined],
  ['three colons are none', ':::', undefined],
  ['a group has at most four digits', 'fd00::12345', undefined],
  ['a group is hexadecimal', 'fd00::g', undefined],
  ['too few groups', 'fd00:1:2', undefined],
  ['too many groups', '1:2:3:4:5:6:7:8:9', undefined],
  ['a zone is no part of an address', 'fe80::1%eth0', undefined],
  ['the last 32 bits may be dotted', '64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['dotted bits stand last', 'fd00::192.0.2.33:1', undefined],
  ['dotted bits do not stand before ::', '192.0.2.33::', undefined],
  ['the v4-mapped form is the IPv4 address', '::ffff:10.0.0.1', '10.0.0.1'],
  ['the v4-mapped form in hexadecimal too', '::ffff:a00:1', '10.0.0.1'],
  ['the deprecated v4-compatible form is IPv6', '::10.0.0.1', '::a00:1'],
  ['nothing', '', undefined],
  ['a name', 'web', undefined],
]

t.test('addresses', async (t) => {
  for (const [rule, text, formatted] of cases) {
    const parsed = parseAddress(text)
    t.equal(parsed && formatAddress(parsed), formatted, rule)
  }
})

t.test('blocks', async (t) => {
  const blocks: readonly Case[] = [
    ['IPv4', '10.0.0.0/8', '10.0.0.0/8'],
    ['IPv4 of everything', '0.0.0.0/0', '0.0.0.0/0'],
    ['IPv4 of one address', '10.0.0.1/32', '10.0.0.1/32'],
    ['host bits are cleared', '10.255.3.1/9', '10.128.0.0/9'],
    ['IPv6', 'fd00::/8', 'fd00::/8'],
    ['IPv6 of everything', '::/0', '::/0'],
    ['host bits of IPv6 are cleared', 'fd00:1:2:3::1/50', 'fd00:1:2::/50'],
    ['a v4-mapped block is an IPv4 block', '::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['a v4-mapped block would mix the families below /96', '::ffff:10.0.0.0/80', undefined],
    ['an IPv4 prefix is at most 32', '10.0.0.0/33', undefined],
    ['an IPv6 prefix is at most 128', 'fd00::/129', undefined],
    ['a prefix has no leading zero', '10.0.0.0/08', undefined],
    ['a prefix is no netmask', '10.0.0.0/255.0.0.0', undefined],
    ['a prefix is needed', '10.0.0.1', undefined],
    ['a prefix is not negative', '10.0.0.0/-1', undefined],
    ['one prefix', '10.0.0.0/8/8', undefined],
  ]
  for (const [rule, text, formatted] of blocks) {
    const parsed = parseBlock(text)
    t.equal(parsed && formatBlock(parsed), formatted, rule)
  }
})

t.test('a block contains addresses of its own family only', async (t) => {
  const contains: readonly [rule: string, block: string, address: string, expected: boolean][] = [
    ['first', '10.1.0.0/16', '10.1.0.0', true],
    ['last', '10.1.0.0/16', '10.1.255.255', true],
    ['below', '10.1.0.0/16', '10.0.255.255', false],
    ['above', '10.1.0.0/16', '10.2.0.0', false],
    ['odd prefix', '10.1.2.128/25', '10.1.2.127', false],
    ['IPv6 first', 'fd00:1::/33', 'fd00:1::', true],
    ['IPv6 last', 'fd00:1::/33', 'fd00:1:7fff:ffff:ffff:ffff:ffff:ffff', true],
    ['IPv6 above', 'fd00:1::/33', 'fd00:1:8000::', false],
    ['all of IPv6 is no IPv4', '::/0', '10.0.0.1', false],
    ['all of IPv4 is no IPv6', '0.0.0.0/0', 'fd00::1', false],
    ['a block around the v4-mapped range', '::/64', '10.0.0.1', false],
    ['a block one bit wider than the v4-mapped range', '::fffe:0:0/95', '10.0.0.1', false],
    ['the v4-compatible range', '::/96', '0.0.0.1', false],
    ['one mapped address', '::ffff:10.0.0.1/128', '10.0.0.1', true],
  ]
  for (const [rule, block, text, expected] of contains) {
    t.equal(blockContains(parseBlock(block)!, address(text)), expected, rule)
  }
})

const word = fc.oneof(fc.constantFrom(0, 0xffff, -1, 1, -0x80000000), fc.integer({ min: -0x80000000, max: 0x7fffffff }))
const anyAddress: fc.Arbitrary<Address> = fc.record({ w0: word, w1: word, w2: word, w3: word })
const ipv4Address: fc.Arbitrary<Address> = word.map((w3) => ({ w0: 0, w1: 0, w2: 0xffff, w3 }))

t.test('every address survives being written and read', async (t) => {
  const property = fc.property(fc.oneof(anyAddress, ipv4Address), (value) => {
    const again = parseAddress(formatAddress(value))
    return again !== undefined && sameAddress(again, value)
  })
  t.doesNotThrow(() => fc.assert(property, { numRuns: 3000 }))
})

t.test('every block survives being written and read, and contains exactly what shares its prefix', async (t) => {
  const values = fc.oneof(anyAddress, ipv4Address)
  const property = fc.property(values, values, fc.integer({ min: 0, max: 128 }), (base, other, bits) => {
    const block = parseBlock(`${formatAddress(base)}/${isIPv4(base) ? bits % 33 : bits}`)!
    const { prefix } = block
    const again = parseBlock(formatBlock(block))!
    const isInside = isIPv4(base) === isIPv4(other) && bitsOf(base).slice(0, prefix) === bitsOf(other).slice(0, prefix)
    return (
      again.prefix === prefix &&
      sameAddress(again.address, block.address) &&
      blockContains(block, base) &&
      blockContains(block, other) === isInside
    )
  })
  t.doesNotThrow(() => fc.assert(property, { numRuns: 3000 }))
})

function bitsOf({ w0, w1, w2, w3 }: Address): string {
  return [w0, w1, w2, w3].map((each) => (each >>> 0).toString(2).padStart(32, '0')).join('')
}
