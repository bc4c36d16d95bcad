import { Attributes, messagesIn, NFNL_SUBSYS_NFTABLES } from './netlink.ts'

/** The multicast group that is told of changes: linux/netfilter/nfnetlink.h. */
export const NFNLGRP_NFTABLES = 7
// linux/netfilter/nf_tables.h
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NFT_MSG_NEWGEN = 15
const NFT_MSG_TRACE = 17
/** The table's name has this number in every kind of message but NEWGEN and TRACE. */
const NFTA_TABLE = 1
const NFTA_GEN_PROC_NAME = 3
const NFPROTO_INET = 1
const GENERIC_HEADER_BYTES = 4

/** What the kernel reports of nf_tables (multicast group NFNLGRP_NFTABLES). */
export type TableEvent =
  | {
      /** Something of the table was made, changed or deleted. */
      readonly type: 'change'
      readonly portId: number
      /** It is an element of a set. */
      readonly isElement: boolean
    }
  | {
      /** All changes of one transaction have been reported. */
      readonly type: 'commit'
      readonly portId: number
      /** The name of the program (of its thread) that made it. */
      readonly program: string | undefined
    }

/**
 * The events of one datagram that concern a table of family inet, those of ports that `isOwn` knows left out, and the
 * commits of all other ports. `undefined` where the bytes are not what the kernel sends: anything may have changed then.
 */
export function decodeTableEvents(
  bytes: Uint8Array,
  table: string,
  isOwn: (portId: number) => boolean,
): readonly TableEvent[] | undefined {
  const events: TableEvent[] = []
  try {
    for (const { type, portId, body } of messagesIn(bytes)) {
      // Before anything else is read: our own batches report each of their elements.
      if (isOwn(portId) || type >> 8 !== NFNL_SUBSYS_NFTABLES) continue
      if (body.length < GENERIC_HEADER_BYTES) return undefined
      const message = type & 0xff
      const attributes = new Attributes(body.subarray(GENERIC_HEADER_BYTES))
      if (message === NFT_MSG_NEWGEN) {
        events.push({ type: 'commit', portId, program: attributes.string(NFTA_GEN_PROC_NAME) })
      } else if (message !== NFT_MSG_TRACE && body[0] === NFPROTO_INET && attributes.string(NFTA_TABLE) === table) {
        events.push({
          type: 'change',
          portId,
          isElement: message === NFT_MSG_NEWSETELEM || message === NFT_MSG_DELSETELEM,
        })
      }
    }
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
  return events
}
