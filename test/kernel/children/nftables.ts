import t from 'tap'
import { openNetlink } from '../../../src/native/netlink.ts'
import {
  type Batch,
  batch,
  check,
  commit,
  divertRule,
  dumpRules,
  listElements,
  readCounters,
} from '../../../src/native/nftables.ts'
import { ANSWERS, DIVERTED } from '../../conformance/queue.ts'
import { until } from '../../until.ts'
import { divert, installTable, mechanisms, nft, openSender, TABLE } from './traffic.ts'

const netlink = openNetlink()
t.teardown(() => netlink.close())

t.beforeEach(() => installTable())

const expressions = {
  queue: ['meta', 'bitwise', 'cmp', 'queue'],
  'xt-target': ['meta', 'bitwise', 'cmp', 'target'],
}

installTable()
const available = mechanisms(netlink)
t.ok(available.length > 0, `this kernel queues with ${available}`)
const rule = divertRule({ ...divert, mechanism: available[0] ?? 'queue' })
const ruleNames = expressions[available[0] ?? 'queue']

for (const mechanism of ['queue', 'xt-target'] as const) {
  t.test(`a divert rule by ${mechanism} is added, named by its expressions, and flushed; or ENOENT`, async (t) => {
    const names = expressions[mechanism]
    const one = divertRule({ ...divert, mechanism })
    const add = () => commit(netlink, batch(TABLE).addRule('divert', one).addRule('divert', one))
    t.same(dumpRules(netlink, TABLE, 'divert'), [])
    if (!available.includes(mechanism)) {
      t.throws(add, { name: 'NetlinkError', code: 'ENOENT', messageIndex: 0 })
      t.same(dumpRules(netlink, TABLE, 'divert'), [])
      return
    }
    add()
    t.same(dumpRules(netlink, TABLE, 'divert'), [names, names])
    commit(netlink, batch(TABLE).flushChain('divert').addRule('divert', one))
    t.same(dumpRules(netlink, TABLE, 'divert'), [names])
    commit(netlink, batch(TABLE).flushChain('divert'))
    t.same(dumpRules(netlink, TABLE, 'divert'), [])
    t.same(dumpRules(netlink, TABLE, 'nothing'), [])
  })
}

t.test('without a listener, bypass lets packets go on', async (t) => {
  commit(netlink, batch(TABLE).addRule('divert', rule))
  const sender = await openSender()
  t.teardown(() => sender.close())
  await sender.send([{ family: 4, payload: Uint8Array.of(1) }])
  t.match(counter(DIVERTED), { packets: 1, bytes: 29 })
})

t.test('counters are read by name', async (t) => {
  const names = readCounters(netlink, TABLE).map(({ name }) => name)
  t.same(names.sort(), [DIVERTED, ...ANSWERS].map((mark) => `mark_${mark.toString(16)}`).sort())
  t.same(readCounters(netlink, 'nothing'), [])
})

t.test('elements go by themselves, and their time begins anew', async (t) => {
  nft(`add set inet ${TABLE} fleeting { type ipv4_addr; flags timeout; }`)
  const add = (host: number, timeoutMs: number) => {
    commit(netlink, batch(TABLE).addFleeting('fleeting', [Uint8Array.of(10, 0, 0, host)], timeoutMs))
  }
  const hosts = () => listElements(netlink, TABLE, 'fleeting').map((key) => key[3])
  add(1, 200)
  add(1, 60_000)
  add(2, 200)
  t.same(hosts().sort(), [1, 2])
  await until(async () => !hosts().includes(2))
  t.same(hosts(), [1])
})

