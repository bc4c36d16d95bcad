import { setImmediate } from 'node:timers/promises'
import { loadAddon } from './load.ts'
import { MAX_DUMP_ATTEMPTS, type Netlink, type NetlinkMessage, neverAtRest } from './netlink.ts'

/**
 * The kernel's own measure of a part (NLMSG_GOODSIZE), below which it would cut them off. While it fills one it takes in no
 * packets on that processor: 32 KiB of the connection table take it 1 ms.
 */
const MAX_SMALL_PART_BYTES = 8192

/** What reads a listing. */
export interface PartReader {
  /** Called before the first part of each attempt: what was read of an earlier one may be of another state. */
  begin(): void
  /** Called with each part; its bytes are overwritten afterwards. */
  read(part: Uint8Array): void
}

/**
 * Lists in parts, at once. A listing that is interrupted is read again from its beginning.
 *
 * @throws NetlinkError for what the kernel refuses; EINTR when it kept changing.
 */
export function listAtOnce(netlink: Netlink, message: NetlinkMessage, reader: PartReader): void {
  for (let attempt = 0; attempt < MAX_DUMP_ATTEMPTS; attempt++) {
    reader.begin()
    const listing = netlink.startDump(message)
    try {
      for (let part = listing.nextPart(); part !== undefined; part = listing.nextPart()) reader.read(part)
      if (!listing.isInterrupted) return
    } finally {
      listing.close()
    }
  }
  throw neverAtRest()
}

/**
 * The same in small parts, giving way to whatever else this thread, and this processor, has to do after each.
 *
 * @throws NetlinkError for what the kernel refuses; EINTR when it kept changing.
 */
export async function listInParts(netlink: Netlink, message: NetlinkMessage, reader: PartReader): Promise<void> {
  const partBytes = Math.min(loadAddon().pageBytes, MAX_SMALL_PART_BYTES)
  for (let attempt = 0; attempt < MAX_DUMP_ATTEMPTS; attempt++) {
    reader.begin()
    const listing = netlink.startDump(message, partBytes)
    try {
      for (let part = listing.nextPart(); part !== undefined; part = listing.nextPart()) {
        reader.read(part)
        await setImmediate()
      }
      if (!listing.isInterrupted) return
    } finally {
      listing.close()
    }
  }
  throw neverAtRest()
}
