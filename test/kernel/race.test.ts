import { isIPv4 } from 'node:net'
import t from 'tap'
import { LAST_STAMP } from '../../src/datapath/marks.ts'
import { Agent, type Connection } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { ping } from '../tools/raw.ts'
import { skip } from './product.ts'
import { allowed, marks, SlowListener, stamped } from './slow-listener.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']

t.setTimeout(120_000)

t.test('answers, stamps and generations', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  // Each question is to come here.
  const listener = await SlowListener.start(network, db, { allowedMs: 0, deniedMs: 0, size: 1 })
  for (const address of db) {
    for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port: 80 })
  }
  const queuedBy = async (act: () => Promise<unknown>) => {
    const { queued } = await listener.counters()
    await act()
    return (await listener.counters()).queued - queued
  }

  for (const [i, address] of db.entries()) {
    const family = isIPv4(address) ? 'IPv4' : 'IPv6'
    const source = client[i]!

    t.test(`${family} TCP: an answer of the last generation lets the packet pass, and stamps nothing`, async (t) => {
      const opening = near.open({ protocol: 'tcp', address, port: 80, timeoutMs: 5000 })
      const answerSyn = await listener.takeOne(t, 0, 'SYN')
      const decidedBy = listener.stamp
      await listener.change()
      await answerSyn(decidedBy)
      const answerSynAck = await listener.takeOne(t, marks.reply, 'SYN+ACK')
      await answerSynAck(listener.stamp)
      const { connection } = await opening
      t.ok(connection, 'connected')
      t.equal(await listener.markOf(source, connection!.port), stamped(listener.stamp))
      t.equal(await queuedBy(() => connection!.exchange('n')), 0, 'stamped by the answer to the reply')
      await connection!.close()
    })

    t.test(`${family} UDP: an answer of the last generation lets the packet pass, and stamps nothing`, async (t) => {
      const connection = await openUdp(near, address)
      const exchanging = connection.exchange('n', 5000)
      const answerFirst = await listener.takeOne(t, 0, 'request')
      const decidedBy = listener.stamp
      await listener.change()
      await answerFirst(decidedBy)
      const answerReply = await listener.takeOne(t, marks.reply, 'answer')
      t.equal(await listener.markOf(source, connection.port), 0, 'not stamped')
      await answerReply(decidedBy)
      t.match(await exchanging, { ok: true })
      t.equal(await listener.markOf(source, connection.port), 0, 'not stamped by a reply either')
      const again = connection.exchange('again', 5000)
      const answerSecond = await listener.takeOne(t, 0, 'next request')
      await answerSecond(listener.stamp)
      t.match(await again, { ok: true })
      t.equal(await listener.markOf(source, connection.port), stamped(listener.stamp))
      t.equal(await queuedBy(() => connection.exchange('more')), 0, 'control: now it is remembered')
      await connection.close()
    })

    t.test(`${family}: after a change a server's own packets are queued, as replies`, async (t) => {
      const pushing = await far.push({ address, port: 9000, intervalMs: 20, durationMs: 60_000 })
      const subscribing = near.subscribe({ address, port: 9000, durationMs: 60_000 })
      await (await listener.takeOne(t, 0, 'the one packet of the client'))(listener.stamp)
      const stream = await subscribing
      t.ok(await stream.more(5), 'the server pushes')
      await listener.change()
      const held = await listener.take()
      t.ok(held.length > 0, 'the next datagram is queued')
      for (const { mark } of held) t.equal(mark & marks.packetMask, marks.queued | marks.reply)
      await listener.answer(held.map(({ mark }) => (mark & ~marks.packetMask) | marks.denied))
      t.notOk(await stream.more(1, 100), 'nothing arrives while nothing is allowed')
      for (let rest = await listener.take(100); rest.length > 0; rest = await listener.take(100)) {
        await listener.answer(rest.map(({ mark }) => allowed(mark, listener.stamp)))
        if ((await listener.markOf(source, stream.port)) === stamped(listener.stamp)) break
      }
      t.ok(await stream.more(2), 'it goes on once allowed')
      await pushing.close()
      await stream.close()
      for (let rest = await listener.take(50); rest.length > 0; rest = await listener.take(50))
        await listener.answer(rest.map(({ mark }) => allowed(mark, listener.stamp)))
    })
  }

  t.test(
    `a stamp that comes again after ${LAST_STAMP} generations is not that of an old idle connection`,
    async (t) => {
      const idle: Connection[] = []
      for (const address of db) {
        const opening = near.open({ protocol: 'tcp', address, port: 80, timeoutMs: 5000 })
        await (await listener.takeOne(t, 0, 'SYN'))(listener.stamp)
        idle.push((await opening).connection!)
        const udp = await openUdp(near, address)
        const exchanging = udp.exchange('n', 5000)
        await (await listener.takeOne(t, 0, 'request'))(listener.stamp)
        t.match(await exchanging, { ok: true })
        idle.push(udp)
      }
      const first = listener.stamp
      t.equal(await queuedBy(() => Promise.all(idle.map((one) => one.exchange('control')))), 0, 'all are remembered')
      for (let i = 0; i < LAST_STAMP; i++) await listener.change()
      t.equal(listener.stamp, first, 'the same stamp again')
      for (const [i, connection] of idle.entries()) {
        t.equal(await listener.markOf(client[i >> 1]!, connection.port), 0, 'the old stamp is taken away')
        const exchanging = connection.exchange(`judged ${i}`, 5000)
        await (await listener.takeOne(t, 0, 'the next packet'))(listener.stamp)
        t.match(await exchanging, { ok: true })
      }
      for (let i = 0; i < LAST_STAMP + 3; i++) await listener.change()
      for (const connection of idle) {
        const exchanging = connection.exchange('judged again', 5000)
        await (await listener.takeOne(t, 0, 'and after more of them'))(listener.stamp)
        t.match(await exchanging, { ok: true })
        await connection.close()
      }
    },
  )

  t.test("marks of others stay, and others' marks do not pass for ours", async (t) => {
    // Before ours others set packet and connection marks, with all bits that are ours and some that are not.
    const forged = marks.allowed | (listener.stamp << marks.stampShift) | 0xab
    const forgedConnection = (stamped(listener.stamp) | 0x5a) >>> 0
    await nft(network, [
      'table inet others {',
      '  counter kept { }',
      '  counter changed { }',
      '  chain first { type filter hook prerouting priority -190; policy accept;',
      `    ct state new ct mark set ${forgedConnection}`,
      `    meta mark set ${forged}`,
      '  }',
      '  chain last { type filter hook postrouting priority 300; policy accept;',
      `    ip daddr ${db[0]} jump look`,
      `    ip6 daddr ${db[1]} jump look`,
      '  }',
      '  chain look {',
      '    meta mark 0xab counter name kept return',
      '    counter name changed',
      '  }',
      '}',
    ])
    t.after(() => nft(network, ['delete table inet others']))
    const connections: Connection[] = []
    for (const [i, address] of db.entries()) {
      const denied = near.probe({ protocol: 'udp', address, port: 80, timeoutMs: 300 })
      const held = await listener.take()
      t.equal(held.length, 1, 'a forged mark is not believed')
      t.equal(held[0]!.mark, (marks.queued | 0xab) >>> 0, 'the question is ours, the rest theirs')
      await listener.answer(held.map(({ mark }) => (mark & ~marks.packetMask) | marks.denied))
      t.match(await denied, { ok: false, error: 'timeout' })

      const connection = await openUdp(near, address)
      const exchanging = connection.exchange('n', 5000)
      await (await listener.takeOne(t, 0, 'request'))(listener.stamp)
      t.match(await exchanging, { ok: true })
      t.equal(await listener.markOf(client[i]!, connection.port), forgedConnection, 'stamped, the other bits kept')
      connections.push(connection)
    }
    await listener.change()
    for (const [i, connection] of connections.entries()) {
      const again = connection.exchange('again', 5000)
      await (await listener.takeOne(t, 0, 'request after a change'))(listener.stamp)
      t.match(await again, { ok: true })
      t.equal(
        await listener.markOf(client[i]!, connection.port),
        (stamped(listener.stamp) | 0x5a) >>> 0,
        'stamped anew, the other bits kept',
      )
      await connection.close()
    }
    const pinging = ping(network, 'near', db[0]!, { timeoutMs: 5000 })
    await (await listener.takeOne(t, 0, 'echo request'))(listener.stamp)
    t.same(await pinging, ['reply'])
    const { stdout } = await network.exec('router', ['nft', 'list', 'counters', 'table', 'inet', 'others'])
    t.match(stdout, /counter kept \{\s+packets 5 /, 'every packet left with their mark, and without ours')
    t.match(stdout, /counter changed \{\s+packets 0 /)
  })

  t.test('every packet had its answer', async (t) => {
    const { queued, allowed, denied, unanswered } = await listener.counters()
    t.equal(unanswered, 0)
    t.equal(queued, allowed + denied, `${queued} queued, ${allowed} allowed, ${denied} denied`)
  })
})

