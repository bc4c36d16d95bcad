import t from 'tap'
import { type Packet, PacketDecoder, packetProblems } from '../../src/engine/packet.ts'
import { packetFixtures } from '../fixtures/packet-fixtures.ts'
import { concat, filled, icmp, ipv4, ipv6, PROTOCOL, udp } from '../fixtures/packets.ts'
import { type Random, seededRandom } from '../fixtures/random.ts'

const MUTATIONS = 4000
const MARGIN = 64
const known = new Set<number>(Object.values(packetProblems))

const subjects = [
  ...packetFixtures,
  { name: 'IPv4 error', family: 4 as const, bytes: ipv4(PROTOCOL.ICMP, icmp(11, 0, ipv4(PROTOCOL.UDP, udp()))) },
  { name: 'IPv6 error', family: 6 as const, bytes: ipv6(PROTOCOL.ICMPV6, icmp(3, 0, ipv6(PROTOCOL.UDP, udp()))) },
]

/** What a decoder answers, with the packet where there is one, and the quoted one. */
function outcome(
  decoder: PacketDecoder,
  bytes: Uint8Array,
  start: number,
  captured: number,
  length: number,
  family: number,
) {
  const problem = decoder.decode(bytes, start, captured, length, family)
  const first = [problem, ...(problem === packetProblems.NONE ? fieldsOf(decoder) : [])]
  const quoted = decoder.decodeQuoted(bytes)
  return [...first, quoted, ...(quoted === packetProblems.NONE ? fieldsOf(decoder) : [])]
}

function fieldsOf({ family, protocol, source, destination, icmpType, icmpCode, tcpFlags }: Packet): number[] {
  const ends = [source, destination].flatMap(({ w0, w1, w2, w3, port }) => [w0, w1, w2, w3, port])
  return [family, protocol, ...ends, icmpType, icmpCode, tcpFlags]
}

/** The packet between bytes that are no part of it. */
function between(packet: Uint8Array, value: number): Uint8Array {
  return concat(filled(MARGIN, value), packet, filled(MARGIN, value))
}

function mutated(original: Uint8Array, random: Random): Uint8Array {
  const changed = Uint8Array.from(original)
  for (let left = 1 + random.below(5); left > 0; left--) {
    const value = random.pick([0, 1, 0xff, 0x80, 6, 17, 43, 44, 51, 60, random.below(256)])
    changed[random.below(random.oneIn(2) ? Math.min(48, changed.length) : changed.length)] = value
  }
  return changed
}

t.test('whatever the bytes, there is an answer, and it depends on no byte outside the packet', async (t) => {
  for (const [index, { name, family, bytes: original }] of subjects.entries()) {
    const random = seededRandom(index)
    const decoder = new PacketDecoder()
    const answers = new Set<number>()
    let differing = 0
    for (let round = 0; round < MUTATIONS; round++) {
      const packet = mutated(original, random)
      const captured = random.oneIn(2) ? packet.length : random.below(packet.length + 1)
      const length = random.pick([captured, packet.length, packet.length + random.below(70000)])
      const [clear, set] = [0, 0xff].map((value) => {
        const answer = outcome(decoder, between(packet.subarray(0, captured), value), MARGIN, captured, length, family)
        return answer.join()
      })
      if (clear !== set) differing++
      answers.add(Number(clear!.split(',')[0]))
    }
    t.equal(differing, 0, `${name}: the same between zeros and ones`)
    t.ok(
      [...answers].every((problem) => known.has(problem)),
      `${name}: a packet or a known problem`,
    )
    t.ok(answers.size >= 3, `${name}: the mutations lead to packets and problems`)
  }
})

t.test('bytes at random', async (t) => {
  const random = seededRandom(99)
  const decoder = new PacketDecoder()
  const unknown = Array.from({ length: 50_000 }, (_, round) => {
    const family = round % 2 === 0 ? 4 : 6
    const packet = Uint8Array.from({ length: random.below(120) }, () => random.below(256))
    if (packet.length > 0 && !random.oneIn(8)) packet[0] = (family << 4) | 5
    return outcome(decoder, packet, 0, packet.length, packet.length + random.below(3), family)[0]!
  }).filter((problem) => !known.has(problem))
  t.same(unknown, [])
})

t.test('nothing of an earlier packet remains', async (t) => {
  const random = seededRandom(7)
  for (const { name, family, bytes } of subjects) {
    const afresh = outcome(new PacketDecoder(), bytes, 0, bytes.length, bytes.length, family).join()
    const decoder = new PacketDecoder()
    let differing = 0
    for (const earlier of subjects) {
      for (const before of [earlier.bytes, mutated(earlier.bytes, random)]) {
        decoder.decode(before, 0, before.length, before.length, earlier.family)
        if (random.oneIn(2)) decoder.decodeQuoted(before)
        if (random.oneIn(2)) decoder.reverse()
        if (outcome(decoder, bytes, 0, bytes.length, bytes.length, family).join() !== afresh) differing++
      }
    }
    t.equal(differing, 0, name)
  }
})
