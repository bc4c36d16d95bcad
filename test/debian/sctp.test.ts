import { once } from 'node:events'
import t from 'tap'
import type { Network } from '../../src/lab/network.ts'
import { networkPolicy, Product } from '../kernel/product.ts'
import { slow } from '../slow.ts'
import { sctpTool } from '../tools/raw.ts'
import { client, counts, DENIED_AFTER_MS, db, more, site } from './site.ts'

t.test('SCTP associations', async (t) => {
  const { network, folder } = await site(t)
  const tool = await sctpTool()
  await Promise.all(db.map((address) => serve(network, tool, address, [80, 9000, 9001])))
  const product = await start()

  async function start() {
    await folder.write('policy.yaml', [ingress({ protocol: 'SCTP', port: 9000 }, { protocol: 'SCTP', port: 'signal' })])
    return await Product.start(network, folder)
  }
  const call = async (family: 0 | 1, port: number, expected: 'echo' | 'timeout') => {
    const limitMs = expected === 'echo' ? 2000 * slow : DENIED_AFTER_MS
    const argv = [tool, 'call', client[family], db[family], `${port}`, `${limitMs}`]
    const { stdout, stderr } = await network.exec('near', argv, { timeoutMs: limitMs + 5000 * slow })
    return stdout.trim() || stderr
  }
  const calls = (port: number, expected: 'echo' | 'timeout') =>
    Promise.all(([0, 1] as const).map((family) => call(family, port, expected)))

  t.test('a number and a name as port: allowed, and nothing beside them', async (t) => {
    const before = await counts(product)
    t.same(await calls(9000, 'echo'), ['echo', 'echo'], 'the number')
    t.same(await calls(9001, 'echo'), ['echo', 'echo'], 'the name')
    t.same(await calls(80, 'timeout'), ['timeout', 'timeout'], 'another port')
    t.same(await counts(product), more(before, 4, 2), 'one packet of each association was queued')
  })

  t.test('the same ports of TCP are another matter', async (t) => {
    await product.change(() => folder.write('policy.yaml', [ingress({ port: 9000 }, { protocol: 'SCTP', port: 80 })]))
    const before = await counts(product)
    t.same(await calls(9000, 'timeout'), ['timeout', 'timeout'])
    t.same(await calls(80, 'echo'), ['echo', 'echo'])
    t.same(await counts(product), more(before, 2, 2))
  })
})

function ingress(...ports: object[]): object {
  return networkPolicy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports }] })
}

async function serve(network: Network, tool: string, address: string, ports: readonly number[]): Promise<void> {
  const child = network.spawn('far', [tool, 'serve', address, ...ports.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [text] = await Promise.race([once(child.stdout!, 'data'), once(child, 'close')])
  if (String(text) !== 'ready\n') throw new Error(`sctp serve: ended with ${text}`)
}
