import fc from 'fast-check'
import t from 'tap'
import { AttributeWriter } from '../../src/native/netlink.ts'
import { decodeTableEvents, type TableEvent } from '../../src/native/table-events.ts'

// Bytes as a little-endian machine's kernel sends them: header, nfgenmsg, attributes.
const NFTABLES = 10
const PORT = 4711
const OWN = 17
const isOwn = (portId: number) => portId === OWN

interface Message {
  readonly subsystem?: number
  readonly message: number
  readonly family?: number
  readonly portId?: number
  readonly attributes: AttributeWriter
}

function encode({ subsystem = NFTABLES, message, family = 1, portId = PORT, attributes }: Message): Uint8Array {
  const payload = attributes.finish()
  const bytes = new Uint8Array(20 + payload.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, true)
  view.setUint16(4, (subsystem << 8) | message, true)
  view.setUint32(12, portId, true)
  view.setUint8(16, family)
  bytes.set(payload, 20)
  return bytes
}

const named = (table: string) => new AttributeWriter().string(1, table).string(2, 'x')
const generation = (name?: string) => {
  const attributes = new AttributeWriter().u32(1, 7).u32(2, PORT)
  return name === undefined ? attributes : attributes.string(3, name)
}
const change = (isElement = false, portId = PORT): TableEvent => ({ type: 'change', portId, isElement })
const commit = (program: string | undefined, portId = PORT): TableEvent => ({ type: 'commit', portId, program })

const cases: [rule: string, messages: Message[], events: TableEvent[]][] = [
  ['nothing', [], []],
  // enum nf_tables_msg_types: tables, chains, rules, sets, objects, flowtables, made and deleted.
  ...[0, 2, 3, 5, 6, 8, 9, 11, 18, 20, 22, 24].map((message): (typeof cases)[number] => [
    `message ${message} about the table is a change`,
    [{ message, attributes: named('knp') }],
    [change()],
  ]),
  ['a new element', [{ message: 12, attributes: named('knp') }], [change(true)]],
  ['an element that goes', [{ message: 14, attributes: named('knp') }], [change(true)]],
  ['a kind that is not known yet', [{ message: 99, attributes: named('knp') }], [change()]],
  ['another table', [{ message: 6, attributes: named('knp2') }], []],
  ['a table of that name in another family', [{ message: 6, family: 2, attributes: named('knp') }], []],
  ['the trace of a packet', [{ message: 17, attributes: named('knp') }], []],
  ['another subsystem', [{ subsystem: 1, message: 0, attributes: named('knp') }], []],
  ['our own', [{ message: 6, portId: OWN, attributes: named('knp') }], []],
  ['our own commit', [{ message: 15, portId: OWN, attributes: generation('node') }], []],
  ['a commit', [{ message: 15, attributes: generation('nft') }], [commit('nft')]],
  ['a commit of a kernel that names nobody', [{ message: 15, attributes: generation() }], [commit(undefined)]],
  [
    'several in one datagram, in their order',
    [
      { message: 8, attributes: named('knp') },
      { message: 14, portId: OWN, attributes: named('knp') },
      { message: 14, portId: 0xfffff001, attributes: named('knp') },
      { message: 15, portId: 0xfffff001, family: 0, attributes: generation('a b') },
    ],
    [change(), change(true, 0xfffff001), commit('a b', 0xfffff001)],
  ],
]
for (const [rule, messages, events] of cases) {
  t.test(rule, async (t) => t.same(decodeTableEvents(join(messages), 'knp', isOwn), events))
}

t.test('what cannot be read is undefined: anything may have changed', async (t) => {
  const whole = encode({ message: 6, attributes: named('knp') })
  t.equal(decodeTableEvents(whole.subarray(0, -1), 'knp', isOwn), undefined, 'cut off')
  const attribute = whole.slice()
  attribute[20] = 0xff
  t.equal(decodeTableEvents(attribute, 'knp', isOwn), undefined, 'an attribute longer than its message')
  const bare = new Uint8Array(16)
  new DataView(bare.buffer).setUint32(0, 16, true)
  new DataView(bare.buffer).setUint16(4, (NFTABLES << 8) | 6, true)
  t.equal(decodeTableEvents(bare, 'knp', isOwn), undefined, 'no room for the family')
})

t.test('no bytes lead out of the bytes, and none throw', async (t) => {
  const whole = join(cases.flatMap(([, messages]) => messages))
  const around = new Uint8Array(whole.length + 64).fill(0xee)
  const decode = (bytes: Uint8Array) => {
    // Among other bytes, as in a buffer that is used again.
    around.set(bytes, 32)
    const events = decodeTableEvents(around.subarray(32, 32 + bytes.length), 'knp', isOwn)
    if (events !== undefined && !events.every(({ type }) => type === 'change' || type === 'commit')) throw new Error()
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
  t.pass()
})

function join(messages: readonly Message[]): Uint8Array {
  return new Uint8Array(Buffer.concat(messages.map(encode)))
}
