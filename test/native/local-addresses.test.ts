import fc from 'fast-check'
import t from 'tap'
import { formatAddress, parseAddress } from '../../src/engine/address.ts'
import {
  type AddressListing,
  decodeAddresses,
  type LocalAddress,
  localAddressTest,
  reportsAddresses,
  sameAddresses,
} from '../../src/native/local-addresses.ts'
import { AttributeWriter } from '../../src/native/netlink.ts'

// Bytes as a little-endian machine's kernel sends them: header, ifaddrmsg, attributes.
const NEWADDR = 20
const DELADDR = 21
const NEWLINK = 16
const DONE = 3
const ERROR = 2

function encode(type: number, body: Uint8Array, flags = 0): Uint8Array {
  const bytes = new Uint8Array((16 + body.length + 3) & ~3)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 16 + body.length, true)
  view.setUint16(4, type, true)
  view.setUint16(6, flags, true)
  bytes.set(body, 16)
  return bytes
}

function address(family: number, prefix: number, index: number, attributes: [type: number, value: number[]][]) {
  const writer = new AttributeWriter()
  for (const [type, value] of attributes) writer.data(type, Uint8Array.from(value))
  return Uint8Array.of(family, prefix, 0x80, 0, index, 0, 0, 0, ...writer.finish())
}

const four = [10, 0, 0, 1]
const peer = [10, 0, 0, 2]
const six = [0xfd, 0x77, ...Array(13).fill(0), 1]
const mapped = [...Array(10).fill(0), 0xff, 0xff, 10, 0, 0, 1]
const errno = (value: number) => new Uint8Array(Int32Array.of(-value).buffer)

const cases: [rule: string, messages: Uint8Array[], addresses: string[], rest?: Partial<AddressListing>][] = [
  ['nothing', [encode(DONE, errno(0))], []],
  [
    'IPv4',
    [
      encode(
        NEWADDR,
        address(2, 24, 3, [
          [1, four],
          [2, four],
        ]),
      ),
    ],
    ['10.0.0.1/24 on 3'],
  ],
  [
    'IPv4 with a peer: the peer is not local',
    [
      encode(
        NEWADDR,
        address(2, 32, 4, [
          [1, peer],
          [2, four],
        ]),
      ),
    ],
    ['10.0.0.1/32 on 4'],
  ],
  ['IPv6 has no LOCAL', [encode(NEWADDR, address(10, 64, 3, [[1, six]]))], ['fd77::1/64 on 3']],
  ['the loopback', [encode(NEWADDR, address(2, 8, 1, [[1, [127, 0, 0, 1]]]))], ['127.0.0.1/8 on 1']],
  ['another family', [encode(NEWADDR, address(28, 8, 1, [[1, four]]))], []],
  ['no address', [encode(NEWADDR, address(2, 8, 1, []))], []],
  ['an address of another length', [encode(NEWADDR, address(2, 8, 1, [[1, six]]))], []],
  ['IPv4-mapped is no IPv6 address', [encode(NEWADDR, address(10, 128, 1, [[1, mapped]]))], []],
  ['other messages', [encode(NEWLINK, new Uint8Array(32))], []],
  ['interrupted', [encode(DONE, errno(0), 0x10)], [], { interrupted: true }],
  ['refused', [encode(ERROR, errno(1))], [], { errno: 1 }],
]
for (const [rule, messages, expected, rest] of cases) {
  t.test(rule, async (t) => {
    const listing = decodeAddresses(join(messages))
    t.same(listing?.addresses.map(text), expected)
    t.match(listing, { interrupted: false, errno: 0, ...rest })
  })
}

t.test('which datagrams make us look', async (t) => {
  const body = address(2, 24, 3, [[1, four]])
  t.equal(reportsAddresses(encode(NEWADDR, body)), true)
  t.equal(reportsAddresses(encode(DELADDR, body)), true)
  t.equal(reportsAddresses(encode(NEWLINK, body)), false)
  t.equal(reportsAddresses(join([encode(NEWLINK, body), encode(DELADDR, body)])), true)
  t.equal(reportsAddresses(encode(NEWLINK, body).subarray(0, -4)), true, 'what cannot be read')
  t.equal(reportsAddresses(new Uint8Array(0)), false)
})

