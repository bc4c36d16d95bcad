import { MAPPED_WORD } from '../engine/address.ts'
import type { SocketAddress } from '../engine/packet.ts'
import {
  ATTRIBUTE_HEADER_BYTES,
  AttributeWriter,
  align,
  GENERIC_HEADER_BYTES,
  HEADER_BYTES,
  messageLengthAt,
  type NetlinkMessage,
  NFNL_SUBSYS_CTNETLINK,
  NLA_F_NESTED,
  NLA_TYPE_MASK,
  readHostU16,
} from './netlink.ts'

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW = 0
const IPCTNL_MSG_CT_GET = 1
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_PROTOINFO = 4
const CTA_MARK = 8
const CTA_ZONE = 18
const CTA_MARK_MASK = 21
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_IP_V4_SRC = 1
const CTA_IP_V4_DST = 2
const CTA_IP_V6_SRC = 3
const CTA_IP_V6_DST = 4
const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3
const CTA_PROTO_ICMP_TYPE = 5
const CTA_PROTO_ICMP_CODE = 6
const CTA_PROTO_ICMPV6_TYPE = 8
const CTA_PROTO_ICMPV6_CODE = 9
const CTA_PROTOINFO_TCP = 1
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4
/** linux/netfilter/nf_conntrack_tcp.h: what the kernel sets for a connection whose SYN it has not seen. */
const IP_CT_TCP_FLAG_BE_LIBERAL = 0x08
const AF_UNSPEC = 0
const AF_INET = 2
const AF_INET6 = 10
/** The attributes of a mark and its mask, and the one of a zone. */
const MARK_BYTES = 16
const ZONE_BYTES = 8
const ENTRY = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW

/** Which connections a listing is of: those whose masked mark bits are `value`. */
export interface MarkFilter {
  readonly mask: number
  readonly value: number
}

/** Asks the kernel for the connections with a mark. Kernels without the filter list all: look again at what comes. */
export function connectionsMarked({ mask, value }: MarkFilter, family: 4 | 6 | 'both'): NetlinkMessage {
  const filter = new AttributeWriter(MARK_BYTES).u32(CTA_MARK, value & mask).u32(CTA_MARK_MASK, mask)
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET,
    flags: 0,
    family: family === 'both' ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6,
    attributes: filter.finish(),
  }
}

class End implements SocketAddress {
  w0 = 0
  w1 = 0
  w2 = 0
  w3 = 0
  port = 0
}

/** One direction of a connection: what its packets are from and to. */
class Tuple {
  readonly source = new End()
  readonly destination = new End()
  protocol = 0
  icmpType = 0
  icmpCode = 0
}

/**
 * Reads the connections in the parts of a listing, one after another, into itself: what is read is overwritten by the next.
 * Reads never leave the part; a connection without both of its tuples is left out.
 */
export class ConnectionReader {
  family: 4 | 6 = 4
  /** All bits of the connection's mark. */
  mark = 0
  /** Where the connection's first packet came from and went to, before any translation. */
  readonly original = new Tuple()
  /** Where replies come from and go to: behind DNAT the source is the server itself. */
  readonly reply = new Tuple()
  /** Whether the kernel came to know a TCP connection midway: which end began it is unknown. */
  isPickedUp = false
  #part: Uint8Array = new Uint8Array(0)
  #at = 0
  /** Where the attributes lie that name the connection; `#zoneEnd` 0 where it is in no zone. */
  #tupleStart = 0
  #tupleEnd = 0
  #zoneStart = 0
  #zoneEnd = 0

  /** Goes to the beginning of a part. */
  open(part: Uint8Array): void {
    this.#part = part
    this.#at = 0
  }

