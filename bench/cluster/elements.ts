/**
 * Tells which addresses become subjects of the firewall in this network namespace, and which no longer are, as the kernel
 * reports its transactions: `node elements.ts`. Prints `ready`, and then a line of JSON for each address.
 */
import { writeSync } from 'node:fs'
import { MAPPED_WORD } from '../../src/engine/address.ts'
import { type Address, formatAddress } from '../../src/engine/index.ts'
import { loadAddon } from '../../src/native/load.ts'
import { Attributes, GENERIC_HEADER_BYTES, messagesIn } from '../../src/native/netlink.ts'
import { monotonicMs } from './clock.ts'

/** An address that is a subject from now on, or no longer. */
export interface SubjectEvent {
  readonly address: string
  readonly isSubject: boolean
  /** When the kernel had told it, in ms of `monotonicMs`. */
  readonly atMs: number
}

// linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const NETLINK_NETFILTER = 12
const NFNLGRP_NFTABLES = 7
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_LIST_ELEM = 1
const NFTA_SET_ELEM_KEY = 1
const NFTA_DATA_VALUE = 1

const { NetlinkMonitor } = loadAddon()
const monitor = new NetlinkMonitor([{ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES] }], 8 << 20)
writeSync(1, 'ready\n')
for (;;) {
  const datagram = monitor.receive(-1)
  const atMs = monotonicMs()
  if (!datagram) continue
  if (!datagram.bytes) throw new Error('the kernel had to leave events out')
  for (const { type, body } of messagesIn(datagram.bytes)) {
    const message = type & 0xff
    if (message !== NFT_MSG_NEWSETELEM && message !== NFT_MSG_DELSETELEM) continue
    const attributes = new Attributes(body.subarray(GENERIC_HEADER_BYTES))
    if (attributes.string(NFTA_SET_ELEM_LIST_SET) !== 'subjects4') continue
    for (const element of attributes.nested(NFTA_SET_ELEM_LIST_ELEMENTS)?.all(NFTA_LIST_ELEM) ?? []) {
      const word = element.nested(NFTA_SET_ELEM_KEY)?.u32(NFTA_DATA_VALUE)
      if (word === undefined) continue
      const address: Address = { w0: 0, w1: 0, w2: MAPPED_WORD, w3: word | 0 }
      const event: SubjectEvent = {
        address: formatAddress(address),
        isSubject: message === NFT_MSG_NEWSETELEM,
        atMs,
      }
      writeSync(1, `${JSON.stringify(event)}\n`)
    }
  }
}
