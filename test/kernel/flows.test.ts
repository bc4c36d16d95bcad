import { once } from 'node:events'
import { createConnection } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { ping, sendPackets } from '../tools/raw.ts'
import { until } from '../until.ts'
import { ipPacket, protocols, tcpSegment } from './packets.ts'
import { forgetful, knp, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const web = ['10.77.1.2', 'fd77:1::2'] as const
const api = ['10.77.1.3', 'fd77:1::3'] as const
const stranger = ['10.77.1.4', 'fd77:1::4'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
const families = [0, 1] as const
const kinds = families.flatMap((family) => (['tcp', 'udp'] as const).map((protocol) => ({ family, protocol })))
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 500

const portsOf = (...ports: number[]) => ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }])
const objects = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'api', addresses: api }),
  pod({ name: 'db', addresses: db, node: 'edge' }),
]
/** Everybody may reach db on port 80, and api on every port and by ping. */
const dbOnly = networkPolicy('db-only', {
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ ports: portsOf(80) }, { from: [{ podSelector: { matchLabels: { app: 'api' } } }] }],
})

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
}

async function site(t: Test, policy: object = dbOnly): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: [...web, ...api, ...stranger] },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', [...objects, policy])
  const [near, far] = await Promise.all(['near', 'far'].map((name) => Agent.start(network, name)))
  for (const address of db)
    for (const port of [80, 81])
      for (const protocol of ['tcp', 'udp'] as const) await far!.listen({ protocol, address, port })
  return { network, folder, near: near! }
}

function run({ network, folder }: Site, ...args: readonly string[]): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge', ...args] })
}

/** `knp.flow/v1` as far as the tests read it. */
interface FlowLine {
  readonly schema: string
  readonly time: string
  readonly verdict: string
  readonly flow: {
    readonly protocol: string
    readonly source: { readonly name?: string; readonly address: string; readonly port?: number }
    readonly destination: { readonly name?: string; readonly address: string; readonly port?: number }
  }
  readonly decidedBy: { readonly tier: string; readonly policy?: { readonly name: string }; readonly rule?: number }
  readonly audit?: { readonly verdict: string; readonly decidedBy: FlowLine['decidedBy'] }
  readonly origin: string
  readonly count: number
  readonly missed?: number
}

async function flowsOf(product: Product, ...args: readonly string[]): Promise<FlowLine[]> {
  const { code, stdout, stderr } = await product.command(['flows', '--json', ...args])
  if (code !== 0) throw new Error(`knp flows: ${code}: ${stderr}${stdout}`)
  return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as FlowLine]))
}

/** What is told of a flow besides its time and the client's port. */
function describe({ verdict, flow, decidedBy, audit, origin }: FlowLine): string {
  const { protocol, source, destination } = flow
  const by = ({ tier, policy, rule }: FlowLine['decidedBy']) => `${tier} ${policy?.name ?? ''} ${rule ?? ''}`.trim()
  const ends = `${source.name ?? ''} ${source.address} ${destination.name} ${destination.address} ${destination.port ?? ''}`
  const would = audit ? ` audit ${audit.verdict} ${by(audit.decidedBy)}` : ''
  return `${verdict} ${protocol} ${ends} ${by(decidedBy)}${would} ${origin}`
}

function tally(lines: Iterable<readonly [text: string, count: number]>): Record<string, number> {
  const counts = new Map<string, number>()
  for (const [text, count] of lines) counts.set(text, (counts.get(text) ?? 0) + count)
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}

const countsOf = (lines: readonly FlowLine[]) => tally(lines.map((line) => [describe(line), line.count]))

/** One connection or datagram from a port of its own; answers whether it was answered. */
async function reaches(
  { near }: Site,
  from: readonly [string, string],
  { family, protocol }: (typeof kinds)[number],
  port: number,
): Promise<boolean> {
  const { ok } = await near.probe({
    protocol,
    address: db[family],
    port,
    sourceAddress: from[family],
    timeoutMs: DENIED_AFTER_MS * slow,
  })
  return ok
}

