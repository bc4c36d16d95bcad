import t from 'tap'
import { formatAddress, parseAddress } from '../../src/engine/index.ts'
import { ConnectionReader, connectionsMarked } from '../../src/native/connections.ts'
import { Attributes, AttributeWriter, encodeMessages } from '../../src/native/netlink.ts'
import { type ConnectionSpec, connectionAttributes, familyNumber } from '../kernel/connections.ts'

const ENTRY = 0x100
const address = (text: string) => parseAddress(text)!
const v4 = { source: address('10.0.0.1'), sourcePort: 5000, destination: address('192.168.255.254'), port: 53 }
const v6 = { source: address('fd00::1'), sourcePort: 5001, destination: address('fd77:1::2:3'), port: 443 }

const cases: [string, ConnectionSpec, object][] = [
  [
    'IPv4 UDP',
    { protocol: 'udp', ...v4, mark: 0xf0000001 },
    {
      family: 4,
      mark: 0xf0000001,
      zone: 0,
      original: ['10.0.0.1', 5000, '192.168.255.254', 53, 17, 0, 0],
      reply: ['192.168.255.254', 53, '10.0.0.1', 5000, 17, 0, 0],
    },
  ],
  [
    'IPv6 TCP in a zone',
    { protocol: 'tcp', ...v6, mark: 7, zone: 0x1234 },
    {
      family: 6,
      mark: 7,
      zone: 0x1234,
      original: ['fd00::1', 5001, 'fd77:1::2:3', 443, 6, 0, 0],
      reply: ['fd77:1::2:3', 443, 'fd00::1', 5001, 6, 0, 0],
    },
  ],
  [
    'IPv4 ICMP',
    { protocol: 'icmp', ...v4, mark: 0 },
    {
      family: 4,
      mark: 0,
      zone: 0,
      original: ['10.0.0.1', 0, '192.168.255.254', 0, 1, 8, 0],
      reply: ['192.168.255.254', 0, '10.0.0.1', 0, 1, 0, 0],
    },
  ],
  [
    'ICMPv6',
    { protocol: 'icmp', ...v6, mark: 0 },
    {
      family: 6,
      mark: 0,
      zone: 0,
      original: ['fd00::1', 0, 'fd77:1::2:3', 0, 58, 128, 0],
      reply: ['fd77:1::2:3', 0, 'fd00::1', 0, 58, 129, 0],
    },
  ],
  [
    'behind DNAT and masquerade',
    {
      protocol: 'tcp',
      ...v4,
      mark: 1,
      server: { address: address('10.1.1.1'), port: 8080 },
      client: { address: address('10.9.9.9'), port: 6000 },
    },
    {
      family: 4,
      mark: 1,
      zone: 0,
      original: ['10.0.0.1', 5000, '192.168.255.254', 53, 6, 0, 0],
      reply: ['10.1.1.1', 8080, '10.9.9.9', 6000, 6, 0, 0],
    },
  ],
]

t.test('connections of all kinds are read, and nothing of one is left in the next', async (t) => {
  const reader = new ConnectionReader()
  reader.open(partOf(cases.map(([, spec]) => spec)))
  for (const [name, , expected] of cases) {
    t.equal(reader.next(), true, name)
    t.same(seen(reader), expected, name)
  }
  t.equal(reader.next(), false)
  t.equal(reader.next(), false, 'and stays at the end')
  reader.open(partOf([cases[0]![1]]))
  t.equal(reader.next(), true, 'another part')
})

t.test('a kernel that tracks no marks: 0', async (t) => {
  const withoutMark = new AttributeWriter()
  for (const { type, value } of new Attributes(connectionAttributes(cases[0]![1]))) {
    if (type !== 8) withoutMark.data(type, value)
  }
  const reader = new ConnectionReader()
  const whole = connectionAttributes(cases[0]![1])
  reader.open(encodeMessages([entry(whole), entry(withoutMark.finish())], 1, false))
  const marks: number[] = []
  while (reader.next()) marks.push(reader.mark)
  t.same(marks, [0xf0000001, 0])
})