  /**
   * Reads the next connection; false at the end of the part.
   *
   * @throws RangeError at a message or an attribute that does not fit into its surroundings.
   */
  next(): boolean {
    const part = this.#part
    while (this.#at + HEADER_BYTES <= part.length) {
      const at = this.#at
      const length = messageLengthAt(part, at)
      this.#at = at + align(length)
      if (readHostU16(part, at + 4) === ENTRY && this.#readEntry(at + HEADER_BYTES, at + length)) return true
    }
    return false
  }

  /** The zone that the connection is in for both directions, 0 where it is in none. */
  get zone(): number {
    return this.#zoneEnd === 0 ? 0 : readU16(this.#part, this.#zoneStart + ATTRIBUTE_HEADER_BYTES)
  }

  /**
   * A message that sets the masked bits of the connection's mark to those of `value`, and leaves the others as they are by
   * then. The kernel answers ENOENT when the connection has ended. May be sent when the part is overwritten.
   */
  changeMark(value: number, mask: number): NetlinkMessage {
    const part = this.#part
    const writer = new AttributeWriter(align(this.#tupleEnd - this.#tupleStart) + ZONE_BYTES + MARK_BYTES)
    const tuple = part.subarray(this.#tupleStart + ATTRIBUTE_HEADER_BYTES, this.#tupleEnd)
    writer.data(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple)
    if (this.#zoneEnd !== 0) {
      writer.data(CTA_ZONE, part.subarray(this.#zoneStart + ATTRIBUTE_HEADER_BYTES, this.#zoneEnd))
    }
    // The kernel's new mark is (old & ~mask) ^ value.
    writer.u32(CTA_MARK, value & mask).u32(CTA_MARK_MASK, mask)
    return { type: ENTRY, flags: 0, family: this.family === 4 ? AF_INET : AF_INET6, attributes: writer.finish() }
  }

  #readEntry(start: number, end: number): boolean {
    const part = this.#part
    if (end - start < GENERIC_HEADER_BYTES) return false
    const family = part[start]!
    if (family !== AF_INET && family !== AF_INET6) return false
    this.family = family === AF_INET ? 4 : 6
    this.mark = 0
    this.isPickedUp = false
    this.#tupleEnd = 0
    this.#zoneEnd = 0
    let hasReply = false
    let hasOriginal = false
    for (let at = start + GENERIC_HEADER_BYTES; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
      const next = attributeEnd(part, at, end)
      const value = at + ATTRIBUTE_HEADER_BYTES
      switch (typeAt(part, at)) {
        case CTA_TUPLE_ORIG:
          this.#tupleStart = at
          this.#tupleEnd = next
          hasOriginal = readTuple(part, value, next, this.original)
          break
        case CTA_TUPLE_REPLY:
          hasReply = readTuple(part, value, next, this.reply)
          break
        case CTA_PROTOINFO:
          this.isPickedUp = readsPickedUp(part, value, next)
          break
        case CTA_MARK:
          if (next - value >= 4) this.mark = readU32(part, value) >>> 0
          break
        case CTA_ZONE:
          if (next - value < 2) break
          this.#zoneStart = at
          this.#zoneEnd = next
          break
      }
      at = align(next)
    }
    return hasOriginal && hasReply
  }
}

/** Whether addresses and protocol were there; the rest is 0 where it is not. */
function readTuple(part: Uint8Array, start: number, end: number, tuple: Tuple): boolean {
  tuple.source.port = 0
  tuple.destination.port = 0
  tuple.protocol = 0
  tuple.icmpType = 0
  tuple.icmpCode = 0
  let addresses = 0
  for (let at = start; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const next = attributeEnd(part, at, end)
    const value = at + ATTRIBUTE_HEADER_BYTES
    const type = typeAt(part, at)
    if (type === CTA_TUPLE_IP) addresses = readAddresses(part, value, next, tuple)
    else if (type === CTA_TUPLE_PROTO) readProtocol(part, value, next, tuple)
    at = align(next)
  }
  return addresses === 2
}

/** How many addresses there were. */
function readAddresses(part: Uint8Array, start: number, end: number, tuple: Tuple): number {
  let found = 0
  for (let at = start; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const next = attributeEnd(part, at, end)
    const value = at + ATTRIBUTE_HEADER_BYTES
    const type = typeAt(part, at)
    if (type === CTA_IP_V4_SRC || type === CTA_IP_V4_DST) {
      if (next - value < 4) return 0
      const address = type === CTA_IP_V4_SRC ? tuple.source : tuple.destination
      address.w0 = 0
      address.w1 = 0
      address.w2 = MAPPED_WORD
      address.w3 = readU32(part, value)
      found++
    } else if (type === CTA_IP_V6_SRC || type === CTA_IP_V6_DST) {
      if (next - value < 16) return 0
      const address = type === CTA_IP_V6_SRC ? tuple.source : tuple.destination
      address.w0 = readU32(part, value)
      address.w1 = readU32(part, value + 4)
      address.w2 = readU32(part, value + 8)
      address.w3 = readU32(part, value + 12)
      found++
    }
    at = align(next)
  }
  return found
}

function readProtocol(part: Uint8Array, start: number, end: number, tuple: Tuple): void {
  for (let at = start; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const next = attributeEnd(part, at, end)
    const value = at + ATTRIBUTE_HEADER_BYTES
    switch (next > value ? typeAt(part, at) : 0) {
      case CTA_PROTO_NUM:
        tuple.protocol = part[value]!
        break
      case CTA_PROTO_SRC_PORT:
        if (next - value >= 2) tuple.source.port = readU16(part, value)
        break
      case CTA_PROTO_DST_PORT:
        if (next - value >= 2) tuple.destination.port = readU16(part, value)
        break
      case CTA_PROTO_ICMP_TYPE:
      case CTA_PROTO_ICMPV6_TYPE:
        tuple.icmpType = part[value]!
        break
      case CTA_PROTO_ICMP_CODE:
      case CTA_PROTO_ICMPV6_CODE:
        tuple.icmpCode = part[value]!
        break
    }
    at = align(next)
  }
}

function readsPickedUp(part: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at + ATTRIBUTE_HEADER_BYTES <= end; ) {
    const next = attributeEnd(part, at, end)
    const type = typeAt(part, at)
    if (type === CTA_PROTOINFO_TCP) {
      for (let inner = at + ATTRIBUTE_HEADER_BYTES; inner + ATTRIBUTE_HEADER_BYTES <= next; ) {
        const innerEnd = attributeEnd(part, inner, next)
        const value = inner + ATTRIBUTE_HEADER_BYTES
        if (typeAt(part, inner) === CTA_PROTOINFO_TCP_FLAGS_ORIGINAL && innerEnd > value) {
          return (part[value]! & IP_CT_TCP_FLAG_BE_LIBERAL) !== 0
        }
        inner = align(innerEnd)
      }
    }
    at = align(next)
  }
  return false
}

function typeAt(bytes: Uint8Array, at: number): number {
  return readHostU16(bytes, at + 2) & NLA_TYPE_MASK
}

/** Where an attribute ends, without its padding. */
function attributeEnd(bytes: Uint8Array, at: number, end: number): number {
  const length = readHostU16(bytes, at)
  if (length < ATTRIBUTE_HEADER_BYTES || at + length > end) {
    throw new RangeError(`attribute at byte ${at} claims ${length} of ${end - at} bytes`)
  }
  return at + length
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}
