import { execFileSync } from 'node:child_process'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent, type Connection } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { parseQueueStatistics } from '../../src/native/queue-statistics.ts'
import type { OnFailure } from '../../src/ruleset/text.ts'
import { slow } from '../slow.ts'
import type { Flood } from './children/flood.ts'
import type { PacedFlow } from './children/pace.ts'
import { clockMs, type Outcome, PacedFlows, type Span } from './paced-flows.ts'
import { forgetful, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
/** More than one: what a single source may put into the queue is limited. */
const flooders = [2, 3, 4, 5].flatMap((i) => [`10.77.3.${i}`, `fd77:3::${i}`])
const ALLOWED = 80
const DENIED = 81
/** Allowed by a change in the course of the test. */
const LATER = 82
/** What waits for 3 s and then comes at once must fit into the server's socket. */
const INTERVAL_MS = 15 * slow
/** Longer than the longest fault: what waits for its answer is not lost. */
const TIMEOUT_MS = 4500 * slow
const PROBE_TIMEOUT_MS = 300 * slow
const STOPPED_MS = 3000
const REPAIR_LIMIT_MS = 100
const ATTEMPTS = 3
/** Fewer than the rounds of a fault carry. */
const TINY_QUEUE = 16
/** More than the socket's buffer holds. */
const LARGE_QUEUE = 100_000
const BROKEN = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  nam: x\n'

const policy = (...ports: readonly number[]) =>
  networkPolicy('db', {
    ingress: [{ ports: ports.flatMap((port) => ['TCP', 'UDP'].map((protocol) => ({ protocol, port }))) }],
  })
const picture = (...ports: readonly number[]) => [pod({ name: 'db', addresses: db }), policy(...ports)]

type Word = 'passes' | 'waits' | 'dropped'
interface Expected {
  readonly allowed: Word
  readonly denied: Word
}

/** While somebody answers. */
const enforced: Expected = { allowed: 'passes', denied: 'dropped' }
/** While nobody does. */
const unanswered: Record<OnFailure, Expected> = {
  closed: { allowed: 'dropped', denied: 'dropped' },
  open: { allowed: 'passes', denied: 'passes' },
}

/** One line of the table. */
interface Row {
  readonly fault: string
  readonly mode: OnFailure
  readonly allowed: string
  readonly denied: string
  readonly established: string
  readonly lost: string
  readonly healed: string
}

/** How a fault went. */
interface Course {
  readonly fault: string
  /** The fault in full effect. */
  readonly during: Span
  /** When its cause was taken away. */
  readonly endedMs: number
  readonly expected: Expected
  /** When it was healed, where packets alone do not show it. */
  readonly healedMs?: number
}

/** A client that keeps connecting and a server, with knp between them. */
class Site {
  readonly mode: OnFailure
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly rows: Row[] = []
  /** When denied packets may have passed: the table was gone or, under `open`, nobody answered. */
  readonly gaps: Span[] = []
  product: Product
  flows!: PacedFlows
  /** One of each family, over TCP. */
  readonly connections: Connection[] = []
  exchanges = 0

  static async start(t: Test, mode: OnFailure): Promise<Site> {
    const network = await createNetwork({
      prefix: 'knpf',
      hosts: [
        { name: 'near', addresses: client },
        { name: 'far', addresses: db },
        { name: 'flooder', addresses: flooders },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    await folder.write('all.yaml', picture(ALLOWED))
    await mkdir(stateDir(folder))
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    for (const address of db) {
      for (const port of [ALLOWED, DENIED, LATER]) {
        for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port })
      }
    }
    const site = new Site(mode, network, folder, near, await Product.start(network, folder, argsOf(mode)))
    for (const address of db) {
      const { connection } = await near.open({ protocol: 'tcp', address, port: ALLOWED })
      site.connections.push(connection!)
    }
    const pace = { addresses: db, allowedPort: ALLOWED, deniedPort: DENIED }
    site.flows = await PacedFlows.start(network, 'near', { ...pace, intervalMs: INTERVAL_MS, timeoutMs: TIMEOUT_MS })
    await site.flows.steady(clockMs())
    return site
  }

  private constructor(mode: OnFailure, network: Network, folder: Policies, near: Agent, product: Product) {
    this.mode = mode
    this.network = network
    this.folder = folder
    this.near = near
    this.product = product
  }

  /** Kills the firewall; from now on nobody answers. */
  async kill(t: Test): Promise<void> {
    t.match(await this.product.stop('SIGKILL'), { signal: 'SIGKILL' })
  }

  async startAgain(...args: readonly string[]): Promise<void> {
    this.product = await Product.start(this.network, this.folder, argsOf(this.mode, ...args))
  }

  /** Kills the firewall, and starts it with other arguments. Answers when it was killed. */
  async restart(t: Test, ...args: readonly string[]): Promise<number> {
    const killedMs = clockMs()
    await this.kill(t)
    await this.startAgain(...args)
    const upMs = await this.flows.steady(clockMs())
    if (this.mode === 'open') this.gaps.push({ fromMs: killedMs, toMs: upMs })
    // A new process judges once more what there is.
    t.equal(await this.exchange(), 'passes')
    return killedMs
  }

  /** Stops the process, and has it go on when the fault has been looked at. Answers when. */
  async stopped(during: () => Promise<void>): Promise<number> {
    const { pid } = this.product
    process.kill(pid, 'SIGSTOP')
    try {
      // The signal is only sent: a thread that runs at this moment may still answer packets.
      await this.flows.until(() => isStopped(pid), 'every thread is stopped')
      await during()
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    return clockMs()
  }

  /** A span of so many rounds from now on. Resolves when the firewall has met all of their packets. */
  async span(rounds: number): Promise<Span> {
    const fromMs = clockMs()
    await this.flows.rounds(rounds)
    const toMs = clockMs()
    // A round takes a few ms where the machine is busy, and its last packets may be on their way still.
    await this.flows.sentUntil(toMs)
    await this.flows.rounds(1)
    return { fromMs, toMs }
  }

  /** How many packets wait in the queue. */
  async waiting(): Promise<number> {
    const { stdout } = await this.network.exec('router', ['cat', '/proc/net/netfilter/nfnetlink_queue'])
    const [queue, ...others] = parseQueueStatistics(stdout)
    if (!queue || others.length > 0) throw new Error(`not one queue: ${stdout}`)
    return queue.waiting
  }

  /** While the process is stopped: what becomes of rounds none of whose packets gets into the queue. */
  async spanBesideQueue(t: Test): Promise<Span> {
    const waiting = await this.waiting()
    const span = await this.span(30)
    t.equal(await this.exchange(), 'passes', 'what was allowed goes on')
    t.equal(await this.waiting(), waiting, 'nothing gets into the queue')
    return span
  }

  /** What becomes of what is on the connections that are there: a word for all. */
  async exchange(connections: readonly Connection[] = this.connections): Promise<string> {
    const nonce = `exchange ${++this.exchanges}`
    const answers = await Promise.all(connections.map((connection) => connection.exchange(nonce, PROBE_TIMEOUT_MS)))
    return [...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error)))].join()
  }

  /** Connections that policy denies, of each family and protocol, where nobody prevents them. */
  async connectDenied(): Promise<readonly Connection[]> {
    const opened = await Promise.all(
      db.flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) => this.near.open({ protocol, address, port: DENIED })),
      ),
    )
    return opened.map(({ connection }) => connection!)
  }

  /** Which new connections pass, a word a port for all families and protocols. */
  async reach(...ports: readonly number[]): Promise<readonly string[]> {
    return await Promise.all(
      ports.map(async (port) => {
        const answers = await Promise.all(
          db.flatMap((address) =>
            (['tcp', 'udp'] as const).map((protocol) =>
              this.near.probe({ protocol, address, port, timeoutMs: PROBE_TIMEOUT_MS }),
            ),
          ),
        )
        return [...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error)))].join()
      }),
    )
  }

  /** Waits until a fault is healed, asserts what must have held, and notes the line of the table. */
  async judge(t: Test, startedMs: number, course: Course): Promise<void> {
    const { fault, during, endedMs, expected } = course
    const lastWrongMs = await this.flows.steady(endedMs)
    if (expected.denied === 'passes') this.gaps.push({ fromMs: startedMs, toMs: lastWrongMs })
    t.same(await this.reach(ALLOWED, DENIED), ['passes', 'timeout'], 'afterwards allowed passes and denied does not')
    t.equal(await this.exchange(), 'passes', 'afterwards connections go on')
    const seen = {
      allowed: this.flows.outcome('allowed', during),
      denied: this.flows.outcome('denied', during),
      established: this.flows.outcome('established', during),
    }
    for (const [flow, word] of Object.entries({ ...expected, established: 'passes' })) {
      const outcome = seen[flow as PacedFlow]
      t.ok(outcome.sent > 0 && wordOf(outcome) === word, `${flow} ${word}: ${describe(outcome)}`)
    }
    const whole = { fromMs: startedMs, toMs: lastWrongMs + INTERVAL_MS }
    this.note({
      fault,
      mode: this.mode,
      allowed: describe(seen.allowed),
      denied: describe(seen.denied),
      established: describe(seen.established),
      lost: this.losses(whole),
      healed: formatMs(course.healedMs ?? (lastWrongMs === endedMs ? 0 : lastWrongMs + INTERVAL_MS - endedMs)),
    })
  }

  note(row: Row): void {
    this.rows.push(row)
  }

  losses(span: Span): string {
    const [allowed, established] = [this.flows.outcome('allowed', span), this.flows.outcome('established', span)]
    return `new ${allowed.lost}/${allowed.sent}, established ${established.lost}/${established.sent}`
  }
}

