import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { sweepConnections } from '../../../src/datapath/sweep.ts'
import { type Address, formatAddress, type Packet, parseAddress } from '../../../src/engine/index.ts'
import { ConnectionReader, connectionsMarked } from '../../../src/native/connections.ts'
import { sweepMarks } from '../../../src/native/conntrack.ts'
import { graceOver } from '../../../src/native/grace.ts'
import { listInParts } from '../../../src/native/listing.ts'
import { openNetlink } from '../../../src/native/netlink.ts'
import { type ConnectionSpec, ipv4, makeConnections } from '../connections.ts'

const netlink = openNetlink()
t.teardown(() => netlink.close())

const address = (text: string) => parseAddress(text)!
const stamp = { mask: 0xf0000000, value: 0x30000000 }
const STAMPED = 0x3abcdef5
const CLEARED = 0x0abcdef5
const client = { source: address('10.0.0.1'), destination: address('10.0.0.2') }
const client6 = { source: address('fd00::1'), destination: address('fd00::2') }
const untouched = { source: address('10.3.0.1'), destination: address('10.3.0.2') }
const web = { address: address('10.1.0.1'), port: 8080 }

/** By the port they first go to. */
const connections: readonly ConnectionSpec[] = [
  { protocol: 'udp', ...client, sourcePort: 1001, port: 1, mark: STAMPED },
  { protocol: 'tcp', ...client, sourcePort: 1002, port: 2, mark: STAMPED },
  { protocol: 'icmp', ...client, sourcePort: 0, port: 0, mark: STAMPED },
  { protocol: 'udp', ...client6, sourcePort: 1003, port: 3, mark: STAMPED },
  { protocol: 'tcp', ...client6, sourcePort: 1004, port: 4, mark: STAMPED },
  { protocol: 'icmp', ...client6, sourcePort: 0, port: 0, mark: STAMPED },
  { protocol: 'tcp', ...client, sourcePort: 1005, port: 5, mark: STAMPED, server: web },
  { protocol: 'udp', ...client, sourcePort: 1006, port: 6, mark: STAMPED, zone: 5 },
  { protocol: 'tcp', ...untouched, sourcePort: 1007, port: 7, mark: STAMPED },
  { protocol: 'tcp', ...client, sourcePort: 1008, port: 8, mark: 0x2abcdef5 },
  { protocol: 'tcp', ...client, sourcePort: 1009, port: 9, mark: 0xfabcdef5 },
]
makeConnections(netlink, connections)

t.test('those that are not allowed lose their stamp, and nothing else changes', async (t) => {
  const asked = await asks({ isTouched: anyOf('10.0.0.1', 'fd00::2'), isAllowed: (packet) => packet.protocol === 6 })
  t.same(asked.swept, { looked: 9, touched: 8, cleared: 5 })
  t.same(
    asked.packets.sort(),
    [
      '17 10.0.0.1 1001 10.0.0.2 1 0/0 flags 0',
      '6 10.0.0.1 1002 10.0.0.2 2 0/0 flags 2',
      '1 10.0.0.1 0 10.0.0.2 0 8/0 flags 0',
      '17 fd00::1 1003 fd00::2 3 0/0 flags 0',
      '6 fd00::1 1004 fd00::2 4 0/0 flags 2',
      '58 fd00::1 0 fd00::2 0 128/0 flags 0',
      '6 10.0.0.1 1005 10.1.0.1 8080 0/0 flags 2',
      '17 10.0.0.1 1006 10.0.0.2 6 0/0 flags 0',
    ].sort(),
    'the client as it was, and the server behind DNAT',
  )
  t.same(marks(), {
    '17 1': CLEARED,
    '6 2': STAMPED,
    '1 0': CLEARED,
    '17 3': CLEARED,
    '6 4': STAMPED,
    '58 0': CLEARED,
    '6 5': STAMPED,
    '17 6': CLEARED,
    '6 7': STAMPED,
    '6 8': 0x2abcdef5,
    '6 9': 0xfabcdef5,
  })
})

