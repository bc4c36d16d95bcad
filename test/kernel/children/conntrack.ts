import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import t from 'tap'
import { sweepMarks } from '../../../src/native/conntrack.ts'
import { NFNL_SUBSYS_CTNETLINK, openNetlink } from '../../../src/native/netlink.ts'
import { nft } from './traffic.ts'

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_GET = 1
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_PROTO = 2
const CTA_PROTO_DST_PORT = 3
const CTA_MARK = 8
const CTA_ZONE = 18

const netlink = openNetlink()
t.teardown(() => netlink.close())
const sockets: Record<4 | 6, Socket> = { 4: createSocket('udp4'), 6: createSocket('udp6') }
t.teardown(() => {
  sockets[4].close()
  sockets[6].close()
})
for (const socket of [sockets[4], sockets[6]]) {
  socket.bind(0)
  await once(socket, 'listening')
}

nft(`
  table inet knptest {
    chain zones { type filter hook output priority -300; policy accept; udp dport 7205 ct zone set 5; }
    chain marks {
      type filter hook output priority 0; policy accept
      udp dport 7201 ct mark set 0x12340101
      udp dport 7202 ct mark set 0x12340202
      udp dport 7203 ct mark set 0xffff0103
      udp dport 7204 ct mark set 0x00000100
      udp dport 7205 ct mark set 0x00000105
    }
  }
`)
await send(4, 7201, '127.0.0.1')
await send(4, 7202, '127.0.0.1')
await send(6, 7203, '::1')
await send(4, 7205, '127.0.0.1')

t.test('only matching connections of the family change, and only their masked bits', async (t) => {
  t.equal(sweepMarks(netlink, { mask: 0xff00, value: 0x100, newValue: 0x300 }, 6), 1)
  t.same(marks(), { 7201: 0x12340101, 7202: 0x12340202, 7203: 0xffff0303, 7205: 0x105 })
  t.equal(sweepMarks(netlink, { mask: 0xff00, value: 0x100, newValue: 0x300 }, 4), 2)
  t.same(marks(), { 7201: 0x12340301, 7202: 0x12340202, 7203: 0xffff0303, 7205: 0x305 })
  t.equal(sweepMarks(netlink, { mask: 0xff00, value: 0x300, newValue: 0 }, 'both'), 3)
  t.same(marks(), { 7201: 0x12340001, 7202: 0x12340202, 7203: 0xffff0003, 7205: 0x5 })
  t.equal(sweepMarks(netlink, { mask: 0xff00, value: 0x300, newValue: 0 }, 'both'), 0)
})

t.test('a connection of a zone is found in it', async (t) => {
  const zones = connections().filter(({ port }) => port === 7205)
  t.same(
    zones.map(({ zone }) => zone),
    [5],
  )
})

t.test('the highest bit of a mark is a bit', async (t) => {
  t.equal(sweepMarks(netlink, { mask: 0x80000000, value: 0x80000000, newValue: 0 }, 'both'), 1)
  t.equal(marks()[7203], 0x7fff0003)
  t.equal(sweepMarks(netlink, { mask: 0x80000000, value: 0, newValue: 0x80000000 }, 6), 1)
  t.equal(marks()[7203], 0xffff0003)
})

t.test('thousands are swept', async (t) => {
  for (let host = 1; host <= 2500; host++) await send(4, 7204, `127.0.${host >> 8}.${host & 0xff}`)
  t.equal(connections().filter(({ port, mark }) => port === 7204 && mark === 0x100).length, 2500)
  t.equal(sweepMarks(netlink, { mask: 0xff00, value: 0x100, newValue: 0x700 }, 'both'), 2500)
  t.equal(connections().filter(({ port, mark }) => port === 7204 && mark === 0x700).length, 2500)
})

function connections() {
  const listing = { type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, flags: 0, family: 0 }
  return netlink.dump({ ...listing, attributes: new Uint8Array(0) }).map(({ attributes }) => {
    const protocol = attributes.nested(CTA_TUPLE_ORIG)!.nested(CTA_TUPLE_PROTO)!
    const [high = 0, low = 0] = protocol.get(CTA_PROTO_DST_PORT) ?? []
    return { port: (high << 8) | low, mark: attributes.u32(CTA_MARK) ?? 0, zone: attributes.get(CTA_ZONE)?.[1] }
  })
}

function marks(): Record<number, number> {
  const known = connections().filter(({ port }) => port >= 7201 && port <= 7205)
  return Object.fromEntries(known.map(({ port, mark }) => [port, mark]))
}

function send(family: 4 | 6, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    sockets[family].send('x', port, address, (error) => (error ? reject(error) : resolve()))
  })
}
