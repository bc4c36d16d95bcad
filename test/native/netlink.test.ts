import fc from 'fast-check'
import t from 'tap'
import {
  Attributes,
  AttributeWriter,
  decodeReplies,
  encodeBatch,
  encodeMessages,
  hostU16s,
  hostU32,
  MAX_ATTRIBUTE_BYTES,
  NetlinkError,
  type NetlinkMessage,
  NLM_F_CREATE,
} from '../../src/native/netlink.ts'

// The expected bytes are those of a little-endian machine, as are all that knp is built for.

t.test('attributes have a length, a type, and padding to 4 bytes', async (t) => {
  const cases: [string, AttributeWriter, string][] = [
    ['u8', new AttributeWriter().u8(1, 0xab), '0500 0100 ab000000'],
    ['u16 in network order', new AttributeWriter().u16(2, 0x1234), '0600 0200 12340000'],
    ['u32 in network order', new AttributeWriter().u32(3, 0x89abcdef), '0800 0300 89abcdef'],
    ['string with its zero', new AttributeWriter().string(4, 'knp'), '0800 0400 6b6e7000'],
    ['data', new AttributeWriter().data(5, Uint8Array.of(1, 2, 3, 4, 5)), '0900 0500 0102030405000000'],
    ['no data', new AttributeWriter().data(6, new Uint8Array(0)), '0400 0600'],
    ['appended', new AttributeWriter().append(new AttributeWriter().u8(1, 2).finish()), '0500 0100 02000000'],
  ]
  for (const [name, writer, hex] of cases) t.equal(toHex(writer.finish()), hex.replaceAll(' ', ''), name)
})

t.test('a nest has the nested flag and the length of what is in it', async (t) => {
  const writer = new AttributeWriter()
  const outer = writer.openNest(1)
  const inner = writer.openNest(2)
  writer.u8(3, 4).closeNest(inner).closeNest(outer)
  t.equal(toHex(writer.finish()), '10000180' + '0c000280' + '0500030004000000')
})

t.test('an attribute ends at 64 KiB', async (t) => {
  t.equal(new AttributeWriter().data(1, new Uint8Array(MAX_ATTRIBUTE_BYTES)).finish().length, 65536)
  t.throws(() => new AttributeWriter().data(1, new Uint8Array(MAX_ATTRIBUTE_BYTES + 1)), RangeError)
  const writer = new AttributeWriter()
  const nest = writer.openNest(1)
  writer.data(2, new Uint8Array(40_000)).data(2, new Uint8Array(40_000))
  t.throws(() => writer.closeNest(nest), RangeError)
})

t.test('what is written is read', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.record({ type: fc.nat(0x3fff), value: fc.uint8Array({ maxLength: 70 }) })), (entries) => {
      const writer = new AttributeWriter(4)
      const nest = writer.openNest(9)
      for (const { type, value } of entries) writer.data(type, value)
      const bytes = writer.closeNest(nest).finish()
      const read = [...new Attributes(bytes).nested(9)!]
      t.same(
        read.map(({ type, value }) => ({ type, value: [...value] })),
        entries.map(({ type, value }) => ({ type, value: [...value] })),
      )
    }),
    { numRuns: 50 },
  )
})

t.test('values are read in their type, and are missing when too short', async (t) => {
  const bytes = new AttributeWriter()
    .u32(1, 0xfffffffe)
    .data(2, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 2))
    .string(3, 'näme')
    .data(4, Uint8Array.of(0x61, 0x62))
    .data(4, Uint8Array.of(0x63))
    .finish()
  const attributes = new Attributes(bytes)
  t.equal(attributes.u32(1), 0xfffffffe)
  t.equal(attributes.u64(2), 2 ** 32 + 2)
  t.equal(attributes.string(3), 'näme')
  t.equal(attributes.string(4), 'ab', 'a string without its zero')
  t.equal(attributes.u32(4), undefined)
  t.equal(attributes.u64(1), undefined)
  t.equal(attributes.get(7), undefined)
  t.equal(attributes.nested(7), undefined)
  t.equal(attributes.all(4).length, 2)
})

t.test('registers and structs are in host order', async (t) => {
  t.equal(toHex(hostU32(0x80000001)), '01000080')
  t.equal(toHex(hostU16s([0x1234, 1], 8)), '3412010000000000')
})

const message: NetlinkMessage = {
  type: 0x0a06,
  flags: NLM_F_CREATE,
  family: 1,
  attributes: new AttributeWriter().u8(1, 2).finish(),
}

t.test('messages are numbered, and the last one asks for an answer', async (t) => {
  const one = (flags: string, sequence: string) =>
    `1c000000 060a ${flags} ${sequence} 00000000 01000000 0500010002000000`
  const expected = one('0104', '05000000') + one('0504', '06000000')
  t.equal(toHex(encodeMessages([message, message], 5, true)), expected.replaceAll(' ', ''))
})

