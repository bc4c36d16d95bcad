import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../../src/datapath/marks.ts'
import { openNetlink } from '../../../src/native/netlink.ts'
import { batch, commit, divertRule } from '../../../src/native/nftables.ts'
import { divertMechanism } from '../../../src/ruleset/ruleset.ts'
import { TABLE } from '../../../src/ruleset/text.ts'

// Puts another divert rule in the place of the one for what is forwarded: `divert.ts FIRST COUNT`.
const [queue, queuesTotal] = process.argv.slice(2).map(Number)
const { queued } = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const netlink = openNetlink()
const mechanism = divertMechanism(netlink)!
const rule = divertRule({
  mask: queued,
  value: queued,
  queue: queue!,
  queuesTotal: queuesTotal!,
  bypass: true,
  mechanism,
})
commit(netlink, batch(TABLE).flushChain('divert_forward').addRule('divert_forward', rule))
netlink.close()