t.test('each of the four ends may be the one that is touched', async (t) => {
  const ends = { source: address('10.4.0.1'), sourcePort: 1, destination: address('10.4.0.2'), port: 70 }
  const translated = { address: address('10.4.0.3'), port: 71 }
  const masqueraded = { address: address('10.4.0.4'), port: 72 }
  makeConnections(netlink, [{ protocol: 'udp', ...ends, mark: STAMPED, server: translated, client: masqueraded }])
  for (const [end, count] of [1, 1, 1, 1, 0].entries()) {
    const asked = await asks({ isTouched: anyOf(`10.4.0.${end + 1}`), isAllowed: () => true })
    t.match(asked.swept, { touched: count, cleared: 0 }, `10.4.0.${end + 1}`)
    t.same(asked.packets, count === 0 ? [] : ['17 10.4.0.1 1 10.4.0.3 71 0/0 flags 0'])
  }
})

t.test('a change of other bits between the listing and the clearing survives', async (t) => {
  const ends = { source: address('10.5.0.1'), sourcePort: 1, destination: address('10.5.0.2'), port: 80 }
  makeConnections(netlink, [{ protocol: 'udp', ...ends, mark: 0x30000001 }])
  const isAllowed = () => {
    sweepMarks(netlink, { mask: 0xff, value: 0x01, newValue: 0x77 }, 4)
    return false
  }
  t.match(await sweepConnections({ netlink, stamp, isTouched: anyOf('10.5.0.1'), isAllowed }), { cleared: 1 })
  t.equal(marks()['17 80'], 0x77)
})

t.test('a connection that has ended is not counted', async (t) => {
  const ends = { source: address('10.6.0.1'), sourcePort: 1, destination: address('10.6.0.2'), port: 90 }
  makeConnections(netlink, [{ protocol: 'udp', ...ends, mark: STAMPED }])
  const isAllowed = () => {
    flushTable()
    return false
  }
  t.match(await sweepConnections({ netlink, stamp, isTouched: anyOf('10.6.0.1'), isAllowed }), {
    touched: 1,
    cleared: 0,
  })
  t.same(marks(), {})
})

t.test('a listing that is given up, or refused, spoils nothing', async (t) => {
  makeConnections(netlink, connections)
  const message = connectionsMarked({ mask: 0, value: 0 }, 'both')
  const openFiles = () => readdirSync('/proc/self/fd').length
  const openBefore = openFiles()
  const givenUp = netlink.startDump(message)
  t.ok(givenUp.nextPart())
  t.equal(openFiles(), openBefore + 1, 'it has a socket of its own')
  givenUp.close()
  givenUp.close()
  t.equal(openFiles(), openBefore, 'which is closed')
  t.equal(givenUp.nextPart(), undefined)
  t.equal(Object.keys(marks()).length, connections.length)
  const both = [netlink.startDump(message), netlink.startDump(message)]
  t.ok(both[0]!.nextPart())
  t.ok(both[1]!.nextPart(), 'two at once')
  t.equal(Object.keys(marks()).length, connections.length, 'and a third')
  for (const listing of both) listing.close()
  const refused = netlink.startDump({ type: (10 << 8) | 13, flags: 0, family: 1, attributes: new Uint8Array(0) })
  t.throws(() => refused.nextPart(), { name: 'NetlinkError', code: 'EINVAL' })
  t.equal(refused.nextPart(), undefined, 'it has ended')
  const closed = openNetlink()
  closed.close()
  t.throws(() => closed.startDump(message), { code: 'EBADF' })
})

