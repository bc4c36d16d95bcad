import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { StreamReader } from '../../src/control/socket.ts'
import {
  createFlowRing,
  type DecidedPacket,
  FlowWriter,
  flowOrigins,
  packetForms,
} from '../../src/datapath/flow-ring.ts'
import { outcomes } from '../../src/datapath/judge.ts'
import { HOOK_FORWARD } from '../../src/engine/index.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { FlowFeed } from '../../src/flows/feed.ts'
import { parseFlowQuery } from '../../src/flows/filter.ts'
import { logFlows } from '../../src/flows/flow-log.ts'
import { FlowResolver } from '../../src/flows/resolver.ts'
import { type FlowsItem, streamFlows } from '../../src/flows/stream.ts'
import { shop } from '../fixtures/shop.ts'
import { packet, policyLine, worldOf } from '../fixtures/world.ts'
import { until } from '../until.ts'

const api = '10.0.0.2'
const db = '10.0.0.3'
const stranger = '203.0.113.9'
const { compiled } = worldOf(
  shop +
    policyLine(
      'shop/db',
      'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]',
    ),
  'n1',
)
const { ALLOWED, DENIED } = outcomes

interface Site {
  readonly feed: FlowFeed
  /** Writes decisions about connections to db. */
  decide(source: string, outcome: number, options?: DecideOptions): void
}

interface DecideOptions {
  readonly port?: number
  readonly sourcePort?: number
  readonly generation?: number
  readonly origin?: number
  readonly isAudited?: boolean
  readonly timeMs?: number
}

function site(t: { teardown(done: () => void): void }, mode: 'enforce' | 'audit' = 'enforce'): Site {
  const ring = createFlowRing()
  const writer = new FlowWriter(ring)
  const feed = new FlowFeed([ring], new FlowResolver(() => compiled, mode))
  t.teardown(() => feed.close())
  return {
    feed,
    decide(source, outcome, options = {}) {
      const {
        port = 80,
        sourcePort = 40_000,
        generation = 1,
        origin = flowOrigins.ASKED,
        isAudited,
        timeMs = 1,
      } = options
      const decided = packet({ source, destination: db, port, sourcePort }) as DecidedPacket
      writer.begin(timeMs)
      writer.write(decided, generation, outcome, packetForms.FIRST, origin, HOOK_FORWARD, isAudited)
      writer.publish()
    },
  }
}

const everything = parseFlowQuery({})

function listen(feed: FlowFeed, query: Parameters<typeof parseFlowQuery>[0] = {}) {
  const events: FlowEvent[] = []
  const missed: number[] = []
  const stop = feed.subscribe({
    filter: parseFlowQuery(query),
    take: (event) => events.push(event),
    miss: (count) => missed.push(count),
  })
  return { events, missed, stop }
}

t.test('a decision is told with names and with who decided', async (t) => {
  const { feed, decide } = site(t)
  decide(api, ALLOWED)
  decide(stranger, DENIED)
  t.match(feed.recent(10, everything), [
    {
      verdict: 'allow',
      count: 1,
      source: { name: 'shop/api', address: api, port: 40_000 },
      destination: { name: 'shop/db', address: db, port: 80 },
      decidedBy: { direction: 'ingress', tier: 'NetworkPolicy', policy: { namespace: 'shop', name: 'db' }, rule: 0 },
      hook: 'forward',
      isRemembered: false,
      generation: 1,
    },
    { verdict: 'deny', source: { name: undefined, address: stranger }, decidedBy: { policy: { name: 'db' } } },
  ])
})

t.test('what the policies in force do not decide so is not said to be theirs', async (t) => {
  const { feed, decide } = site(t)
  decide(stranger, ALLOWED, { generation: 0 })
  t.match(feed.recent(10, everything), [
    {
      verdict: 'allow',
      decidedBy: { tier: 'Former', policy: undefined, reason: /generation 0, which is no longer in force/ },
    },
  ])
})

t.test('what is alike but for the client’s port is told as one', async (t) => {
  const { feed, decide } = site(t)
  const { events } = listen(feed)
  for (let n = 0; n < 3; n++) decide(api, ALLOWED, { sourcePort: 40_000 + n })
  decide(api, ALLOWED, { port: 81 })
  decide(api, ALLOWED, { origin: flowOrigins.REMEMBERED })
  await sleep(150)
  t.same(
    events.map(({ count, destination, isRemembered }) => [count, destination!.port, isRemembered]),
    [
      [3, 80, false],
      [1, 81, false],
      [1, 80, true],
    ],
  )
})

t.test('each subscriber is told what it asks for, until it goes', async (t) => {
  const { feed, decide } = site(t)
  const all = listen(feed)
  decide(api, ALLOWED)
  const denied = listen(feed, { verdict: 'deny' })
  decide(stranger, DENIED)
  await sleep(150)
  all.stop()
  decide(stranger, DENIED)
  await sleep(150)
  denied.stop()
  decide(stranger, DENIED)
  await sleep(150)
  t.same(
    all.events.map(({ verdict }) => verdict),
    ['allow', 'deny'],
  )
  t.same(
    denied.events.map(({ verdict, count }) => [verdict, count]),
    [
      ['deny', 1],
      ['deny', 1],
    ],
  )
})

