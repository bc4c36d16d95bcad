import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent, type Connection } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { skip } from './product.ts'
import { allowed, denied, marks, SlowListener } from './slow-listener.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
/** What no change concerns. */
const steady = ['10.77.2.3', 'fd77:2::3']
/** Nobody's ends in these flows. */
const others = ['10.77.9.9', 'fd77:9::9']
const WAIT_MS = 5000
/** How long an answer is waited for that must not come. */
const DENIED_MS = 150
/** Longer than the test. */
const STREAM_MS = 60_000
const verdicts = { allowed, denied }

t.test('a change has some connections rechecked', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  const listener = await SlowListener.start(network, db, { allowedMs: 60_000, deniedMs: 60_000, size: 100 })
  for (const address of db) await far.listen({ protocol: 'udp', address, port: 80 })

  /** What the counters count while something is done. */
  const counted = async (act: () => Promise<unknown>) => {
    const before = await listener.counters()
    await act()
    const { queued, rememberedAllowed } = await listener.counters()
    return { queued: queued - before.queued, rememberedAllowed: rememberedAllowed - before.rememberedAllowed }
  }
  /** The one packet that is queued. Answers how to answer it. */
  const takeOne = async (t: Test, bits: number, comment: string) => {
    const held = await listener.take()
    t.equal(held.length, 1, `${comment}: queued`)
    const mark = held[0]?.mark ?? 0
    t.equal(
      mark & marks.packetMask,
      marks.queued | bits,
      `${comment}: ${(bits & marks.reply) === 0 ? 'original' : 'reply'} direction`,
    )
    return (verdict: keyof typeof verdicts, stamp: number) =>
      listener.answer(held.map((packet) => verdicts[verdict](packet.mark, stamp)))
  }
  const openUdp = async (address: string): Promise<Connection> => {
    const { connection } = await near.open({ protocol: 'udp', address, port: 80 })
    return connection!
  }
  /** A UDP connection that the generation in force has allowed. */
  const openStamped = async (t: Test, address: string) => {
    const connection = await openUdp(address)
    const exchanging = connection.exchange('first', WAIT_MS)
    await (await takeOne(t, 0, 'its first packet'))('allowed', listener.stamp)
    t.match(await exchanging, { ok: true })
    return connection
  }

  for (const address of db) {
    const family = isIPv4(address) ? 'IPv4' : 'IPv6'
    t.test(
      `${family}: a connection that is rechecked is judged until the generation in force has allowed it`,
      async (t) => {
        await listener.change()
        const touched = await openStamped(t, address)
        const second = await openUdp(address)
        t.match(await counted(() => second.exchange('n')), { queued: 0, rememberedAllowed: 1 }, 'control: remembered')
        t.match(await counted(() => touched.exchange('n')), { queued: 0 }, 'control: stamped')

        const former = listener.stamp
        await listener.change([address])
        const exchanging = touched.exchange('after the change', WAIT_MS)
        await (await takeOne(t, marks.stamped, 'a packet of a stamped connection'))('allowed', former)
        await (await takeOne(t, marks.reply | marks.stamped, 'the answer to it, as the old answer counts for nothing'))(
          'allowed',
          listener.stamp,
        )
        t.match(await exchanging, { ok: true })
        t.match(await counted(() => touched.exchange('n')), { queued: 0 }, 'then it is known to be allowed')

        await listener.change([address])
        const cutting = touched.exchange('after another change', DENIED_MS)
        await (await takeOne(t, marks.stamped, 'judged again after another change'))('denied', listener.stamp)
        t.match(await cutting, { ok: false, error: 'timeout' })
        const still = touched.exchange('still', WAIT_MS)
        await (await takeOne(t, 0, 'and at each packet, as it is denied'))('allowed', listener.stamp)
        t.match(await still, { ok: true })

        const other = second.exchange('the other one', DENIED_MS)
        await (await takeOne(t, marks.stamped, 'what was judged of one says nothing of another'))(
          'denied',
          listener.stamp,
        )
        t.match(await other, { ok: false, error: 'timeout' })
        const fresh = await openStamped(t, address)
        await listener.endRecheck()
        t.match(await counted(() => touched.exchange('n')), { queued: 0 }, 'stamped again')
        t.match(await counted(() => fresh.exchange('n')), { queued: 0 })
        const cut = second.exchange('cut', DENIED_MS)
        await (await takeOne(t, 0, 'the one that was cut has no stamp after the recheck'))('denied', listener.stamp)
        t.match(await cut, { ok: false, error: 'timeout' })
        for (const connection of [touched, second, fresh]) await connection.close()
      },
    )

    t.test(`${family}: a change of others leaves a connection its stamp`, async (t) => {
      await listener.change()
      const connection = await openStamped(t, address)
      await listener.change(others)
      t.match(await counted(() => connection.exchange('n')), { queued: 0 })
      await listener.change()
      const exchanging = connection.exchange('n', WAIT_MS)
      await (await takeOne(t, 0, 'control: a change of everything does not'))('allowed', listener.stamp)
      t.match(await exchanging, { ok: true })
      await connection.close()
    })
  }
})

