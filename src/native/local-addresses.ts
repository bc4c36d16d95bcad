import { constants, endianness } from 'node:os'
import { type Address, addressSet, isIPv4, MAPPED_WORD } from '../engine/address.ts'
import { loadAddon, type NativeNetlinkSocket } from './load.ts'
import { Attributes, errnoIn, messagesIn, NetlinkError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST } from './netlink.ts'

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
export const NETLINK_ROUTE = 0
export const RTNLGRP_IPV4_IFADDR = 5
export const RTNLGRP_IPV6_IFADDR = 9
const RTM_NEWADDR = 20
const RTM_DELADDR = 21
const RTM_GETADDR = 22
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const AF_UNSPEC = 0
const AF_INET = 2
const AF_INET6 = 10
const HEADER_BYTES = 16
/** struct ifaddrmsg: family, prefix length, flags, scope (u8 each), interface index (u32, host order). */
const ADDRESS_HEADER_BYTES = 8

const TIMEOUT_MS = 10_000
const MAX_DUMP_ATTEMPTS = 10
const littleEndian = endianness() === 'LE'

/** An address of this network namespace. */
export interface LocalAddress {
  readonly address: Address
  /** Of the subnet that it came with, as people write it: 24 in 10.0.0.1/24. */
  readonly prefixLength: number
  readonly interfaceIndex: number
}

/**
 * Tells whether what is sent to an address comes to this machine: one of its own, or an IPv4 broadcast of its subnets. Made
 * once for all connections that are asked about.
 */
export function localAddressTest(locals: readonly LocalAddress[]): (address: Address) => boolean {
  return addressSet(locals.flatMap((local) => [local.address, ...broadcastOf(local)]))
}

/** None of what is no subnet: a /31 has two hosts and nothing else (RFC 3021). */
function broadcastOf({ address, prefixLength }: LocalAddress): readonly Address[] {
  const hostBits = 32 - prefixLength
  if (!isIPv4(address) || hostBits < 2) return []
  const hostMask = hostBits === 32 ? -1 : (1 << hostBits) - 1
  return [{ ...address, w3: address.w3 | hostMask }]
}

/** Lists local addresses, on a socket of its own. */
export interface AddressLister {
  /**
   * Those of all interfaces, loopback and link-local ones included, in the kernel's order.
   *
   * @throws NetlinkError what the kernel refused; EINTR when they kept changing.
   */
  list(): readonly LocalAddress[]
  close(): void
}

/**
 * Opens a socket in the network namespace of this thread. No privilege is needed.
 *
 * @throws KnpError NATIVE_MISSING; a SystemError when the kernel gives no socket.
 */
export function openAddressLister(): AddressLister {
  const { NetlinkSocket } = loadAddon()
  const socket: NativeNetlinkSocket = new NetlinkSocket(NETLINK_ROUTE)
  let sequence = 0
  const refuse = (errno: number, explanation: string | undefined) =>
    new NetlinkError('list addresses', [{ index: -1, errno, explanation }])
  return {
    list() {
      for (let attempt = 0; attempt < MAX_DUMP_ATTEMPTS; attempt++) {
        sequence = (sequence + 1) & 0x7fff_ffff
        const listing = decodeAddresses(socket.request(encodeListing(sequence), sequence, TIMEOUT_MS))
        if (listing === undefined) throw refuse(constants.errno.EBADMSG, 'the answer cannot be read')
        if (listing.errno !== 0) throw refuse(listing.errno, undefined)
        if (!listing.interrupted) return listing.addresses
      }
      throw refuse(constants.errno.EINTR, 'they kept changing')
    },
    close: () => socket.close(),
  }
}

/** What an answer to RTM_GETADDR says. */
export interface AddressListing {
  readonly addresses: readonly LocalAddress[]
  /** The addresses changed meanwhile: these may be of two states. */
  readonly interrupted: boolean
  /** Positive when the kernel refused. */
  readonly errno: number
}

/** Decodes an answer; `undefined` where the bytes are not what the kernel sends. Other families' addresses are left out. */
export function decodeAddresses(bytes: Uint8Array): AddressListing | undefined {
  const addresses: LocalAddress[] = []
  let interrupted = false
  let errno = 0
  try {
    for (const message of messagesIn(bytes)) {
      interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
      errno ||= errnoIn(message)
      if (message.type !== RTM_NEWADDR) continue
      const { body } = message
      if (body.length < ADDRESS_HEADER_BYTES) return undefined
      const attributes = new Attributes(body.subarray(ADDRESS_HEADER_BYTES))
      // With a peer, ADDRESS is the peer's. IPv6 without one has no LOCAL.
      const value = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS)
      const address = value && addressFrom(body[0]!, value)
      if (address === undefined) continue
      const interfaceIndex = new DataView(body.buffer, body.byteOffset).getUint32(4, littleEndian)
      addresses.push({ address, prefixLength: body[1]!, interfaceIndex })
    }
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
  return { addresses, interrupted, errno }
}

/** Whether a datagram reports an address that came, changed or went; also where it cannot be read. */
export function reportsAddresses(bytes: Uint8Array): boolean {
  try {
    for (const { type } of messagesIn(bytes)) if (type === RTM_NEWADDR || type === RTM_DELADDR) return true
    return false
  } catch (error) {
    if (error instanceof RangeError) return true
    throw error
  }
}

/** Whether both hold the same addresses on the same interfaces, in whatever order. */
export function sameAddresses(a: readonly LocalAddress[], b: readonly LocalAddress[]): boolean {
  const keys = new Set(a.map(keyOf))
  const others = new Set(b.map(keyOf))
  return keys.size === others.size && [...keys].every((key) => others.has(key))
}

function keyOf({ address: { w0, w1, w2, w3 }, prefixLength, interfaceIndex }: LocalAddress): string {
  return `${w0} ${w1} ${w2} ${w3} ${prefixLength} ${interfaceIndex}`
}

function encodeListing(sequence: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + ADDRESS_HEADER_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, littleEndian)
  view.setUint16(4, RTM_GETADDR, littleEndian)
  view.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, littleEndian)
  view.setUint32(8, sequence, littleEndian)
  view.setUint8(HEADER_BYTES, AF_UNSPEC)
  return bytes
}

/** An address of this family (AF_) in network order; `undefined` where it is none, or one that no wire carries. */
export function addressFrom(family: number, value: Uint8Array): Address | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
  if (family === AF_INET && value.length === 4) return { w0: 0, w1: 0, w2: MAPPED_WORD, w3: view.getInt32(0) }
  if (family !== AF_INET6 || value.length !== 16) return undefined
  const address = { w0: view.getInt32(0), w1: view.getInt32(4), w2: view.getInt32(8), w3: view.getInt32(12) }
  return isIPv4(address) ? undefined : address
}
