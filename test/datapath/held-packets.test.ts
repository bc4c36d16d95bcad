import t from 'tap'
import { createFlowRing, FlowWriter } from '../../src/datapath/flow-ring.ts'
import type { HeldPackets, HoldLimits } from '../../src/datapath/held-packets.ts'
import { PacketJudge, type UnknownLocal } from '../../src/datapath/judge.ts'
import { localPods } from '../../src/datapath/local-pods.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../src/datapath/marks.ts'
import { createCounters, holdPackets, judgeBatch, noteHeld, readCounters } from '../../src/datapath/packet-loop.ts'
import { type Engine, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, parseAddress, parseBlock } from '../../src/engine/index.ts'
import { FakeQueue } from '../../src/native/fake-queue.ts'
import { errorPacket, replyPacket, tcpPacket, udpPacket } from '../fixtures/kernel-packets.ts'
import { shop } from '../fixtures/shop.ts'
import { podLine, policyLine, worldOf } from '../fixtures/world.ts'

const generation = (number: number) => ({ number, hasAudited: false })

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const { queued, reply, either, related, stamped } = marks
const FOREIGN = 0x4001

const server = '10.0.0.3' // shop/db
const serverV6 = 'fd00::3'
const outside = '203.0.113.9'
/** A pod that starts: with a route of its own, or in the node's block. */
const starting = '10.0.0.77'
const startingV6 = 'fd00::77'
const inBlock = '10.244.1.9'
const gateway = '10.244.1.1'
/** The server may be asked by what has `app: web`, and nobody may ask others of `app: web`. */
const policy =
  policyLine(
    'shop/db',
    'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]',
  ) + policyLine('shop/web', 'podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]')
const { engine } = worldOf(shop + policy, 'n1').compiled

/** The engine when the pod has become known. */
function knowing(labels: string, ...addresses: readonly string[]): Engine {
  const pods = addresses.map((address, i) => podLine(`shop/new-${i}`, address, labels, 'nodeName: n1'))
  return worldOf(shop + policy + pods.join(''), 'n1').compiled.engine
}

const pods = localPods({
  routed: [starting, startingV6, server].map((text) => parseAddress(text)!),
  blocks: [parseBlock('10.244.1.0/24')!],
  own: [parseAddress(gateway)!],
})

interface Site {
  readonly queue: FakeQueue
  readonly judge: PacketJudge
  readonly held: HeldPackets
  counts(): ReturnType<typeof readCounters>
  /** Puts packets into the queue and has all of them judged. */
  run(...packets: readonly Uint8Array[]): void
  /** What was answered so far: `allow 3`, `deny 3`, `drop`. */
  answers(): readonly string[]
  /** How many decisions were written down. */
  written(): number
}

function site(
  {
    unknownLocal = 'deny',
    hook = HOOK_FORWARD,
    question = 0,
    ...given
  }: Partial<HoldLimits> & {
    unknownLocal?: UnknownLocal
    hook?: number
    question?: number
  } = {},
  deciding = engine,
): Site {
  const limits = { holdMs: 500, capacity: 100, perAddress: 100, isOnce: unknownLocal === 'allow', ...given }
  const queue = new FakeQueue({ capacity: 4, copyBytes: 128, maxLength: 1000 })
  const judge = new PacketJudge(deciding, generation(1), 3, marks, { pods, unknownLocal })
  const counters = createCounters()
  const ring = createFlowRing()
  const flows = new FlowWriter(ring)
  const held = holdPackets(queue, judge, limits, { counters, flows })
  return {
    queue,
    judge,
    held,
    counts() {
      noteHeld(held, counters)
      return readCounters(counters)
    },
    run(...packets) {
      queue.push(
        ...packets.map((bytes) => ({
          bytes,
          family: (bytes[0]! >> 4) as 4 | 6,
          mark: (queued | question | FOREIGN) >>> 0,
          hook,
        })),
      )
      for (let count = queue.receive(0); count > 0; count = queue.receive(0))
        judgeBatch(queue, judge, counters, flows, count, { held })
    },
    answers: () => queue.answers.map(({ mark }) => nameOf(mark)),
    written: () => Atomics.load(ring.cursor, 0),
  }
}

function nameOf(mark: number): string {
  const ours = mark & marks.packetMask
  const stamp = (ours & marks.stampMask) >>> marks.stampShift
  const verdict = ours & ~marks.stampMask
  if ((mark & ~marks.packetMask) !== FOREIGN) return 'lost bits'
  if (verdict === marks.dropped) return stamp === 0 ? 'drop' : 'drop with a stamp'
  if (verdict === marks.allowed) return `allow ${stamp}`
  return verdict === marks.denied ? `deny ${stamp}` : `question ${ours.toString(16)}`
}

/** In ms, as the thread has it. */
const later = () => performance.now() + 501

