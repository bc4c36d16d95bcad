import { NFNL_SUBSYS_CTNETLINK, openNetlink } from '../../../src/native/netlink.ts'

// Takes all connections out of the table of this network namespace: the kernel meets them midway from now on.

/** linux/netfilter/nfnetlink_conntrack.h; without a tuple, every connection. */
const IPCTNL_MSG_CT_DELETE = 2
const netlink = openNetlink()
const message = { type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, flags: 0, family: 0 }
const failures = netlink.submit([{ ...message, attributes: new Uint8Array() }])
netlink.close()
if (failures.length > 0) throw new Error(`connections are not forgotten: ${failures[0]!.errno}`)
