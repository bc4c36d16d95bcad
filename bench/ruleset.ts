/**
 * Installs knp's own ruleset in the network namespace that this process runs in, with the subjects of the datapath bench's
 * world and without a firewall behind it: `node ruleset.ts QUEUE COUNT divert|pass ENDS`, ends as JSON. With `pass` nothing
 * is handed to the queues, and what would be is answered at once by the mark that means allowed.
 */
import { configDefaults } from '../src/config.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../src/datapath/marks.ts'
import { Compiler, readObject } from '../src/engine/index.ts'
import { policyKinds } from '../src/engine/pipeline.ts'
import { defaultFailsafe } from '../src/ruleset/failsafe.ts'
import { runNft } from '../src/ruleset/nft.ts'
import { Ruleset } from '../src/ruleset/ruleset.ts'
import { divertChains, TABLE } from '../src/ruleset/text.ts'
import { worldManifests } from './datapath/world.ts'

const [queue, count, way, ends] = process.argv.slice(2)
const upserts = worldManifests(JSON.parse(ends!)).map((manifest) => readObject(manifest)!)
const { subjects } = new Compiler(policyKinds).update({ upserts, deletes: [] })
const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const ruleset = new Ruleset({
  marks,
  onFailure: 'closed',
  denyWith: 'drop',
  failsafe: defaultFailsafe,
  remember: configDefaults.remember,
  queue: Number(queue),
  queuesTotal: Number(count),
})
await ruleset.install({ subjects, answerStamp: 1, host: undefined })
ruleset.close()
if (way === 'pass') {
  // The mark that would come back from the queue as an answer, at once.
  const answer = marks.allowed | (1 << marks.stampShift)
  const hex = (value: number) => `0x${(value >>> 0).toString(16)}`
  const rule = `meta mark & ${hex(marks.queued)} != 0 meta mark set meta mark & ${hex(~marks.packetMask)} | ${hex(answer)}`
  const script = divertChains.map(
    (chain) => `flush chain inet ${TABLE} ${chain}\nadd rule inet ${TABLE} ${chain} ${rule}\n`,
  )
  await runNft(script.join(''))
}
