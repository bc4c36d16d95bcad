import { readdir, readFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { ping, sendPackets, sendTcp, sniff, udpPacket } from '../tools/raw.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const server = ['10.77.2.2', 'fd77:2::2']
const hosts = [
  { name: 'client', addresses: client },
  { name: 'server', addresses: server },
]
const isRoot = process.geteuid?.() === 0

t.test('the lab', { skip: !isRoot && !process.env.CI && 'needs root: makes network namespaces' }, async (t) => {
  t.ok(isRoot, 'runs as root')
  const network = await createNetwork({ prefix: 'knplab', hosts })
  t.after(() => network.destroy())
  const [near, far, router] = await Promise.all(
    ['client', 'server', 'router'].map((host) => Agent.start(network, host)),
  )
  if (!near || !far || !router) throw new Error('three agents were started')

  for (const protocol of ['tcp', 'udp'] as const) {
    for (const address of server) {
      t.test(`${protocol} echo from ${address}`, async (t) => {
        const listener = await far.listen({ protocol, address, port: 8080 })
        const answer = await near.probe({ protocol, address, port: 8080, nonce: 'n1', sourcePort: 4242 })
        t.match(answer, { ok: true, answer: 'n1 from server', port: 4242 })
        const again = await near.probe({ protocol, address, port: 8080, nonce: 'n2', sourcePort: 4242 })
        t.match(again, { ok: true, answer: 'n2 from server' }, 'the source port can be used again at once')
        t.match(await router.probe({ protocol, address, port: 8080, nonce: 'n3' }), { answer: 'n3 from server' })

        const { connection } = await near.open({ protocol, address, port: 8080 })
        if (!connection) throw new Error('no connection')
        t.match(await connection.exchange('one'), { ok: true, answer: 'one from server' })
        t.match(await connection.exchange('two'), { ok: true, answer: 'two from server' })
        await connection.close()
        t.match(await connection.exchange('three'), { ok: false, error: 'closed' })

        await listener.close()
        t.match(await near.probe({ protocol, address, port: 8080 }), { ok: false, error: 'refused' })
      })
    }
  }

  t.test('what the router drops times out, beside a port that it does not drop', async (t) => {
    await filter(network, [
      'meta l4proto { tcp, udp } th dport 81 counter drop',
      'meta l4proto { tcp, udp } th dport 82 reject with icmpx type admin-prohibited',
    ])
    t.after(() => filter(network, []))
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const address of server) {
        const listener = await far.listen({ protocol, address, port: 80 })
        const probe = (port: number, timeoutMs: number) => near.probe({ protocol, address, port, timeoutMs })
        // An ICMPv6 error that is faster than connect() is forgotten: the second SYN, after 1 s, fails for good.
        const [open, dropped, rejected] = await Promise.all([probe(80, 200), probe(81, 200), probe(82, 3000)])
        t.match(open, { ok: true }, `${protocol} ${address} open`)
        t.match(dropped, { ok: false, error: 'timeout' }, `${protocol} ${address} dropped`)
        t.ok(dropped.ms >= 190, `after ${dropped.ms} ms`)
        // Linux maps this ICMP error to EHOSTUNREACH for IPv4 and to EACCES for IPv6.
        t.match(rejected, { ok: false, error: isIPv4(address) ? 'unreachable' : 'prohibited' })
        await listener.close()
      }
    }
    const { stdout } = await network.exec('router', ['nft', 'list', 'chain', 'inet', 'lab', 'forward'])
    t.match(stdout, /dport 81 counter packets 4 /, 'exactly the packets that were sent')
  })

  t.test('ping', async (t) => {
    await filter(network, [
      `icmp type echo-request ip saddr ${client[0]} drop`,
      `icmpv6 type echo-request ip6 saddr ${client[1]} drop`,
    ])
    for (const address of server) t.same(await ping(network, 'client', address, { timeoutMs: 50 }), ['timeout'])
    for (const address of client) t.same(await ping(network, 'server', address), ['reply'])
    await filter(network, [])
    for (const address of server) t.same(await ping(network, 'client', address, { count: 3 }), Array(3).fill('reply'))
    t.same(await ping(network, 'client', '10.99.0.1'), ['unreachable'])
  })

  t.test('raw packets arrive as they were sent', async (t) => {
    const sniffer = await sniff(network, 'server')
    const packets = client.map((source, i) =>
      udpPacket({ source, destination: server[i] ?? '', sourcePort: 7, destinationPort: 9, payload: `nonce ${i}` }),
    )
    t.equal(await sendPackets(network, 'client', packets), 2)
    for (const packet of packets) {
      const arrived = await sniffer.find((seen) => seen.includes(packet.subarray(-7)))
      if (!arrived) throw new Error('the packet did not arrive')
      const hopLimit = isIPv4Packet(packet) ? 8 : 7
      t.equal(arrived[hopLimit], 63, 'one router on the way')
      t.same(withoutHop(arrived), withoutHop(packet))
    }
    await sniffer.stop()
    await t.rejects(sendPackets(network, 'client', packets, { interface: 'none' }), /raw send none/)
  })

  t.test('a valid checksum: a server answers the packet', async (t) => {
    for (const address of server) {
      const udp = await far.listen({ protocol: 'udp', address, port: 90 })
      const tcp = await far.listen({ protocol: 'tcp', address, port: 90 })
      const sniffer = await sniff(network, 'client')
      const source = client[server.indexOf(address)] ?? ''
      await sendPackets(network, 'client', [
        udpPacket({ source, destination: address, sourcePort: 91, destinationPort: 90, payload: 'raw' }),
      ])
      t.ok(await sniffer.find((packet) => packet.includes('raw from server')), `UDP ${address}`)
      const destination = { destination: address, waitMs: 1000 }
      t.same(await sendTcp(network, 'client', { ...destination, port: 90 }), { sent: 1, answer: 'SA' })
      t.same(await sendTcp(network, 'client', { ...destination, port: 89 }), { sent: 1, answer: 'RA' })
      t.same(await sendTcp(network, 'client', { ...destination, port: 90, flags: 'A' }), { sent: 1, answer: 'R' })
      await Promise.all([sniffer.stop(), udp.close(), tcp.close()])
    }
  })

  for (const address of server) {
    t.test(`push from ${address}`, async (t) => {
      await far.push({ address, port: 9000, intervalMs: 5, durationMs: 10_000 })
      const stream = await near.subscribe({ address, port: 9000, durationMs: 10_000 })
      t.ok(await stream.more(5), 'datagrams arrive')
      await filter(network, ['udp sport 9000 drop'])
      t.ok(await stream.quiet(100), 'and stop when dropped')
      const before = stream.arrivals.length
      await filter(network, [])
      t.ok(await stream.more(1), 'and go on')
      const sequences = stream.arrivals.map((arrival) => arrival.sequence)
      t.equal(sequences[0], 0)
      const gap = (sequences[before] ?? 0) - (sequences[before - 1] ?? 0)
      t.ok(gap > 10, `${gap} numbers are missing: the server went on meanwhile`)
      t.ok(Math.abs((stream.arrivals.at(-1)?.at ?? 0) - Date.now()) < 5000, 'time stamps are wall-clock time')
      await stream.close()
      t.equal(await stream.ended, undefined)
    })

    t.test(`download from ${address}`, async (t) => {
      await far.serve({ address, port: 9001, bytesPerSecond: 2_000_000 })
      const stream = await near.download({ address, port: 9001, durationMs: 10_000 })
      t.ok(await stream.more(4), 'data arrives')
      t.ok(stream.bytes > 100_000 && stream.bytes < 2_000_000, `${stream.bytes} bytes at 100 000 an interval`)
      await filter(network, ['tcp sport 9001 reject with tcp reset'])
      // The reset goes to the server: the client hears nothing any more.
      t.ok(await stream.quiet(150), 'and stops when the server was reset')
      await filter(network, [])
      t.notOk(await stream.more(1, 100), 'for good')
      await stream.close()
      t.equal(await stream.ended, undefined)
    })
  }

  t.test('a host can be added, and two hosts may share a subnet', async (t) => {
    await network.addHost({ name: 'late', addresses: ['10.77.2.3', 'fd77:2::3'] })
    t.same(network.hosts, ['client', 'server', 'late'])
    for (const address of server) t.same(await ping(network, 'late', address), ['reply'])
  })

  t.test('an agent that has ended answers nothing', async (t) => {
    const extra = await Agent.start(network, 'client')
    await extra.close()
    await extra.close()
    t.match(await extra.probe({ protocol: 'tcp', address: '10.77.2.2', port: 1 }), { ok: false, error: 'closed' })
  })

  t.test('programs', async (t) => {
    const { code, stdout } = await network.exec('client', ['cat'], { input: 'text' })
    t.same({ code, stdout }, { code: 0, stdout: 'text' })
    t.match(await network.exec('client', ['sleep', '60'], { timeoutMs: 20 }), { timedOut: true, code: undefined })
    await t.rejects(network.exec('client', ['no-such-program']), { code: 'UNSUPPORTED_HOST' })
    await t.rejects(network.exec('nobody', ['true']), { code: 'UNKNOWN_NAME' })
    await t.rejects(createNetwork({ hosts: [{ name: 'Bad name', addresses: [] }] }), { code: 'USAGE' })
  })
})

