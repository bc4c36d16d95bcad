import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import { PacketDecoder, type PacketProblem, packetProblems } from '../../src/engine/packet.ts'
import { packetFixtures } from '../fixtures/packet-fixtures.ts'
import {
  authentication,
  bytes,
  extension,
  fragment,
  icmp,
  ipv4,
  ipv6,
  PROTOCOL,
  routing,
  sctp,
  tcp,
  udp,
} from '../fixtures/packets.ts'

const { NONE, MALFORMED, TRUNCATED, FRAGMENT, ROUTED, MAPPED } = packetProblems
const { ICMP, TCP, UDP, ICMPV6, SCTP } = PROTOCOL

/** An ICMP error in each family, from a router to the client of the fixtures. */
const error = {
  4: (quoted: Uint8Array, type = 3, code = 1) =>
    ipv4(ICMP, icmp(type, code, quoted), { source: '10.9.9.9', destination: '10.1.0.5' }),
  6: (quoted: Uint8Array, type = 1, code = 4) =>
    ipv6(ICMPV6, icmp(type, code, quoted), { source: 'fd00:9::9', destination: 'fd00:1::5' }),
}

function decodeQuoted(family: 4 | 6, whole: Uint8Array, captured = whole.length): [PacketProblem, PacketDecoder] {
  const decoder = new PacketDecoder()
  const problem = decoder.decode(whole, 0, captured, whole.length, family)
  return [problem === NONE ? decoder.decodeQuoted(whole) : problem, decoder]
}

type Case = readonly [rule: string, family: 4 | 6, whole: Uint8Array, problem: PacketProblem]

const cases: readonly Case[] = [
  ['UDP in IPv4', 4, error[4](ipv4(UDP, udp())), NONE],
  ['the first 8 bytes of TCP are enough', 4, error[4](ipv4(TCP, tcp()).subarray(0, 28)), NONE],
  ['7 bytes of TCP are not', 4, error[4](ipv4(TCP, tcp()).subarray(0, 27)), TRUNCATED],
  ['an IPv4 header alone', 4, error[4](ipv4(TCP, tcp()).subarray(0, 20)), TRUNCATED],
  ['less than an IPv4 header', 4, error[4](ipv4(TCP, tcp()).subarray(0, 19)), TRUNCATED],
  ['SCTP', 4, error[4](ipv4(SCTP, sctp())), NONE],
  ['a later fragment', 4, error[4](ipv4(UDP, udp(), { fragment: 0x2001 })), FRAGMENT],
  ['nothing', 4, error[4](bytes()), MALFORMED],
  ['IPv6 quoted in IPv4', 4, error[4](ipv6(UDP, udp())), MALFORMED],
  ['time exceeded', 4, error[4](ipv4(UDP, udp()), 11, 0), NONE],
  ['parameter problem', 4, error[4](ipv4(UDP, udp()), 12, 0), NONE],
  ['fragmentation needed', 4, error[4](ipv4(UDP, udp()), 3, 4), NONE],
  ['an echo quotes nothing', 4, error[4](ipv4(UDP, udp()), 8, 0), MALFORMED],
  ['TCP in IPv6', 6, error[6](ipv6(TCP, tcp())), NONE],
  ['8 bytes of TCP in IPv6', 6, error[6](ipv6(TCP, tcp()).subarray(0, 48)), NONE],
  ['TCP behind extension headers', 6, error[6](ipv6(0, extension(51, authentication(TCP, tcp())))), NONE],
  ['a quote that ends in an extension header', 6, error[6](ipv6(60, extension(TCP, tcp())).subarray(0, 45)), TRUNCATED],
  ['a later IPv6 fragment', 6, error[6](ipv6(44, fragment(UDP, 8, false, udp()))), FRAGMENT],
  ['a routed packet', 6, error[6](ipv6(43, routing(UDP, 2, udp()))), ROUTED],
  ['a v4-mapped address', 6, error[6](ipv6(UDP, udp(), { source: '::ffff:10.0.0.1' })), MAPPED],
  ['packet too big', 6, error[6](ipv6(UDP, udp()), 2, 0), NONE],
  ['an echo quotes nothing in IPv6', 6, error[6](ipv6(UDP, udp()), 128, 0), MALFORMED],
]

t.test('the packet that an ICMP error quotes', async (t) => {
  for (const [rule, family, whole, problem] of cases) {
    const [found, decoder] = decodeQuoted(family, whole)
    t.equal(found, problem, rule)
    if (found !== NONE) continue
    t.same(
      [
        formatAddress(decoder.source),
        formatAddress(decoder.destination),
        decoder.source.port,
        decoder.destination.port,
      ],
      family === 4 ? ['10.1.0.5', '10.2.0.9', 40001, 5432] : ['fd00:1::5', 'fd00:2::9', 40001, 5432],
      `${rule}: its ends`,
    )
    t.same([decoder.icmpType, decoder.icmpCode, decoder.tcpFlags], [0, 0, 0], `${rule}: nothing of the error remains`)
  }
})

t.test('every kind of packet can be quoted, and is the one it was', async (t) => {
  for (const { name, family, bytes: quoted, decoded } of packetFixtures) {
    const [problem, decoder] = decodeQuoted(family, error[family](quoted))
    t.equal(problem, NONE, name)
    t.same(
      [decoder.protocol, decoder.source.port, decoder.destination.port, decoder.icmpType],
      [decoded.protocol, decoded.sourcePort ?? 0, decoded.destinationPort ?? 0, decoded.icmpType ?? 0],
      `${name}: its fields`,
    )
  }
})

t.test('a quote that the kernel cut is TRUNCATED until its ports are there', async (t) => {
  const whole = error[4](ipv4(TCP, tcp()))
  const problems = Array.from({ length: whole.length }, (_, captured) => decodeQuoted(4, whole, captured)[0])
  t.equal(problems[28], MALFORMED, 'nothing of it is there')
  const wanted = problems.map((_, captured): PacketProblem => (captured < 28 + 28 ? TRUNCATED : NONE))
  t.same(problems, wanted.with(28, MALFORMED))
})

t.test('a quote is read once, and a quoted error quotes nothing more', async (t) => {
  const whole = error[4](error[4](ipv4(UDP, udp())))
  const [problem, decoder] = decodeQuoted(4, whole)
  t.equal(problem, NONE)
  t.equal(decoder.icmpType, 3)
  t.equal(decoder.decodeQuoted(whole), MALFORMED)
  t.equal(new PacketDecoder().decodeQuoted(whole), MALFORMED, 'nothing was decoded')
})