t.test('elements are added, added again, and deleted', async (t) => {
  const keys = [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(10, 0, 0, 2), Uint8Array.of(10, 0, 0, 3)]
  commit(netlink, batch(TABLE).addElements('addresses', keys))
  commit(netlink, batch(TABLE).addElements('addresses', keys.slice(1)))
  t.same(elements(), ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
  commit(netlink, batch(TABLE).deleteElements('addresses', keys.slice(0, 1)))
  t.same(elements(), ['10.0.0.2', '10.0.0.3'])
})

t.test('what the kernel refuses names the step, and nothing of the batch happens', async (t) => {
  const key = [Uint8Array.of(10, 0, 0, 1)]
  const cases: [string, Batch, string, number][] = [
    [
      'element',
      batch(TABLE)
        .addElements('addresses', key)
        .deleteElements('addresses', [Uint8Array.of(9, 9, 9, 9)]),
      'delete elements of addresses',
      1,
    ],
    ['set', batch(TABLE).addElements('addresses', key).addElements('nothing', key), 'add elements to nothing', 1],
    ['chain', batch(TABLE).flushChain('nothing').addElements('addresses', key), 'flush chain nothing', 0],
    ['table', batch('nothing').flushChain('divert'), 'flush chain divert', 0],
  ]
  for (const [name, changes, step, messageIndex] of cases) {
    const expected = { name: 'NetlinkError', code: 'ENOENT', messageIndex, message: `${step}: the kernel refused it` }
    t.throws(() => check(netlink, changes), expected, `check: no such ${name}`)
    t.throws(() => commit(netlink, changes), expected, `commit: no such ${name}`)
    t.same(elements(), [])
  }
  t.throws(() => listElements(netlink, TABLE, 'nothing'), { code: 'ENOENT' })
})

t.test('a check leaves nothing behind', async (t) => {
  const changes = batch(TABLE)
    .addRule('divert', rule)
    .addElements('addresses', [Uint8Array.of(10, 0, 0, 1)])
  check(netlink, changes)
  t.same(dumpRules(netlink, TABLE, 'divert'), [])
  t.same(elements(), [])
  commit(netlink, changes)
  t.same(dumpRules(netlink, TABLE, 'divert'), [ruleNames])
  check(netlink, batch(TABLE).flushChain('divert'))
  t.same(dumpRules(netlink, TABLE, 'divert'), [ruleNames])
})

t.test('100,000 elements are one transaction', async (t) => {
  const count = 100_000
  const keys = Array.from({ length: count }, (_, index) => Uint8Array.of(10, index >> 16, index >> 8, index))
  check(netlink, batch(TABLE).addElements('addresses', keys))
  t.equal(listElements(netlink, TABLE, 'addresses').length, 0)
  commit(netlink, batch(TABLE).addElements('addresses', keys))
  t.equal(new Set(elements()).size, count)
  const missing = [...keys, Uint8Array.of(9, 9, 9, 9)]
  t.throws(() => commit(netlink, batch(TABLE).deleteElements('addresses', missing)), { code: 'ENOENT' })
  t.equal(listElements(netlink, TABLE, 'addresses').length, count)
  commit(netlink, batch(TABLE).deleteElements('addresses', keys))
  t.equal(listElements(netlink, TABLE, 'addresses').length, 0)
})

t.test('an empty batch is nothing', async () => {
  commit(netlink, batch(TABLE))
  check(netlink, batch('nothing'))
})

t.test('more refusals than the socket holds are still a refusal', async (t) => {
  const changes = batch(TABLE)
  for (let i = 0; i < 200_000; i++) changes.flushChain('nothing')
  t.throws(() => commit(netlink, changes), { name: 'NetlinkError' })
  t.same(dumpRules(netlink, TABLE, 'divert'), [], 'and the socket works after it')
})

t.test('a closed socket says so', async (t) => {
  const closed = openNetlink()
  closed.close()
  closed.close()
  t.throws(() => dumpRules(closed, TABLE, 'divert'), { code: 'EBADF' })
})

function elements(): readonly string[] {
  return listElements(netlink, TABLE, 'addresses')
    .map((key) => key.join('.'))
    .sort()
}

function counter(mark: number) {
  return readCounters(netlink, TABLE).find(({ name }) => name === `mark_${mark.toString(16)}`)
}
