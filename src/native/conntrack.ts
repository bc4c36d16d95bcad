import { constants } from 'node:os'
import { ConnectionReader, connectionsMarked, type MarkFilter } from './connections.ts'
import { listAtOnce } from './listing.ts'
import { MAX_SUBMITTED, type Netlink, NetlinkError, type NetlinkMessage } from './netlink.ts'

/** Which connections a sweep changes, and to what: `mask` is what is looked at and written; no other bits change. */
export interface MarkSweep extends MarkFilter {
  /** What the bits become. */
  readonly newValue: number
  /** Which of them; all of them without it. */
  readonly only?: (connection: ConnectionReader) => boolean
}

/** Whether the kernel came to know a TCP connection midway: which end began it is unknown. */
export function isPickedUp(connection: ConnectionReader): boolean {
  return connection.isPickedUp
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
  const reader = new ConnectionReader()
  const only = sweep.only ?? (() => true)
  let changed = 0
  const read = (part: Uint8Array) => {
    const changes: NetlinkMessage[] = []
    reader.open(part)
    while (reader.next()) {
      if (hasMark(reader, sweep) && only(reader)) changes.push(reader.changeMark(sweep.newValue, sweep.mask))
    }
    changed += changeMarks(netlink, changes)
  }
  listAtOnce(netlink, connectionsMarked(sweep, family), { begin() {}, read })
  return changed
}

/** Whether a connection's masked mark bits are those of the filter. */
export function hasMark(connection: ConnectionReader, { mask, value }: MarkFilter): boolean {
  return ((connection.mark ^ value) & mask) === 0
}

/**
 * Sends changes of connections' marks; those that have ended by now are left out.
 *
 * @returns How many connections were changed.
 * @throws NetlinkError what the kernel refused.
 */
export function changeMarks(netlink: Netlink, changes: readonly NetlinkMessage[]): number {
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