t.test('a batch stands between BEGIN and END; without END it is a dry run', async (t) => {
  const begin = '14000000 1000 0100 07000000 00000000 0000000a'
  const middle = '1c000000 060a 0504 08000000 00000000 01000000 0500010002000000'
  const end = '14000000 1100 0100 09000000 00000000 0000000a'
  t.equal(toHex(encodeBatch(10, [message], 7, true)), (begin + middle + end).replaceAll(' ', ''))
  t.equal(toHex(encodeBatch(10, [message], 7, false)), (begin + middle).replaceAll(' ', ''))
})

// What follows the errno: the header of the refused message, or all of it.
const header = '00'.repeat(16)
const echo = `18000000${'00'.repeat(20)}`

t.test('replies', async (t) => {
  const acknowledged = reply(2, 0x100, 7, '00000000', header)
  const refused = reply(2, 0x100, 8, 'feffffff', header)
  const text = toHex(new AttributeWriter().string(1, 'no such thing').finish())
  const explained = reply(2, 0x300, 9, 'eaffffff', header, text)
  const echoed = reply(2, 0x200, 9, 'eaffffff', echo, text)
  const begun = reply(2, 0x100, 6, 'ffffffff', header)
  const done = reply(3, 2, 7, '00000000')
  const failedDump = reply(3, 2, 7, 'fcffffff')
  const listed = reply(0x0a06, 2, 7, '02000000', '0500010002000000')
  const changed = reply(0x0a06, 0x12, 7, '02000000')

  const failures = (...texts: string[]) => decodeReplies(fromHex(texts.join('')), 7).failures
  t.same(failures(acknowledged, done), [])
  t.same(failures(refused), [{ index: 1, errno: 2, explanation: undefined }])
  t.same(failures(explained, acknowledged), [{ index: 2, errno: 22, explanation: 'no such thing' }])
  t.same(
    failures(echoed),
    [{ index: 2, errno: 22, explanation: 'no such thing' }],
    'with the refused message before it',
  )
  t.same(failures(begun), [{ index: -1, errno: 1, explanation: undefined }], 'the batch as a whole')
  t.same(failures(failedDump), [{ index: 0, errno: 4, explanation: undefined }])

  const listing = decodeReplies(fromHex(listed + done), 7)
  t.equal(listing.interrupted, false)
  t.equal(listing.messages.length, 1)
  t.match(listing.messages[0], { type: 0x0a06, sequence: 7, family: 2 })
  t.same(listing.messages[0]?.attributes.get(1), Uint8Array.of(2))
  t.equal(decodeReplies(fromHex(changed + done), 7).interrupted, true)
  t.same(decodeReplies(new Uint8Array(0), 1), { messages: [], failures: [], interrupted: false })
})

t.test('no bytes lead out of the bytes: each is read, or is a RangeError', async (t) => {
  const whole = fromHex(reply(0x0a06, 2, 7, '02000000', '0500010002000000') + reply(2, 0x200, 9, 'eaffffff', echo))
  const read = (bytes: Uint8Array) => {
    try {
      for (const { attributes } of decodeReplies(bytes, 7).messages) for (const { value } of attributes) value.slice()
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
    }
  }
  for (let length = 0; length < whole.length; length++) read(whole.slice(0, length))
  for (let at = 0; at < whole.length; at++) {
    for (const value of [0, 1, 3, 4, 0x7f, 0x80, 0xff]) read(whole.with(at, value))
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => read(bytes)),
    { numRuns: 500 },
  )
  t.throws(() => decodeReplies(whole.slice(0, -1), 7), RangeError)
  t.throws(() => [...new Attributes(Uint8Array.of(3, 0, 1, 0))], RangeError, 'shorter than its header')
  t.throws(() => [...new Attributes(Uint8Array.of(9, 0, 1, 0, 0))], RangeError, 'longer than its surroundings')
})

t.test('an error names the first refusal and keeps all', async (t) => {
  const failures = [
    { index: 3, errno: 2, explanation: 'gone' },
    { index: 4, errno: 22, explanation: undefined },
  ]
  const error = new NetlinkError('transaction', failures)
  t.equal(error.message, 'transaction: the kernel refused it at message 3: ENOENT: gone')
  t.match(error, { code: 'ENOENT', errno: 2, messageIndex: 3, failures })
  const whole = new NetlinkError('dump', [{ index: -1, errno: 5000, explanation: undefined }])
  t.match(whole, { message: 'dump: the kernel refused it: errno 5000', code: 'errno 5000', messageIndex: -1 })
})

/** A message from the kernel, as hex. */
function reply(type: number, flags: number, sequence: number, ...parts: readonly string[]): string {
  const body = parts.join('')
  const header = new DataView(new ArrayBuffer(16))
  header.setUint32(0, 16 + body.length / 2, true)
  header.setUint16(4, type, true)
  header.setUint16(6, flags, true)
  header.setUint32(8, sequence, true)
  return toHex(new Uint8Array(header.buffer)) + body
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'))
}