t.test('the same addresses, in whatever order', async (t) => {
  const one = { address: { w0: 0, w1: 0, w2: 0xffff, w3: 1 }, prefixLength: 24, interfaceIndex: 1 }
  const two = { ...one, interfaceIndex: 2 }
  t.equal(sameAddresses([one, two], [two, one]), true)
  t.equal(sameAddresses([one], [one, two]), false)
  t.equal(sameAddresses([one], [two]), false)
  t.equal(sameAddresses([one], [{ ...one, prefixLength: 32 }]), false)
  t.equal(sameAddresses([], []), true)
})

t.test('what comes to this machine', async (t) => {
  const local = (text: string): LocalAddress => {
    const [written = '', prefixLength] = text.split('/')
    return { address: parseAddress(written)!, prefixLength: Number(prefixLength), interfaceIndex: 1 }
  }
  const cases: readonly [rule: string, locals: readonly string[], address: string, expected: boolean][] = [
    ['its own', ['10.0.0.1/24', '10.1.0.1/24'], '10.1.0.1', true],
    ['a neighbour', ['10.0.0.1/24'], '10.0.0.2', false],
    ['the subnet itself', ['10.0.0.1/24'], '10.0.0.0', false],
    ['the broadcast of its subnet', ['10.0.0.1/24'], '10.0.0.255', true],
    ['of the second one', ['192.0.2.1/24', '10.0.0.1/24'], '10.0.0.255', true],
    ['another one', ['10.0.0.1/24'], '10.0.1.255', false],
    ['where the prefix is longer', ['10.0.0.1/25'], '10.0.0.255', false],
    ['in the second half', ['10.0.0.129/25'], '10.0.0.255', true],
    ['four addresses have one', ['10.0.0.1/30'], '10.0.0.3', true],
    ['two have none', ['10.0.0.0/31'], '10.0.0.1', false],
    ['one has none', ['10.0.0.1/32'], '10.0.0.0', false],
    ['above the sign bit', ['203.0.113.1/24'], '203.0.113.255', true],
    ['everything is one subnet', ['10.0.0.1/0'], '255.255.255.255', true],
    ['half of everything', ['10.0.0.1/1'], '127.255.255.255', true],
    ['IPv6, its own', ['fd00::1/64'], 'fd00::1', true],
    ['IPv6 has no broadcast', ['fd00::1/64'], 'fd00::ffff:ffff:ffff:ffff', false],
    ['nor has a short prefix', ['fd00::1/24'], 'fd00::ff', false],
    ['families do not mix', ['fd00::a00:1/24'], '10.0.0.255', false],
    ['nor the other way round', ['10.0.0.1/24'], 'fd00::a00:ff', false],
    ['nothing', [], '10.0.0.1', false],
  ]
  for (const [rule, locals, text, expected] of cases)
    t.equal(localAddressTest(locals.map(local))(parseAddress(text)!), expected, rule)
})

t.test('no bytes lead out of the bytes, and none throw', async (t) => {
  const whole = join(cases.flatMap(([, messages]) => messages))
  const around = new Uint8Array(whole.length + 64).fill(0xee)
  const decode = (bytes: Uint8Array) => {
    around.set(bytes, 32)
    const view = around.subarray(32, 32 + bytes.length)
    decodeAddresses(view)?.addresses.map(text)
    reportsAddresses(view)
  }
  for (let length = 0; length < whole.length; length++) decode(whole.subarray(0, length))
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }), (mutations) => {
      const bytes = whole.slice()
      for (const [at, value] of mutations) bytes[at] = value
      decode(bytes)
    }),
    { numRuns: 3000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => decode(bytes)),
    { numRuns: 1000 },
  )
  t.equal(decodeAddresses(encode(NEWADDR, Uint8Array.of(2, 24))), undefined, 'no room for its header')
})

function text({ address, prefixLength, interfaceIndex }: LocalAddress): string {
  return `${formatAddress(address)}/${prefixLength} on ${interfaceIndex}`
}

function join(messages: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(messages))
}