t.test('a packet whose end nobody knows waits until somebody does, and is decided then', async (t) => {
  for (const [from, to] of [
    [starting, server],
    [startingV6, serverV6],
    [inBlock, server],
  ] as const) {
    const { run, judge, held, answers, counts, queue, written } = site()
    run(tcpPacket(from, to), tcpPacket(outside, server))
    t.same(answers(), ['deny 3'], 'others do not wait')
    t.equal(held.size, 1)
    t.match(counts(), { queued: 2, denied: 1, allowed: 0, held: 1, holding: 1 })
    judge.swap(engine, generation(4), 4)
    held.judgeAgain()
    t.equal(held.size, 1, 'a generation that does not know it either')
    t.equal(written(), 1)
    judge.swap(knowing('app: web', from), generation(5), 5)
    held.judgeAgain()
    t.same(answers(), ['deny 3', 'allow 5'], 'allowed by what selects it')
    t.match(counts(), { queued: 2, denied: 1, allowed: 1, held: 1, holding: 0, unknownDenied: 0, unknownAllowed: 0 })
    t.same(queue.answers.at(-1)?.packet.bytes, tcpPacket(from, to), 'it is the one that was held')
    t.match(queue.counters(), { answerErrors: 0 })
    t.equal(written(), 2, 'each is told of once, when it is decided')
  }
})

t.test('known in time, and denied by what selects it', async (t) => {
  const { run, judge, held, answers } = site()
  run(tcpPacket(outside, starting))
  judge.swap(knowing('app: web', starting), generation(4), 4)
  held.judgeAgain()
  t.same(answers(), ['deny 4'])
})

t.test('when the time is over it is dropped without a word, and teaches nothing', async (t) => {
  const { run, held, answers, counts } = site()
  const before = performance.now()
  run(tcpPacket(starting, server), tcpPacket(outside, starting))
  held.expire(before + 499)
  t.same(answers(), [], 'not before')
  t.ok(held.deadlineMs! >= before + 500 && held.deadlineMs! <= later())
  held.expire(later())
  t.same(answers(), ['drop', 'drop'])
  t.equal(held.deadlineMs, undefined)
  t.match(counts(), { queued: 2, denied: 2, allowed: 0, held: 2, holding: 0, unknownDenied: 2, unknownAllowed: 0 })
})

t.test('where it is allowed then, the other end decides, and nothing is learnt', async (t) => {
  const { run, held, answers, counts } = site({ unknownLocal: 'allow' })
  run(tcpPacket(starting, outside), tcpPacket(outside, starting), tcpPacket(starting, server))
  t.equal(held.size, 3)
  held.expire(later())
  t.same(answers(), ['allow 0', 'allow 0', 'deny 0'], 'the server asks for a label that nobody has seen')
  t.match(counts(), { allowed: 2, denied: 1, unknownAllowed: 2, unknownDenied: 1 })
})

t.test('where it is allowed in the end, an address is waited for once', async (t) => {
  const { run, held, answers, judge } = site({ unknownLocal: 'allow' })
  run(tcpPacket(starting, outside))
  held.expire(later())
  run(tcpPacket(starting, outside), tcpPacket(outside, starting), tcpPacket(startingV6, serverV6))
  t.same([answers(), held.size], [['allow 0', 'allow 0', 'allow 0'], 1], 'others are waited for')
  judge.swap(knowing('app: web', starting), generation(4), 4)
  held.judgeAgain()
  judge.swap(engine, generation(5), 5)
  run(tcpPacket(starting, outside))
  t.equal(held.size, 2, 'who was known and is not any more is waited for again')
  const deny = site()
  deny.run(tcpPacket(starting, outside))
  deny.held.expire(later())
  deny.run(tcpPacket(starting, outside))
  t.equal(deny.held.size, 1, 'where it is denied, each time: it may be known meanwhile')
})

t.test('each packet has its own time', async (t) => {
  const { run, held, answers } = site({ holdMs: 20 })
  run(tcpPacket(starting, server))
  const first = held.deadlineMs!
  while (performance.now() < first - 10);
  run(tcpPacket(startingV6, serverV6))
  held.expire(first)
  t.same(answers(), ['drop'])
  t.ok(held.deadlineMs! > first)
  held.expire(held.deadlineMs!)
  t.same(answers(), ['drop', 'drop'])
})

t.test('without time to wait it is treated at once', async (t) => {
  const deny = site({ holdMs: 0 })
  deny.run(tcpPacket(starting, server), tcpPacket(outside, server))
  t.same(deny.answers(), ['drop', 'deny 3'])
  t.match(deny.counts(), { held: 0, unknownDenied: 1, denied: 2 })
  const allow = site({ holdMs: 0, unknownLocal: 'allow' })
  allow.run(tcpPacket(starting, outside))
  t.same(allow.answers(), ['allow 0'])
})