t.test('who would be too slow is told so', async (t) => {
  const { feed, decide } = site(t)
  const { events, missed } = listen(feed)
  for (let n = 0; n < 20_000; n++) decide(api, ALLOWED)
  const total = () => [...events.map(({ count }) => count), ...missed].reduce((sum, n) => sum + n, 0)
  await until(() => sleep(50).then(() => total() >= 20_000))
  t.equal(total(), 20_000)
  t.ok(missed.length > 0)
})

t.test('of the past the last are told, in their order', async (t) => {
  const { feed, decide } = site(t)
  for (let n = 0; n < 10; n++) decide(api, ALLOWED, { port: n + 1, timeMs: 1000 * n + 1 })
  decide(stranger, DENIED, { timeMs: 20_000 })
  const ports = (most: number, query: Parameters<typeof parseFlowQuery>[0]) =>
    feed.recent(most, parseFlowQuery(query)).map(({ destination }) => destination!.port)
  t.same(ports(3, { verdict: 'allow' }), [8, 9, 10])
  t.same(ports(2, {}), [10, 80])
  t.same(ports(100, { port: '4' }), [4])
})

t.test('under audit who would have denied is told', async (t) => {
  const { feed, decide } = site(t, 'audit')
  decide(stranger, ALLOWED, { isAudited: true })
  decide(api, ALLOWED)
  t.match(feed.recent(10, parseFlowQuery({ verdict: 'audit' })), [
    {
      verdict: 'allow',
      decidedBy: { tier: 'Default' },
      audit: { verdict: 'deny', decidedBy: { tier: 'NetworkPolicy', policy: { name: 'db' } } },
    },
  ])
  t.equal(feed.recent(10, everything).length, 2)
})

/** A reader that takes so many items until it is opened. */
class SlowReader implements StreamReader {
  readonly items: FlowsItem[] = []
  room: number
  hasEnded = false
  #onReady = () => {}

  constructor(room: number) {
    this.room = room
  }

  send(item: object): boolean {
    if (this.room === 0) return false
    this.room--
    this.items.push(item as FlowsItem)
    return true
  }

  onReady(callback: () => void): void {
    this.#onReady = callback
  }

  end(): void {
    this.hasEnded = true
  }

  open(): void {
    this.room = 1000
    this.#onReady()
  }
}

t.test('a reader of the socket that falls behind is told how much it missed', async (t) => {
  const { feed, decide } = site(t)
  const reader = new SlowReader(2)
  const stop = streamFlows(feed, { last: 0, follow: true }, reader)
  for (let n = 0; n < 5; n++) for (let again = 0; again <= n; again++) decide(api, ALLOWED, { port: n + 1 })
  await sleep(150)
  t.same(
    reader.items.map((item) => 'count' in item && item.count),
    [1, 2],
  )
  reader.open()
  t.same(reader.items.at(-1), { missed: 3 + 4 + 5 }, 'as soon as it can be told')
  decide(stranger, DENIED)
  await sleep(150)
  t.match(reader.items.at(-1), { verdict: 'deny' })
  stop()
  t.equal(reader.hasEnded, false)
})

t.test('without following a stream ends, and what cannot be asked is refused', async (t) => {
  const { feed, decide } = site(t)
  decide(api, ALLOWED)
  const reader = new SlowReader(10)
  streamFlows(feed, { last: 5, follow: false }, reader)
  t.equal(reader.items.length, 1)
  t.equal(reader.hasEnded, true)
  for (const params of [
    { last: -1, follow: false },
    { last: 1001, follow: false },
    { last: 1, follow: false, port: 'http' },
  ])
    t.throws(() => streamFlows(feed, params, reader), { code: 'USAGE' })
})

t.test('the log tells so many and counts the rest', async (t) => {
  const { feed, decide } = site(t)
  const told: FlowEvent[] = []
  const leftOut: number[] = []
  let nowMs = 0
  const sink = { decided: (event: FlowEvent) => told.push(event), leftOut: (count: number) => leftOut.push(count) }
  const stop = logFlows(feed, { flows: 'denied', sink, now: () => nowMs })
  for (let n = 0; n < 150; n++) decide(stranger, DENIED, { port: n + 1 })
  for (let n = 0; n < 50; n++) decide(api, ALLOWED, { port: n + 1 })
  await sleep(200)
  t.equal(told.length, 100)
  nowMs = 1000
  for (let n = 0; n < 20; n++) decide(stranger, DENIED, { port: n + 1 })
  await sleep(1100)
  t.equal(told.length, 110, 'ten a second')
  t.same(
    leftOut.reduce((sum, n) => sum + n, 0),
    50 + 10,
  )
  stop()
  t.same(logFlows(feed, { flows: 'none', sink })(), undefined)
})
