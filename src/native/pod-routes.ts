import { endianness } from 'node:os'
import { type Address, formatAddress } from '../engine/address.ts'
import { loadAddon, type NativeNetlinkSocket } from './load.ts'
import { addressFrom, NETLINK_ROUTE } from './local-addresses.ts'
import {
  Attributes,
  errnoIn,
  HEADER_BYTES,
  messagesIn,
  NetlinkError,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  type RawMessage,
  readHostU32,
} from './netlink.ts'

// linux/rtnetlink.h, linux/if_link.h, linux/if.h
export const RTNLGRP_LINK = 1
export const RTNLGRP_IPV4_ROUTE = 7
export const RTNLGRP_IPV6_ROUTE = 11
const NLM_F_REPLACE = 0x100
const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_DELADDR = 21
const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RTM_GETROUTE = 26
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTA_VIA = 18
const RT_TABLE_MAIN = 254
const RTN_UNICAST = 1
const RTM_F_CLONED = 0x200
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFF_UP = 1
const AF_UNSPEC = 0
const AF_INET = 2
const AF_INET6 = 10
/** struct rtmsg: family, destination's and source's prefix length, tos, table, protocol, scope, type (u8 each), flags (u32). */
const ROUTE_HEADER_BYTES = 12
/** struct ifinfomsg: family (u8), type (u16), index, flags, change (u32 each). */
const LINK_HEADER_BYTES = 16

const TIMEOUT_MS = 10_000
const MAX_DUMP_ATTEMPTS = 3
const littleEndian = endianness() === 'LE'

/** Kinds of interfaces of which the other end is in a pod. */
const podKinds: ReadonlySet<string> = new Set(['veth', 'netkit'])

interface HostRoute {
  readonly address: Address
  readonly interfaceIndex: number
  /** What a route that replaces another one has in common with it. */
  readonly key: string
}

/**
 * The addresses to which this machine has a route of their own, through an interface that leads into a pod: that is how
 * network plugins without a bridge reach pods (ptp, kindnet, Calico, Cilium, Amazon's). Follows what the kernel reports.
 */
export class PodRoutes {
  readonly #kinds = new Map<number, string>()
  /** By key and interface. */
  readonly #routes = new Map<string, HostRoute>()

  /** Each once. */
  get addresses(): readonly Address[] {
    const found = new Map<string, Address>()
    for (const { address, interfaceIndex } of this.#routes.values()) {
      if (podKinds.has(this.#kinds.get(interfaceIndex) ?? '')) found.set(formatAddress(address), address)
    }
    return [...found.values()]
  }

  /** Begins anew, with all that there is now. */
  relist(lister: RouteLister): void {
    const bytes = lister.list()
    this.#kinds.clear()
    this.#routes.clear()
    for (const part of bytes) for (const message of messagesIn(part)) this.#take(message)
  }

  /**
   * Takes what the kernel has reported. True where it may have removed routes without saying so: then they have to be listed
   * again.
   *
   * @throws RangeError where it cannot be read.
   */
  take(bytes: Uint8Array): boolean {
    let isUnsure = false
    for (const message of messagesIn(bytes)) {
      // The routes with this address as their source go with it.
      if (message.type === RTM_DELADDR && message.body[0] === AF_INET) isUnsure = true
      this.#take(message)
    }
    return isUnsure
  }

  #take(message: RawMessage): void {
    if (message.type === RTM_NEWLINK || message.type === RTM_DELLINK) this.#takeLink(message)
    else if (message.type === RTM_NEWROUTE || message.type === RTM_DELROUTE) this.#takeRoute(message)
  }

  #takeLink({ type, body }: RawMessage): void {
    // What a bridge says of its ports has another family.
    if (body.length < LINK_HEADER_BYTES || body[0] !== AF_UNSPEC) return
    const index = readHostU32(body, 4)
    const isUp = type === RTM_NEWLINK && (readHostU32(body, 8) & IFF_UP) !== 0
    // The routes of an interface go with it, those of IPv4 without a word.
    if (!isUp) this.#forget(({ interfaceIndex }) => interfaceIndex === index)
    if (type === RTM_DELLINK) this.#kinds.delete(index)
    else {
      const kind = new Attributes(body.subarray(LINK_HEADER_BYTES)).nested(IFLA_LINKINFO)?.string(IFLA_INFO_KIND)
      if (kind !== undefined) this.#kinds.set(index, kind)
    }
  }