t.test(
  'one address does not take the room of others, nor those who look for one that of pods that start',
  async (t) => {
    const { run, held, answers, counts } = site({ capacity: 5, perAddress: 2 })
    run(...[1, 2, 3].map(() => tcpPacket(starting, server)))
    t.same(answers(), ['drop'], 'the third one of an address')
    run(...[1, 2, 3].map((i) => tcpPacket(`10.244.1.1${i}`, server)))
    t.equal(held.size, 5)
    run(tcpPacket('10.244.1.20', server))
    t.same(answers(), ['drop', 'drop'], 'there is no more room')
    run(...Array.from({ length: 7 }, (_, i) => tcpPacket(outside, `10.244.1.3${i}`)))
    t.equal(held.size, 10, 'as much for packets to such addresses')
    t.match(counts(), { held: 10, unknownDenied: 4 })
    held.expire(later())
    t.equal(answers().length, 14)
    t.ok(answers().every((answer) => answer === 'drop'))
    run(tcpPacket(starting, server), tcpPacket(starting, server))
    t.equal(held.size, 2, 'what has ended takes no room')
  },
)

t.test('what is exempt does not wait, and what is decided of it is not remembered', async (t) => {
  const cases: readonly [rule: string, hook: number, question: number, packet: Uint8Array, answer: string][] = [
    ['this machine to its pod', HOOK_OUTPUT, 0, tcpPacket(gateway, starting), 'allow 0'],
    ['the pod’s reply', HOOK_INPUT, reply, replyPacket('TCP', starting, gateway), 'allow 0'],
    ['picked up midway', HOOK_INPUT, either, replyPacket('TCP', starting, gateway, 0x10), 'allow 0'],
    ['a pod to itself', HOOK_FORWARD, 0, tcpPacket(starting, starting), 'allow 0'],
    ['this machine’s own address is no pod’s', HOOK_INPUT, 0, tcpPacket(outside, gateway), 'allow 3'],
    ['who is known is known', HOOK_FORWARD, 0, tcpPacket('10.0.0.1', server), 'allow 3'],
  ]
  for (const [rule, hook, question, packet, answer] of cases) {
    const { run, answers } = site({ hook, question })
    run(packet)
    t.same(answers(), [answer], rule)
  }
})

t.test('what waits, by how it lies in its connection', async (t) => {
  const cases: readonly [rule: string, hook: number, question: number, packet: Uint8Array][] = [
    ['the pod to this machine', HOOK_INPUT, 0, tcpPacket(starting, gateway)],
    ['a reply of the pod', HOOK_FORWARD, reply, replyPacket('TCP', starting, outside)],
    ['a reply to the pod', HOOK_FORWARD, reply, replyPacket('UDP', outside, starting)],
    ['picked up midway', HOOK_FORWARD, either, replyPacket('TCP', starting, outside, 0x10)],
    ['sent on by IPVS', HOOK_OUTPUT, marks.forwarded, tcpPacket(outside, starting)],
    ['an error', HOOK_FORWARD, related | reply, errorPacket(outside, udpPacket(outside, starting))],
  ]
  for (const [rule, hook, question, packet] of cases) {
    const { run, held, answers } = site({ hook, question })
    run(packet)
    t.same([held.size, answers()], [1, []], rule)
  }
})

t.test(
  'a connection that was allowed is judged by the policies there are, not ended because its pod’s object is gone',
  async (t) => {
    const { run, answers, held } = site({ question: stamped })
    run(udpPacket(starting, outside), udpPacket(starting, server))
    t.same([held.size, answers()], [0, ['allow 0', 'deny 0']])
  },
)

t.test('a pod whose route is gone is none any more', async (t) => {
  const { run, judge, held, answers } = site()
  run(tcpPacket(outside, starting))
  judge.setLocalPods(localPods({ routed: [], blocks: [], own: [] }))
  held.judgeAgain()
  t.same(answers(), ['allow 3'])
})

t.test('an engine that throws lets nothing pass, also of what was held', async (t) => {
  const { run, judge, held, answers, counts } = site()
  run(tcpPacket(starting, server))
  const broken = () => {
    throw new Error('defect')
  }
  judge.swap({ ...engine, decide: broken, knows: () => true }, generation(4), 4)
  held.judgeAgain()
  t.same(answers(), ['deny 0'])
  t.match(counts(), { queued: 1, failed: 1, holding: 0 })
  t.equal(held.size, 0)
})

t.test('many at once are answered, however many the queue takes in one go', async (t) => {
  const { run, judge, held, answers } = site()
  run(...Array.from({ length: 11 }, () => udpPacket(starting, server)))
  t.equal(held.size, 11)
  judge.swap(knowing('app: web', starting), generation(4), 4)
  held.judgeAgain()
  t.same(answers(), Array(11).fill('allow 4'))
})
