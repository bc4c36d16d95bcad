import t from 'tap'
import { createFlowRing, FlowWriter } from '../../src/datapath/flow-ring.ts'
import { PacketJudge } from '../../src/datapath/judge.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../src/datapath/marks.ts'
import { createCounters, judgeBatch, noteQueueCounters, readCounters } from '../../src/datapath/packet-loop.ts'
import { createEngine, type Engine } from '../../src/engine/engine.ts'
import type { PolicyEvaluator } from '../../src/engine/index.ts'
import { FakeQueue } from '../../src/native/fake-queue.ts'
import { tcpPacket, udpPacket } from '../fixtures/kernel-packets.ts'
import { shop } from '../fixtures/shop.ts'
import { policyLine, worldOf } from '../fixtures/world.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const STAMP = 3
const generation = { number: 1, hasAudited: false }
const allowed = (marks.allowed | (STAMP << marks.stampShift)) >>> 0
const denied = (marks.denied | (STAMP << marks.stampShift)) >>> 0
const FOREIGN = 0x4001

const client = '10.0.0.2'
const server = '10.0.0.3'
const onlyClient = policyLine(
  'shop/p',
  'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]',
)
const { engine, identities } = worldOf(shop + onlyClient, 'n1').compiled

function queueOf(capacity: number, ...packets: readonly Uint8Array[]): FakeQueue {
  const queue = new FakeQueue({ capacity, copyBytes: 128, maxLength: 1000 })
  queue.push(...packets.map((bytes) => ({ bytes, family: 4 as const, mark: marks.queued | FOREIGN })))
  return queue
}

function run(queue: FakeQueue, deciding: Engine = engine) {
  const counters = createCounters()
  const flows = new FlowWriter(createFlowRing())
  const judge = new PacketJudge(deciding, generation, STAMP, marks)
  for (let count = queue.receive(0); count > 0; count = queue.receive(0))
    judgeBatch(queue, judge, counters, flows, count)
  return readCounters(counters)
}

const good = tcpPacket(client, server)
const bad = tcpPacket('203.0.113.9', server)

t.test('every packet gets one answer, in its own row', async (t) => {
  const queue = queueOf(2, good, bad, good, bad, bad)
  const counts = run(queue)
  const deny = denied | FOREIGN
  const allow = allowed | FOREIGN
  t.same(
    queue.answers.map(({ mark }) => mark),
    [allow, deny, allow, deny, deny],
  )
  t.match(counts, { queued: 5, allowed: 2, denied: 3, unreadable: 0, failed: 0, batches: 3 })
})

t.test('what cannot be read is denied, and nothing is to be learnt of it', async (t) => {
  const queue = queueOf(8, good, good.subarray(0, 30), Uint8Array.of(0xff), new Uint8Array(0), good)
  t.match(run(queue), { queued: 5, allowed: 2, denied: 0, unreadable: 3 })
  t.same(
    queue.answers.slice(1, 4).map(({ mark }) => mark),
    [0, 0, 0].map(() => marks.denied | FOREIGN),
  )
})

t.test('a packet that the kernel cut inside its headers is denied', async (t) => {
  const queue = new FakeQueue({ capacity: 4, copyBytes: 32, maxLength: 10 })
  queue.push(
    { bytes: good, family: 4, mark: marks.queued },
    { bytes: udpPacket(client, server), family: 4, mark: marks.queued },
  )
  t.match(run(queue), { unreadable: 1, allowed: 1 }, 'the ports of UDP are there, the header of TCP is not')
})

t.test('a packet of a family that is neither is denied', async (t) => {
  const queue = queueOf(4)
  queue.push({ bytes: good, family: 0, mark: marks.queued }, { bytes: good, family: 6, mark: marks.queued })
  t.match(run(queue), { unreadable: 2 })
})

t.test('an evaluator that throws denies its packet, and no other', async (t) => {
  const failing: PolicyEvaluator = {
    name: 'failing',
    evaluateEgress: () => 'next',
    evaluateIngress({ packet }) {
      if (packet.protocol === 17) throw new Error('defect')
      return 'next'
    },
  }
  const deciding = createEngine(identities.tables, [failing, ...engine.evaluators])
  const queue = queueOf(8, good, udpPacket(client, server), bad, udpPacket(client, server), good)
  const counts = run(queue, deciding)
  t.match(counts, { queued: 5, allowed: 2, denied: 1, failed: 2, unreadable: 0 })
  const failed = marks.denied | FOREIGN
  t.same(
    queue.answers.map(({ mark }) => mark),
    [allowed | FOREIGN, failed, denied | FOREIGN, failed, allowed | FOREIGN],
    'and only what was decided is to be remembered',
  )
})

t.test('an engine that always throws lets nothing pass', async (t) => {
  const broken: Engine = {
    ...engine,
    decide: () => {
      throw new Error('defect')
    },
  }
  const queue = queueOf(2, good, good, good)
  t.match(run(queue, broken), { queued: 3, allowed: 0, failed: 3 })
  t.ok(queue.answers.every(({ mark }) => mark === (marks.denied | FOREIGN)))
})

t.test('nothing in the queue is no batch', async (t) => {
  t.match(run(queueOf(2)), { queued: 0, batches: 0 })
})

t.test('the queue’s own counters are taken over', async (t) => {
  const counters = createCounters()
  const queue = Object.assign(queueOf(2), { counters: () => ({ overflows: 4, answerErrors: 5, truncated: 6 }) })
  noteQueueCounters(queue, counters)
  t.match(readCounters(counters), { overflows: 4, answerErrors: 5, queued: 0 })
  t.ok(counters.buffer instanceof SharedArrayBuffer, 'another thread reads them')
})
