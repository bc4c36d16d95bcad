import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { ping, sendPackets, sniff } from '../tools/raw.ts'
import { until } from '../until.ts'
import { icmpMessage, ipPacket, protocols, udpDatagram } from './packets.ts'
import { forgetful, networkPolicy, Product, pod, policies, skip } from './product.ts'
import { now } from './streams.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const routerAddresses = ['10.77.0.1', 'fd77::1']
const appOf = (app: string) => ({ podSelector: { matchLabels: { app } } })
const denyAll = networkPolicy('deny-all', { policyTypes: ['Ingress', 'Egress'] })

/** Where the pod is said to run, what the router is called, and whether they know each other. */
const places = [
  { name: 'a pod that names no node', args: [], isLocal: true },
  { name: 'a pod of the node that this machine is', node: 'n1', args: ['--node-name', 'n1'], isLocal: true },
  { name: 'a pod of another node, on a gateway', node: 'n1', args: ['--node-name', 'gateway'], isLocal: false },
] as const

/** A client, the pod db with a policy, and the firewall between them. @param placed what db's manifest says of its node */
async function site(t: Test, policy: object, placed: { readonly node?: string } = {}) {
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
  await folder.write('all.yaml', [pod({ name: 'db', addresses: db, ...placed }), policy])
  const [outside, inside, router] = await Promise.all(
    ['client', 'db', 'router'].map((host) => Agent.start(network, host)),
  )
  return { network, folder, outside: outside!, inside: inside!, router: router! }
}

const placedAt = (place: (typeof places)[number]) => ('node' in place ? { node: place.node } : {})

/** What becomes of new connections by TCP to db, IPv4 and IPv6. */
async function reach(agent: Agent, from: readonly [string?, string?] = []): Promise<(string | undefined)[]> {
  const probes = db.map((address, i) =>
    agent.probe({
      protocol: 'tcp',
      address,
      port: 80,
      timeoutMs: 500,
      ...(from[i] !== undefined && { sourceAddress: from[i] }),
    }),
  )
  return (await Promise.all(probes)).map(({ ok, error }) => (ok ? 'reached' : error))
}

for (const place of places) {
  t.test(`deny-all: ${place.name}`, { skip }, async (t) => {
    const { network, folder, outside, inside, router } = await site(t, denyAll, placedAt(place))
    const product = await Product.start(network, folder, { args: place.args })

    for (const [i, address] of db.entries()) {
      const own = routerAddresses[i]!
      const other = client[i]!
      t.test(`IPv${isIPv4(address) ? 4 : 6}`, async (t) => {
        const checks = (['tcp', 'udp'] as const).map(async (protocol) => {
          await inside.listen({ protocol, address, port: 80 })
          await router.listen({ protocol, address: own, port: 80 })
          await outside.listen({ protocol, address: other, port: 80 })
          const outcome = async (agent: Agent, to: string) => {
            const { ok, error } = await agent.probe({ protocol, address: to, port: 80, timeoutMs: 500 })
            return ok ? 'reached' : error
          }
          const [nodeToPod, otherToPod, podToNode, podToOther, nodeToOther] = await Promise.all([
            outcome(router, address),
            outcome(outside, address),
            outcome(inside, own),
            outcome(inside, other),
            outcome(router, other),
          ])
          t.equal(nodeToPod, place.isLocal ? 'reached' : 'timeout', `${protocol}: the node to the pod`)
          t.equal(otherToPod, 'timeout', `${protocol}: another to the pod`)
          t.equal(podToNode, place.isLocal ? 'reached' : 'timeout', `${protocol}: the pod to the node`)
          t.equal(podToOther, 'timeout', `${protocol}: the pod to another`)
          t.equal(nodeToOther, 'reached', `${protocol}: traffic without a subject`)
        })
        await Promise.all(checks)
        const pings = await Promise.all(
          [
            ['router', address],
            ['client', address],
            ['db', own],
            ['db', other],
          ].map(async ([from, to]) => (await ping(network, from!, to!, { timeoutMs: 500 }))[0]),
        )
        const outcome = place.isLocal ? 'reply' : 'timeout'
        t.same(
          pings,
          [outcome, 'timeout', outcome, 'timeout'],
          'pings: node to pod, other to pod, pod to node, pod to other',
        )
      })
    }

    t.test('what IP itself needs passes, and nothing beside it', async (t) => {
      const sniffer = await sniff(network, 'db')
      const before = (await product.status()).counters
      const passing = [icmp(3, 4), ...[2, 130, 131, 132, 133, 134, 135, 136, 137, 143].map((type) => icmpv6(type, 0))]
      const stopped = [
        ...[icmp(3, 1), icmp(3, 3), ...[0, 5, 8, 11, 13].map((type) => icmp(type, 0))],
        ...[icmpv6(1, 4), ...[3, 4, 128, 129, 138, 144].map((type) => icmpv6(type, 0))],
      ]
      t.equal(await sendPackets(network, 'client', [...stopped, ...passing]), stopped.length + passing.length)
      for (const packet of passing) {
        t.ok(await sniffer.find((seen) => isSame(seen, packet)), `${nameOf(packet)} arrives`)
      }
      const decided = async () => {
        const after = (await product.status()).counters
        return { queued: after.queued - before.queued, denied: after.denied - before.denied }
      }
      await until(async () => (await decided()).denied >= stopped.length)
      for (const packet of stopped) {
        t.notOk(
          sniffer.packets.some((seen) => isSame(seen, packet)),
          `${nameOf(packet)} does not arrive`,
        )
      }
      await sniffer.stop()
      const { queued, denied } = await decided()
      t.equal(queued, denied, 'nothing else was let through')
      // The end of a connection from before may come now.
      t.ok(denied >= stopped.length, `${denied} of ${stopped.length} denied`)
    })
  })
}

