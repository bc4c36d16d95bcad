import t from 'tap'
import type { Netlink, NetlinkFailure, NetlinkReply } from '../../src/native/netlink.ts'
import { Attributes, AttributeWriter, NetlinkError } from '../../src/native/netlink.ts'
import {
  batch,
  check,
  commit,
  type Divert,
  divertRule,
  dumpRules,
  listElements,
  readCounters,
} from '../../src/native/nftables.ts'
import { listingOf } from '../fixtures/listing.ts'

const divert: Divert = {
  mask: 0xff00,
  value: 0x100,
  queue: 87,
  queuesTotal: 2,
  bypass: true,
  mechanism: 'queue',
}

t.test('a divert rule compares the masked mark and queues', async (t) => {
  const rule = divertRule(divert)
  t.same(
    rule.map(({ name }) => name),
    ['meta', 'bitwise', 'cmp', 'queue'],
  )
  const [, bitwise, cmp, queue] = rule.map(({ attributes }) => new Attributes(attributes))
  t.same(bitwise!.nested(4)!.get(1), Uint8Array.of(0, 0xff, 0, 0), 'the mask in host order')
  t.same(cmp!.nested(3)!.get(1), Uint8Array.of(0, 1, 0, 0))
  t.same(queue!.bytes, Uint8Array.of(6, 0, 1, 0, 0, 87, 0, 0, 6, 0, 2, 0, 0, 2, 0, 0, 6, 0, 3, 0, 0, 1, 0, 0))
})

t.test('the xtables target carries struct xt_NFQ_info_v3', async (t) => {
  const last = divertRule({ ...divert, mechanism: 'xt-target' }).at(-1)!
  t.equal(last.name, 'target')
  const target = new Attributes(last.attributes)
  t.equal(target.string(1), 'NFQUEUE')
  t.equal(target.u32(2), 3)
  t.same(target.get(3), Uint8Array.of(87, 0, 2, 0, 1, 0, 0, 0))
  const closed = divertRule({ ...divert, mechanism: 'xt-target', bypass: false }).at(-1)!
  t.same(new Attributes(closed.attributes).get(3), Uint8Array.of(87, 0, 2, 0, 0, 0, 0, 0))
})

t.test('elements are split into messages that an attribute can hold, and none is lost', async (t) => {
  const keys = Array.from({ length: 10_000 }, (_, index) => Uint8Array.of(10, 0, index >> 8, index & 0xff))
  const changes = batch('knp').addElements('subjects4', keys)
  t.ok(changes.messages.length > 1)
  const found: string[] = []
  for (const { attributes } of changes.messages) {
    const list = new Attributes(attributes)
    t.equal(list.string(1), 'knp')
    t.equal(list.string(2), 'subjects4')
    for (const element of list.nested(3)!.all(1)) found.push(element.nested(1)!.get(1)!.join('.'))
  }
  t.same(
    found,
    keys.map((key) => key.join('.')),
  )
})

t.test('elements that go by themselves: added, removed and added, so that their time begins anew', async (t) => {
  const keys = [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(10, 0, 0, 2)]
  const changes = batch('knp').addFleeting('changed4', keys, 5_000_000_100)
  t.same(
    changes.messages.map(({ type, flags }) => [type & 0xff, flags & 0x400]),
    [
      [12, 0x400],
      [14, 0],
      [12, 0x400],
    ],
    'NEWSETELEM with CREATE, DELSETELEM, NEWSETELEM with CREATE',
  )
  for (const [i, { attributes }] of changes.messages.entries()) {
    const message = new Attributes(attributes)
    t.same([message.string(1), message.string(2)], ['knp', 'changed4'])
    const elements = message.nested(3)!.all(1)
    t.same(
      elements.map((element) => element.nested(1)!.get(1)),
      keys,
    )
    for (const element of elements) {
      // 5,000,000,100 ms: 64 bits, network byte order.
      const timeout = i === 1 ? undefined : Uint8Array.of(0, 0, 0, 1, 0x2a, 0x05, 0xf2, 0x64)
      t.same(element.get(4), timeout)
    }
  }
  t.same(batch('knp').addFleeting('changed4', [], 1000).messages, [])
})