  #takeRoute({ type, flags, body }: RawMessage): void {
    const route = readHostRoute(body)
    if (!route) return
    if (type === RTM_NEWROUTE && (flags & NLM_F_REPLACE) !== 0) this.#forget(({ key }) => key === route.key)
    const name = `${route.key} ${route.interfaceIndex}`
    if (type === RTM_DELROUTE) this.#routes.delete(name)
    else if (route.interfaceIndex !== 0) this.#routes.set(name, route)
  }

  #forget(isGone: (route: HostRoute) => boolean): void {
    for (const [name, route] of this.#routes) if (isGone(route)) this.#routes.delete(name)
  }
}

/**
 * A route of the main table to one address; its interface is 0 where the route leads to a gateway or another end than that
 * address itself. `undefined` for all others.
 */
function readHostRoute(body: Uint8Array): HostRoute | undefined {
  if (body.length < ROUTE_HEADER_BYTES) return undefined
  const family = body[0]!
  const bits = family === AF_INET ? 32 : family === AF_INET6 ? 128 : -1
  if (body[1] !== bits || body[7] !== RTN_UNICAST || (readHostU32(body, 8) & RTM_F_CLONED) !== 0) return undefined
  const values = new Map<number, Uint8Array>()
  for (const { type, value } of new Attributes(body.subarray(ROUTE_HEADER_BYTES))) values.set(type, value)
  const number = (type: number) => {
    const value = values.get(type)
    return value && value.length >= 4 ? readHostU32(value, 0) : 0
  }
  if ((number(RTA_TABLE) || body[4]) !== RT_TABLE_MAIN) return undefined
  const destination = values.get(RTA_DST)
  const address = destination && addressFrom(family, destination)
  if (!address) return undefined
  const leadsOn = [RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH].some((type) => values.has(type))
  const key = `${formatAddress(address)} ${number(RTA_PRIORITY)} ${family === AF_INET ? body[3] : 0}`
  return { address, interfaceIndex: leadsOn ? 0 : number(RTA_OIF), key }
}

/** Lists interfaces and routes, on a socket of its own. */
export interface RouteLister {
  /**
   * All interfaces, then all routes, as the kernel writes them. Where they keep changing meanwhile, of whatever state: the
   * changes are reported.
   *
   * @throws NetlinkError what the kernel refused.
   */
  list(): readonly Uint8Array[]
  close(): void
}

/**
 * Opens a socket in the network namespace of this thread. No privilege is needed.
 *
 * @throws KnpError NATIVE_MISSING; a SystemError when the kernel gives no socket.
 */
export function openRouteLister(): RouteLister {
  const { NetlinkSocket } = loadAddon()
  const socket: NativeNetlinkSocket = new NetlinkSocket(NETLINK_ROUTE)
  let sequence = 0
  function dump(type: number, headerBytes: number): Uint8Array {
    for (let attempt = 1; ; attempt++) {
      sequence = (sequence + 1) & 0x7fff_ffff
      const answer = socket.request(encodeDump(type, headerBytes, sequence), sequence, TIMEOUT_MS)
      let isInterrupted = false
      for (const message of messagesIn(answer)) {
        isInterrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        const errno = errnoIn(message)
        if (errno !== 0) throw new NetlinkError('list routes', [{ index: -1, errno, explanation: undefined }])
      }
      if (!isInterrupted || attempt === MAX_DUMP_ATTEMPTS) return answer
    }
  }
  return {
    list: () => [dump(RTM_GETLINK, LINK_HEADER_BYTES), dump(RTM_GETROUTE, ROUTE_HEADER_BYTES)],
    close: () => socket.close(),
  }
}

/** For all families. */
function encodeDump(type: number, headerBytes: number, sequence: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + headerBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, littleEndian)
  view.setUint16(4, type, littleEndian)
  view.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, littleEndian)
  view.setUint32(8, sequence, littleEndian)
  return bytes
}