function argsOf(mode: OnFailure, ...args: readonly string[]) {
  return { args: ['--on-failure', mode, ...forgetful, ...args] }
}

/** Whether no thread of a process runs until SIGCONT. */
async function isStopped(pid: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`)
  const stats = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8')))
  // Behind the name, which may hold anything.
  return stats.every((stat) => stat.slice(stat.lastIndexOf(')')).startsWith(') T '))
}

/** Where {@link Product} has its state. */
function stateDir({ path }: Policies): string {
  return `${path}.state`
}

function wordOf({ sent, late, lost }: Outcome): Word | 'mixed' {
  if (lost === sent) return 'dropped'
  if (lost > 0) return 'mixed'
  return late > sent / 2 ? 'waits' : 'passes'
}

function describe(outcome: Outcome): string {
  const word = wordOf(outcome)
  return word === 'mixed' ? `${outcome.lost} of ${outcome.sent} dropped` : word
}

/** Finer than the probes' pace nothing shows. */
function formatMs(ms: number): string {
  return ms < INTERVAL_MS ? `< ${INTERVAL_MS}` : ms.toFixed(0)
}

async function flood(site: Site, spec: Omit<Flood, 'target'>): Promise<void> {
  const script = fileURLToPath(new URL('./children/flood.ts', import.meta.url))
  const target = { v4: db[0]!, v6: db[1]! }
  const argv = [process.execPath, '--no-warnings', script, JSON.stringify({ ...spec, target })]
  const { code, stderr } = await site.network.exec('flooder', argv, { timeoutMs: 30_000 * slow })
  if (code !== 0) throw new Error(stderr)
}

/** How many packets got no verdict. */
async function unansweredPackets({ network }: Site): Promise<number> {
  const { stdout } = await network.exec('router', ['nft', 'list', 'counter', 'inet', 'knp', 'unanswered'])
  return Number(/packets (\d+)/.exec(stdout)?.[1])
}

/** The table is gone until it is put back: allowed and denied pass, in both modes. */
async function takeTableAway(t: Test, site: Site, argv: readonly string[]): Promise<void> {
  const { flows, network, product } = site
  const took: number[] = []
  let startedMs = 0
  let gap: Span | undefined
  for (let attempt = 0; attempt < ATTEMPTS && !(Math.min(...took) < REPAIR_LIMIT_MS); attempt++) {
    const { repairs } = await product.status()
    startedMs = clockMs()
    t.match(await network.exec('router', ['nft', ...argv]), { code: 0 })
    const lastWrongMs = await flows.steady(clockMs())
    t.match(await product.status(), { enforcing: true, repairs: repairs + 1, problems: [] })
    // What was in the queue when its rules went is not held back by them.
    const harmed = { fromMs: startedMs - INTERVAL_MS, toMs: lastWrongMs }
    gap = flows.wrong(harmed)
    took.push(gap ? gap.toMs - gap.fromMs + INTERVAL_MS : 0)
    if (gap) site.gaps.push(gap)
  }
  t.ok(Math.min(...took) < REPAIR_LIMIT_MS, `right again after ${took.map((ms) => ms.toFixed(0)).join(', ')} ms`)
  const seen = gap ?? { fromMs: startedMs, toMs: startedMs + REPAIR_LIMIT_MS }
  t.equal(wordOf(flows.outcome('established', seen)), 'passes')
  // The kernel drops what waits in a queue when a base chain goes.
  const { lost } = flows.outcome('allowed', seen)
  t.ok(lost <= 2 * db.length, `lost no more than what was in the queue: ${lost}`)
  t.same(await site.reach(ALLOWED, DENIED), ['passes', 'timeout'])
  t.equal(await site.exchange(), 'passes')
  site.note({
    fault: `nft ${argv.join(' ')}`,
    mode: site.mode,
    allowed: describe(flows.outcome('allowed', seen)),
    denied: describe(flows.outcome('denied', seen)),
    established: describe(flows.outcome('established', seen)),
    lost: site.losses(seen),
    healed: formatMs(Math.min(...took)),
  })
}

const faults: readonly [name: string, happens: (t: Test, site: Site) => Promise<void>][] = [
  ['nft flush ruleset', (t, site) => takeTableAway(t, site, ['flush', 'ruleset'])],
  ['nft delete table inet knp', (t, site) => takeTableAway(t, site, ['delete', 'table', 'inet', 'knp'])],
  [
    'SIGSTOP for 3 s',
    async (t, site) => {
      const fromMs = clockMs()
      let toMs = 0
      const endedMs = await site.stopped(async () => {
        await site.flows.until(() => clockMs() - fromMs > STOPPED_MS, 'time passes')
        toMs = clockMs()
        t.equal(await site.exchange(), 'passes', 'what was allowed goes on')
      })
      // A process that is stopped holds its queue: packets wait in it, in both modes.
      const expected: Expected = { allowed: 'waits', denied: 'dropped' }
      await site.judge(t, fromMs, { fault: 'SIGSTOP for 3 s, SIGCONT', during: { fromMs, toMs }, endedMs, expected })
    },
  ],
  [
    'the disk is full',
    async (t, site) => {
      const { product, folder, flows } = site
      const state = stateDir(folder)
      // In the process's own mount namespace, which ends with it.
      const mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', state]
      execFileSync('nsenter', ['-t', String(product.pid), '-m', ...mount])
      const inside = `/proc/${product.pid}/root${state}`
      await t.rejects(writeFile(`${inside}/filler`, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
      const startedMs = clockMs()
      await product.change(() => folder.write('all.yaml', picture(ALLOWED, LATER)))
      await product.said('cannot be saved')
      t.same(await site.reach(LATER, DENIED), ['passes', 'timeout'], 'the change is in force all the same')
      t.match((await product.status()).problems, [new RegExp(`^${state}: .*cannot be saved.*ENOSPC`)])
      const { code, stdout } = await product.statusCommand()
      t.not(code, 0)
      t.match(stdout, /^problem .*ENOSPC/m)
      const during = { fromMs: startedMs, toMs: clockMs() }
      await rm(`${inside}/filler`)
      const endedMs = clockMs()
      await flows.until(async () => (await product.status()).problems.length === 0, 'healthy')
      const healedMs = clockMs() - endedMs
      t.match(await readFile(`${inside}/last-good.jsonl`, 'utf8'), String(LATER), 'the picture in force is saved')
      await site.judge(t, startedMs, { fault: 'state directory full', during, endedMs, expected: enforced, healedMs })
    },
  ],
  [
    'a flood from one source',
    async (t, site) => {
      const startedMs = clockMs()
      const sources = flooders.slice(0, 2)
      let limited = 0
      // A busy machine does not always send faster than the limit.
      for (let attempt = 0; attempt < ATTEMPTS && limited === 0; attempt++) {
        await flood(site, { sources, payloadBytes: 8, packetsPerSecond: 20_000, durationMs: 1200 })
        limited = (await site.product.status()).counters.limited
      }
      const endedMs = clockMs()
      t.ok(limited > 0, `${limited} packets beyond the source's rate`)
      const during = { fromMs: startedMs, toMs: endedMs }
      await site.judge(t, startedMs, { fault: 'flood of tuples, one source', during, endedMs, expected: enforced })
      const { lost } = site.flows.outcome('allowed', during)
      t.equal(lost, 0, 'another source loses nothing')
    },
  ],
  [
    'kill -9 and a restart',
    async (t, site) => {
      const startedMs = clockMs()
      await site.kill(t)
      const during = await site.span(30)
      t.equal(await site.exchange(), 'passes', 'what was allowed goes on')
      const slipped = site.mode === 'open' ? await site.connectDenied() : []
      if (site.mode === 'open') t.equal(await site.exchange(slipped), 'passes')
      const endedMs = clockMs()
      await site.startAgain()
      const expected = unanswered[site.mode]
      await site.judge(t, startedMs, { fault: 'kill -9, restart', during, endedMs, expected })
      if (site.mode === 'open') t.equal(await site.exchange(slipped), 'timeout', 'what slipped through is cut')
    },
  ],
  [
    'the queue overflows',
    async (t, site) => {
      const restartedMs = await site.restart(t, '--queue-max-length', String(TINY_QUEUE))
      const startedMs = clockMs()
      let during: Span
      const endedMs = await site.stopped(async () => {
        await site.flows.until(async () => (await site.waiting()) === TINY_QUEUE, 'the queue is full')
        const before = await unansweredPackets(site)
        during = await site.spanBesideQueue(t)
        t.ok((await unansweredPackets(site)) > before, 'what finds it full goes on without an answer')
      })
      const fault = `queue overflow (${TINY_QUEUE} packets)`
      await site.judge(t, startedMs, { fault, during: during!, endedMs, expected: unanswered[site.mode] })
      // While the queue is so short, every pause of the process is an overflow.
      await site.restart(t)
      if (site.mode === 'open') site.gaps.push({ fromMs: restartedMs, toMs: clockMs() })
    },
  ],
  [
    'the receive buffer is full',
    async (t, site) => {
      await site.restart(t, '--queue-max-length', String(LARGE_QUEUE))
      const { counters: before } = await site.product.status()
      const startedMs = clockMs()
      let during: Span
      const endedMs = await site.stopped(async () => {
        await flood(site, { sources: flooders, payloadBytes: 600, packetsPerSecond: 4000, durationMs: 1000 })
        t.ok((await unansweredPackets(site)) > before.unanswered, 'the buffer is full')
        during = await site.spanBesideQueue(t)
      })
      await site.judge(t, startedMs, {
        fault: 'receive buffer full',
        during: during!,
        endedMs,
        expected: unanswered[site.mode],
      })
      // Told now and then only.
      const overflows = async () => (await site.product.status()).packetThread.overflows
      await site.flows.until(async () => (await overflows()) > 0, 'the socket was full, not the queue')
      t.equal((await site.product.status()).counters.limited, before.limited, 'no source sent too much')
    },
  ],
  [
    'a broken file at boot',
    async (t, site) => {
      const { folder, flows } = site
      const saved = () => readFile(`${stateDir(folder)}/last-good.jsonl`, 'utf8').catch(() => '')
      await flows.until(async () => (await saved()).includes(String(LATER)), 'the picture is saved')
      await folder.write('broken.yaml', BROKEN)
      const killedMs = clockMs()
      await site.kill(t)
      await site.startAgain()
      const upMs = await flows.steady(clockMs())
      if (site.mode === 'open') site.gaps.push({ fromMs: killedMs, toMs: upMs })
      const place = `${folder.path}/broken.yaml:4: `
      t.match(await site.product.status(), { enforcing: true, restoredFromMs: Number })
      t.match((await site.product.status()).problems.join(), place)
      const { code, stdout } = await site.product.statusCommand()
      t.not(code, 0)
      t.match(stdout, place)
      t.same(await site.reach(LATER, DENIED), ['passes', 'timeout'], 'the last picture that was in force')
      const during = await site.span(30)
      const endedMs = clockMs()
      await folder.remove('broken.yaml')
      await flows.until(async () => (await site.product.status()).problems.length === 0, 'healthy')
      const healedMs = clockMs() - endedMs
      t.equal((await site.product.status()).restoredFromMs, undefined)
      await site.judge(t, during.fromMs, {
        fault: 'broken file at boot',
        during,
        endedMs,
        expected: enforced,
        healedMs,
      })
    },
  ],
  [
    'a broken file at boot, and no last good picture',
    async (t, site) => {
      const { folder, network } = site
      await folder.write('broken.yaml', BROKEN)
      const startedMs = clockMs()
      await site.kill(t)
      await rm(stateDir(folder), { recursive: true })
      const end = await Product.launch(network, folder, argsOf(site.mode)).ended
      t.equal(end.code, 2)
      t.match(end.stderr, `${folder.path}/broken.yaml:4: `)
      const during = await site.span(30)
      t.equal(await site.exchange(), 'passes', 'what was allowed goes on')
      await folder.remove('broken.yaml')
      const endedMs = clockMs()
      await site.startAgain()
      const fault = 'broken file, no last good: exit 2'
      await site.judge(t, startedMs, { fault, during, endedMs, expected: unanswered[site.mode] })
    },
  ],
]