t.test('every decision is told with who decided, exactly as often as it was made', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, ...forgetful)
  const sent: [string, number][] = []
  for (const kind of kinds) {
    const { family, protocol } = kind
    const to = `shop/db ${db[family]}`
    for (const [from, name, port, verdict, rule] of [
      [web, 'shop/web', 80, 'allow', '0'],
      [web, 'shop/web', 81, 'deny', ''],
      [api, 'shop/api', 81, 'allow', '1'],
      [stranger, '', 80, 'allow', '0'],
      [stranger, '', 81, 'deny', ''],
    ] as const) {
      for (let again = 0; again < 2; again++) {
        t.equal(await reaches(lab, from, kind, port), verdict === 'allow')
        const by = `NetworkPolicy db-only ${rule}`.trim()
        sent.push([`${verdict} ${protocol.toUpperCase()} ${name} ${from[family]} ${to} ${port} ${by} packet`, 1])
      }
    }
  }
  for (const family of families) {
    for (const [from, name, verdict] of [
      [api, 'shop/api', 'allow'],
      [web, 'shop/web', 'deny'],
    ] as const) {
      await ping(lab.network, 'near', db[family], { source: from[family], timeoutMs: DENIED_AFTER_MS })
      const rule = verdict === 'allow' ? ' 1' : ''
      const flow = `ICMP ${name} ${from[family]} shop/db ${db[family]}`
      sent.push([`${verdict} ${flow}  NetworkPolicy db-only${rule} packet`, 1])
    }
  }
  const all = await flowsOf(product)
  t.same(countsOf(all), tally(sent))
  const { counters } = await product.status()
  const totalOf = (verdict: string) =>
    all.filter((line) => line.verdict === verdict).reduce((n, { count }) => n + count, 0)
  t.equal(totalOf('allow'), counters.allowed, 'the kernel counted as many')
  t.equal(totalOf('deny'), counters.denied)
  for (const [args, wanted] of [
    [['--verdict', 'deny'], ({ verdict }: FlowLine) => verdict === 'deny'],
    [['--from', 'shop/api'], ({ flow }: FlowLine) => flow.source.name === 'shop/api'],
    [['--from', 'fd77:1::/64'], ({ flow }: FlowLine) => flow.source.address.includes(':')],
    [
      ['--to', '10.77.2.2', '--port', '81/udp'],
      ({ flow }: FlowLine) =>
        flow.destination.address === db[0] && flow.protocol === 'UDP' && flow.destination.port === 81,
    ],
    [['--policy', 'shop/db-only', '--from', 'shop/'], ({ flow }: FlowLine) => flow.source.name !== undefined],
    [['--policy', 'other'], () => false],
  ] as const) {
    const lines = await flowsOf(product, ...args)
    t.same(countsOf(lines), countsOf(all.filter(wanted)), args.join(' '))
  }
  t.equal((await flowsOf(product, '--last', '3')).length, 3)
  const text = await product.command(['flows', '--from', 'shop/web', '--port', '81/tcp', '--last', '1'])
  t.match(
    text.stdout,
    /^\d\d:\d\d:\d\d\.\d{3} {2}DENIED {3}shop\/web \(fd77:1::2\) -> shop\/db \(fd77:2::2\) 81\/tcp {2}ingress shop\/db-only isolates( {2}x2)?\n$/,
  )
  t.match(await product.command(['flows', '--from', 'web']), { code: 2, stderr: /"web" is neither namespace\/name/ })
  t.match(await product.command(['explain', 'shop/web', 'shop/db:81', '--live']), { code: 1, stdout: /^DENIED/ })
  t.match(await product.command(['explain', 'shop/api', 'shop/db:81', '--live', '--json']), {
    code: 0,
    stdout: /"rule":1/,
  })
  t.match(await product.command(['explain', 'shop/nobody', 'shop/db:81', '--live']), { code: 3 })
  await product.stop()
  t.match(await product.command(['flows']), { code: 4 }, 'no firewall answers')
})

