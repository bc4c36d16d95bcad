import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { configDefaults } from '../../../src/config.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../../src/datapath/marks.ts'
import type { Delta, PolicyObject } from '../../../src/engine/index.ts'
import { ObjectReader, readNetworkPolicy, readPod } from '../../../src/engine/index.ts'
import { Firewall } from '../../../src/firewall.ts'
import { defaultFailsafe } from '../../../src/ruleset/failsafe.ts'
import type { Source } from '../../../src/sources/source.ts'
import { networkPolicy, pod } from '../product.ts'
import type { UpdatesReport } from '../updates.test.ts'

// A firewall whose picture changes as often as a line on standard input says, each change brought into force. When the
// input ends it says how it is.

const policy = (name: string, app: string, ports: readonly object[]) =>
  readNetworkPolicy(
    new ObjectReader(networkPolicy(name, { podSelector: { matchLabels: { app } }, ingress: [{ ports }] })),
  )
const workload = (name: string, addresses: readonly string[]) => readPod(new ObjectReader(pod({ name, addresses })))

const objects: readonly PolicyObject[] = [
  workload('db', ['10.77.2.2', 'fd77:2::2']),
  workload('other', ['10.77.2.3', 'fd77:2::3']),
  policy('db', 'db', [{ port: 80 }, { protocol: 'UDP', port: 80 }]),
]
/** In turn: what other may receive, other unselected, another rule for db that changes nothing for ports 80 and 81. */
const changes: readonly Delta[] = [
  { upserts: [policy('other', 'other', [{ port: 80 }])], deletes: [] },
  { upserts: [policy('other', 'other', [{ port: 81 }])], deletes: [] },
  { upserts: [], deletes: ['NetworkPolicy shop/other'] },
  { upserts: [policy('more', 'db', [{ port: 82 }])], deletes: [] },
  { upserts: [], deletes: ['NetworkPolicy shop/more'] },
]

let update: (delta: Delta) => void = () => {}
const source: Source = {
  name: 'memory',
  async start(deliver) {
    update = deliver
    update({ upserts: objects, deletes: [] })
  },
  health: () => ({ name: 'memory', isCurrent: true, notes: [] }),
}

const firewall = await Firewall.start({
  sources: [source],
  nodeName: 'router',
  onFailure: 'closed',
  denyWith: 'drop',
  remember: configDefaults.remember,
  failsafe: defaultFailsafe,
  stateDir: await mkdtemp(join(tmpdir(), 'knp-updates-')),
  queueNumber: 100,
  queueCount: Number(process.argv[2] ?? 1),
  queueLength: 8192,
  marks: layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!,
  observe: () => {},
})
report({ event: 'enforcing' })
const lines = createInterface({ input: process.stdin })
const [count] = await once(lines, 'line')
const started = performance.now()
for (let i = 0; i < Number(count); i++) {
  update(changes[i % changes.length]!)
  await firewall.settled()
}
report({ event: 'done', ms: performance.now() - started })
await once(lines, 'close')
report({ event: 'status', status: firewall.status() })
await firewall.stop()

function report(line: UpdatesReport): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