t.test('nothing is left behind', { skip: !isRoot && !process.env.CI && 'needs root' }, async (t) => {
  const network = await createNetwork({ prefix: 'knplab', hosts })
  const names = ['router', ...network.hosts].map((host) => network.namespaceOf(host))
  const missing = async () => {
    const existing = await readdir('/run/netns')
    return names.filter((name) => !existing.includes(name))
  }
  t.same(await missing(), [])
  // A grandchild, which no signal to the child reaches.
  const child = network.spawn('client', ['sh', '-c', 'sleep 1000 & echo $!; wait'], { stdio: 'pipe' })
  const pid = Number(await new Promise<Buffer>((resolve) => child.stdout?.once('data', resolve)))
  t.ok(process.kill(pid, 0))
  await network.destroy()
  await network.destroy()
  t.same(await missing(), names, 'namespaces are gone')
  await t.rejects(network.exec('client', ['true']), { code: 'UNKNOWN_NAME' })
  await gone(pid)
})

/** Resolves when a killed process, which its new parent has yet to reap, has ended. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    if (stat === '' || / Z /.test(stat)) return
  }
}

/** The rules that the router forwards by, in place of those before. */
async function filter(network: Network, rules: readonly string[]): Promise<void> {
  const chain = ['type filter hook forward priority 0', ...rules].map((line) => `${line}\n`).join('')
  const input = `table inet lab\ndelete table inet lab\ntable inet lab {\nchain forward {\n${chain}}\n}\n`
  const { code, stderr } = await network.exec('router', ['nft', '-f', '-'], { input })
  if (code !== 0) throw new Error(stderr)
}

function isIPv4Packet(packet: Buffer): boolean {
  return (packet[0] ?? 0) >> 4 === 4
}

/** The packet without what a router changes: hop limit and IPv4 header checksum. */
function withoutHop(packet: Buffer): string {
  const copy = Buffer.from(packet)
  if (isIPv4Packet(packet)) copy.fill(0, 8, 9).fill(0, 10, 12)
  else copy.fill(0, 7, 8)
  return copy.toString('hex')
}
