import { isIPv4 } from 'node:net'
import t, { type Test } from 'tap'
import { Agent, type Connection } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { skip } from './product.ts'
import { allowed, denied, marks, SlowListener } from './slow-listener.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
/** Nobody's ends in these flows. */
const others = ['10.77.9.9', 'fd77:9::9']
const REMEMBER_MS = 60_000
const WAIT_MS = 5000
/** How long an answer is waited for that must not come. */
const DENIED_MS = 150
const verdicts = { allowed, denied }

t.test('answers that come after a change teach nothing', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  const listener = await SlowListener.start(network, db, REMEMBER_MS)
  for (const address of db) {
    for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port: 80 })
  }

  /** What the counters count while something is done. */
  const counted = async (act: () => Promise<unknown>) => {
    const before = await listener.counters()
    await act()
    const after = await listener.counters()
    return {
      queued: after.queued - before.queued,
      rememberedAllowed: after.rememberedAllowed - before.rememberedAllowed,
      rememberedDenied: after.rememberedDenied - before.rememberedDenied,
    }
  }
  /** The one packet that is queued. Answers how to answer it. */
  const takeOne = async (t: Test, bits: number, comment: string) => {
    const held = await listener.take()
    t.equal(held.length, 1, `${comment}: queued`)
    const mark = held[0]?.mark ?? 0
    t.equal(mark & marks.packetMask, marks.queued | bits, `${comment}: ${bits === 0 ? 'original' : 'reply'} direction`)
    return (verdict: keyof typeof verdicts, stamp: number) => listener.answer([verdicts[verdict](mark, stamp)])
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
    for (const protocol of ['tcp', 'udp'] as const) {
      const flow = { protocol, address, port: 80 } as const
      for (const [what, recheck] of [
        ['everything', 'everything'],
        ['these flows', [address]],
        ['other flows', others],
      ] as const) {
        t.test(`${family} ${protocol}, a change of ${what}: an old answer allows, and is not remembered`, async (t) => {
          await listener.change()
          const opening = near.open({ ...flow, timeoutMs: WAIT_MS })
          const exchanging = opening.then(({ connection }) => connection!.exchange('n', WAIT_MS))
          const answer = await takeOne(t, 0, 'the first packet')
          const decidedBy = listener.stamp
          await listener.change(recheck)
          await answer('allowed', decidedBy)
          await (await takeOne(t, marks.reply, 'the answer to it'))('allowed', listener.stamp)
          t.match(await exchanging, { ok: true })
          await (await opening).connection!.close()
          t.match(await counted(() => learnAnew(t, flow)), { rememberedAllowed: 0 }, 'nor is the answer to a reply')
          if (recheck !== 'everything' && recheck !== others) return
          const { queued, rememberedAllowed } = await counted(() => near.probe({ ...flow, timeoutMs: WAIT_MS }))
          t.same({ queued, rememberedAllowed }, { queued: 0, rememberedAllowed: 1 }, 'control: a new answer is')
        })

        t.test(`${family} ${protocol}, a change of ${what}: an old answer denies, and is not remembered`, async (t) => {
          await listener.change()
          const probing = near.probe({ ...flow, timeoutMs: DENIED_MS })
          const answer = await takeOne(t, 0, 'the first packet')
          const decidedBy = listener.stamp
          await listener.change(recheck)
          await answer('denied', decidedBy)
          t.match(await probing, { ok: false, error: 'timeout' })
          const again = near.probe({ ...flow, timeoutMs: DENIED_MS })
          await (await takeOne(t, 0, 'the next one'))('denied', listener.stamp)
          t.match(await again, { ok: false, error: 'timeout' })
          if (recheck !== 'everything' && recheck !== others) return
          const counts = await counted(() => near.probe({ ...flow, timeoutMs: DENIED_MS }))
          t.match(counts, { queued: 0, rememberedDenied: 1 }, 'control: a new answer is')
        })
      }
    }

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
        await (await takeOne(t, 0, 'a packet of a stamped connection'))('allowed', former)
        await (await takeOne(t, marks.reply, 'the answer to it, as the old answer counts for nothing'))(
          'allowed',
          listener.stamp,
        )
        t.match(await exchanging, { ok: true })
        t.match(await counted(() => touched.exchange('n')), { queued: 0 }, 'then it is known to be allowed')

        await listener.change([address])
        const cutting = touched.exchange('after another change', DENIED_MS)
        await (await takeOne(t, 0, 'judged again after another change'))('denied', listener.stamp)
        t.match(await cutting, { ok: false, error: 'timeout' })
        const still = touched.exchange('still', WAIT_MS)
        await (await takeOne(t, 0, 'and at each packet, as it is denied'))('allowed', listener.stamp)
        t.match(await still, { ok: true })

        const other = second.exchange('the other one', DENIED_MS)
        await (await takeOne(t, 0, 'what was judged of one says nothing of another'))('denied', listener.stamp)
        t.match(await other, { ok: false, error: 'timeout' })
        const fresh = await openStamped(t, address)
        await listener.endRecheck()
        t.match(await counted(() => touched.exchange('n')), { queued: 0 }, 'stamped again')
        t.match(await counted(() => fresh.exchange('n')), { queued: 0 })
        const cut = second.exchange('cut', DENIED_MS)
        await (await takeOne(t, 0, 'the one that was cut has no stamp after the recheck'))('denied', listener.stamp)
        t.match(await cut, { ok: false, error: 'timeout' })
        await learnAnew(t, { protocol: 'udp', address, port: 80 })
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

  /** A new connection: it is queued, as no tuple counts for it, and is allowed. */
  async function learnAnew(t: Test, flow: { protocol: 'tcp' | 'udp'; address: string; port: number }): Promise<void> {
    const probing = near.probe({ ...flow, timeoutMs: WAIT_MS })
    await (await takeOne(t, 0, 'the next new connection'))('allowed', listener.stamp)
    t.match(await probing, { ok: true })
  }
})