t.test('a connection that was picked up midway is told by its flags', async (t) => {
  const withFlags = (flags: number) => {
    const writer = new AttributeWriter().append(connectionAttributes({ protocol: 'udp', ...v4, mark: 0 }))
    const info = writer.openNest(4)
    const tcp = writer.openNest(1)
    writer.u8(1, 3).u8(2, 0xff).data(4, Uint8Array.of(flags, 0)).closeNest(tcp).closeNest(info)
    return writer.finish()
  }
  const reader = new ConnectionReader()
  reader.open(encodeMessages([withFlags(0x08), withFlags(0x07), withFlags(0x0a)].map(entry), 1, false))
  const found: boolean[] = []
  while (reader.next()) found.push(reader.isPickedUp)
  t.same(found, [true, false, true])
})

t.test('a change names the connection by its first tuple and its zone, and writes masked bits only', async (t) => {
  const reader = new ConnectionReader()
  const spec = cases[1]![1]
  const part = partOf([spec])
  reader.open(part)
  reader.next()
  const change = reader.changeMark(0xffff0300, 0xff00)
  part.fill(0)
  t.match(change, { type: ENTRY, flags: 0, family: 10 })
  const attributes = new Attributes(change.attributes)
  const original = new Attributes(connectionAttributes(spec)).get(1)
  t.same(attributes.get(1), original, 'a copy, not a view')
  t.same(attributes.get(18), Uint8Array.of(0x12, 0x34))
  t.equal(attributes.u32(8), 0x300)
  t.equal(attributes.u32(21), 0xff00)
})

t.test('the kernel is asked for a mark, in one family or both', async (t) => {
  const families = [4, 6, 'both'] as const
  const asked = families.map((family) => connectionsMarked({ mask: 0xff00, value: 0x1234 }, family))
  t.same(
    asked.map(({ family }) => family),
    [2, 10, 0],
  )
  t.equal(new Attributes(asked[0]!.attributes).u32(8), 0x1200)
  t.equal(new Attributes(asked[0]!.attributes).u32(21), 0xff00)
})

t.test('what lacks an address or is no connection is left out', async (t) => {
  const whole = connectionAttributes(cases[0]![1])
  const writer = new AttributeWriter()
  const tuple = writer.openNest(1)
  writer.u32(3, 0xabcd).closeNest(tuple)
  const oneAddress = new AttributeWriter()
  const original = oneAddress.openNest(1)
  const addresses = oneAddress.openNest(1)
  oneAddress.u32(1, 0x0a000001).closeNest(addresses).closeNest(original).data(2, new Attributes(whole).get(2)!)
  const messages = [
    entry(writer.finish()),
    entry(oneAddress.finish()),
    entry(new Uint8Array(0)),
    entry(new Attributes(whole).bytes.slice(0, 52)),
    { ...entry(whole), type: ENTRY + 1 },
    { ...entry(whole), family: 1 },
    entry(whole),
  ]
  const reader = new ConnectionReader()
  reader.open(encodeMessages(messages, 1, false))
  t.equal(reader.next(), true)
  t.same(seen(reader), cases[0]![2])
  t.equal(reader.next(), false)
})

t.test('no bytes lead out of the part: each is read, or is a RangeError', async (t) => {
  const whole = partOf(cases.map(([, spec]) => spec))
  let refused = 0
  const read = (bytes: Uint8Array) => {
    const reader = new ConnectionReader()
    reader.open(bytes)
    try {
      while (reader.next()) reader.changeMark(1, 1)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      refused++
    }
  }
  for (let length = 0; length < whole.length; length++) read(whole.slice(0, length))
  for (let at = 0; at < whole.length; at++) {
    for (const value of [0, 1, 3, 4, 0x7f, 0x80, 0xff]) read(whole.with(at, value))
  }
  t.ok(refused > 100)
})

function partOf(specs: readonly ConnectionSpec[]): Uint8Array {
  const messages = specs.map((spec) => ({ ...entry(connectionAttributes(spec)), family: familyNumber(spec.source) }))
  return encodeMessages(messages, 1, false)
}

function entry(attributes: Uint8Array) {
  return { type: ENTRY, flags: 0, family: 2, attributes }
}

function seen({ family, mark, zone, original, reply }: ConnectionReader) {
  const tuple = ({ source, destination, protocol, icmpType, icmpCode }: ConnectionReader['original']) => [
    formatAddress(source),
    source.port,
    formatAddress(destination),
    destination.port,
    protocol,
    icmpType,
    icmpCode,
  ]
  return { family, mark, zone, original: tuple(original), reply: tuple(reply) }
}
