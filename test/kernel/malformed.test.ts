import { isIPv4 } from 'node:net'
import t from 'tap'
import {
  compile,
  HOOK_FORWARD,
  ObjectReader,
  PacketDecoder,
  packetProblems,
  readNetworkPolicy,
  readPod,
} from '../../src/engine/index.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { ObjectStore } from '../../src/sources/object-store.ts'
import { sendPackets, sniff } from '../tools/raw.ts'
import {
  addressBytes,
  extensionHeader,
  fragments,
  icmpMessage,
  ipPacket,
  mendHeader,
  mendPayload,
  protocols,
  sctpInit,
  tcpSegment,
  udpDatagram,
} from './packets.ts'
import { forgetful, networkPolicy, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
/** Isolated in both directions. */
const closed = ['10.77.2.2', 'fd77:2::2']
/** Isolated for ingress: what could be the answer to a connection of its own passes. */
const answering = ['10.77.2.3', 'fd77:2::3']
const bystander = ['10.77.2.4', 'fd77:2::4']
const pods = [
  pod({ name: 'closed', addresses: closed }),
  pod({ name: 'answering', addresses: answering }),
  pod({ name: 'bystander', addresses: bystander }),
]
const rule = { ports: [{ port: 80 }] }
const rules = [
  networkPolicy('closed', {
    podSelector: { matchLabels: { app: 'closed' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [rule],
  }),
  networkPolicy('answering', { podSelector: { matchLabels: { app: 'answering' } }, ingress: [rule] }),
]
const ALLOWED_PORT = 80
const DENIED_PORT = 81
const MUTATIONS = 1500
const BATCH = 500
const SEED = 20_240_607

const { tcp, udp, icmp, icmpv6, sctp } = protocols
const HOP_BY_HOP = 0
const ROUTING = 43
const DESTINATION_OPTIONS = 60
const SYN = 0x02
const ACK = 0x10

for (const [remembering, args] of [
  ['each packet is asked about', forgetful],
  ['what is known is answered by the kernel', []],
] as const)
  t.test(`what cannot be read, or is denied, does not arrive: ${remembering}`, { skip }, async (t) => {
    const network = await createNetwork({
      prefix: 'knpk',
      hosts: [
        { name: 'near', addresses: client },
        { name: 'far', addresses: [...closed, ...answering, ...bystander] },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    await folder.write('all.yaml', [...pods, ...rules])
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    for (const address of bystander) await far.listen({ protocol: 'tcp', address, port: 80 })
    const product = await Product.start(network, folder, { args })
    const isAllowed = oracle()

    for (const [name, addresses] of Object.entries({ closed, answering })) {
      t.test(`${name}: every prefix of real packets, and ${MUTATIONS} mutations`, async (t) => {
        const real = addresses.flatMap((destination, i) => realPackets(client[i]!, destination))
        const random = generator(SEED)
        const sent = [
          ...real,
          ...real.flatMap((packet) => prefixes(packet)),
          ...Array.from({ length: MUTATIONS }, (_, i) => mutation(real[i % real.length]!, random)),
        ]
        const before = await product.status()
        const sniffer = await sniff(network, 'far', { seconds: 60 })
        let isOver = false
        const others = keepConnecting(near, () => isOver)
        let count = 0
        for (let at = 0; at < sent.length; at += BATCH)
          count += await sendPackets(network, 'near', sent.slice(at, at + BATCH))
        t.equal(count, sent.length, `${count} packets were sent`)

        // Sent last, in the same way: all others have been decided when they arrive.
        const controls = addresses.map((destination, i) => {
          const ends = { source: client[i]!, destination }
          return ipPacket(ends, tcp, tcpSegment(ends, { sourcePort: 7777, port: ALLOWED_PORT }, SYN, 'the control'))
        })
        await sendPackets(network, 'near', controls)
        for (const [i] of controls.entries()) {
          const isControl = (packet: Buffer) => packet.includes('the control') && packet[0]! >> 4 === (i === 0 ? 4 : 6)
          t.ok(await sniffer.find(isControl), 'what is allowed arrives')
        }
        isOver = true
        t.same(await others, [], 'other traffic goes on')
        await sniffer.stop()

        const arrived = sniffer.packets.filter(
          (packet) => addresses.some((address) => isTo(packet, address)) && !isFromRouter(packet),
        )
        const wrong = arrived.filter((packet) => !isAllowed(packet, name === 'answering'))
        t.same(
          wrong.map((packet) => packet.toString('hex')),
          [],
          `${arrived.length} arrived, all of them allowed`,
        )
        const status = await product.status()
        const counters = subtract(status.counters, before.counters)
        const judged = subtract(status.packetThread, before.packetThread)
        t.equal(counters.unanswered, 0)
        t.equal(counters.queued, counters.allowed + counters.denied, JSON.stringify(counters))
        t.equal(judged.queued, counters.queued, 'the packet thread had each of them once')
        t.equal(status.queue.statistics!.idSequence, status.counters.queued)
        t.match(judged, { failed: 0, overflows: 0, answerErrors: 0 })
        const denied = counters.denied + counters.rememberedDenied
        t.ok(denied > 1000 && judged.unreadable > 50, `${denied} denied, ${judged.unreadable} unreadable`)
        t.equal(counters.rememberedDenied > 0, args.length === 0)
      })
    }

    t.test('it still runs, and decides', async (t) => {
      t.match(await product.status(), { enforcing: true, problems: [] })
      for (const address of closed) {
        for (const port of [ALLOWED_PORT, DENIED_PORT]) await far.listen({ protocol: 'tcp', address, port })
        t.match(await near.probe({ protocol: 'tcp', address, port: ALLOWED_PORT }), { ok: true })
        t.match(await near.probe({ protocol: 'tcp', address, port: DENIED_PORT, timeoutMs: 300 }), { error: 'timeout' })
      }
    })
  })

/**
 * Whether policies let a packet that arrived pass: the engine's word on its bytes. A TCP packet that begins no connection
 * may be the answer to one that was opened before the firewall came.
 */
function oracle(): (packet: Buffer, mayAnswer: boolean) => boolean {
  const store = new ObjectStore('router')
  const upserts = [
    ...pods.map((object) => readPod(new ObjectReader(object))),
    ...rules.map((object) => readNetworkPolicy(new ObjectReader(object))),
  ]
  store.apply('test', { upserts, deletes: [] })
  const { engine } = compile(store.snapshot(), policyKinds)
  const decoder = new PacketDecoder()
  return (packet, mayAnswer) => {
    const problem = decoder.decode(packet, 0, packet.length, packet.length, packet[0]! >> 4)
    if (problem !== packetProblems.NONE) return false
    if (engine.decide(decoder, HOOK_FORWARD) === 'accept') return true
    if (!mayAnswer || decoder.protocol !== tcp || (decoder.tcpFlags & 0x17) === SYN) return false
    decoder.reverse()
    return engine.decide(decoder, HOOK_FORWARD) === 'accept'
  }
}

/** One packet of each kind, all to a denied port. */
function realPackets(source: string, destination: string): Buffer[] {
  const ends = { source, destination }
  const ports = { sourcePort: 4000, port: DENIED_PORT }
  const segment = tcpSegment(ends, ports)
  const datagram = udpDatagram(ends, ports, 'x'.repeat(24))
  const upper: [number, Buffer][] = [
    [tcp, segment],
    [tcp, tcpSegment(ends, ports, ACK, 'data')],
    [udp, datagram],
    [isIPv4(source) ? icmp : icmpv6, icmpMessage(ends, isIPv4(source) ? 8 : 128, 0, Buffer.from('echo'), 0x10001)],
    [sctp, sctpInit(ports)],
  ]
  const plain = upper.map(([protocol, payload]) => ipPacket(ends, protocol, payload))
  const fragmented = fragments(ends, udp, datagram, 16, 77)
  if (isIPv4(source)) return [...plain, ...fragmented]
  const chain = (headers: readonly number[], protocol: number, payload: Buffer) =>
    ipPacket(
      ends,
      headers[0]!,
      Buffer.concat([...headers.map((_, i) => extensionHeader(headers[i + 1] ?? protocol)), payload]),
    )
  const routing = ipPacket(ends, ROUTING, Buffer.concat([Buffer.from([tcp, 0, 4, 0, 0, 0, 0, 0]), segment]))
  return [
    ...plain,
    ...fragmented,
    chain([HOP_BY_HOP], tcp, segment),
    chain([HOP_BY_HOP, DESTINATION_OPTIONS], udp, datagram),
    chain([DESTINATION_OPTIONS, DESTINATION_OPTIONS, DESTINATION_OPTIONS], tcp, segment),
    routing,
    // A fragment header on a whole packet (RFC 6946).
    ipPacket(ends, protocols.fragment, Buffer.concat([Buffer.from([tcp, 0, 0, 0, 0, 0, 0, 9]), segment])),
  ]
}

/** Every prefix, as it is and with a header that says how long it is. */
function prefixes(packet: Buffer): Buffer[] {
  return Array.from({ length: packet.length - 1 }, (_, i) => packet.subarray(0, i + 1)).flatMap((prefix) => [
    prefix,
    withLength(Buffer.from(prefix)),
  ])
}

function withLength(packet: Buffer): Buffer {
  if (packet[0]! >> 4 === 4 && packet.length >= 20) packet.writeUInt16BE(packet.length, 2)
  if (packet[0]! >> 4 === 6 && packet.length >= 40) packet.writeUInt16BE(packet.length - 40, 4)
  return mendHeader(packet)
}

/** One to four changed bytes; the kernel drops what has a wrong header checksum, so nearly all have a right one. */
function mutation(packet: Buffer, random: () => number): Buffer {
  const mutant = Buffer.from(packet)
  for (let changes = 1 + Math.floor(random() * 4); changes > 0; changes--) {
    const at = Math.floor(random() * mutant.length)
    const kind = Math.floor(random() * 4)
    if (kind === 0) mutant[at] = Math.floor(random() * 256)
    else if (kind === 1) mutant[at]! ^= 1 << Math.floor(random() * 8)
    else mutant[at] = kind === 2 ? 0 : 255
  }
  if (random() < 0.95) mendHeader(mutant)
  return random() < 0.5 ? mendPayload(mutant) : mutant
}

/** Mulberry32: the same numbers in every run. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function isTo(packet: Buffer, address: string): boolean {
  return holds(packet, address, 16, 24)
}

/** The node always reaches its pods: here with ICMP errors about what they answered. */
function isFromRouter(packet: Buffer): boolean {
  return ['10.77.0.1', 'fd77::1'].some((address) => holds(packet, address, 12, 8))
}

/** Whether an address stands at its place in an IPv4 or IPv6 header. */
function holds(packet: Buffer, address: string, atV4: number, atV6: number): boolean {
  const bytes = addressBytes(address)
  const at = isIPv4(address) ? atV4 : atV6
  return packet[0]! >> 4 === (isIPv4(address) ? 4 : 6) && packet.subarray(at, at + bytes.length).equals(bytes)
}

/** Connects to the bystander until it is over; what failed. */
async function keepConnecting(agent: Agent, isOver: () => boolean): Promise<string[]> {
  const failures: string[] = []
  while (!isOver()) {
    for (const address of bystander) {
      const { ok, error } = await agent.probe({ protocol: 'tcp', address, port: 80, timeoutMs: 3000 })
      if (!ok) failures.push(`${address}: ${error}`)
    }
  }
  return failures
}

function subtract<T extends Readonly<Record<string, number>>>(after: T, before: T): T {
  return Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - before[name]!])) as T
}