t.test('what the kernel answers by what it remembers is told as exactly', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, '--remember-allowed', '1h', '--remember-denied', '1h')
  const expected: [string, number][] = []
  for (const kind of kinds) {
    const { family, protocol } = kind
    const ends = (name: string, from: string) => `${protocol.toUpperCase()} ${name} ${from} shop/db ${db[family]}`
    for (const [from, name, port, verdict, rule, times] of [
      [web, 'shop/web', 80, 'allow', ' 0', 5],
      [api, 'shop/api', 81, 'allow', ' 1', 3],
      [stranger, '', 81, 'deny', '', 4],
    ] as const) {
      for (let n = 0; n < times; n++) t.equal(await reaches(lab, from, kind, port), verdict === 'allow')
      const by = `${port} NetworkPolicy db-only${rule}`
      expected.push([`${verdict} ${ends(name, from[family])} ${by} packet`, 1])
      expected.push([`${verdict} ${ends(name, from[family])} ${by} kernel`, times - 1])
    }
  }
  // The kernel tells of them after 10 ms at the latest.
  await sleep(100 * slow)
  t.same(countsOf(await flowsOf(product)), tally(expected))
  const { counters } = await product.status()
  const rememberedOf = (verdict: string) =>
    expected
      .filter(([text]) => text.startsWith(verdict) && text.endsWith('kernel'))
      .reduce((n, [, count]) => n + count, 0)
  t.equal(counters.rememberedAllowed, rememberedOf('allow'))
  t.equal(counters.rememberedDenied, rememberedOf('deny'))
  const { stdout } = await product.command(['flows', '--to', 'shop/db', '--port', '80/tcp', '--from', web[0]])
  t.match(stdout, /ALLOWED {2}shop\/web .* ingress shop\/db-only rule 0 .*by the kernel\n/)
})

/** `knp flows -f`, line by line. */
t.test('without its log the kernel tells only how many', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, '--no-remember-log', '--remember-allowed', '1h', '--remember-denied', '1h')
  for (let n = 0; n < 3; n++) {
    await reaches(lab, web, kinds[0]!, 80)
    await reaches(lab, web, kinds[0]!, 81)
  }
  const ends = `TCP shop/web ${web[0]} shop/db ${db[0]}`
  t.same(countsOf(await flowsOf(product)), {
    [`allow ${ends} 80 NetworkPolicy db-only 0 packet`]: 1,
    [`deny ${ends} 81 NetworkPolicy db-only packet`]: 1,
  })
  const { remember, counters } = await product.status()
  t.match(remember, { isLogged: false })
  t.match(counters, { allowed: 1, denied: 1, rememberedAllowed: 2, rememberedDenied: 2 })
  const { stdout } = await lab.network.exec(lab.network.router, ['nft', 'list', 'table', 'inet', 'knp'])
  t.notMatch(stdout, /\blog\b/)
  await product.stop()
})

async function follow(t: Test, { network, folder }: Site, ...args: readonly string[]) {
  const argv = knp([
    'flows',
    '-f',
    '--json',
    '--last',
    '0',
    ...args,
    '--control-socket',
    `${folder.path}/.control.sock`,
  ])
  const child = network.spawn(network.router, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill())
  const lines: FlowLine[] = []
  createInterface({ input: child.stdout! }).on('line', (line) => lines.push(JSON.parse(line)))
  const ended = once(child, 'close').then(([code]) => code as number)
  return { lines, ended }
}

