import { once } from 'node:events'
import { getPriority } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { parseQueueStatistics } from '../../src/native/queue-statistics.ts'
import { queueNumbers } from '../../src/queue-range.ts'
import { niceValues } from '../nice-values.ts'
import { slow } from '../slow.ts'
import { forgetful, knp, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'
import type { UpdatesReport } from './updates.test.ts'

// The kernel chooses the queue by a hash of both addresses and the protocol. With so many pairs none of three queues is left
// out: the odds are below 1 to 10^10.
const clients = Array.from({ length: 16 }, (_, i) => [`10.77.1.${i + 2}`, `fd77:1::${i + 2}`] as const)
const db = ['10.77.2.2', 'fd77:2::2'] as const
const other = ['10.77.2.3', 'fd77:2::3'] as const
const range = { first: 100, count: 3 }
const several = ['--queue-count', `${range.count}`, ...forgetful]
const protocols = ['tcp', 'udp'] as const
const families = [0, 1] as const
const PAIRS = clients.length * protocols.length * families.length
const UPDATES = 200
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 700
/** A SYN that is lost is sent again after 1 s. */
const LATE_MS = 900

const objects = [pod({ name: 'db', addresses: db }), pod({ name: 'other', addresses: other })]
const opening = (port: number) =>
  networkPolicy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ ports: [{ port }, { protocol: 'UDP', port }] }],
  })

type Outcome = 'passes' | 'dropped' | (string & {})

class Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly far: Agent

  static async make(t: Test): Promise<Site> {
    const network = await createNetwork({
      prefix: 'knpk',
      hosts: [
        { name: 'near', addresses: clients.flat() },
        { name: 'far', addresses: [...db, ...other] },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    await folder.write('objects.yaml', objects)
    await folder.write('policy.yaml', [opening(80)])
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    for (const address of [...db, ...other]) {
      for (const port of [80, 81]) {
        for (const protocol of protocols) await far.listen({ protocol, address, port })
      }
    }
    return new Site(network, folder, near, far)
  }

  private constructor(network: Network, folder: Policies, near: Agent, far: Agent) {
    this.network = network
    this.folder = folder
    this.near = near
    this.far = far
  }

  /** What becomes of a new connection of every client, family and protocol, to ports 80 and 81 of db: the words there are. */
  async reach(): Promise<readonly [port80: Outcome, port81: Outcome]> {
    const outcomes = ([80, 81] as const).map(async (port) => {
      const probes = everyPair(({ protocol, sourceAddress, address }) =>
        this.near.probe({ protocol, address, sourceAddress, port, timeoutMs: DENIED_AFTER_MS }),
      )
      return wordOf(await Promise.all(probes))
    })
    return [await outcomes[0]!, await outcomes[1]!]
  }

  /** A connection of every client, family and protocol to a port of db. */
  async connect(port: number) {
    const opened = await Promise.all(
      everyPair(({ protocol, sourceAddress, address }) => this.near.open({ protocol, address, sourceAddress, port })),
    )
    return {
      exchange: async (nonce: string): Promise<Outcome> =>
        wordOf(await Promise.all(opened.map(({ connection }) => connection!.exchange(nonce, DENIED_AFTER_MS)))),
      close: () => Promise.all(opened.map(({ connection }) => connection!.close())),
    }
  }

  /** The numbers of the queues that are bound. */
  async bound(): Promise<readonly number[]> {
    const { stdout } = await this.network.exec('router', ['cat', '/proc/net/netfilter/nfnetlink_queue'])
    return parseQueueStatistics(stdout).map(({ queue }) => queue)
  }

  async tables(): Promise<string> {
    return (await this.network.exec('router', ['nft', 'list', 'tables'])).stdout
  }

  child(name: string, ...args: readonly string[]): string[] {
    const script = fileURLToPath(new URL(`./children/${name}.ts`, import.meta.url))
    return [process.execPath, '--no-warnings', script, ...args]
  }
}

interface Pair {
  readonly protocol: 'tcp' | 'udp'
  readonly sourceAddress: string
  readonly address: string
}

function everyPair<T>(use: (pair: Pair) => T): T[] {
  return clients.flatMap((client) =>
    families.flatMap((family) =>
      protocols.map((protocol) => use({ protocol, sourceAddress: client[family], address: db[family] })),
    ),
  )
}

function wordOf(answers: readonly { readonly ok: boolean; readonly error?: string }[]): Outcome {
  const words = answers.map(({ ok, error }) => (ok ? 'passes' : error === 'timeout' ? 'dropped' : `${error}`))
  return [...new Set(words)].sort().join()
}

/** Packets that each queue was given, as the kernel counts them. */
function idsOf({ queues }: FirewallStatus): readonly number[] {
  return queues.map(({ statistics }) => statistics?.idSequence ?? Number.NaN)
}

function judgedOf({ queues }: FirewallStatus): readonly number[] {
  return queues.map(({ packetThread }) => packetThread.queued)
}

function growth(before: readonly number[], after: readonly number[]): readonly number[] {
  return after.map((n, i) => n - before[i]!)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0)
}

t.test('connections are spread over all queues, and decided as by one', { skip }, async (t) => {
  const site = await Site.make(t)
  t.same(await site.reach(), ['passes', 'passes'], 'nobody is in the way before')
  const product = await Product.start(site.network, site.folder, { args: several })
  t.match(product.enforcingLine, /, queues 100-102 by /)
  t.same(await site.bound(), [100, 101, 102])

  t.test('allowed and denied', async (t) => {
    const before = await product.status()
    t.same(await site.reach(), ['passes', 'dropped'])
    const after = await product.status()
    t.match(after.queue, { number: 100, count: 3, statistics: { queue: 100 } })
    t.same(
      after.queues.map(({ number, statistics }) => [number, statistics?.queue]),
      queueNumbers(range).map((number) => [number, number]),
    )
    const ids = growth(idsOf(before), idsOf(after))
    t.equal(sum(ids), 2 * PAIRS, `one packet a connection: ${ids}`)
    t.ok(
      ids.every((n) => n > 0),
      'each queue had some',
    )
    t.same(growth(judgedOf(before), judgedOf(after)), ids, 'each thread judged what its queue was given')
    t.match(after.counters, { queued: 2 * PAIRS, allowed: PAIRS, denied: PAIRS, unanswered: 0 })
    t.match(after.packetThread, { queued: 2 * PAIRS, allowed: PAIRS, denied: PAIRS, failed: 0, answerErrors: 0 })
    t.match((await product.statusCommand()).stdout, /^queue +100-102, room for 8192 each, 0 waiting; packets \d+ \+ /m)
  })

  t.test('what goes between two addresses goes to one queue', async (t) => {
    for (const sourceAddress of ['10.77.1.2', '10.77.1.3', '10.77.1.4', '10.77.1.5']) {
      const before = await product.status()
      for (let i = 0; i < 12; i++) {
        const probe = { protocol: 'tcp', address: db[0], port: 80, sourceAddress } as const
        t.ok((await site.near.probe(probe)).ok)
      }
      const ids = growth(idsOf(before), idsOf(await product.status()))
      t.same([...ids].sort(), [0, 0, 12], `${sourceAddress}: ${ids}`)
    }
  })

  t.test('a change is in force in all threads, for what is there and what comes', async (t) => {
    for (let round = 0; round < 4; round++) {
      const established = await site.connect(80)
      t.equal(await established.exchange('before'), 'passes')
      await product.change(() => site.folder.write('policy.yaml', [opening(81)]))
      t.equal(await established.exchange('after'), 'dropped', 'connections that are denied now')
      // TCP would send again what was dropped, and be counted.
      await established.close()
      t.same(await site.reach(), ['dropped', 'passes'])
      await product.change(() => site.folder.write('policy.yaml', [opening(80)]))
      t.same(await site.reach(), ['passes', 'dropped'])
    }
    t.match(await product.status(), { problems: [], packetThread: { failed: 0 } })
  })

  t.test('the range is put back', async (t) => {
    const harm = [
      ['nft', 'flush', 'ruleset'],
      ['nft', 'flush', 'chain', 'inet', 'knp', 'divert_forward'],
      site.child('divert', '100', '1'),
      site.child('divert', '100', '2'),
    ]
    for (const [i, argv] of harm.entries()) {
      t.match(await site.network.exec('router', argv), { code: 0 })
      await product.said('are in force again', i + 1)
      const before = await product.status()
      t.match(before, { enforcing: true, repairs: i + 1, problems: [] })
      t.same(await site.reach(), ['passes', 'dropped'], argv.slice(-3).join(' '))
      const ids = growth(idsOf(before), idsOf(await product.status()))
      // Not how many: the end of a connection from before may come now.
      t.ok(
        ids.every((n) => n > 0),
        `each queue has its packets again: ${ids}`,
      )
    }
  })
})

t.test(`${UPDATES} updates while connections come and go`, { skip }, async (t) => {
  const site = await Site.make(t)
  const child = site.network.spawn('router', site.child('updates', `${range.count}`), {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const reports = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const report = async () => JSON.parse((await reports.next()).value ?? '{}') as UpdatesReport
  t.match(await report(), { event: 'enforcing' })
  let isOver = false
  const late: number[] = []
  const outcomes: Record<string, number> = {}
  /** New connections, one after the other, to a port of db that is always open (80) or never (81). */
  const keepConnecting = async (pair: Pair, port: 80 | 81) => {
    while (!isOver) {
      const { ok, error, ms } = await site.near.probe({ ...pair, port, timeoutMs: port === 80 ? 5000 : 200 })
      const outcome = `${port === 80 ? 'allowed' : 'denied'}: ${ok ? 'answered' : error}`
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      if (port === 80 && ms > LATE_MS * slow) late.push(ms)
    }
  }
  const traffic = ([80, 81] as const).flatMap((port) => everyPair((pair) => keepConnecting(pair, port)))
  child.stdin!.write(`${UPDATES}\n`)
  const done = await report()
  isOver = true
  await Promise.all(traffic)
  child.stdin!.end()
  const last = await report()
  if (done.event !== 'done' || last.event !== 'status') throw new Error('the updates came to no end')
  const { generation, counters, packetThread, queues, problems } = last.status
  t.ok(generation >= UPDATES, `${generation} generations, one every ${(done.ms / UPDATES).toFixed(1)} ms`)
  t.same(Object.keys(outcomes).sort(), ['allowed: answered', 'denied: timeout'], JSON.stringify(outcomes))
  t.ok(outcomes['allowed: answered']! > PAIRS, 'there was traffic')
  t.same(late, [], `no connection took longer than ${LATE_MS} ms`)
  t.match(counters, { unanswered: 0 })
  t.equal(counters.queued, counters.allowed + counters.denied, 'each packet got its verdict')
  t.equal(packetThread.queued, sum(queues.map(({ packetThread }) => packetThread.queued)))
  t.equal(packetThread.queued, counters.queued, 'from one of the threads')
  t.ok(
    queues.every(({ packetThread }) => packetThread.queued > 0),
    'each had some',
  )
  t.match(packetThread, { failed: 0, overflows: 0, answerErrors: 0 })
  t.same(problems, [])
})

t.test('a queue among them that another process has', { skip }, async (t) => {
  const site = await Site.make(t)
  const holder = site.network.spawn('router', site.child('hold-queue'), { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(holder.stdout!, 'data')
  const args = ['--queue-first', '85', '--queue-count', '4']
  const end = await Product.launch(site.network, site.folder, { args }).ended
  t.equal(end.code, 5)
  t.match(end.stderr, `knp: queue 87: already bound by netlink port ${holder.pid}, node (pid ${holder.pid})`)
  t.equal(await site.tables(), '', 'no rules are left behind')
  t.same(await site.bound(), [87], 'and no queue')
  t.same(await site.reach(), ['passes', 'passes'])

  const doctor = async (...flags: readonly string[]) => {
    const { stdout } = await site.network.exec('router', knp(['doctor', '--json', ...flags]))
    const { findings } = JSON.parse(stdout) as { findings: { check: string; result: string; detail: string }[] }
    return findings.find(({ check }) => check === 'queues')
  }
  t.match(await doctor(...args), {
    result: 'warn',
    detail: `87 is bound by port ${holder.pid}, node (pid ${holder.pid})`,
    remedy: 'stop what has bound queues 85-88, or choose others: --queue-first',
  })
  t.match(
    await doctor('--queue-first', '88', '--queue-count', '4'),
    { result: 'ok' },
    'beside them it is in nobody’s way',
  )
  holder.stdin!.end()
  await once(holder, 'close')
  const product = await Product.start(site.network, site.folder, { args })
  t.match(await doctor(...args), { result: 'ok' }, 'a firewall has its queues itself')
  t.same(await site.reach(), ['passes', 'dropped'])
  t.match(await product.stop(), { code: 0 })
  t.same(await site.bound(), [], 'all are given back')
})

for (const mode of ['closed', 'open'] as const) {
  const word = mode === 'closed' ? 'dropped' : 'passes'

  t.test(`kill -9 under ${mode}, and restarts with more and fewer queues`, { skip }, async (t) => {
    const site = await Site.make(t)
    const args = ['--on-failure', mode]
    const first = await Product.start(site.network, site.folder, { args: [...args, ...several] })
    t.same(await site.reach(), ['passes', 'dropped'])
    const established = await site.connect(80)
    t.equal(await established.exchange('one'), 'passes')
    t.match(await first.stop('SIGKILL'), { signal: 'SIGKILL' })
    t.same(await site.bound(), [])
    t.same(await site.reach(), [word, word])
    t.equal(await established.exchange('two'), 'passes', 'what was allowed goes on')
    const gap = mode === 'open' ? await site.connect(81) : undefined

    for (const [i, count] of [1, 5, 3].entries()) {
      const product = await Product.start(site.network, site.folder, { args: [...args, '--queue-count', `${count}`] })
      const { unanswered } = (await product.status()).counters
      t.same(await site.bound(), queueNumbers({ first: 100, count }))
      t.same(await site.reach(), ['passes', 'dropped'], `${count}`)
      t.equal(await established.exchange(`again ${i}`), 'passes')
      if (gap) t.equal(await gap.exchange(`gap ${i}`), 'dropped', 'what policy denies is cut')
      t.match((await product.status()).counters, { unanswered }, 'each packet got its verdict')
      t.match(await product.stop('SIGKILL'), { signal: 'SIGKILL' })
    }
  })

  t.test(`one of several packet threads dies under ${mode}`, { skip }, async (t) => {
    const site = await Site.make(t)
    const preload = new URL('./children/failing-thread.ts', import.meta.url)
    const env = {
      NODE_OPTIONS: `--import=${preload}`,
      KNP_TEST_TRIGGER: `${site.folder.path}/fail`,
      KNP_TEST_QUEUE: '101',
    }
    const product = await Product.start(site.network, site.folder, {
      args: ['--on-failure', mode, ...several],
      env,
    })
    t.same(await site.reach(), ['passes', 'dropped'])
    await site.folder.write('fail', '')
    const [end] = await Promise.all([product.ended, site.reach()])
    t.equal(end.code, 70, 'the firewall ends, with the exit status of a defect')
    t.match(end.stderr, /packet thread of queue 101: Error: injected failure/)
    t.same(await site.bound(), [])
    t.same(await site.reach(), [word, word])
  })
}

t.test('as many queues as there may be', { skip }, async (t) => {
  const site = await Site.make(t)
  const product = await Product.start(site.network, site.folder, { args: ['--queue-count', '64'] })
  t.same(await site.reach(), ['passes', 'dropped'])
  const { queues, packetThread } = await product.status()
  t.equal(queues.length, 64)
  t.equal(packetThread.queued, 2 * PAIRS)
  const usual = getPriority()
  t.equal(
    [...niceValues(product.pid).values()].filter((nice) => nice === usual).length,
    65,
    'all but these threads and the one that watches the kernel give way',
  )
  t.match(await product.stop(), { code: 0, stderr: /^(?![\s\S]*Warning)/ })
})
