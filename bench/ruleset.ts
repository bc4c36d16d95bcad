/**
 * Installs knp's own ruleset in the network namespace that this process runs in, without a firewall behind it:
 * `node ruleset.ts QUEUE divert|pass ADDRESS...`. With `pass` nothing is handed to the queue, and what would be passes.
 */
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../src/datapath/marks.ts'
import { parseAddress } from '../src/engine/index.ts'
import { openNetlink } from '../src/native/netlink.ts'
import { batch, commit } from '../src/native/nftables.ts'
import { defaultFailsafe } from '../src/ruleset/failsafe.ts'
import { Ruleset } from '../src/ruleset/ruleset.ts'
import { divertChains, TABLE } from '../src/ruleset/text.ts'

const [queue, way, ...addresses] = process.argv.slice(2)
const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const ruleset = new Ruleset({
  marks,
  onFailure: way === 'divert' ? 'closed' : 'open',
  failsafe: defaultFailsafe,
  queue: Number(queue),
  queuesTotal: 1,
})
await ruleset.install({
  subjects: addresses.map((address) => parseAddress(address)!),
  stamp: 1,
  host: undefined,
})
ruleset.close()
if (way === 'pass') {
  const netlink = openNetlink()
  const changes = batch(TABLE)
  for (const chain of divertChains) changes.flushChain(chain)
  commit(netlink, changes)
  netlink.close()
}
