import { isIPv4 } from 'node:net'
import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { ping, sendPackets, sniff } from '../tools/raw.ts'
import { icmpMessage, ipPacket, protocols, udpDatagram } from './packets.ts'
import { networkPolicy, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const routerAddresses = ['10.77.0.1', 'fd77::1']
const denyAll = networkPolicy('deny-all', { policyTypes: ['Ingress', 'Egress'] })

/** Where the pod is said to run, what the router is called, and whether they know each other. */
const places = [
  { name: 'a pod that names no node', args: [], isLocal: true },
  { name: 'a pod of the node that this machine is', node: 'n1', args: ['--node-name', 'n1'], isLocal: true },
  { name: 'a pod of another node, on a gateway', node: 'n1', args: ['--node-name', 'gateway'], isLocal: false },
] as const

for (const place of places) {
  t.test(`deny-all: ${place.name}`, { skip }, async (t) => {
    const network = await createNetwork({
      prefix: 'knpk',
      hosts: [
        { name: 'client', addresses: client },
        { name: 'db', addresses: db },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    const node = 'node' in place ? { node: place.node } : {}
    await folder.write('all.yaml', [pod({ name: 'db', addresses: db, ...node }), denyAll])
    const [outside, inside, router] = await Promise.all(
      ['client', 'db', 'router'].map((host) => Agent.start(network, host)),
    )
    const product = await Product.start(network, folder, { args: place.args })

    for (const [i, address] of db.entries()) {
      t.test(`IPv${isIPv4(address) ? 4 : 6}`, async (t) => {
        for (const protocol of ['tcp', 'udp'] as const) {
          for (const own of [address, '']) await inside!.listen({ protocol, address: own || address, port: own ? 80 : 81 })
          await router!.listen({ protocol, address: routerAddresses[i]!, port: 80 })
          await outside!.listen({ protocol, address: client[i]!, port: 80 })
          const toPod = { protocol, address, port: 80, timeoutMs: 500 }
          const own = await router!.probe(toPod)
          t.equal(own.ok, place.isLocal, `${protocol}: the node to the pod: ${own.error ?? 'reached'}`)
          t.match(await outside!.probe(toPod), { ok: false, error: 'timeout' }, `${protocol}: another to the pod`)
          const toNode = await inside!.probe({ protocol, address: routerAddresses[i]!, port: 80, timeoutMs: 500 })
          t.equal(toNode.ok, place.isLocal, `${protocol}: the pod to the node: ${toNode.error ?? 'reached'}`)
          const toOther = await inside!.probe({ protocol, address: client[i]!, port: 80, timeoutMs: 500 })
          t.match(toOther, { ok: false, error: 'timeout' }, `${protocol}: the pod to another`)
          t.match(await router!.probe({ ...toPod, address: client[i]! }), { ok: true }, 'unselected traffic goes on')
        }
        const outcome = place.isLocal ? 'reply' : 'timeout'
        t.same(await ping(network, 'router', address, { timeoutMs: 500 }), [outcome], 'the node pings the pod')
        t.same(await ping(network, 'client', address, { timeoutMs: 500 }), ['timeout'], 'another does not')
        t.same(await ping(network, 'db', routerAddresses[i]!, { timeoutMs: 500 }), [outcome], 'the pod pings the node')
        t.same(await ping(network, 'db', client[i]!, { timeoutMs: 500 }), ['timeout'], 'the pod pings no other')
      })
    }

    t.test('what IP itself needs passes, and nothing beside it', async (t) => {
      const sniffer = await sniff(network, 'db')
      const before = (await product.status()).counters
      const passing = [
        ...[icmp(3, 4)],
        ...[icmpv6(2, 0), ...[130, 131, 132, 133, 134, 135, 136, 137, 143].map((type) => icmpv6(type, 0))],
      ]
      const stopped = [
        ...[icmp(8, 0), icmp(0, 0), icmp(3, 1), icmp(3, 3), icmp(5, 0), icmp(11, 0), icmp(13, 0)],
        ...[icmpv6(128, 0), icmpv6(129, 0), icmpv6(1, 4), icmpv6(3, 0), icmpv6(4, 0), icmpv6(138, 0), icmpv6(144, 0)],
      ]
      t.equal(await sendPackets(network, 'client', [...stopped, ...passing]), stopped.length + passing.length)
      for (const packet of passing) {
        t.ok(await sniffer.find((seen) => isSame(seen, packet)), `${nameOf(packet)} arrives`)
      }
      for (const packet of stopped) {
        t.notOk(
          sniffer.packets.some((seen) => isSame(seen, packet)),
          `${nameOf(packet)} does not arrive`,
        )
      }
      await sniffer.stop()
      const after = (await product.status()).counters
      t.same(
        { queued: after.queued - before.queued, denied: after.denied - before.denied },
        { queued: stopped.length, denied: stopped.length },
      )
    })
  })
}

/** From the client to the pod, about a packet that nobody sent. */
function icmp(type: number, code: number): Buffer {
  return message(0, protocols.icmp, type, code)
}

function icmpv6(type: number, code: number): Buffer {
  return message(1, protocols.icmpv6, type, code)
}

function message(family: 0 | 1, protocol: number, type: number, code: number): Buffer {
  const ends = { source: client[family]!, destination: db[family]! }
  const back = { source: ends.destination, destination: ends.source }
  const quoted = ipPacket(back, protocols.udp, udpDatagram(back, { sourcePort: 80, port: 9 }, 'quoted'))
  return ipPacket(ends, protocol, icmpMessage(ends, type, code, quoted, 1280))
}

function headerBytes(packet: Buffer): number {
  return packet[0]! >> 4 === 4 ? 20 : 40
}

/** Whether what arrived is what was sent: the header changes on the way, the message does not. */
function isSame(seen: Buffer, sent: Buffer): boolean {
  return seen[0] === sent[0] && seen.subarray(headerBytes(sent)).equals(sent.subarray(headerBytes(sent)))
}

function nameOf(packet: Buffer): string {
  const at = headerBytes(packet)
  return `${at === 20 ? 'ICMP' : 'ICMPv6'} type ${packet[at]} code ${packet[at + 1]}`
}
