import { type Address, isIPv4, MAPPED_WORD } from './address.ts'

/** IP protocol numbers (IANA) that policies or the decoder name. */
export const ICMP = 1
export const TCP = 6
export const UDP = 17
export const ICMPV6 = 58
export const SCTP = 132

/** One end of a packet. `port` is 0 for protocols without ports. */
export interface SocketAddress extends Address {
  readonly port: number
}

/** A packet's headers as policies see them. Immutable to everyone but the decoder, which reuses one object for all. */
export interface Packet {
  readonly family: 4 | 6
  /** IP protocol number of the upper layer, behind all extension headers. */
  readonly protocol: number
  readonly source: SocketAddress
  readonly destination: SocketAddress
  /** ICMP or ICMPv6 type and code; 0 otherwise. */
  readonly icmpType: number
  readonly icmpCode: number
  /** The TCP flags byte (FIN 1, SYN 2, RST 4, PSH 8, ACK 16); 0 otherwise. */
  readonly tcpFlags: number
}

/** Why bytes are no packet that can be decided; every one of them is denied. */
export const packetProblems = {
  /** Decoded. */
  NONE: 0,
  /** A header says something that RFC 791, 8200, 9293, 768, 9260 or 792 forbids, or the packet ends inside it. */
  MALFORMED: 1,
  /** The kernel copied less of the packet than its headers need. */
  TRUNCATED: 2,
  /** A fragment other than the first: it has no ports. Conntrack reassembles, so none should arrive. */
  FRAGMENT: 3,
  /** A routing header with segments left: the address in the header is not where the packet ends (RFC 8200 section 4.4). */
  ROUTED: 4,
  /** An IPv6 packet with a v4-mapped address, which must not appear on a wire. */
  MAPPED: 5,
  /** Neither IPv4 nor IPv6. */
  FAMILY: 6,
} as const

export type PacketProblem = (typeof packetProblems)[keyof typeof packetProblems]

const { NONE, MALFORMED, TRUNCATED, FRAGMENT, ROUTED, MAPPED, FAMILY } = packetProblems

const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT_HEADER = 44
const AUTHENTICATION = 51
const DESTINATION_OPTIONS = 60
const MOBILITY = 135
const HIP = 139
const SHIM6 = 140

class MutableSocketAddress implements SocketAddress {
  w0 = 0
  w1 = 0
  w2 = 0
  w3 = 0
  port = 0
}

/**
 * Decodes packets into itself, one at a time, without allocating. Every read is bounded by what the kernel copied
 * (`captured`) and by what the packet says of its own length; checksums are not verified, because locally built packets
 * do not have theirs yet.
 */
export class PacketDecoder implements Packet {
  family: 4 | 6 = 4
  protocol = 0
  source = new MutableSocketAddress()
  destination = new MutableSocketAddress()
  icmpType = 0
  icmpCode = 0
  tcpFlags = 0
  /** Whether the ends are this packet's: also of one that could not be read to its end. */
  hasAddresses = false
  /** Where an ICMP error's quoted packet starts and what is there of it; `quotedStart` is 0 where there is none. */
  #quotedStart = 0
  #quotedEnd = 0

  /**
   * @param bytes holds the packet, network header first
   * @param start offset of the network header
   * @param captured bytes there are
   * @param length bytes the packet had; more than `captured` where the kernel cut it
   * @param family 4 or 6, from the kernel
   */
  decode(bytes: Uint8Array, start: number, captured: number, length: number, family: number): PacketProblem {
    this.#quotedStart = 0
    this.hasAddresses = false
    this.protocol = 0
    this.icmpType = 0
    this.icmpCode = 0
    this.tcpFlags = 0
    this.source.port = 0
    this.destination.port = 0
    if (start < 0 || captured < 0 || start + captured > bytes.length || captured > length) return MALFORMED
    if (family === 4) return this.#decodeIPv4(bytes, start, captured, length, false)
    if (family === 6) return this.#decodeIPv6(bytes, start, captured, length, false)
    return FAMILY
  }

  /**
   * Goes on to the packet that the ICMP error just decoded quotes (RFC 792, RFC 4443 section 3): afterwards this is the
   * quoted packet, of which only the addresses and ports are certain. Answers MALFORMED where nothing is quoted.
   */
  decodeQuoted(bytes: Uint8Array): PacketProblem {
    const start = this.#quotedStart
    const captured = this.#quotedEnd - start
    if (start === 0 || captured <= 0) return MALFORMED
    const family = this.family
    this.#quotedStart = 0
    this.icmpType = 0
    this.icmpCode = 0
    // How long the quoted packet was is not known; what it says of itself is not held against the quote's length.
    return family === 4
      ? this.#decodeIPv4(bytes, start, captured, Number.MAX_SAFE_INTEGER, true)
      : this.#decodeIPv6(bytes, start, captured, Number.MAX_SAFE_INTEGER, true)
  }

  /** Swaps the two ends: a reply becomes the packet it answers. */
  reverse(): void {
    const source = this.source
    this.source = this.destination
    this.destination = source
  }

