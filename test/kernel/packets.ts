import { isIPv4, isIPv6 } from 'node:net'

/** IP protocol numbers. */
export const protocols = { icmp: 1, tcp: 6, udp: 17, fragment: 44, icmpv6: 58, sctp: 132 } as const

export interface Ends {
  readonly source: string
  readonly destination: string
}

/** An IPv4 or IPv6 packet. `payload` follows the header as it is; for IPv6 it may begin with extension headers. */
export function ipPacket({ source, destination }: Ends, protocol: number, payload: Buffer): Buffer {
  const from = addressBytes(source)
  const to = addressBytes(destination)
  if (from.length === 16) {
    const header = Buffer.alloc(40)
    header[0] = 0x60
    header.writeUInt16BE(payload.length, 4)
    header[6] = protocol
    header[7] = 64
    from.copy(header, 8)
    to.copy(header, 24)
    return Buffer.concat([header, payload])
  }
  const header = Buffer.alloc(20)
  header[0] = 0x45
  header.writeUInt16BE(20 + payload.length, 2)
  header[8] = 64
  header[9] = protocol
  from.copy(header, 12)
  to.copy(header, 16)
  header.writeUInt16BE(checksum(header), 10)
  return Buffer.concat([header, payload])
}

export interface Ports {
  readonly sourcePort: number
  readonly port: number
}

/** A TCP header with options (maximum segment size, window scale), without data. */
export function tcpSegment(ends: Ends, { sourcePort, port }: Ports, flags = 0x02, data = ''): Buffer {
  const header = Buffer.alloc(28)
  header.writeUInt16BE(sourcePort, 0)
  header.writeUInt16BE(port, 2)
  header.writeUInt32BE(1000, 4)
  header[12] = 7 << 4
  header[13] = flags
  header.writeUInt16BE(64240, 14)
  header.set([2, 4, 5, 180, 1, 3, 3, 7], 20)
  return withChecksum(ends, protocols.tcp, Buffer.concat([header, Buffer.from(data)]), 16)
}

export function udpDatagram(ends: Ends, { sourcePort, port }: Ports, data = ''): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(sourcePort, 0)
  header.writeUInt16BE(port, 2)
  header.writeUInt16BE(8 + Buffer.byteLength(data), 4)
  return withChecksum(ends, protocols.udp, Buffer.concat([header, Buffer.from(data)]), 6)
}

/** ICMP or ICMPv6, as the addresses are. `rest` are bytes 4 to 7. */
export function icmpMessage(ends: Ends, type: number, code: number, body: Buffer = Buffer.alloc(0), rest = 0): Buffer {
  const header = Buffer.alloc(8)
  header[0] = type
  header[1] = code
  header.writeUInt32BE(rest, 4)
  const message = Buffer.concat([header, body])
  if (isIPv6(ends.source)) return withChecksum(ends, protocols.icmpv6, message, 2)
  message.writeUInt16BE(checksum(message), 2)
  return message
}

/** An SCTP packet with one INIT chunk (RFC 9260), with its checksum (CRC32c). */
export function sctpInit({ sourcePort, port }: Ports): Buffer {
  const packet = Buffer.alloc(12 + 20)
  packet.writeUInt16BE(sourcePort, 0)
  packet.writeUInt16BE(port, 2)
  packet[12] = 1
  packet.writeUInt16BE(20, 14)
  packet.writeUInt32BE(0x1234, 16)
  packet.writeUInt32BE(65536, 20)
  packet.writeUInt16BE(1, 24)
  packet.writeUInt16BE(1, 26)
  packet.writeUInt32BE(1, 28)
  packet.writeUInt32LE(crc32c(packet), 8)
  return packet
}

/** An IPv6 extension header of 8 bytes times `units`, padded with PadN. */
export function extensionHeader(next: number, units = 1): Buffer {
  const header = Buffer.alloc(8 * units)
  header[0] = next
  header[1] = units - 1
  header[2] = 1
  header[3] = 8 * units - 4
  return header
}

/** The fragments of an upper-layer payload; `size` is a multiple of 8. */
export function fragments(ends: Ends, protocol: number, payload: Buffer, size: number, id: number): Buffer[] {
  const packets: Buffer[] = []
  for (let at = 0; at < payload.length; at += size) {
    const part = payload.subarray(at, at + size)
    const isLast = at + size >= payload.length
    if (isIPv6(ends.source)) {
      const header = Buffer.alloc(8)
      header[0] = protocol
      header.writeUInt16BE(at | (isLast ? 0 : 1), 2)
      header.writeUInt32BE(id, 4)
      packets.push(ipPacket(ends, protocols.fragment, Buffer.concat([header, part])))
    } else {
      const packet = ipPacket(ends, protocol, part)
      packet.writeUInt16BE(id & 0xffff, 4)
      packet.writeUInt16BE((at >> 3) | (isLast ? 0 : 0x2000), 6)
      packets.push(mendHeader(packet))
    }
  }
  return packets
}

/** Makes the checksum of an IPv4 header right again, where there is a header at all. Answers the same packet. */
export function mendHeader(packet: Buffer): Buffer {
  const headerBytes = ((packet[0] ?? 0) & 15) * 4
  if ((packet[0] ?? 0) >> 4 === 4 && headerBytes >= 20 && packet.length >= headerBytes) {
    packet.writeUInt16BE(0, 10)
    packet.writeUInt16BE(checksum(packet.subarray(0, headerBytes)), 10)
  }
  return packet
}

/** Makes the checksum of TCP, UDP or ICMP directly behind the IP header right again. Answers the same packet. */
export function mendPayload(packet: Buffer): Buffer {
  const isV6 = (packet[0] ?? 0) >> 4 === 6
  const headerBytes = isV6 ? 40 : ((packet[0] ?? 0) & 15) * 4
  if (headerBytes < 20 || packet.length < headerBytes + 8) return packet
  const protocol = packet[isV6 ? 6 : 9]!
  const place = { [protocols.tcp]: 16, [protocols.udp]: 6, [protocols.icmp]: 2, [protocols.icmpv6]: 2 }[protocol]
  const upper = packet.subarray(headerBytes)
  if (place === undefined || upper.length < place + 2) return packet
  upper.writeUInt16BE(0, place)
  const addresses = isV6 ? packet.subarray(8, 40) : packet.subarray(12, 20)
  const covered = protocol === protocols.icmp ? upper : pseudoPacket(addresses, protocol, upper)
  upper.writeUInt16BE(checksum(covered), place)
  return packet
}

/** An address as it is in a packet. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = address.split('::')
  const groups = (text: string | undefined) => (text ? text.split(':') : [])
  const zeros = Array.from({ length: 8 - groups(head).length - groups(tail).length }, () => '0')
  const all = tail === undefined ? groups(head) : [...groups(head), ...zeros, ...groups(tail)]
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex')
}

function withChecksum({ source, destination }: Ends, protocol: number, upper: Buffer, place: number): Buffer {
  const addresses = Buffer.concat([addressBytes(source), addressBytes(destination)])
  upper.writeUInt16BE(checksum(pseudoPacket(addresses, protocol, upper)) || 0xffff, place)
  return upper
}

/** What RFC 9293 and RFC 8200 section 8.1 have checksums made of. */
function pseudoPacket(addresses: Buffer, protocol: number, upper: Buffer): Buffer {
  const rest = Buffer.alloc(4)
  rest.writeUInt16BE(protocol, 0)
  rest.writeUInt16BE(upper.length, 2)
  return Buffer.concat([addresses, rest, upper])
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** RFC 9260 appendix A. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}
