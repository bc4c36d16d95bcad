import t from 'tap'
import { createTally, DecisionTally } from '../../src/datapath/decision-tally.ts'
import { createFlowRing, FlowReader, FlowWriter } from '../../src/datapath/flow-ring.ts'
import { outcomes, PacketJudge } from '../../src/datapath/judge.ts'
import {
  DEFAULT_CONNECTION_MASK,
  DEFAULT_PACKET_MASK,
  layoutMarks,
  NO_STAMP,
  PICKED_UP,
} from '../../src/datapath/marks.ts'
import { DecisionTotals } from '../../src/decision-totals.ts'
import { HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import { errorPacket, replyPacket, tcpPacket, udpPacket } from '../fixtures/kernel-packets.ts'
import { shop } from '../fixtures/shop.ts'
import { hostLine, podLine, policyLine, type World, worldOf } from '../fixtures/world.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const { queued, reply, either, related, forwarded } = marks
const STAMP = 7
const generation = { number: 1, hasAudited: false }
/** Bits of a mark that are others'. */
const FOREIGN = 0x80ff4001

const client = '10.0.0.2' // shop/api
const server = '10.0.0.3' // shop/db
const stranger = '203.0.113.9'

/** The client may reach the server on its port, and the server nobody: no connection that it begins is allowed. */
const world = worldOf(
  shop +
    policyLine(
      'shop/db',
      'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}, {port: 5432, protocol: UDP}]}], policyTypes: [Ingress, Egress]',
    ),
  'n1',
)

function judge(packetBytes: Uint8Array, question: number, hook = HOOK_FORWARD, { compiled }: World = world): string {
  const family = packetBytes[0]! >> 4
  const judging = new PacketJudge(compiled.engine, generation, STAMP, marks)
  const mark = queued | question | FOREIGN | 0
  const answer = judging.judge(packetBytes, 0, packetBytes.length, packetBytes.length, family, hook, mark) >>> 0
  if ((answer & ~marks.packetMask) >>> 0 !== FOREIGN) return `lost bits: ${answer.toString(16)}`
  const ours = (answer & marks.packetMask) >>> 0
  const stamp = (ours & marks.stampMask) >>> marks.stampShift
  const verdict = (ours & ~marks.stampMask) >>> 0
  if (verdict === marks.allowed && judging.outcome === outcomes.ALLOWED) return `allow ${stamp}`
  // A denial that was decided carries the stamp of its generation; nothing may be learnt of what could not be.
  if (verdict === marks.denied && judging.outcome === outcomes.DENIED && stamp === STAMP) return 'deny'
  if (verdict === marks.denied && judging.outcome === outcomes.UNREADABLE && stamp === NO_STAMP) return 'unreadable'
  return `no answer: ${answer.toString(16)}`
}

type Case = readonly [rule: string, packetBytes: Uint8Array, question: number, expected: string]

const quotedByServer = replyPacket('UDP', server, client)
const cases: readonly Case[] = [
  ['the first packet', tcpPacket(client, server), 0, `allow ${STAMP}`],
  ['the first packet of what is denied', tcpPacket(stranger, server), 0, 'deny'],
  ['a later packet in the same direction', tcpPacket(client, server, 0x10), 0, `allow ${STAMP}`],
  ['a connection that the server begins', udpPacket(server, client), 0, 'deny'],

  ['a reply is judged by what it answers', replyPacket('TCP', server, client), reply, `allow ${STAMP}`],
  ['also where the connection is denied by now', replyPacket('TCP', server, stranger), reply, 'deny'],
  ['a packet that only looks like a reply is none', replyPacket('TCP', server, client), 0, 'deny'],

  [
    'an error to the client quotes the client’s packet',
    errorPacket(client, udpPacket(client, server)),
    reply | related,
    `allow ${NO_STAMP}`,
  ],
  ['an error to the server quotes a reply', errorPacket(server, quotedByServer), related, `allow ${NO_STAMP}`],
  ['an error about what is denied', errorPacket(stranger, udpPacket(stranger, server)), reply | related, 'deny'],
  ['and to the server', errorPacket(server, replyPacket('UDP', server, stranger)), related, 'deny'],
  [
    '8 bytes of the quoted segment are enough',
    errorPacket(client, tcpPacket(client, server).subarray(0, 28)),
    reply | related,
    `allow ${NO_STAMP}`,
  ],
  [
    'an error that quotes too little',
    errorPacket(client, tcpPacket(client, server).subarray(0, 27)),
    reply | related,
    'unreadable',
  ],
  ['related, and no error', udpPacket(client, server), related, 'unreadable'],
  [
    'related and either: the quoted packet counts',
    errorPacket(client, udpPacket(client, server)),
    reply | related | either,
    `allow ${NO_STAMP}`,
  ],

  ['picked up midway, as it lies', tcpPacket(client, server, 0x10), either, `allow ${STAMP}`],
  ['picked up midway, the other way round', replyPacket('TCP', server, client, 0x10), either, `allow ${PICKED_UP}`],
  ['picked up midway, in the reply direction', tcpPacket(client, server, 0x10), either | reply, `allow ${PICKED_UP}`],
  [
    'picked up midway, the other way round in the reply direction',
    replyPacket('TCP', server, client, 0x10),
    either | reply,
    `allow ${PICKED_UP}`,
  ],
  ['picked up midway, denied both ways', tcpPacket(stranger, server, 0x10), either, 'deny'],
  ['a bare SYN says who begins', replyPacket('TCP', server, client, 2), either, 'deny'],
  ['with ECN bits too', replyPacket('TCP', server, client, 0xc2), either, 'deny'],
  ['a SYN with ACK does not', replyPacket('TCP', server, client, 0x12), either, `allow ${PICKED_UP}`],
  ['a bare SYN that is allowed', tcpPacket(client, server, 2), either, `allow ${STAMP}`],
  ['UDP says nothing of who begins', replyPacket('UDP', server, client), either, `allow ${PICKED_UP}`],

  ['bytes that are no packet', Uint8Array.of(0x45, 0, 0), 0, 'unreadable'],
  ['a fragment', withFragmentOffset(udpPacket(client, server)), 0, 'unreadable'],
]

t.test('every question', async (t) => {
  for (const [rule, packetBytes, question, expected] of cases) t.equal(judge(packetBytes, question), expected, rule)
})

t.test('the hook of a reply is that of the packet which it answers', async (t) => {
  const locked = worldOf(shop + policyLine('shop/deny', 'podSelector: {}, policyTypes: [Ingress, Egress]'), 'n1')
  const host = '172.17.0.1'
  const hooked: readonly [rule: string, packetBytes: Uint8Array, question: number, hook: number, expected: string][] = [
    ['node to its pod', tcpPacket(host, server), 0, HOOK_OUTPUT, `allow ${STAMP}`],
    ['the pod’s reply', replyPacket('TCP', server, host), reply, HOOK_INPUT, `allow ${STAMP}`],
    ['pod to its node', tcpPacket(server, host), 0, HOOK_INPUT, `allow ${STAMP}`],
    ['the node’s reply', replyPacket('TCP', host, server), reply, HOOK_OUTPUT, `allow ${STAMP}`],
    ['forwarded with an address of the node', tcpPacket(host, server), 0, HOOK_FORWARD, 'deny'],
    ['its reply', replyPacket('TCP', server, host), reply, HOOK_FORWARD, 'deny'],
    [
      'an error of the node about what its pod sent',
      errorPacket(server, udpPacket(server, host)),
      reply | related,
      HOOK_OUTPUT,
      `allow ${NO_STAMP}`,
    ],
    [
      'an error to the node about what it sent',
      errorPacket(host, udpPacket(host, server)),
      reply | related,
      HOOK_INPUT,
      `allow ${NO_STAMP}`,
    ],
    ['picked up midway', replyPacket('TCP', server, host, 0x10), either, HOOK_INPUT, `allow ${STAMP}`],
    ['picked up midway, forwarded', replyPacket('TCP', server, host, 0x10), either, HOOK_FORWARD, 'deny'],
  ]
  for (const [rule, packetBytes, question, hook, expected] of hooked) {
    t.equal(judge(packetBytes, question, hook, locked), expected, rule)
  }
})

const host = '192.0.2.1'
const container = '172.17.0.2'
/** This machine, a pod on it and containers behind it: it may be asked on its port, and it and the pod may ask nobody. */
const hostWorld = worldOf(
  hostLine('edge/host', 'role: host', `node: n1, addresses: [${host}], forwards: [172.17.0.0/16]`) +
    podLine('edge/pod', '10.0.0.3', 'role: pod', 'nodeName: n1') +
    policyLine(
      'edge/p',
      `podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: ${stranger}/32}}]}]`,
    ),
  'n1',
)
const friend = stranger
const enemy = '198.51.100.7'

t.test('what is this machine’s own, and what only passes its output', async (t) => {
  const pod = '10.0.0.3'
  const hooked: readonly [rule: string, packetBytes: Uint8Array, question: number, hook: number, expected: string][] = [
    ['to this machine', tcpPacket(friend, host), 0, HOOK_INPUT, `allow ${STAMP}`],
    ['whatever its address', tcpPacket(friend, '198.51.100.50'), 0, HOOK_INPUT, `allow ${STAMP}`],
    ['to this machine, denied', tcpPacket(enemy, host), 0, HOOK_INPUT, 'deny'],
    ['its reply', replyPacket('TCP', host, friend), reply, HOOK_OUTPUT, `allow ${STAMP}`],
    [
      'its reply from whatever address',
      replyPacket('TCP', '198.51.100.50', friend),
      reply,
      HOOK_OUTPUT,
      `allow ${STAMP}`,
    ],
    ['its reply to what is denied by now', replyPacket('TCP', host, enemy), reply, HOOK_OUTPUT, 'deny'],
    ['what it begins', tcpPacket(host, friend), 0, HOOK_OUTPUT, 'deny'],
    ['the reply to that', replyPacket('TCP', friend, host), reply, HOOK_INPUT, 'deny'],
    [
      'picked up midway at output: the other way round',
      replyPacket('TCP', host, friend, 0x10),
      either,
      HOOK_OUTPUT,
      `allow ${PICKED_UP}`,
    ],

    ['this machine to its pod', tcpPacket(enemy, pod), 0, HOOK_OUTPUT, `allow ${STAMP}`],
    ['sent on by IPVS to the pod', tcpPacket(enemy, pod), forwarded, HOOK_OUTPUT, 'deny'],
    ['sent on by IPVS, allowed', tcpPacket(friend, pod), forwarded, HOOK_OUTPUT, `allow ${STAMP}`],
    ['what IPVS sends on is the client’s', tcpPacket(friend, pod), forwarded | either, HOOK_OUTPUT, `allow ${STAMP}`],
    ['in no other orientation', replyPacket('TCP', pod, friend, 0x10), forwarded | either, HOOK_OUTPUT, 'deny'],
    ['a reply that passes output', replyPacket('TCP', pod, friend), forwarded | reply, HOOK_OUTPUT, `allow ${STAMP}`],
    ['a reply to what is denied', replyPacket('TCP', pod, enemy), forwarded | reply, HOOK_OUTPUT, 'deny'],

    ['to a container', tcpPacket(friend, container), 0, HOOK_FORWARD, `allow ${STAMP}`],
    ['to a container, denied', tcpPacket(enemy, container), 0, HOOK_FORWARD, 'deny'],
    ['its reply', replyPacket('TCP', container, friend), reply, HOOK_FORWARD, `allow ${STAMP}`],
    ['its reply to what is denied', replyPacket('TCP', container, enemy), reply, HOOK_FORWARD, 'deny'],
  ]
  for (const [rule, packetBytes, question, hook, expected] of hooked) {
    t.equal(judge(packetBytes, question, hook, hostWorld), expected, rule)
  }
})

t.test('errors that this machine reports or hears', async (t) => {
  const about = (client: string, server: string) => udpPacket(client, server)
  const hooked: readonly [rule: string, packetBytes: Uint8Array, question: number, hook: number, expected: string][] = [
    [
      'it reports what it was sent',
      errorPacket(friend, about(friend, host)),
      reply | related,
      HOOK_OUTPUT,
      `allow ${NO_STAMP}`,
    ],
    ['not to whom it may not serve', errorPacket(enemy, about(enemy, host)), reply | related, HOOK_OUTPUT, 'deny'],
    [
      'it reports what it forwards to a container',
      errorPacket(friend, about(friend, container)),
      reply | related,
      HOOK_OUTPUT,
      `allow ${NO_STAMP}`,
    ],
    [
      'it reports what it forwards for others',
      errorPacket(enemy, about(enemy, '198.51.100.99')),
      related | reply,
      HOOK_OUTPUT,
      `allow ${NO_STAMP}`,
    ],
    [
      'to the server it quotes the reply',
      errorPacket(container, replyPacket('UDP', container, friend)),
      related,
      HOOK_OUTPUT,
      `allow ${NO_STAMP}`,
    ],
    [
      'it hears of its own replies',
      errorPacket(host, replyPacket('UDP', host, friend)),
      related,
      HOOK_INPUT,
      `allow ${NO_STAMP}`,
    ],
    ['not of what it may not send', errorPacket(host, about(host, enemy)), reply | related, HOOK_INPUT, 'deny'],
    [
      'at input what it forwards is no excuse',
      errorPacket(host, about(enemy, '198.51.100.99')),
      related,
      HOOK_INPUT,
      'deny',
    ],
  ]
  for (const [rule, packetBytes, question, hook, expected] of hooked) {
    t.equal(judge(packetBytes, question, hook, hostWorld), expected, rule)
  }
})

t.test('IPv6', async (t) => {
  const v6 = worldOf(
    shop +
      policyLine(
        'shop/db',
        "podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: '2001:db8::/64'}}]}]",
      ),
    'n1',
  )
  const friend = '2001:db8::9'
  t.equal(judge(tcpPacket(friend, 'fd00::3'), 0, HOOK_FORWARD, v6), `allow ${STAMP}`)
  t.equal(judge(tcpPacket('2001:db8:1::9', 'fd00::3'), 0, HOOK_FORWARD, v6), 'deny')
  t.equal(
    judge(errorPacket(friend, udpPacket(friend, 'fd00::3')), reply | related, HOOK_FORWARD, v6),
    `allow ${NO_STAMP}`,
  )
})

t.test('a swap holds from the next packet on, with the stamp of its generation', async (t) => {
  const judging = new PacketJudge(world.compiled.engine, generation, STAMP, marks)
  const bytes = tcpPacket(client, server)
  const ask = () => judging.judge(bytes, 0, bytes.length, bytes.length, 4, HOOK_FORWARD, queued) >>> 0
  t.equal(ask(), (marks.allowed | (STAMP << marks.stampShift)) >>> 0)
  const locked = worldOf(shop + policyLine('shop/deny', 'podSelector: {}'), 'n1')
  judging.swap(locked.compiled.engine, generation, 8)
  t.equal(ask(), (marks.denied | (8 << marks.stampShift)) >>> 0)
  judging.swap(worldOf(shop, 'n1').compiled.engine, generation, 9)
  t.equal(ask(), (marks.allowed | (9 << marks.stampShift)) >>> 0)
})

/** What is answered to a connection of the stranger or of the client, and what is written down of it. */
function judgeAudited(of: World, mode: 'enforce' | 'audit', bytes: Uint8Array, question = 0) {
  const audited = { number: 1, hasAudited: of.compiled.generation.hasAudited }
  const judging = new PacketJudge(of.compiled.engine, audited, STAMP, marks, { mode })
  const ring = createFlowRing()
  const reader = new FlowReader(ring)
  const flows = new FlowWriter(ring)
  const answer = judging.judge(bytes, 0, bytes.length, bytes.length, 4, HOOK_FORWARD, queued | question) >>> 0
  const hasPassed = judging.record(flows, judging.outcome)
  flows.publish()
  const [record] = reader.read(1)
  const verdict = (answer & ~marks.stampMask) >>> 0
  const name =
    verdict === marks.allowed
      ? 'allow'
      : verdict === marks.denied
        ? 'deny'
        : verdict === marks.audited
          ? 'audit'
          : `${verdict}`
  return {
    answer: `${name} ${(answer & marks.stampMask) >>> marks.stampShift}`,
    outcome: record!.outcome,
    isAudited: record!.isAudited,
    hasPassed,
  }
}

t.test('under audit everything passes, and what would be denied is told', async (t) => {
  const { ALLOWED, UNREADABLE } = outcomes
  const answer = (bytes: Uint8Array, question = 0) => judgeAudited(world, 'audit', bytes, question)
  const passes = { answer: `allow ${STAMP}`, outcome: ALLOWED, isAudited: false, hasPassed: false }
  t.same(answer(tcpPacket(client, server)), passes)
  const would = { answer: `audit ${STAMP}`, outcome: ALLOWED, isAudited: true, hasPassed: true }
  t.same(answer(tcpPacket(stranger, server)), would, 'its connection is known from now on')
  t.same(answer(replyPacket('TCP', server, stranger), reply), would)
  t.same(answer(tcpPacket(stranger, server, 0x10), either), would)
  const unstamped = { ...would, answer: `audit ${NO_STAMP}` }
  t.same(answer(errorPacket(stranger, udpPacket(stranger, server)), reply | related), unstamped)
  t.same(answer(tcpPacket(client, server).subarray(0, 10)), { ...unstamped, outcome: UNREADABLE })
  const judging = new PacketJudge(world.compiled.engine, generation, STAMP, marks, { mode: 'audit' })
  t.equal(judging.denial(queued | FOREIGN) >>> 0, (FOREIGN | marks.audited) >>> 0)
})

t.test('audited policies change no answer, and nothing is learnt where they would', async (t) => {
  const audit = (spec: string) =>
    worldOf(
      shop + policyLine('shop/db', spec).replace('metadata: {', 'metadata: {annotations: {knp.dev/mode: audit}, '),
      'n1',
    )
  const strict = audit('podSelector: {matchLabels: {app: db}}, ingress: []')
  t.equal(strict.compiled.generation.hasAudited, true)
  t.same(judgeAudited(strict, 'enforce', tcpPacket(client, server)), {
    answer: `audit ${STAMP}`,
    outcome: outcomes.ALLOWED,
    isAudited: true,
    hasPassed: true,
  })
  const untouched = { answer: `allow ${STAMP}`, outcome: outcomes.ALLOWED, isAudited: false, hasPassed: false }
  t.same(judgeAudited(strict, 'enforce', tcpPacket(server, client)), untouched, 'others are as ever')
  t.same(
    judgeAudited(strict, 'audit', tcpPacket(client, server)).answer,
    `audit ${STAMP}`,
    'under audit it is one of all',
  )
  const lenient = worldOf(
    shop +
      policyLine('shop/closed', 'podSelector: {matchLabels: {app: db}}, ingress: []') +
      policyLine('shop/open', 'podSelector: {matchLabels: {app: db}}, ingress: [{}]').replace(
        'metadata: {',
        'metadata: {annotations: {knp.dev/mode: audit}, ',
      ),
    'n1',
  )
  t.same(
    judgeAudited(lenient, 'enforce', tcpPacket(client, server)),
    { answer: `deny ${NO_STAMP}`, outcome: outcomes.DENIED, isAudited: true, hasPassed: false },
    'what would be allowed is denied, and asked about again',
  )
})

t.test('a denial keeps what is others’, clears the question, and teaches nothing', async (t) => {
  const judging = new PacketJudge(world.compiled.engine, generation, STAMP, marks)
  t.equal(judging.denial(queued | reply | either | forwarded | FOREIGN | 0) >>> 0, (FOREIGN | marks.denied) >>> 0)
})

function withFragmentOffset(packetBytes: Uint8Array): Uint8Array {
  const changed = Uint8Array.from(packetBytes)
  changed[7] = 1
  return changed
}

t.test('what is decided is counted once, as what the packet got', async (t) => {
  const { engine, policyNames, generation } = world.compiled
  const { policyCounts } = generation
  const counted = (packetBytes: Uint8Array, question: number): string[] => {
    const words = createTally(policyCounts)
    const judging = new PacketJudge(engine, generation, STAMP, marks)
    judging.setTally(new DecisionTally(words, policyCounts))
    const family = packetBytes[0]! >> 4
    judging.judge(packetBytes, 0, packetBytes.length, packetBytes.length, family, HOOK_FORWARD, queued | question)
    const totals = new DecisionTotals(engine.evaluators.map(({ name }) => name))
    return totals
      .read([words], policyNames)
      .tiers.flatMap(({ direction, tier, verdict, count }) =>
        count > 0 ? [`${count} ${direction} ${tier} ${verdict}`] : [],
      )
  }
  t.same(counted(tcpPacket(client, server), 0), ['1 ingress NetworkPolicy allow'])
  t.same(counted(tcpPacket(stranger, server), 0), ['1 ingress NetworkPolicy deny'])
  t.same(counted(udpPacket(server, client), 0), ['1 egress NetworkPolicy deny'])
  t.same(counted(tcpPacket(client, stranger), 0), ['1 none Default allow'])
  t.same(
    counted(replyPacket('UDP', server, client), either),
    ['1 ingress NetworkPolicy allow'],
    'denied as it stands, allowed the other way round',
  )
  t.same(counted(tcpPacket(client, server).subarray(0, 30), 0), [], 'nothing was decided')
})