/** What nobody answers is no answer: the question about such a connection has marks of its own. */
for (const mode of ['closed', 'open'] as const) {
  t.test(`nobody answers while a connection is rechecked, under ${mode}`, { skip }, async (t) => {
    const network = await createNetwork({
      prefix: 'knpk',
      hosts: [
        { name: 'near', addresses: client },
        { name: 'far', addresses: [...db, ...steady] },
      ],
    })
    t.after(() => network.destroy())
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    const remember = { allowedMs: 0, deniedMs: 0, size: 1 }
    const listener = await SlowListener.start(network, [...db, ...steady], remember, mode)
    /** A stamped connection, and a stamped stream of datagrams that the server goes on sending. */
    const establish = async (address: string) => {
      await far.listen({ protocol: 'udp', address, port: 80 })
      await far.push({ address, port: 81, intervalMs: 20, durationMs: STREAM_MS })
      const { connection } = await near.open({ protocol: 'udp', address, port: 80 })
      const exchanging = connection!.exchange('first', WAIT_MS)
      await (await listener.takeOne(t, 0, 'its first packet'))(listener.stamp)
      t.match(await exchanging, { ok: true })
      const stream = await near.subscribe({ address, port: 81, durationMs: STREAM_MS })
      await (await listener.takeOne(t, 0, "the stream's first packet"))(listener.stamp)
      t.ok(await stream.more(3), 'the stream runs')
      return { connection: connection!, stream }
    }
    const touched = await inTurn(db, establish)
    const untouched = await inTurn(steady, establish)
    const { queued, unanswered } = await listener.counters()
    for (const { connection } of [...touched, ...untouched]) t.match(await connection.exchange('stamped'), { ok: true })
    t.match(await listener.counters(), { queued, unanswered: 0 }, 'control: not asked about while nothing changes')
    t.equal(unanswered, 0)

    await listener.change(db)
    await listener.kill()
    for (const [i, { connection, stream }] of touched.entries()) {
      const before = await unansweredIn(network)
      const answer = await connection.exchange('nobody answers', mode === 'closed' ? DENIED_MS : WAIT_MS)
      t.match(answer, mode === 'closed' ? { ok: false, error: 'timeout' } : { ok: true }, `${db[i]}: what is sent`)
      if (mode === 'closed') t.ok(await stream.quiet(300), `${db[i]}: what comes back is dropped`)
      else t.ok(await stream.more(5), `${db[i]}: what comes back passes`)
      t.ok((await unansweredIn(network)) > before, 'by want of an answer')
    }
    for (const [i, { connection, stream }] of untouched.entries()) {
      t.match(await connection.exchange('goes on', WAIT_MS), { ok: true }, `control: ${steady[i]} is not rechecked`)
      t.ok(await stream.more(5))
    }
  })
}

/** The listener holds packets of one at a time. */
async function inTurn<Of, Made>(all: readonly Of[], make: (one: Of) => Promise<Made>): Promise<readonly Made[]> {
  const made: Made[] = []
  for (const one of all) made.push(await make(one))
  return made
}

/** How many packets went on without an answer. */
async function unansweredIn(network: Network): Promise<number> {
  const { stdout } = await network.exec('router', ['nft', 'list', 'counter', 'inet', 'knp', 'unanswered'])
  return Number(/packets (\d+)/.exec(stdout)![1])
}