  #decodeIPv4(bytes: Uint8Array, start: number, captured: number, length: number, quoted: boolean): PacketProblem {
    if (captured < 20) return short(captured, length)
    if (bytes[start]! >> 4 !== 4) return MALFORMED
    const headerBytes = (bytes[start]! & 15) * 4
    if (headerBytes < 20) return MALFORMED
    if (captured < headerBytes) return short(captured, length)
    // 0 is what a GSO packet above 64 KiB carries (BIG TCP).
    const totalBytes = read16(bytes, start + 2)
    if (totalBytes !== 0 && (totalBytes < headerBytes || totalBytes > length)) return MALFORMED
    this.family = 4
    setIPv4(this.source, bytes, start + 12)
    setIPv4(this.destination, bytes, start + 16)
    this.hasAddresses = true
    const fragment = read16(bytes, start + 6)
    if ((fragment & 0x1fff) !== 0) return FRAGMENT
    this.protocol = bytes[start + 9]!
    const whole = totalBytes === 0 ? length : totalBytes
    return this.#decodeUpper(
      bytes,
      start + headerBytes,
      Math.min(captured, whole) - headerBytes,
      whole - headerBytes,
      quoted,
    )
  }

  #decodeIPv6(bytes: Uint8Array, start: number, captured: number, length: number, quoted: boolean): PacketProblem {
    if (captured < 40) return short(captured, length)
    if (bytes[start]! >> 4 !== 6) return MALFORMED
    // 0 is a jumbogram or a GSO packet above 64 KiB.
    const payloadBytes = read16(bytes, start + 4)
    if (payloadBytes !== 0 && payloadBytes + 40 > length) return MALFORMED
    this.family = 6
    setIPv6(this.source, bytes, start + 8)
    setIPv6(this.destination, bytes, start + 24)
    this.hasAddresses = true
    if (isIPv4(this.source) || isIPv4(this.destination)) return MAPPED
    const whole = payloadBytes === 0 ? length : payloadBytes + 40
    const end = start + Math.min(captured, whole)
    let at = start + 40
    let next = bytes[start + 6]!
    for (;;) {
      switch (next) {
        case HOP_BY_HOP:
        case ROUTING:
        case FRAGMENT_HEADER:
        case AUTHENTICATION:
        case DESTINATION_OPTIONS:
        case MOBILITY:
        case HIP:
        case SHIM6:
          break
        default:
          this.protocol = next
          return this.#decodeUpper(bytes, at, end - at, whole - (at - start), quoted)
      }
      if (end - at < 8) return short(end - start, whole)
      // RFC 8200 section 4.1: only directly behind the IPv6 header.
      if (next === HOP_BY_HOP && at !== start + 40) return MALFORMED
      if (next === ROUTING && bytes[at + 3] !== 0) return ROUTED
      if (next === FRAGMENT_HEADER && (read16(bytes, at + 2) & 0xfff8) !== 0) return FRAGMENT
      const headerBytes = extensionBytes(next, bytes[at + 1]!)
      next = bytes[at]!
      at += headerBytes
      if (at > end) return short(end - start, whole)
    }
  }

  /** @param captured bytes of the upper layer there are @param length bytes it had */
  #decodeUpper(bytes: Uint8Array, at: number, captured: number, length: number, quoted: boolean): PacketProblem {
    this.source.port = 0
    this.destination.port = 0
    switch (this.protocol) {
      case TCP:
      case UDP:
      case SCTP: {
        // An ICMP error quotes at least 8 bytes of the upper layer (RFC 792): enough for the ports.
        const headerBytes = quoted || this.protocol === UDP ? 8 : this.protocol === TCP ? 20 : 12
        if (captured < headerBytes) return short(captured, length)
        this.source.port = read16(bytes, at)
        this.destination.port = read16(bytes, at + 2)
        if (quoted) return NONE
        if (this.protocol === TCP) {
          const dataOffset = (bytes[at + 12]! >> 4) * 4
          if (dataOffset < 20 || dataOffset > length) return MALFORMED
          this.tcpFlags = bytes[at + 13]!
        }
        return NONE
      }
      case ICMP:
      case ICMPV6:
        if ((this.protocol === ICMP) !== (this.family === 4)) return MALFORMED
        if (captured < 8) return short(captured, length)
        this.icmpType = bytes[at]!
        this.icmpCode = bytes[at + 1]!
        if (!quoted && isIcmpError(this.protocol, this.icmpType)) {
          this.#quotedStart = at + 8
          this.#quotedEnd = at + captured
        }
        return NONE
      default:
        return NONE
    }
  }
}

/** Whether an ICMP message reports on another packet, which it quotes. */
export function isIcmpError(protocol: number, type: number): boolean {
  if (protocol === ICMP) return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
  return protocol === ICMPV6 && type < 128
}

/** Whether policies never judge the packet: neighbour discovery, MLD and path-MTU errors (SEMANTICS: "The pipeline"). */
export function isNeverJudged(packet: Packet): boolean {
  const { protocol, icmpType } = packet
  if (protocol === ICMPV6) {
    return icmpType === 2 || (icmpType >= 130 && icmpType <= 137) || icmpType === 143
  }
  return protocol === ICMP && icmpType === 3 && packet.icmpCode === 4
}

/** The packet ended too early: because the kernel cut it, or by itself. */
function short(captured: number, length: number): PacketProblem {
  return captured < length ? TRUNCATED : MALFORMED
}

function extensionBytes(header: number, lengthField: number): number {
  if (header === FRAGMENT_HEADER) return 8
  // RFC 4302 section 2.2: in 4-byte units, minus 2.
  if (header === AUTHENTICATION) return (lengthField + 2) * 4
  return (lengthField + 1) * 8
}

function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function read32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}

function setIPv4(address: MutableSocketAddress, bytes: Uint8Array, at: number): void {
  address.w0 = 0
  address.w1 = 0
  address.w2 = MAPPED_WORD
  address.w3 = read32(bytes, at)
}

function setIPv6(address: MutableSocketAddress, bytes: Uint8Array, at: number): void {
  address.w0 = read32(bytes, at)
  address.w1 = read32(bytes, at + 4)
  address.w2 = read32(bytes, at + 8)
  address.w3 = read32(bytes, at + 12)
}