t.test('answers that are delayed across a change teach nothing', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  // What is remembered outlives this test.
  const listener = await SlowListener.start(network, db, { allowedMs: 600_000, deniedMs: 600_000, size: 100 })
  let port = 1000

  /** One new connection to the port: whether it arrives, and how often the listener is asked about it. */
  async function ask(address: string, answer: (mark: number) => number) {
    const probing = near.probe({ protocol: 'udp', address, port, timeoutMs: 600 })
    let questions = 0
    for (let held = await listener.take(200); held.length > 0; held = await listener.take(200)) {
      questions += held.length
      await listener.answer(held.map(({ mark }) => answer(mark)))
    }
    return { ...((await probing).ok ? { arrives: true } : { arrives: false }), questions }
  }
  const changes = {
    'what concerns others': () => listener.change(['192.0.2.1', '2001:db8::1']),
    'what concerns the server': () => listener.change(db),
    'what concerns the client': () => listener.change(client),
    // The last one: it ends the recheck of all.
    everything: () => listener.change(),
  }
  for (const [i, address] of db.entries()) {
    for (const [name, change] of Object.entries(changes)) {
      for (const [verdict, bit] of [
        ['allowed', marks.allowed],
        ['denied', marks.denied],
      ] as const) {
        t.test(`IPv${i === 0 ? 4 : 6}, ${verdict}, then a change of ${name}`, async (t) => {
          await far.listen({ protocol: 'udp', address, port: ++port })
          const decided = (mark: number) => (mark & ~marks.packetMask) | bit | (listener.stamp << marks.stampShift)
          const isAllowed = verdict === 'allowed'
          const connection = (await near.open({ protocol: 'udp', address, port })).connection!
          const exchanging = connection.exchange('n', 1000)
          const held = await listener.take()
          const late = held.map(({ mark }) => decided(mark))
          await change()
          await listener.answer(late)
          // An answer to the request is a question of its own, since the connection is not stamped.
          for (let rest = await listener.take(200); rest.length > 0; rest = await listener.take(200)) {
            await listener.answer(rest.map(({ mark }) => (mark & ~marks.packetMask) | marks.allowed))
          }
          t.equal((await exchanging).ok, isAllowed, 'the packet fares as it was decided')
          t.equal((await listener.markOf(client[i]!, connection.port)) ?? 0, 0, 'no stamp')
          const next = await ask(address, decided)
          t.same(next, { arrives: isAllowed, questions: 1 }, 'the next connection is asked about')
          const isOfOthers = name === 'what concerns others' || name === 'everything'
          const third = await ask(address, decided)
          t.same(
            third,
            { arrives: isAllowed, questions: isOfOthers ? 0 : 1 },
            isOfOthers ? 'that was learnt' : 'what is being rechecked is asked about each time',
          )
          await connection.close()
        })
      }
    }
  }
})

async function openUdp(agent: Agent, address: string): Promise<Connection> {
  const { connection } = await agent.open({ protocol: 'udp', address, port: 80 })
  return connection!
}

async function nft(network: Network, lines: readonly string[]): Promise<void> {
  const { code, stderr } = await network.exec('router', ['nft', '-f', '-'], { input: `${lines.join('\n')}\n` })
  if (code !== 0) throw new Error(stderr)
}
