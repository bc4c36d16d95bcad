import { type Address, isIPv4, MAPPED_WORD } from '../../src/engine/address.ts'
import {
  AttributeWriter,
  MAX_SUBMITTED,
  type Netlink,
  NetlinkError,
  type NetlinkMessage,
  NFNL_SUBSYS_CTNETLINK,
  NLM_F_CREATE,
} from '../../src/native/netlink.ts'

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW = 0
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_STATUS = 3
const CTA_PROTOINFO = 4
const CTA_TIMEOUT = 7
const CTA_MARK = 8
const CTA_ZONE = 18
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_PROTOINFO_TCP = 1
const CTA_PROTOINFO_TCP_STATE = 1
const TCP_CONNTRACK_ESTABLISHED = 3
/** IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED of linux/netfilter/nf_conntrack_common.h. */
const ESTABLISHED_STATUS = 0x0e
const NLM_F_EXCL = 0x200
const protocols = { icmp: 1, tcp: 6, udp: 17 } as const
const ICMPV6 = 58

/** A connection to put into the kernel's table, established. Ports of `icmp` are not looked at. */
export interface ConnectionSpec {
  readonly protocol: 'tcp' | 'udp' | 'icmp'
  readonly source: Address
  readonly sourcePort: number
  readonly destination: Address
  readonly port: number
  readonly mark: number
  /** After how long the kernel forgets it. Default 600. */
  readonly timeoutSeconds?: number
  /** Where replies come from when the destination was translated (DNAT). */
  readonly server?: { readonly address: Address; readonly port: number }
  /** Where replies go to when the source was translated (masquerade). */
  readonly client?: { readonly address: Address; readonly port: number }
  readonly zone?: number
}

/**
 * Puts connections into the table of the socket's network namespace.
 *
 * @throws NetlinkError what the kernel refused: EEXIST when there is such a connection, ENOMEM when the table is full.
 */
export function makeConnections(netlink: Netlink, connections: Iterable<ConnectionSpec>): void {
  let messages: NetlinkMessage[] = []
  const submit = () => {
    const failures = netlink.submit(messages)
    if (failures.length > 0) throw new NetlinkError('make connections', failures)
    messages = []
  }
  for (const connection of connections) {
    messages.push(newConnection(connection))
    if (messages.length === MAX_SUBMITTED) submit()
  }
  submit()
}

/** The attributes of a connection, as they are in the kernel's listing as well. */
export function connectionAttributes(connection: ConnectionSpec): Uint8Array {
  const { source, sourcePort, destination, port, mark, timeoutSeconds = 600, zone } = connection
  const server = connection.server ?? { address: destination, port }
  const client = connection.client ?? { address: source, port: sourcePort }
  const writer = new AttributeWriter()
  putTuple(
    writer,
    CTA_TUPLE_ORIG,
    connection.protocol,
    { address: source, port: sourcePort },
    { address: destination, port },
  )
  putTuple(writer, CTA_TUPLE_REPLY, connection.protocol, server, client)
  writer.u32(CTA_STATUS, ESTABLISHED_STATUS).u32(CTA_TIMEOUT, timeoutSeconds).u32(CTA_MARK, mark)
  if (zone !== undefined) writer.u16(CTA_ZONE, zone)
  if (connection.protocol === 'tcp') {
    const info = writer.openNest(CTA_PROTOINFO)
    const tcp = writer.openNest(CTA_PROTOINFO_TCP)
    writer.u8(CTA_PROTOINFO_TCP_STATE, TCP_CONNTRACK_ESTABLISHED).closeNest(tcp).closeNest(info)
  }
  return writer.finish()
}

/** AF_INET or AF_INET6. */
export function familyNumber(address: Address): number {
  return isIPv4(address) ? 2 : 10
}

/** The IPv4 address with this number. */
export function ipv4(word: number): Address {
  return { w0: 0, w1: 0, w2: MAPPED_WORD, w3: word | 0 }
}

function newConnection(connection: ConnectionSpec): NetlinkMessage {
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    family: familyNumber(connection.source),
    attributes: connectionAttributes(connection),
  }
}

interface End {
  readonly address: Address
  readonly port: number
}

function putTuple(writer: AttributeWriter, type: number, protocol: keyof typeof protocols, from: End, to: End): void {
  const isV4 = isIPv4(from.address)
  const tuple = writer.openNest(type)
  const ip = writer.openNest(CTA_TUPLE_IP)
  for (const [index, { address }] of [from, to].entries()) {
    if (isV4) writer.u32(1 + index, address.w3)
    else writer.data(3 + index, wordsOf(address))
  }
  writer.closeNest(ip)
  const proto = writer.openNest(CTA_TUPLE_PROTO)
  if (protocol === 'icmp') {
    // An echo request, and in the other direction its answer.
    const isReply = type === CTA_TUPLE_REPLY
    if (isV4)
      writer
        .u8(1, protocols.icmp)
        .u16(4, 77)
        .u8(5, isReply ? 0 : 8)
        .u8(6, 0)
    else
      writer
        .u8(1, ICMPV6)
        .u16(7, 77)
        .u8(8, isReply ? 129 : 128)
        .u8(9, 0)
  } else {
    writer.u8(1, protocols[protocol]).u16(2, from.port).u16(3, to.port)
  }
  writer.closeNest(proto).closeNest(tuple)
}

function wordsOf({ w0, w1, w2, w3 }: Address): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  for (const [index, word] of [w0, w1, w2, w3].entries()) view.setInt32(index * 4, word)
  return bytes
}
