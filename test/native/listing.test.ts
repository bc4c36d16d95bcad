import t from 'tap'
import { listAtOnce, listInParts, type PartReader } from '../../src/native/listing.ts'
import { encodeMessages, MAX_DUMP_ATTEMPTS, type Netlink, scanListing } from '../../src/native/netlink.ts'
import { listingOf } from '../fixtures/listing.ts'

const message = { type: 0x100, flags: 0, family: 2, attributes: Uint8Array.of(4, 0, 1, 0) }
const header = encodeMessages([message], 7, false)

t.test('the end of a listing is found, and what the kernel says of it', async (t) => {
  const two = encodeMessages([message, message], 7, false)
  two.set([7, 0, 0, 0], header.length + 8)
  const whole = { messageBytes: two.length, isLast: false, isInterrupted: false, failures: [] }
  t.same(scanListing(two, 7), whole)
  const done = end(3, 7, 0)
  t.same(scanListing(done, 7), { ...whole, messageBytes: 0, isLast: true })
  t.same(scanListing(Buffer.concat([two, done]), 7), { ...whole, isLast: true })
  t.match(scanListing(end(3, 7, -4), 7), { isLast: true, failures: [{ index: 0, errno: 4 }] })
  t.match(scanListing(end(2, 7, -2), 7), { isLast: true, failures: [{ index: 0, errno: 2 }] })
  t.match(scanListing(Buffer.concat([two, end(3, 8, 0)]), 7), { messageBytes: two.length, isLast: false })
  t.match(scanListing(two, 8), { messageBytes: 0, isLast: false }, 'an answer to something else')
  const changed = two.slice()
  changed[header.length + 6] = 0x10
  t.match(scanListing(changed, 7), { isInterrupted: true, messageBytes: two.length })
  const changedAtEnd = done.slice()
  changedAtEnd[6] = 0x10
  t.match(scanListing(changedAtEnd, 7), { isInterrupted: true, isLast: true })
  for (const length of [1, 15, header.length - 1]) {
    if (length >= 16) t.throws(() => scanListing(header.slice(0, length), 7), RangeError)
    else t.match(scanListing(header.slice(0, length), 7), { isLast: false })
  }
})

for (const [name, list] of [
  ['at once', async (netlink: Netlink, reader: PartReader) => listAtOnce(netlink, message, reader)],
  ['in parts', (netlink: Netlink, reader: PartReader) => listInParts(netlink, message, reader)],
] as const) {
  t.test(`${name}: a listing that was interrupted is read again`, async (t) => {
    const { netlink, counts } = kernelOf([true, true, false])
    const read: string[] = []
    await list(netlink, { begin: () => read.push('begin'), read: (part) => read.push(`${part.length}`) })
    const attempt = ['begin', '24', '48']
    t.same(read, [...attempt, ...attempt, ...attempt])
    t.same(counts, { started: 3, closed: 3 })
  })

  t.test(`${name}: one that is always interrupted is given up`, async (t) => {
    const { netlink, counts } = kernelOf(Array.from({ length: 20 }, () => true))
    await t.rejects(list(netlink, { begin() {}, read() {} }), { name: 'NetlinkError', code: 'EINTR' })
    t.same(counts, { started: MAX_DUMP_ATTEMPTS, closed: MAX_DUMP_ATTEMPTS })
  })

  t.test(`${name}: it is closed when its reader throws`, async (t) => {
    const { netlink, counts } = kernelOf([false])
    const read = () => {
      throw new Error('enough')
    }
    await t.rejects(list(netlink, { begin() {}, read }), { message: 'enough' })
    t.same(counts, { started: 1, closed: 1 })
  })
}

t.test('in parts: others have their turn between them', async (t) => {
  const { netlink } = kernelOf([false])
  const order: string[] = []
  const turn = () => order.push('other')
  await listInParts(netlink, message, {
    begin() {},
    read() {
      order.push('part')
      setImmediate(turn)
    },
  })
  t.same(order, ['part', 'other', 'part', 'other'])
})

/** A kernel whose listings have two parts, and are interrupted or not, in turn. */
function kernelOf(interruptions: boolean[]) {
  const counts = { started: 0, closed: 0 }
  const refuse = (): never => {
    throw new Error('it is only listed')
  }
  const netlink: Netlink = {
    portId: 0,
    transact: refuse,
    check: refuse,
    submit: refuse,
    get: refuse,
    dump: refuse,
    startDump() {
      const listing = listingOf([[message], [message, message]], interruptions[counts.started++] ?? false)
      const close = () => {
        counts.closed++
      }
      return { ...listing, close }
    },
    close() {},
  }
  return { netlink, counts }
}

/** NLMSG_ERROR (2) or NLMSG_DONE (3) with an errno, without the message that it is about. */
function end(type: number, sequence: number, errno: number): Uint8Array {
  const bytes = new Uint8Array(20)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 20, true)
  view.setUint16(4, type, true)
  view.setUint32(8, sequence, true)
  view.setInt32(16, errno, true)
  return bytes
}
