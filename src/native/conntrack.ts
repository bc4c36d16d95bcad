import { constants } from 'node:os'
import {
  type Attributes,
  AttributeWriter,
  MAX_SUBMITTED,
  type Netlink,
  NetlinkError,
  type NetlinkMessage,
  type NetlinkReply,
  NFNL_SUBSYS_CTNETLINK,
} from './netlink.ts'

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW = 0
const IPCTNL_MSG_CT_GET = 1
const CTA_TUPLE_ORIG = 1
const CTA_PROTOINFO = 4
const CTA_MARK = 8
const CTA_ZONE = 18
const CTA_MARK_MASK = 21
const CTA_PROTOINFO_TCP = 1
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4
/** linux/netfilter/nf_conntrack_tcp.h: what the kernel sets for a connection whose SYN it has not seen. */
const IP_CT_TCP_FLAG_BE_LIBERAL = 0x08
const AF_UNSPEC = 0
const AF_INET = 2
const AF_INET6 = 10

/** Which connections a sweep changes, and to what. */
export interface MarkSweep {
  /** The bits of the connection's mark that are looked at and written; no others change. */
  readonly mask: number
  /** What they are. */
  readonly value: number
  /** What they become. */
  readonly newValue: number
  /** Which of them, by their attributes; all of them without it. */
  readonly only?: (attributes: Attributes) => boolean
}

/** Whether the kernel came to know a TCP connection midway: which end began it is unknown. */
export function isPickedUp(attributes: Attributes): boolean {
  const tcp = attributes.nested(CTA_PROTOINFO)?.nested(CTA_PROTOINFO_TCP)
  const flags = tcp?.get(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL)?.[0] ?? 0
  return (flags & IP_CT_TCP_FLAG_BE_LIBERAL) !== 0
}

/**
 * Finds the connections of this network namespace whose masked bits are `value`, and sets those bits to `newValue`.
 * Connections that end meanwhile are left out. A connection that the kernel marks anew between the listing and the
 * change is changed as well.
 *
 * @returns How many connections were changed.
 * @throws NetlinkError what the kernel refused, EPERM or (without conntrack) EINVAL for instance.
 */
export function sweepMarks(netlink: Netlink, sweep: MarkSweep, family: 4 | 6 | 'both'): number {
  const mask = sweep.mask >>> 0
  const value = (sweep.value & mask) >>> 0
  const filter = new AttributeWriter().u32(CTA_MARK, value).u32(CTA_MARK_MASK, mask)
  const listing: NetlinkMessage = {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET,
    flags: 0,
    family: family === 'both' ? AF_UNSPEC : family === 4 ? AF_INET : AF_INET6,
    attributes: filter.finish(),
  }
  const changes: NetlinkMessage[] = []
  for (const connection of netlink.dump(listing)) {
    const mark = connection.attributes.u32(CTA_MARK) ?? 0
    // Kernels without the filter list all of them.
    if ((mark & mask) >>> 0 !== value) continue
    if (sweep.only?.(connection.attributes) === false) continue
    const change = changeMark(connection, (sweep.newValue & mask) >>> 0, mask)
    if (change !== undefined) changes.push(change)
  }
  let changed = 0
  for (let at = 0; at < changes.length; at += MAX_SUBMITTED) {
    const part = changes.slice(at, at + MAX_SUBMITTED)
    const failures = netlink.submit(part)
    const fatal = failures.filter((failure) => failure.errno !== constants.errno.ENOENT)
    if (fatal.length > 0) throw new NetlinkError('conntrack sweep', fatal)
    changed += part.length - failures.length
  }
  return changed
}

function changeMark(connection: NetlinkReply, mark: number, mask: number): NetlinkMessage | undefined {
  const tuple = connection.attributes.get(CTA_TUPLE_ORIG)
  if (tuple === undefined) return undefined
  const writer = new AttributeWriter()
  const nest = writer.openNest(CTA_TUPLE_ORIG)
  writer.append(tuple).closeNest(nest)
  const zone = connection.attributes.get(CTA_ZONE)
  if (zone !== undefined) writer.data(CTA_ZONE, zone)
  // The kernel's new mark is (old & ~mask) ^ mark.
  writer.u32(CTA_MARK, mark).u32(CTA_MARK_MASK, mask)
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW,
    flags: 0,
    family: connection.family,
    attributes: writer.finish(),
  }
}
