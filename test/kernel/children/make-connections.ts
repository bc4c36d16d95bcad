import {
  AttributeWriter,
  MAX_SUBMITTED,
  type NetlinkMessage,
  NFNL_SUBSYS_CTNETLINK,
  openNetlink,
} from '../../../src/native/netlink.ts'
import { listElements } from '../../../src/native/nftables.ts'
import { sets, TABLE } from '../../../src/ruleset/text.ts'
import type { MadeConnections } from '../connections.ts'
import { addressBytes } from '../packets.ts'

// Entries of the kernel's connection table, made without a packet, with the stamp that is valid now.

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW = 0
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_STATUS = 3
const CTA_TIMEOUT = 7
const CTA_MARK = 8
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3
// linux/netfilter/nf_conntrack_common.h: IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED
const STATUS = 2 | 4 | 8
const NLM_F_CREATE = 0x400
const NLM_F_EXCL = 0x200
const AF_INET = 2
const AF_INET6 = 10
const UDP = 17
const TIMEOUT_S = 3600

const { count, clients, servers, port } = JSON.parse(process.argv[2]!) as MadeConnections
const pairs = clients.flatMap((client) =>
  servers.filter((server) => server.includes(':') === client.includes(':')).map((server) => [client, server] as const),
)
const netlink = openNetlink()
const [stamped] = listElements(netlink, TABLE, sets.stamped)
const mark = new Uint32Array(stamped!.slice().buffer)[0]!
for (let made = 0; made < count; ) {
  const part = Math.min(count - made, MAX_SUBMITTED)
  const failures = netlink.submit(Array.from({ length: part }, (_, i) => connection(made + i)))
  if (failures.length > 0) throw new Error(`connection ${made + failures[0]!.index}: errno ${failures[0]!.errno}`)
  made += part
}
netlink.close()

function connection(number: number): NetlinkMessage {
  const [client, server] = pairs[number % pairs.length]!
  const clientPort = 1 + Math.floor(number / pairs.length)
  const writer = new AttributeWriter()
  putTuple(writer, CTA_TUPLE_ORIG, client, clientPort, server, port)
  putTuple(writer, CTA_TUPLE_REPLY, server, port, client, clientPort)
  writer.u32(CTA_STATUS, STATUS).u32(CTA_TIMEOUT, TIMEOUT_S).u32(CTA_MARK, mark)
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    family: client.includes(':') ? AF_INET6 : AF_INET,
    attributes: writer.finish(),
  }
}

function putTuple(
  writer: AttributeWriter,
  type: number,
  from: string,
  fromPort: number,
  to: string,
  toPort: number,
): void {
  const tuple = writer.openNest(type)
  const ip = writer.openNest(CTA_TUPLE_IP)
  // CTA_IP_V4_SRC and _DST, CTA_IP_V6_SRC and _DST.
  const first = from.includes(':') ? 3 : 1
  writer
    .data(first, addressBytes(from))
    .data(first + 1, addressBytes(to))
    .closeNest(ip)
  const protocol = writer.openNest(CTA_TUPLE_PROTO)
  writer.u8(CTA_PROTO_NUM, UDP).u16(CTA_PROTO_SRC_PORT, fromPort).u16(CTA_PROTO_DST_PORT, toPort).closeNest(protocol)
  writer.closeNest(tuple)
}
