import t from 'tap'
import { Agent, type Stream } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { networkPolicy, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const objects = [pod({ name: 'db', addresses: db })]
const allow = (...ports: number[]) =>
  networkPolicy('db', {
    ingress: [{ ports: ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }]) }],
  })
const DOWNLOAD = 9001
const PUSH = 9002
const LONG_MS = 60_000
const families = [0, 1] as const

t.test('policies that change', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('objects.yaml', objects)
  await folder.write('policy.yaml', [allow(80, DOWNLOAD, PUSH)])
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  for (const address of db) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const port of [80, 81]) await far.listen({ protocol, address, port })
    }
    await far.serve({ address, port: DOWNLOAD, bytesPerSecond: 2_000_000 })
    await far.push({ address, port: PUSH, intervalMs: 10, durationMs: LONG_MS })
  }
  const product = await Product.start(network, folder)
  const download = (i: 0 | 1) => near.download({ address: db[i]!, port: DOWNLOAD, durationMs: LONG_MS })
  const push = (i: 0 | 1) => near.subscribe({ address: db[i]!, port: PUSH, durationMs: LONG_MS })
  const streams = async () => await Promise.all(families.flatMap((i) => [download(i), push(i)]))
  /** Which of ports 80 and 81 new connections reach, by both families and protocols. */
  const reach = async () => {
    const outcome = async (port: number) => {
      const answers = await Promise.all(
        db.flatMap((address) =>
          (['tcp', 'udp'] as const).map((protocol) => near.probe({ protocol, address, port, timeoutMs: 500 })),
        ),
      )
      return [...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error)))].join()
    }
    const [first, second] = await Promise.all([outcome(80), outcome(81)])
    return { 80: first, 81: second }
  }

  t.test('an edit is in force within seconds, and transfers that it allows go on', async (t) => {
    const transfers = await streams()
    await Promise.all(transfers.map((transfer) => transfer.more(20, 5000)))
    const baseline = transfers.map((transfer) => longestGapMs(transfer, 0))
    const from = transfers.map((transfer) => transfer.arrivals.length - 1)
    const took: number[] = []
    for (const [port, write] of [
      [81, folder.write],
      [80, folder.overwrite],
      [81, folder.write],
      [80, folder.write],
    ] as const) {
      took.push(await product.change(() => write('policy.yaml', [allow(port, DOWNLOAD, PUSH)])))
      const isFirst = port === 80
      t.same(await reach(), { 80: isFirst ? 'passes' : 'timeout', 81: isFirst ? 'timeout' : 'passes' })
    }
    t.ok(Math.max(...took) < 5000, `in force after ${took.map(Math.round).join(', ')} ms`)
    for (const [i, transfer] of transfers.entries()) {
      t.ok(await transfer.more(5), 'the transfer goes on')
      const gapMs = longestGapMs(transfer, from[i]!)
      t.ok(gapMs <= baseline[i]! + 200, `longest gap ${gapMs} ms, before the edits ${baseline[i]} ms`)
    }
    for (const [i, stream] of transfers.entries()) {
      // Downloads are TCP: nothing is missing. Of the datagrams none may be.
      if (i % 2 === 0) continue
      const { arrivals } = stream
      t.equal(arrivals.at(-1)!.sequence - arrivals[0]!.sequence, arrivals.length - 1, 'no datagram was lost')
    }
    await Promise.all(transfers.map((transfer) => transfer.close()))
    t.same(await Promise.all(transfers.map((transfer) => transfer.ended)), Array(4).fill(undefined), 'none was reset')
  })

  t.test('a new deny stops a server that pushes and a download; without it, connections pass again', async (t) => {
    const transfers = await streams()
    for (const transfer of transfers) t.ok(await transfer.more(5), 'it runs')
    const { counters: before } = await product.status()
    await product.change(() => folder.write('policy.yaml', [allow(80)]))
    const changedAt = Date.now()
    const quiet = await Promise.all(transfers.map((transfer) => transfer.quiet(500)))
    t.same(quiet, [true, true, true, true], 'nothing arrives any more')
    for (const [i, transfer] of transfers.entries()) {
      const last = transfer.arrivals.findLast(({ bytes }) => bytes > 0)!.at
      const afterMs = Math.round(last - changedAt)
      t.ok(afterMs < 1000, `${i % 2 === 0 ? 'download' : 'push'}: the last data ${afterMs} ms after the change`)
    }
    const { counters: after } = await product.status()
    t.ok(after.denied > before.denied, `${after.denied - before.denied} packets were denied`)
    t.equal(after.unanswered, 0)
    t.same(await reach(), { 80: 'passes', 81: 'timeout' }, 'a control on the same path')

    await product.change(() => folder.write('policy.yaml', [allow(80, DOWNLOAD, PUSH)]))
    for (const transfer of await streams()) {
      t.ok(await transfer.more(3), 'a new one runs')
      await transfer.close()
    }
    await Promise.all(transfers.map((transfer) => transfer.close()))
  })

  t.test('a broken file leaves the last good policies in force, and says so', async (t) => {
    t.same(await reach(), { 80: 'passes', 81: 'timeout' })
    t.match(await product.statusCommand(), { code: 0 })
    const generation = product.generation
    const text = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec:\n'
    await folder.write('policy.yaml', `${text}  podSelector: {}\n  ingres: []\n`)
    await product.said('cannot be read')
    t.same(await reach(), { 80: 'passes', 81: 'timeout' }, 'allowed stays allowed, denied stays denied')
    const broken = await product.statusCommand()
    t.equal(broken.code, 1)
    t.match(broken.stdout, `${folder.path}/policy.yaml:6: `)
    const json = await product.statusCommand('--json')
    t.equal(json.code, 1)
    t.match(JSON.parse(json.stdout), { health: 'unhealthy', enforcing: true, generation })

    await product.change(() => folder.write('policy.yaml', [allow(81)]))
    await product.said('can be read again')
    t.same(await reach(), { 80: 'timeout', 81: 'passes' })
    t.match(await product.statusCommand(), { code: 0 })

    await product.change(() => folder.remove('policy.yaml'))
    t.same(await reach(), { 80: 'passes', 81: 'passes' }, 'without a policy nothing is denied')
  })
})

/** The longest time between arrivals that carried data, from the arrival with this index on. */
function longestGapMs({ arrivals }: Stream, from: number): number {
  const times = arrivals
    .slice(from)
    .filter(({ bytes }) => bytes > 0)
    .map(({ at }) => at)
  return Math.round(Math.max(...times.slice(1).map((at, i) => at - times[i]!)))
}