const rows: Row[] = []

for (const mode of ['closed', 'open'] as const) {
  t.test(`faults under ${mode}`, { skip }, async (t) => {
    const site = await Site.start(t, mode)
    for (const [name, happens] of faults) await t.test(name, (t) => happens(t, site))
    const { flows, gaps } = site
    // A packet is sent a little before what it meets.
    const isInGap = (sent: Span) =>
      gaps.some(({ fromMs, toMs }) => sent.toMs >= fromMs - INTERVAL_MS && sent.fromMs <= toMs + INTERVAL_MS)
    const leaks = flows.leaks()
    t.same(
      leaks.filter((sent) => !isInGap(sent)),
      [],
      `of ${flows.sent} rounds none had a denied packet pass but those in which it had to`,
    )
    await flows.close()
    rows.push(...site.rows)
  })
}

t.test('the fault table', { skip }, async (t) => {
  t.equal(rows.length, 2 * faults.length)
  for (const line of formatRows(rows)) t.comment(line)
})

function formatRows(rows: readonly Row[]): string[] {
  const heads = ['fault', 'mode', 'allowed flow', 'denied flow', 'established', 'packets lost', 'healed (ms)']
  const cells = rows.map((row) => [row.fault, row.mode, row.allowed, row.denied, row.established, row.lost, row.healed])
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((cell) => cell[i]!.length)))
  return [heads, widths.map((width) => '-'.repeat(width)), ...cells].map(
    (line) => `| ${line.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`,
  )
}
