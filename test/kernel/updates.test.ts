import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const other = ['10.77.2.3', 'fd77:2::3']
const UPDATES = 1000
/** A SYN that is lost is sent again after 1 s. */
const LATE_MS = 900

/** What children/updates.ts prints. */
export type UpdatesReport =
  | { readonly event: 'enforcing' }
  | { readonly event: 'done'; readonly ms: number }
  | { readonly event: 'status'; readonly status: FirewallStatus }

t.test('1,000 updates while connections come and go', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: [...db, ...other] },
    ],
  })
  t.after(() => network.destroy())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  for (const address of [...db, ...other]) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const port of [80, 81]) await far.listen({ protocol, address, port })
    }
  }
  const script = fileURLToPath(new URL('./children/updates.ts', import.meta.url))
  const child = network.spawn('router', [process.execPath, '--no-warnings', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const reports = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const report = async () => JSON.parse((await reports.next()).value ?? '{}') as UpdatesReport
  t.match(await report(), { event: 'enforcing' })

  let isOver = false
  const late: number[] = []
  const outcomes: Record<string, number> = {}
  /** New connections, one after the other, to a port of db that is always open (80) or never (81). */
  const keepConnecting = async (protocol: 'tcp' | 'udp', address: string, port: 80 | 81) => {
    while (!isOver) {
      const { ok, error, ms } = await near.probe({ protocol, address, port, timeoutMs: port === 80 ? 5000 : 100 })
      const outcome = `${port === 80 ? 'allowed' : 'denied'} path: ${ok ? 'answered' : error}`
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      if (port === 80 && ms > LATE_MS) late.push(ms)
    }
  }
  const traffic = ([80, 81] as const).flatMap((port) =>
    (['tcp', 'udp'] as const).flatMap((protocol) => db.map((address) => keepConnecting(protocol, address, port))),
  )
  child.stdin!.write(`${UPDATES}\n`)
  const done = await report()
  isOver = true
  await Promise.all(traffic)
  child.stdin!.end()
  const last = await report()
  if (done.event !== 'done' || last.event !== 'status') throw new Error('the updates came to no end')

  const { generation, counters, packetThread, problems } = last.status
  t.ok(generation >= UPDATES, `${generation} generations were in force, one every ${(done.ms / UPDATES).toFixed(1)} ms`)
  t.same(Object.keys(outcomes).sort(), ['allowed path: answered', 'denied path: timeout'], JSON.stringify(outcomes))
  t.ok(outcomes['allowed path: answered']! > 200, 'there was traffic')
  t.same(late, [], `no connection took longer than ${LATE_MS} ms`)
  t.match(counters, { unanswered: 0 }, JSON.stringify(counters))
  t.equal(counters.queued, counters.allowed + counters.denied, 'each packet got its verdict')
  t.match(packetThread, { failed: 0, overflows: 0, answerErrors: 0 })
  t.same(problems, [])
})
