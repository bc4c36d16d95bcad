import t from 'tap'
import {
  DEFAULT_CONNECTION_MASK,
  DEFAULT_PACKET_MASK,
  LAST_STAMP,
  layoutMarks,
  NO_STAMP,
  nextStamp,
  PICKED_UP,
} from '../../src/datapath/marks.ts'

type Case = readonly [
  rule: string,
  packetMask: number,
  connectionMask: number,
  packetBit: number,
  connectionBit: number,
]

const cases: readonly Case[] = [
  ['the defaults', DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK, 24, 28],
  ['the lowest bits', 0x7f, 0xf, 0, 0],
  ['the highest bits', 0xfe000000, 0xf0000000, 25, 28],
  ['of more bits the lowest are taken', 0xffff0000, 0xffffffff, 16, 0],
  ['bits that do not adjoin are left alone', 0x80007f00, 0x800000f0, 8, 4],
]

t.test('layouts', async (t) => {
  for (const [rule, packetMask, connectionMask, packetBit, connectionBit] of cases) {
    const marks = layoutMarks(packetMask, connectionMask)!
    t.equal(marks.packetMask, (0x7f << packetBit) >>> 0, rule)
    t.equal(marks.connectionMask, (0xf << connectionBit) >>> 0, rule)
    t.same([marks.stampShift, marks.connectionShift], [packetBit, connectionBit], rule)
    t.equal((marks.packetMask & packetMask) >>> 0, marks.packetMask, `${rule}: within the mask`)
  }
})

t.test('a mask that is none', async (t) => {
  for (const mask of [
    0,
    -1,
    0x3f,
    0x3f000000,
    0xfc000000,
    0x5f000000,
    2 ** 32,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ]) {
    t.equal(layoutMarks(mask, DEFAULT_CONNECTION_MASK), undefined, `packet mask ${mask}`)
  }
  for (const mask of [0, 0x7, 0xe0000000, 0xb0000000, Number.NaN]) {
    t.equal(layoutMarks(DEFAULT_PACKET_MASK, mask), undefined, `connection mask ${mask}`)
  }
})

t.test('questions and answers cannot be taken for each other', async (t) => {
  for (const mask of [0x7f, DEFAULT_PACKET_MASK, 0xfe000000]) {
    const { packetMask, queued, reply, either, related, allowed, denied, stampMask } = layoutMarks(mask, 0xf)!
    const verdictBits = [queued, allowed, denied]
    const questionBits = [reply, either, related]
    const all = [...verdictBits, ...questionBits]
    t.equal(new Set(all).size, all.length, 'each its own bit')
    for (const bit of all) t.equal((bit & (bit - 1)) >>> 0, 0, 'one bit each')
    t.ok(
      verdictBits.every((bit) => (bit & stampMask) === 0),
      'a stamp never looks like a verdict',
    )
    t.ok(
      questionBits.every((bit) => (bit & stampMask) !== 0),
      'a question needs no bits of its own',
    )
    t.equal(
      all.reduce((sum, bit) => (sum | bit) >>> 0, stampMask),
      packetMask,
      'and there are no others',
    )
  }
})

t.test('stamps are used in turn, and never one that means something else', async (t) => {
  const seen: number[] = []
  for (let stamp = 1, left = LAST_STAMP * 2; left > 0; left--, stamp = nextStamp(stamp)) seen.push(stamp)
  const turn = Array.from({ length: LAST_STAMP }, (_, i) => i + 1)
  t.same(seen, [...turn, ...turn])
  t.notOk(seen.includes(NO_STAMP))
  t.notOk(seen.includes(PICKED_UP))
})

t.test('no question passes for an answer: what nobody answered is not taken for allowed', async (t) => {
  const { queued, reply, either, related, forwarded, stamped, allowed, denied, dropped, audited } = layoutMarks(
    DEFAULT_PACKET_MASK,
    DEFAULT_CONNECTION_MASK,
  )!
  // What the ruleset looks at to tell answers apart.
  const verdict = queued | allowed | denied
  const answers = [allowed, denied, dropped, audited]
  t.equal(new Set(answers).size, answers.length)
  const hints = [reply, either, related, forwarded, stamped]
  for (let chosen = 0; chosen < 1 << hints.length; chosen++) {
    const question = hints.reduce((mark, bit, i) => ((chosen >> i) & 1 ? mark | bit : mark), queued)
    t.notOk(answers.includes((question & verdict) >>> 0), `question 0x${question.toString(16)}`)
  }
})
