import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import {
  isIcmpError,
  isNeverJudged,
  type Packet,
  PacketDecoder,
  type PacketProblem,
  packetProblems,
} from '../../src/engine/packet.ts'
import { type PacketFixture, packetFixtures } from '../fixtures/packet-fixtures.ts'
import {
  authentication,
  bytes,
  ends,
  extension,
  filled,
  fragment,
  icmp,
  ipv4,
  ipv6,
  PROTOCOL,
  routing,
  tcp,
  udp,
} from '../fixtures/packets.ts'
import { packet } from '../fixtures/world.ts'

const { NONE, MALFORMED, TRUNCATED, FRAGMENT, ROUTED, MAPPED, FAMILY } = packetProblems
const { ICMP, TCP, UDP, ICMPV6 } = PROTOCOL

/** Decodes a packet of which all or the first `captured` bytes are there. */
function decode(
  family: number,
  packetBytes: Uint8Array,
  captured = packetBytes.length,
): [PacketProblem, PacketDecoder] {
  const decoder = new PacketDecoder()
  return [decoder.decode(packetBytes, 0, captured, packetBytes.length, family), decoder]
}

function summary({ family, protocol, source, destination, icmpType, icmpCode, tcpFlags }: Packet): object {
  return {
    family,
    protocol,
    source: `${formatAddress(source)} ${source.port}`,
    destination: `${formatAddress(destination)} ${destination.port}`,
    icmpType,
    icmpCode,
    tcpFlags,
  }
}

function expected({ family, decoded }: PacketFixture): object {
  const { protocol, sourcePort = 0, destinationPort = 0, icmpType = 0, icmpCode = 0, tcpFlags = 0 } = decoded
  const { source, destination } = ends[family]
  return {
    family,
    protocol,
    source: `${source} ${sourcePort}`,
    destination: `${destination} ${destinationPort}`,
    icmpType,
    icmpCode,
    tcpFlags,
  }
}

t.test('every kind of packet is decoded', async (t) => {
  for (const fixture of packetFixtures) {
    const [problem, decoder] = decode(fixture.family, fixture.bytes)
    t.equal(problem, NONE, fixture.name)
    t.same(summary(decoder), expected(fixture), `${fixture.name}: its fields`)
  }
})

t.test('a packet that the kernel cut is TRUNCATED until its headers are there', async (t) => {
  for (const { name, family, bytes: whole, headerBytes } of packetFixtures) {
    const problems = Array.from({ length: whole.length }, (_, captured) => decode(family, whole, captured)[0])
    const wanted = problems.map((_, captured) => (captured < headerBytes ? TRUNCATED : NONE))
    t.same(problems, wanted, name)
  }
})

t.test('a packet that ends before its header says so is MALFORMED', async (t) => {
  for (const { name, family, bytes: whole, leastBytes = Infinity } of packetFixtures) {
    const problems = Array.from({ length: whole.length }, (_, size) => decode(family, whole.subarray(0, size))[0])
    const wanted = problems.map((_, size) => (size >= leastBytes ? NONE : MALFORMED))
    t.same(problems, wanted, name)
  }
})

type Case = readonly [rule: string, family: number, packetBytes: Uint8Array, problem: PacketProblem]