t.test('what is decided is told while it is, until the firewall ends', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, ...forgetful)
  await reaches(lab, web, kinds[0]!, 80)
  const { lines, ended } = await follow(t, lab, '--verdict', 'deny')
  // It is not known when it has begun to follow: until then nothing comes.
  await until(async () => {
    await reaches(lab, web, kinds[1]!, 81)
    return lines.length > 0
  })
  lines.length = 0
  for (let n = 0; n < 3; n++) {
    await reaches(lab, web, kinds[0]!, 80)
    await reaches(lab, web, kinds[0]!, 81)
  }
  await until(() => sleep(20).then(() => lines.filter(({ flow }) => flow.protocol === 'TCP').length >= 3))
  t.same(countsOf(lines.filter(({ flow }) => flow.protocol === 'TCP')), {
    [`deny TCP shop/web ${web[0]} shop/db ${db[0]} 81 NetworkPolicy db-only packet`]: 3,
  })
  await product.stop()
  t.equal(await ended, 4)
})

interface LogRecord {
  readonly level: string
  readonly event: string
  readonly message: string
  readonly decidedAt?: string
  readonly count?: number
}

/** The log of a firewall that was started with `--log-format json`. */
function recordsOf(product: Product): LogRecord[] {
  return product.stderr.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as LogRecord]))
}

t.test('decisions are logged with who decided, denied ones unless all are asked for', { skip }, async (t) => {
  const lab = await site(t)
  for (const flows of ['denied', 'all', 'none'] as const) {
    const log = ['--log-format', 'json', '--log-flows', flows]
    const product = await Product.start(lab.network, lab.folder, { args: ['--node-name', 'edge', ...forgetful], log })
    for (let n = 0; n < 3; n++) {
      await reaches(lab, web, kinds[0]!, 80)
      await reaches(lab, web, kinds[1]!, 81)
    }
    await product.stop()
    const records = recordsOf(product)
    const decisions = records.filter(({ event }) => event === 'decision') as unknown as FlowLine[]
    const ends = (protocol: string, port: number) => `${protocol} shop/web ${web[0]} shop/db ${db[0]} ${port}`
    const denied = { [`deny ${ends('UDP', 81)} NetworkPolicy db-only packet`]: 3 }
    const allowed = { [`allow ${ends('TCP', 80)} NetworkPolicy db-only 0 packet`]: 3 }
    t.same(countsOf(decisions), { ...(flows !== 'none' && denied), ...(flows === 'all' && allowed) }, flows)
    t.match(records.at(-1), { level: 'info', event: 'stopped', message: /the rules stay/ })
    for (const record of records) t.match(record, { level: /^(info|warn)$/, event: String, message: String })
    const one = records.find(({ message }) => message.startsWith('DENIED'))
    if (flows !== 'none') t.match(one!.message, 'ingress shop/db-only isolates')
  }
})

t.test('under audit nothing is denied, and each connection that would be is told', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, '--mode', 'audit', '--remember-allowed', '1h', '--remember-denied', '1h')
  t.match(product.enforcingLine, /^audit, NOTHING is enforced: .* without a verdict: accept$/)
  await product.said('warning: nothing is enforced: this is an audit')
  const told: [string, number][] = []
  for (const kind of kinds) {
    const { family, protocol } = kind
    const ends = `${protocol.toUpperCase()} shop/web ${web[family]} shop/db ${db[family]}`
    for (let n = 0; n < 3; n++) {
      t.equal(await reaches(lab, web, kind, 81), true, 'what would be denied passes')
      t.equal(await reaches(lab, web, kind, 80), true)
    }
    told.push([`allow ${ends} 81 Default audit deny NetworkPolicy db-only packet`, 3])
  }
  for (const family of families) {
    const source = web[family]
    t.equal((await ping(lab.network, 'near', db[family], { source, timeoutMs: 2000 }))[0], 'reply')
    told.push([
      `allow ICMP shop/web ${source} shop/db ${db[family]}  Default audit deny NetworkPolicy db-only packet`,
      1,
    ])
  }
  t.same(countsOf(await flowsOf(product, '--verdict', 'audit')), tally(told), 'each of them')
  t.same(await flowsOf(product, '--verdict', 'deny'), [])
  const { mode, counters, packetThread } = await product.status()
  t.equal(mode, 'audit')
  t.match(counters, { audited: 14, denied: 0, rememberedDenied: 0, unanswered: 0 })
  t.equal(packetThread.audited, 14)
  t.equal(counters.rememberedAllowed, 8, 'what is allowed is remembered')
  t.match((await product.statusCommand()).stdout, /^mode +AUDIT: everything passes; 14 packets would have been denied/m)
  t.match(
    (await product.command(['flows', '--verdict', 'audit', '--last', '1'])).stdout,
    /AUDIT .* would be denied: ingress shop\/db-only isolates/,
  )
  await product.stop('SIGKILL')
  t.equal(await reaches(lab, web, kinds[0]!, 81), true, 'also when it is gone')
  const enforcing = await run(lab)
  t.equal(await reaches(lab, web, kinds[0]!, 81), false, 'control: another start enforces')
  await enforcing.stop()
})

