import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { sendPackets, sendTcp, sniff } from '../tools/raw.ts'
import { until } from '../until.ts'
import { icmpMessage, ipPacket, protocols, udpDatagram } from './packets.ts'
import { networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const near = ['10.77.1.2', 'fd77:1::2']
/** Isolated in both directions; port 80 is open, and port 82, where nobody listens. */
const closed = ['10.77.2.2', 'fd77:2::2']
/** The same for ingress; free to connect. */
const answering = ['10.77.2.3', 'fd77:2::3']
/** Service addresses: port 80 is port 80 of `closed`, port 8081 its port 81. */
const service = ['10.96.0.1', 'fd96::1']
const router = ['10.77.0.1', 'fd77::1']
const objects = [pod({ name: 'closed', addresses: closed }), pod({ name: 'answering', addresses: answering })]
const families = [0, 1] as const

const rules = (...ports: number[]) => {
  const ingress = [{ ports: ports.flatMap((port) => [{ port }, { protocol: 'UDP', port }]) }]
  return [
    networkPolicy('closed', {
      podSelector: { matchLabels: { app: 'closed' } },
      policyTypes: ['Ingress', 'Egress'],
      ingress,
    }),
    networkPolicy('answering', { podSelector: { matchLabels: { app: 'answering' } }, ingress }),
  ]
}

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly outside: Agent
  readonly inside: Agent
}

async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: near },
      { name: 'far', addresses: [...closed, ...answering] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('objects.yaml', objects)
  await folder.write('policy.yaml', rules(80, 82))
  const [outside, inside] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const address of [...closed, ...answering])
      for (const port of [80, 81]) await inside!.listen({ protocol, address, port })
    for (const address of near) await outside!.listen({ protocol, address, port: 90 })
  }
  return { network, folder, outside: outside!, inside: inside! }
}

t.test('connections that are older than the firewall', { skip }, async (t) => {
  const { network, folder, outside, inside } = await site(t)
  for (const address of near) {
    for (const port of [91, 92]) await outside.serve({ address, port, bytesPerSecond: 1_000_000 })
  }
  const tcp = { protocol: 'tcp' } as const
  const open = await Promise.all(
    families.map(async (i) => ({
      allowed: (await outside.open({ ...tcp, address: closed[i]!, port: 80 })).connection!,
      denied: (await outside.open({ ...tcp, address: closed[i]!, port: 81 })).connection!,
      deniedEgress: (await inside.open({ ...tcp, sourceAddress: closed[i]!, address: near[i]!, port: 90 })).connection!,
      egress: (await inside.open({ ...tcp, sourceAddress: answering[i]!, address: near[i]!, port: 90 })).connection!,
      // Data flows from the server only; by the second one none while the firewall starts.
      download: await inside.download({
        sourceAddress: answering[i]!,
        address: near[i]!,
        port: 91,
        durationMs: 30_000,
      }),
      stalled: await inside.download({ sourceAddress: answering[i]!, address: near[i]!, port: 92, durationMs: 30_000 }),
    })),
  )
  await nft(network, [
    'table inet stall {',
    // Ahead of connection tracking.
    '  chain prerouting { type filter hook prerouting priority -400; policy accept; tcp sport 92 drop; }',
    '}',
  ])
  await Promise.all(open.map(({ stalled }) => stalled.quiet(100)))
  const product = await Product.start(network, folder)
  await nft(network, ['delete table inet stall'])
  for (const [i, { allowed, denied, deniedEgress, egress, download, stalled }] of open.entries()) {
    t.test(`IPv${i === 0 ? 4 : 6}`, async (t) => {
      t.match(await allowed.exchange('one'), { ok: true }, 'ingress that policy allows goes on')
      t.match(await egress.exchange('two'), { ok: true }, 'egress of a pod that is not isolated for it goes on')
      t.ok(await download.more(3), 'also where the server speaks')
      t.ok(await stalled.more(3, 10_000), 'and where it is the first to speak')
      const [cut, cutEgress] = await Promise.all([denied.exchange('three', 500), deniedEgress.exchange('four', 500)])
      t.match(cut, { ok: false, error: 'timeout' }, 'ingress that policy denies is cut')
      t.match(cutEgress, { ok: false, error: 'timeout' }, 'so is egress')
      await product.change(() => folder.write('policy.yaml', rules(80, 82, 83 + i)))
      t.match(await allowed.exchange('five'), { ok: true }, 'and after a change')
      t.ok(await download.more(3))
    })
  }
})

t.test('packets that belong to no connection are each judged', { skip }, async (t) => {
  const { network, folder } = await site(t)
  const product = await Product.start(network, folder)
  for (const [i, destination] of closed.entries()) {
    for (const flags of ['A', 'R', 'FA', 'SA', 'PA', 'FPU']) {
      const { counters: before } = await product.status()
      const packet = { destination, flags, sourcePort: 5000 + i, count: 3 }
      await sendTcp(network, 'near', { ...packet, port: 81 })
      await until(async () => {
        const { allowed, denied } = (await product.status()).counters
        return allowed + denied - before.allowed - before.denied >= 3
      })
      const { counters } = await product.status()
      t.same(
        { queued: counters.queued - before.queued, denied: counters.denied - before.denied },
        { queued: 3, denied: 3 },
        `IPv${i === 0 ? 4 : 6} ${flags} to a denied port`,
      )
    }
    const { answer } = await sendTcp(network, 'near', { destination, flags: 'A', port: 80, waitMs: 1000 })
    t.equal(answer, 'R', 'control: to an allowed port it arrives, and is answered')
  }
})