for (const place of places) {
  t.test(`nobody answers, and all is closed: ${place.name}`, { skip }, async (t) => {
    const allowAll = networkPolicy('allow', { ingress: [{}] })
    const { network, folder, outside, inside, router } = await site(t, allowAll, placedAt(place))
    for (const address of db) {
      for (const protocol of ['tcp', 'udp'] as const) await inside.listen({ protocol, address, port: 80 })
    }
    const product = await Product.start(network, folder, {
      args: [...place.args, ...forgetful, '--on-failure', 'closed'],
    })
    const outcomes = async (agent: Agent) => {
      const probes = db.flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) => agent.probe({ protocol, address, port: 80, timeoutMs: 500 })),
      )
      const pings = db.map((address) =>
        ping(network, agent === router ? 'router' : 'client', address, { timeoutMs: 500 }),
      )
      const answers = (await Promise.all(probes)).map(({ ok, error }) => (ok ? 'reached' : error))
      const replies = (await Promise.all(pings)).map(([reply]) => (reply === 'reply' ? 'reached' : reply))
      return [...new Set([...answers, ...replies])]
    }
    t.same(await outcomes(outside), ['reached'])
    const { queued } = (await product.status()).counters
    t.same(await outcomes(router), ['reached'])
    const asked = (await product.status()).counters.queued - queued
    if (place.isLocal) t.equal(asked, 0, 'nobody is asked about what the node sends to its own pods')
    else t.ok(asked >= 6, `${asked} packets of what a gateway sends to others' pods were asked about`)
    await product.stop('SIGKILL')
    t.same(await outcomes(router), place.isLocal ? ['reached'] : ['timeout'], 'the node, to the pod')
    t.same(await outcomes(outside), ['timeout'], 'another, to the pod')
  })
}

t.test('a gateway whose pods come to be those of another machine', { skip }, async (t) => {
  const { network, folder, inside, router } = await site(t, denyAll)
  const write = (node: object) => folder.write('all.yaml', [pod({ name: 'db', addresses: db, ...node }), denyAll])
  for (const address of db) {
    await inside.listen({ protocol: 'tcp', address, port: 80 })
    await inside.push({ address, port: 90, intervalMs: 20, durationMs: 30_000 })
  }
  const product = await Product.start(network, folder, { args: ['--node-name', 'gateway'] })
  const open = await Promise.all(db.map((address) => router.subscribe({ address, port: 90, durationMs: 30_000 })))
  t.equal(await now(open), 'flows')
  t.same(await reach(router), ['reached', 'reached'], 'pods that name no node are its own')
  await product.change(() => write({ node: 'n1' }))
  t.equal(await now(open), 'nothing', 'what was never judged is judged now')
  t.same(await reach(router), ['timeout', 'timeout'])
  await product.change(() => write({}))
  t.same(await reach(router), ['reached', 'reached'])
})

t.test(
  'what is sent from an address of a pod is the pod’s, also where this machine has the address',
  { skip },
  async (t) => {
    const aliases = ['10.77.3.2', 'fd77:3::2'] as const
    const { network, folder, inside, router } = await site(t, networkPolicy('nobody', { ...appOf('db'), ingress: [] }))
    for (const address of db) await inside.listen({ protocol: 'tcp', address, port: 80 })
    const product = await Product.start(network, folder, { args: forgetful })
    const write = (...others: object[]) =>
      folder.write('more.yaml', [pod({ name: 'alias', addresses: aliases }), ...others])
    const give = (what: 'add' | 'del') =>
      network.exec('router', ['sh', '-ec', aliases.map((address) => `ip addr ${what} ${address} dev lo`).join('\n')])
    t.match(await give('add'), { code: 0 })
    t.same(await reach(router, aliases), ['reached', 'reached'], 'of this machine, as long as they are nobody’s')
    await product.change(() => write())
    t.same(await reach(router, aliases), ['timeout', 'timeout'], 'of the pod')
    t.same(await reach(router), ['reached', 'reached'], 'and its own')
    await product.stop('SIGKILL')
    t.same(await reach(router, aliases), ['timeout', 'timeout'], 'nobody opens what nobody decides')

    t.match(await give('del'), { code: 0 })
    await Product.start(network, folder, { args: forgetful })
    t.same(await reach(router), ['reached', 'reached'])
    t.match(await give('add'), { code: 0 })
    await until(async () => (await reach(router, aliases)).every((word) => word === 'timeout'))
    t.pass('also where the address comes later')
  },
)

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

function headerBytes(packet: Uint8Array): number {
  return packet[0]! >> 4 === 4 ? 20 : 40
}

/** Whether what arrived is what was sent: the header changes on the way, the message does not. */
function isSame(seen: Uint8Array, sent: Uint8Array): boolean {
  return seen[0] === sent[0] && Buffer.compare(seen.subarray(headerBytes(sent)), sent.subarray(headerBytes(sent))) === 0
}

function nameOf(packet: Buffer): string {
  const at = headerBytes(packet)
  return `${at === 20 ? 'ICMP' : 'ICMPv6'} type ${packet[at]} code ${packet[at + 1]}`
}