t.test('a jump in a map of verdicts', async (t) => {
  const { messages } = batch('knp').addJump('stamp', Uint8Array.of(10), 'stamp_7')
  t.equal(messages.length, 1)
  t.same([messages[0]!.type & 0xff, messages[0]!.flags & 0x400], [12, 0x400])
  const message = new Attributes(messages[0]!.attributes)
  t.same([message.string(1), message.string(2)], ['knp', 'stamp'])
  const [element, ...rest] = message.nested(3)!.all(1)
  t.same(rest, [])
  t.same(element!.nested(1)!.get(1), Uint8Array.of(10))
  const verdict = element!.nested(2)!.nested(2)!
  t.same(verdict.get(1), Uint8Array.of(0xff, 0xff, 0xff, 0xfd), 'NFT_JUMP is -3')
  t.equal(verdict.string(2), 'stamp_7')
})

t.test('no elements are no message', async (t) => {
  t.same(batch('knp').addElements('subjects4', []).deleteElements('subjects4', []).messages, [])
})

t.test('a refusal names the step', async (t) => {
  const netlink = fakeNetlink({ failures: [{ index: 1, errno: 2, explanation: undefined }] })
  const changes = batch('knp')
    .flushChain('divert')
    .deleteElements('subjects4', [Uint8Array.of(1, 2, 3, 4)])
  const expected = {
    name: 'NetlinkError',
    code: 'ENOENT',
    messageIndex: 1,
    message: 'table inet knp: delete elements of subjects4: the kernel refused it at message 1: ENOENT',
  }
  t.throws(() => commit(netlink, changes), expected)
  t.throws(() => check(netlink, changes), expected)
})

t.test('a set that is listed with a key twice is listed again', async (t) => {
  const elementsOf = (...keys: number[]) => {
    const writer = new AttributeWriter()
    const list = writer.openNest(3)
    for (const key of keys) {
      const element = writer.openNest(1)
      const value = writer.openNest(1)
      writer.data(1, Uint8Array.of(key)).closeNest(value).closeNest(element)
    }
    return writer.closeNest(list).finish()
  }
  const listings = [elementsOf(1, 2, 1), elementsOf(1, 2, 3)]
  const netlink = { ...fakeNetlink({}), dump: () => [replyOf(listings.shift()!)] }
  t.same(listElements(netlink, 'knp', 'subjects4'), [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)])
  const restless = fakeNetlink({ listing: [elementsOf(1, 1)] })
  t.throws(() => listElements(restless, 'knp', 'subjects4'), { code: 'EINTR' })
})

t.test('listings leave out what is of other tables and chains', async (t) => {
  const rule = new AttributeWriter().string(1, 'other').string(2, 'divert').finish()
  t.same(dumpRules(fakeNetlink({ listing: [rule] }), 'knp', 'divert'), [])
  const counter = new AttributeWriter().string(1, 'other').string(2, 'name').u32(3, 1).finish()
  t.same(readCounters(fakeNetlink({ listing: [counter] }), 'knp'), [])
})

function fakeNetlink(kernel: { failures?: NetlinkFailure[]; listing?: Uint8Array[] }): Netlink {
  const transact = () => {
    if (kernel.failures) throw new NetlinkError('transaction', kernel.failures)
  }
  return {
    portId: 0,
    transact,
    check: transact,
    submit: () => kernel.failures ?? [],
    get: () => kernel.listing?.map(replyOf)[0],
    dump: () => (kernel.listing ?? []).map(replyOf),
    startDump: () => listingOf([]),
    close() {},
  }
}

function replyOf(bytes: Uint8Array): NetlinkReply {
  return { type: 0x0a00, flags: 0, sequence: 1, family: 1, attributes: new Attributes(bytes) }
}
