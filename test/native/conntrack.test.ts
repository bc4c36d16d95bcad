import t from 'tap'
import { sweepMarks } from '../../src/native/conntrack.ts'
import {
  Attributes,
  MAX_SUBMITTED,
  type Netlink,
  NetlinkError,
  type NetlinkFailure,
  type NetlinkMessage,
} from '../../src/native/netlink.ts'
import { listingOf } from '../fixtures/listing.ts'
import { connectionAttributes, ipv4 } from '../kernel/connections.ts'

const TUPLE = 1
const MARK = 8
const ZONE = 18
const MARK_MASK = 21
const sweep = { mask: 0xff00, value: 0x100, newValue: 0x300 }

class FakeConntrack implements Netlink {
  asked: NetlinkMessage | undefined
  readonly changes: NetlinkMessage[] = []
  submissions = 0
  readonly #connections: readonly Uint8Array[]
  readonly #failures: readonly NetlinkFailure[]

  constructor(connections: readonly Uint8Array[], failures: readonly NetlinkFailure[] = []) {
    this.#connections = connections
    this.#failures = failures
  }

  readonly portId = 0

  get(): never {
    throw new Error('a sweep lists')
  }

  dump(): never {
    throw new Error('a sweep lists in parts')
  }

  startDump(message: NetlinkMessage) {
    this.asked = message
    const entries = this.#connections.map((attributes) => ({ type: 0x100, flags: 2, family: 2, attributes }))
    return listingOf([entries])
  }

  submit(messages: readonly NetlinkMessage[]) {
    this.submissions++
    this.changes.push(...messages)
    return this.#failures
  }

  transact() {}
  check() {}
  close() {}
}

t.test('asks the kernel for the marks, looks again, and writes only masked bits', async (t) => {
  const kernel = new FakeConntrack([connection(0x12340155), connection(0x12340255), connection(0xffff01ff, 7)])
  t.equal(sweepMarks(kernel, sweep, 'both'), 2)
  const asked = new Attributes(kernel.asked!.attributes)
  t.equal(kernel.asked!.family, 0)
  t.equal(asked.u32(MARK), 0x100)
  t.equal(asked.u32(MARK_MASK), 0xff00)
  t.same(
    kernel.changes.map(({ attributes }) => {
      const change = new Attributes(attributes)
      return [change.nested(TUPLE)?.nested(1)?.u32(1), change.get(ZONE)?.[1], change.u32(MARK), change.u32(MARK_MASK)]
    }),
    [
      [0x0a000001, undefined, 0x300, 0xff00],
      [0x0a000001, 7, 0x300, 0xff00],
    ],
  )
})

t.test('one family only', async (t) => {
  for (const [family, number] of [
    [4, 2],
    [6, 10],
  ] as const) {
    const kernel = new FakeConntrack([])
    t.equal(sweepMarks(kernel, sweep, family), 0)
    t.equal(kernel.asked!.family, number)
  }
})

t.test('bits outside the mask are not written, whatever is asked', async (t) => {
  const kernel = new FakeConntrack([connection(0x100)])
  sweepMarks(kernel, { mask: 0xff00, value: 0xff0001ff, newValue: 0xffffffff }, 'both')
  t.equal(new Attributes(kernel.changes[0]!.attributes).u32(MARK), 0xff00)
})

t.test('many go in several submissions', async (t) => {
  const count = MAX_SUBMITTED * 2 + 1
  const kernel = new FakeConntrack(Array.from({ length: count }, () => connection(0x100)))
  t.equal(sweepMarks(kernel, sweep, 'both'), count)
  t.equal(kernel.submissions, 3)
})

t.test('a connection that is gone is not counted, and any other refusal is thrown', async (t) => {
  const gone = { index: 0, errno: 2, explanation: undefined }
  const connections = [connection(0x100), connection(0x100)]
  t.equal(sweepMarks(new FakeConntrack(connections, [gone]), sweep, 'both'), 1)
  const refused = { index: 1, errno: 1, explanation: undefined }
  t.throws(() => sweepMarks(new FakeConntrack(connections, [gone, refused]), sweep, 'both'), {
    code: 'EPERM',
    constructor: NetlinkError,
  })
})

function connection(mark: number, zone?: number): Uint8Array {
  const ends = { source: ipv4(0x0a000001), sourcePort: 5000, destination: ipv4(0x0a000002), port: 53 }
  return connectionAttributes({ protocol: 'udp', ...ends, mark, ...(zone === undefined ? {} : { zone }) })
}