t.test('an audited policy changes nothing, and tells what it would', { skip }, async (t) => {
  const annotated = networkPolicy('strict', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'api' } } }] }],
  }) as { metadata: object }
  const audited = { ...annotated, metadata: { ...annotated.metadata, annotations: { 'knp.dev/mode': 'audit' } } }
  const lab = await site(t, audited)
  const product = await run(lab, '--remember-allowed', '1h', '--remember-denied', '1h')
  for (let n = 0; n < 3; n++) {
    t.equal(await reaches(lab, web, kinds[0]!, 80), true)
    t.equal(await reaches(lab, api, kinds[0]!, 80), true)
  }
  t.same(countsOf(await flowsOf(product, '--verdict', 'audit')), {
    [`allow TCP shop/web ${web[0]} shop/db ${db[0]} 80 Default audit deny NetworkPolicy strict packet`]: 3,
  })
  const { counters } = await product.status()
  t.match(counters, { audited: 3, allowed: 1, rememberedAllowed: 2, denied: 0 })
  const { connection } = await lab.near.open({ protocol: 'tcp', address: db[0], port: 80, sourceAddress: web[0] })
  t.match(await connection!.exchange('one'), { ok: true })
  t.match(await connection!.exchange('two'), { ok: true })
  t.equal((await product.status()).counters.audited, 4, 'a connection is told of once, whatever it carries')
  await product.change(() => lab.folder.write('all.yaml', [...objects, annotated]))
  t.notMatch(
    await connection!.exchange('three', DENIED_AFTER_MS * slow),
    { ok: true },
    'and cut when the policy is enforced',
  )
  t.equal(await reaches(lab, web, kinds[0]!, 80), false)
})

/** Times of TCP connections that are allowed, one after the other, in ms: median and the slowest of 200. */
async function latency(lab: Site): Promise<{ median: number; p99: number }> {
  const times: number[] = []
  for (let n = 0; n < 200; n++) {
    const started = performance.now()
    await reaches(lab, web, kinds[0]!, 80)
    times.push(performance.now() - started)
  }
  times.sort((a, b) => a - b)
  return { median: times[100]!, p99: times[198]! }
}

/** Resident memory of the firewall, in MiB. */
async function memoryOf({ network }: Site, { pid }: Product): Promise<number> {
  const { stdout } = await network.exec('router', ['cat', `/proc/${pid}/status`])
  return Number(/VmRSS:\s*(\d+)/.exec(stdout)![1]) / 1024
}

/** SYNs to ports that are denied, from 1000 on; addresses of many clients, so that none is limited. */
function burst(count: number): Buffer[] {
  return Array.from({ length: count }, (_, n) => {
    const ends = { source: `10.77.1.${10 + (n % 200)}`, destination: db[0] }
    return ipPacket(ends, protocols.tcp, tcpSegment(ends, { sourcePort: 5000, port: 1000 + n }))
  })
}