/** Where the kernel's table is small, as many as it takes. */
const count = Math.min(
  100_000,
  Math.floor(Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_max', 'utf8')) / 2),
)
t.test(`${count} connections`, async (t) => {
  flushTable()
  const each = (start: number, act: string, many = count) =>
    t.comment(`${act}: ${(((performance.now() - start) * 1000) / many).toFixed(2)} µs each`)
  let start = performance.now()
  makeConnections(netlink, many(count))
  each(start, 'made')

  start = performance.now()
  let parts = 0
  let listed = 0
  const reader = new ConnectionReader()
  const read = (part: Uint8Array) => {
    parts++
    reader.open(part)
    while (reader.next()) listed++
  }
  await listInParts(netlink, connectionsMarked(stamp, 'both'), { begin() {}, read })
  each(start, 'listed')
  t.equal(listed, count)
  t.ok(parts > count / 1000, `in ${parts} parts`)

  let turns = 0
  let longestMs = 0
  let last = performance.now()
  const turning = setInterval(() => {
    turns++
    longestMs = Math.max(longestMs, performance.now() - last)
    last = performance.now()
  }, 0)
  t.teardown(() => clearInterval(turning))
  const ask = (isTouched: () => boolean, isAllowed: () => boolean) =>
    sweepConnections({ netlink, stamp, isTouched, isAllowed })
  start = performance.now()
  t.same(
    await ask(
      () => false,
      () => false,
    ),
    { looked: count, touched: 0, cleared: 0 },
  )
  each(start, 'swept, none touched')
  start = performance.now()
  t.same(
    await ask(
      () => true,
      () => true,
    ),
    { looked: count, touched: count, cleared: 0 },
  )
  each(start, 'swept, all judged')
  start = performance.now()
  t.same(
    await ask(
      () => true,
      () => false,
    ),
    { looked: count, touched: count, cleared: count },
  )
  each(start, 'swept, all cleared')
  clearInterval(turning)
  t.ok(turns > 10, `it gave way: ${turns} turns of a timer meanwhile, ${longestMs.toFixed(1)} ms at most between two`)
  t.match(
    await ask(
      () => true,
      () => false,
    ),
    { looked: 0 },
  )
})

t.test('a grace period ends, and holds up nobody', async (t) => {
  let hasTurned = false
  setImmediate(() => {
    hasTurned = true
  })
  const start = performance.now()
  await Promise.all([graceOver(), graceOver()])
  t.comment(`${(performance.now() - start).toFixed(1)} ms`)
  t.ok(hasTurned)
})

async function asks(sweep: { isTouched: (address: Address) => boolean; isAllowed: (packet: Packet) => boolean }) {
  const packets: string[] = []
  const isAllowed = (packet: Packet) => {
    const { protocol, source, destination, icmpType, icmpCode, tcpFlags } = packet
    const ends = `${formatAddress(source)} ${source.port} ${formatAddress(destination)} ${destination.port}`
    packets.push(`${protocol} ${ends} ${icmpType}/${icmpCode} flags ${tcpFlags}`)
    return sweep.isAllowed(packet)
  }
  const swept = await sweepConnections({ netlink, stamp, isTouched: sweep.isTouched, isAllowed })
  return { swept, packets }
}

function anyOf(...texts: readonly string[]): (address: Address) => boolean {
  return (address) => texts.includes(formatAddress(address))
}

function* many(count: number): Generator<ConnectionSpec> {
  const destination = ipv4(0x0a600001)
  const server = { address: ipv4(0x0a4d0202), port: 8080 }
  for (let i = 0; i < count; i++) {
    const ends = { source: ipv4(0x0a000000 + (i >> 8)), sourcePort: 1024 + (i & 255), destination, port: 80 }
    yield i & 1 ? { protocol: 'udp', ...ends, mark: STAMPED } : { protocol: 'tcp', ...ends, mark: STAMPED, server }
  }
}

/** All bits, by protocol and the port that connections first go to. */
function marks(): Record<string, number> {
  const found: Record<string, number> = {}
  const reader = new ConnectionReader()
  const listing = netlink.startDump(connectionsMarked({ mask: 0, value: 0 }, 'both'))
  for (let part = listing.nextPart(); part !== undefined; part = listing.nextPart()) {
    reader.open(part)
    while (reader.next()) found[`${reader.original.protocol} ${reader.original.destination.port}`] = reader.mark
  }
  return found
}

/** IPCTNL_MSG_CT_DELETE without a tuple. */
function flushTable(): void {
  netlink.submit([{ type: (1 << 8) | 2, flags: 0, family: 0, attributes: new Uint8Array(0) }])
}
