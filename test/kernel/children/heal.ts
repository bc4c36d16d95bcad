import { execFileSync } from 'node:child_process'
import { differences, readFingerprint } from '../../../src/native/fingerprint.ts'
import { openNetlink } from '../../../src/native/netlink.ts'
import { listElements } from '../../../src/native/nftables.ts'
import { sets, TABLE } from '../../../src/ruleset/text.ts'

// Does harm to the table of a running firewall of this network namespace: an nft script, or none for as often as asked in
// a loop. Prints how long after the end of nft the table was what it had been, in ms.
const [script = '', times = '1'] = process.argv.slice(2)
const TIMEOUT_MS = 10_000
const netlink = openNetlink()
const pause = new Int32Array(new SharedArrayBuffer(4))
const elements = () =>
  [sets.subjects4, sets.subjects6, sets.current, sets.stamped].flatMap((set) =>
    listElements(netlink, TABLE, set)
      .map((key) => `${set} ${key.join('.')}`)
      .sort(),
  )

const reference = readFingerprint(netlink, TABLE)
const expected = elements().join()
for (let i = 0; i < Number(times); i++) execFileSync('nft', ['-f', '-'], { input: script })
const started = performance.now()
let isHarmed = false
for (;;) {
  const isRight = differences(reference, readFingerprint(netlink, TABLE)).length === 0 && elements().join() === expected
  isHarmed ||= !isRight
  const tookMs = performance.now() - started
  if (isRight || tookMs > TIMEOUT_MS) {
    process.stdout.write(JSON.stringify({ isRight, isHarmed, tookMs }))
    break
  }
  // Not to take the time that the repair needs.
  Atomics.wait(pause, 0, 0, 2)
}
netlink.close()