t.test('a reader that reads nothing delays nobody, and is told what it missed', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab, ...forgetful)
  const alone = await latency(lab)
  const socket = createConnection(`${lab.folder.path}/.control.sock`)
  await once(socket, 'connect')
  socket.pause()
  socket.write(`${JSON.stringify({ method: 'flows', params: { last: 0, follow: true } })}\n`)
  const before = await memoryOf(lab, product)
  const { counters } = await product.status()
  const counted = counters.allowed + counters.denied
  await sendPackets(lab.network, 'near', burst(20_000))
  const beside = await latency(lab)
  t.comment(
    `a connection takes ${alone.median.toFixed(1)} ms, p99 ${alone.p99.toFixed(1)}; beside the reader ${beside.median.toFixed(1)}, p99 ${beside.p99.toFixed(1)}`,
  )
  t.ok(beside.median < alone.median * 2 + 20, 'nobody waits for the reader')
  const grown = (await memoryOf(lab, product)) - before
  t.comment(`resident memory grew by ${grown.toFixed(1)} MiB`)
  t.ok(grown < 100)
  let told = 0
  let missed = 0
  createInterface({ input: socket }).on('line', (line) => {
    const { item } = JSON.parse(line) as { item: { count?: number; missed?: number } }
    told += item.count ?? 0
    missed += item.missed ?? 0
  })
  // What the queue had no room for was not decided.
  const decided = async () => {
    const { counters } = await product.status()
    return counters.allowed + counters.denied
  }
  await until(async () => told + missed >= (await decided()) - counted)
  t.equal(told + missed, (await decided()) - counted, `${told} were told, ${missed} missed`)
  t.ok(missed > 0)
  socket.destroy()
})

t.test('a burst of denied connections to ever other ports is told in bounded memory', { skip }, async (t) => {
  const lab = await site(t)
  const log = ['--log-format', 'json', '--log-flows', 'denied']
  const product = await Product.start(lab.network, lab.folder, { args: ['--node-name', 'edge'], log })
  const { lines } = await follow(t, lab)
  await until(async () => {
    await reaches(lab, web, kinds[1]!, 80)
    return lines.length > 0
  })
  const { counters: first } = await product.status()
  const seen = () => lines.reduce((sum, { count, missed }) => sum + (count ?? missed ?? 0), 0)
  const packets = burst(50_000)
  let slowest = 0
  let denied = 0
  const memory: number[] = []
  for (let round = 0; round < 2; round++) {
    // In parts that the queue has room for.
    for (let at = 0; at < packets.length; at += 5000) {
      await sendPackets(lab.network, 'near', packets.slice(at, at + 5000))
      const started = performance.now()
      t.equal(await reaches(lab, web, kinds[0]!, 80), true, 'others connect meanwhile')
      slowest = Math.max(slowest, performance.now() - started)
    }
    const { counters } = await product.status()
    denied = counters.denied + counters.rememberedDenied - first.denied
    t.ok(denied > 40_000 * (round + 1), `${denied} were denied, ${counters.unanswered} had no room in the queue`)
    await until(() => sleep(20).then(() => seen() >= denied), 20_000)
    memory.push(await memoryOf(lab, product))
  }
  t.comment(
    `memory ${memory.map((n) => n.toFixed(0)).join(', ')} MiB; the slowest connection took ${slowest.toFixed(1)} ms`,
  )
  // What is garbage stays for a while: the heap grows to twice what is in use before it is collected.
  t.ok(memory[1]! < 400)
  await product.stop()
  const records = recordsOf(product)
  const toldOf = (wanted: string) =>
    records.filter(({ event }) => event === wanted).reduce((sum, { count }) => sum + (count ?? 0), 0)
  t.ok(records.length < 1000, `${records.length} lines were logged`)
  t.ok(toldOf('decision') + toldOf('left-out') >= denied, 'and how many were left out')
})