t.test('ICMP errors about an allowed connection arrive', { skip }, async (t) => {
  const { network, folder, outside, inside } = await site(t)
  const product = await Product.start(network, folder)
  for (const [i, address] of closed.entries()) {
    t.test(`IPv${i === 0 ? 4 : 6}`, async (t) => {
      const probe = (port: number) => outside.probe({ protocol: 'udp', address, port, timeoutMs: 500 })
      const [refused, denied] = await Promise.all([probe(82), probe(83)])
      t.match(refused, { ok: false, error: 'refused' }, 'port unreachable')
      t.match(denied, { ok: false, error: 'timeout' }, 'a denied port: nothing')

      const listener = await inside.listen({ protocol: 'udp', address, port: 84 })
      await product.change(() => folder.write('policy.yaml', rules(80, 82, 84)))
      const connection = (await outside.open({ protocol: 'udp', address, port: 84 })).connection!
      t.match(await connection.exchange('n'), { ok: true })
      await product.change(() => folder.write('policy.yaml', rules(80, 82, 84, 85)))
      // From the pod, about the connection's last packet: the first that comes after the change.
      const ends = { source: address, destination: near[i]! }
      const quoted = { source: near[i]!, destination: address }
      const datagram = udpDatagram(quoted, { sourcePort: connection.port, port: 84 })
      const body = ipPacket(quoted, protocols.udp, datagram)
      const error =
        i === 0
          ? ipPacket(ends, protocols.icmp, icmpMessage(ends, 3, 3, body))
          : ipPacket(ends, protocols.icmpv6, icmpMessage(ends, 1, 4, body))
      const sniffer = await sniff(network, 'near')
      const isError = (packet: Buffer) => packet.includes(datagram)
      await sendPackets(network, 'far', [error])
      t.ok(await sniffer.find(isError), 'right after a change')
      await listener.close()
      t.match(await connection.exchange('n'), { ok: false, error: 'refused' })

      await product.change(() => folder.write('policy.yaml', rules(80, 82)))
      const arrived = sniffer.packets.filter(isError).length
      await sendPackets(network, 'far', [error])
      t.match(await connection.exchange('n', 300), { ok: false, error: 'timeout' })
      t.equal(sniffer.packets.filter(isError).length, arrived, 'not when the connection is denied')
      await sniffer.stop()
    })
  }
})

t.test('address translation', { skip }, async (t) => {
  const { network, folder, outside, inside } = await site(t)
  const product = await Product.start(network, folder)
  const script = families.flatMap((i) => {
    const ip = i === 0 ? 'ip' : 'ip6'
    const to = (port: number) => (i === 0 ? `${closed[i]}:${port}` : `[${closed[i]}]:${port}`)
    const ports = { 80: 80, 8081: 81 }
    return [
      `table ${ip} service {`,
      '  chain prerouting { type nat hook prerouting priority -100; policy accept;',
      ...Object.entries(ports).flatMap(([from, port]) =>
        ['tcp', 'udp'].map((protocol) => `${ip} daddr ${service[i]} ${protocol} dport ${from} dnat to ${to(port)}`),
      ),
      '  }',
      '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
      // A pod that reaches itself by a service, and what the other pod sends to the outside.
      `    ${ip} saddr ${closed[i]} ${ip} daddr ${closed[i]} snat to ${router[i]}`,
      `    ${ip} saddr ${answering[i]} ${ip} daddr ${near[i]} snat to ${router[i]}`,
      '  }',
      '}',
    ]
  })
  await nft(network, script)

  for (const i of families) {
    for (const protocol of ['tcp', 'udp'] as const) {
      t.test(`IPv${isIPv4(service[i]!) ? 4 : 6} ${protocol}`, async (t) => {
        const reach = async (agent: Agent, address: string, port: number, sourceAddress?: string) => {
          const source = sourceAddress === undefined ? {} : { sourceAddress }
          const { ok, error } = await agent.probe({ protocol, address, port, timeoutMs: 500, ...source })
          return ok ? 'passes' : error
        }
        const [open, denied, itself, other, outgoing] = await Promise.all([
          reach(outside, service[i]!, 80),
          reach(outside, service[i]!, 8081),
          reach(inside, service[i]!, 8081, closed[i]),
          reach(inside, service[i]!, 8081, answering[i]),
          reach(inside, near[i]!, 90, answering[i]),
        ])
        t.equal(open, 'passes', "a service: the pod's port is what policy sees")
        t.equal(denied, 'timeout', 'also where it denies')
        t.equal(itself, 'passes', 'a pod reaches itself, though both directions are denied')
        t.equal(other, 'timeout', 'control: another one does not')
        t.equal(outgoing, 'passes', 'egress behind a translated address')

        const connection = (await outside.open({ protocol, address: service[i]!, port: 80 })).connection!
        t.match(await connection.exchange('before'), { ok: true })
        await product.change(() => folder.write('policy.yaml', rules(80, 82, 86)))
        t.match(await connection.exchange('after'), { ok: true }, 'judged again after a change, and goes on')
        await product.change(() => folder.write('policy.yaml', rules(82)))
        t.match(await connection.exchange('denied', 300), { ok: false, error: 'timeout' }, 'and is cut by a deny')
        await product.change(() => folder.write('policy.yaml', rules(80, 82)))
      })
    }
  }
})

async function nft(network: Network, lines: readonly string[]): Promise<void> {
  const { code, stderr } = await network.exec('router', ['nft', '-f', '-'], { input: `${lines.join('\n')}\n` })
  if (code !== 0) throw new Error(stderr)
}