const cases: readonly Case[] = [
  ['nothing is no packet', 4, bytes(), MALFORMED],
  ['a family that is neither', 0, ipv4(TCP, tcp()), FAMILY],
  ['IPv6 bytes in an IPv4 packet', 4, ipv6(TCP, tcp()), MALFORMED],
  ['IPv4 bytes in an IPv6 packet', 6, ipv4(TCP, tcp(), { options: filled(20, 1) }), MALFORMED],
  ['an IPv4 header of 16 bytes', 4, withByte(ipv4(TCP, tcp()), 0, 0x44), MALFORMED],
  ['an IPv4 header longer than the packet', 4, withByte(ipv4(59, filled(8, 0)), 0, 0x4f), MALFORMED],
  ['a total length below the header', 4, ipv4(TCP, tcp(), { totalBytes: 19 }), MALFORMED],
  ['a total length above the packet', 4, ipv4(TCP, tcp(), { totalBytes: 57 }), MALFORMED],
  ['a total length that ends inside TCP', 4, ipv4(TCP, tcp(), { totalBytes: 39 }), MALFORMED],
  ['bytes behind the total length are padding', 4, ipv4(UDP, udp(), { totalBytes: 28 }), NONE],
  ['a later IPv4 fragment', 4, ipv4(UDP, udp(), { fragment: 0x2001 }), FRAGMENT],
  ['the last IPv4 fragment', 4, ipv4(UDP, udp(), { fragment: 0x00b9 }), FRAGMENT],
  ['a first fragment that ends inside TCP', 4, ipv4(TCP, tcp().subarray(0, 16), { fragment: 0x2000 }), MALFORMED],
  ['a TCP header of 16 bytes', 4, ipv4(TCP, withByte(tcp(), 12, 0x40)), MALFORMED],
  ['a TCP header longer than the packet', 4, ipv4(TCP, withByte(tcp(), 12, 0xf0)), MALFORMED],
  ['ICMPv6 in IPv4', 4, ipv4(ICMPV6, icmp(128, 0)), MALFORMED],
  ['ICMP in IPv6', 6, ipv6(ICMP, icmp(8, 0)), MALFORMED],
  ['a payload length above the packet', 6, ipv6(TCP, tcp(), { payloadBytes: 37 }), MALFORMED],
  [
    'a payload length that ends inside an extension header',
    6,
    ipv6(60, extension(UDP, udp(), 16), { payloadBytes: 12 }),
    MALFORMED,
  ],
  ['a later IPv6 fragment', 6, ipv6(44, fragment(UDP, 8, true, udp())), FRAGMENT],
  ['the last IPv6 fragment', 6, ipv6(44, fragment(UDP, 1480, false, udp())), FRAGMENT],
  ['a later fragment behind other headers', 6, ipv6(0, extension(44, fragment(UDP, 8, false, udp()))), FRAGMENT],
  ['a routing header with segments left', 6, ipv6(43, routing(UDP, 1, udp())), ROUTED],
  ['hop-by-hop options not directly behind the header', 6, ipv6(60, extension(0, extension(TCP, tcp()))), MALFORMED],
  ['an extension header longer than the packet', 6, ipv6(60, withByte(extension(UDP, udp()), 1, 9)), MALFORMED],
  ['an AH longer than the packet', 6, ipv6(51, withByte(authentication(UDP, udp()), 1, 90)), MALFORMED],
  ['a v4-mapped source in IPv6', 6, ipv6(TCP, tcp(), { source: '::ffff:10.1.0.5' }), MAPPED],
  ['a v4-mapped destination in IPv6', 6, ipv6(TCP, tcp(), { destination: '::ffff:10.2.0.9' }), MAPPED],
]

t.test('problems', async (t) => {
  for (const [rule, family, packetBytes, problem] of cases) t.equal(decode(family, packetBytes)[0], problem, rule)
})

t.test('a place outside the bytes is MALFORMED', async (t) => {
  const whole = ipv4(TCP, tcp())
  const places: readonly [rule: string, start: number, captured: number, length: number][] = [
    ['a start before them', -1, 40, 40],
    ['a negative number of bytes', 0, -1, 40],
    ['more than there are', 0, whole.length + 1, whole.length + 1],
    ['an end behind them', 20, whole.length, whole.length],
    ['more captured than the packet had', 0, whole.length, whole.length - 1],
  ]
  for (const [rule, start, captured, length] of places) {
    t.equal(new PacketDecoder().decode(whole, start, captured, length, 4), MALFORMED, rule)
  }
})

t.test('reversed, a packet is the one that it answers', async (t) => {
  const [, decoder] = decode(4, ipv4(UDP, udp()))
  decoder.reverse()
  t.same(
    [formatAddress(decoder.source), decoder.source.port, formatAddress(decoder.destination), decoder.destination.port],
    ['10.2.0.9', 5432, '10.1.0.5', 40001],
  )
})

t.test('what is never judged: neighbour discovery, MLD and path-MTU errors only', async (t) => {
  const judged = (protocol: number, code: number) =>
    Array.from({ length: 256 }, (_, icmpType) => icmpType).filter((icmpType) =>
      isNeverJudged(packet({ protocol, icmpType, icmpCode: code })),
    )
  t.same(judged(ICMPV6, 0), [2, 130, 131, 132, 133, 134, 135, 136, 137, 143])
  t.same(judged(ICMP, 4), [3])
  t.same(judged(ICMP, 1), [])
  t.same(judged(TCP, 4), [])
})

t.test('ICMP errors are those that quote a packet', async (t) => {
  const types = Array.from({ length: 256 }, (_, type) => type)
  t.same(
    types.filter((type) => isIcmpError(ICMP, type)),
    [3, 4, 5, 11, 12],
  )
  t.same(
    types.filter((type) => isIcmpError(ICMPV6, type)),
    types.slice(0, 128),
  )
  t.notOk(isIcmpError(TCP, 3))
})

function withByte(original: Uint8Array, at: number, value: number): Uint8Array {
  const changed = Uint8Array.from(original)
  changed[at] = value
  return changed
}
