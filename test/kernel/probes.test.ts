import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { until } from '../until.ts'
import { get } from './http.ts'
import { networkPolicy, Product, pod, policies, skip } from './product.ts'

const db = ['10.77.2.2', 'fd77:2::2'] as const
const PORT = 9080
/** A thread that stands still is looked at ten times, a second apart. */
const STALL_TIMEOUT_MS = 30_000 * slow

/** Takes forever over what it judges. */
const endless = `
import { identityTable, SELECTS_BOTH } from 'knp/engine'
const judge = () => {
  for (;;);
}
export default {
  name: 'Endless',
  compile: (snapshot, identities) => ({ selected: identityTable(identities, () => SELECTS_BOTH) }),
  evaluate: () => ({ evaluateEgress: judge, evaluateIngress: judge }),
}
`

const world = [pod({ name: 'db', addresses: db }), networkPolicy('all', { ingress: [{}] })]

async function network(): Promise<Network> {
  return createNetwork({
    prefix: 'knph',
    hosts: [
      { name: 'client', addresses: ['10.77.1.2'] },
      { name: 'db', addresses: [...db] },
    ],
  })
}

t.test('alive and ready, and what else it says', { skip }, async (t) => {
  const net = await network()
  t.after(() => net.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('world.yaml', world)
  const product = await Product.start(net, folder)
  t.same(await get(net, PORT, '/healthz'), { status: 200, body: 'ok\n' })
  t.same(await get(net, PORT, '/readyz'), { status: 200, body: 'ok\n' })

  await folder.write('world.yaml', 'kind: Nothing\n')
  await product.said('cannot be read')
  const { status, body } = await get(net, PORT, '/readyz')
  t.equal(status, 200, 'the last good policies are enforced')
  t.match(body, /^ok\nsource .*: the last good picture is enforced, read 2\d{3}-/)
  t.match(body, 'world.yaml:1')
  t.same(await get(net, PORT, '/healthz'), { status: 200, body: 'ok\n' })
  const { code } = await product.stop()
  t.equal(code, 0)
  t.equal((await get(net, PORT, '/healthz')).status, 0, 'nobody listens any more')
})

t.test('a port that is taken keeps no packet from being judged', { skip }, async (t) => {
  const net = await network()
  t.after(() => net.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('world.yaml', world)
  const router = await Agent.start(net, 'router')
  await router.listen({ protocol: 'tcp', address: '127.0.0.1', port: PORT })
  const product = await Product.start(net, folder)
  t.match(product.stderr, 'warning: metrics and probes: cannot listen at 127.0.0.1:9080: another program listens there')
  const { code, stdout } = await product.statusCommand()
  t.equal(code, 0, 'healthy')
  t.match(stdout, /^warning +metrics and probes: cannot listen/m)
  await router.close()
  await product.said('note: metrics and probes are served now')
  t.same(await get(net, PORT, '/readyz'), { status: 200, body: 'ok\n' })
  t.notMatch((await product.statusCommand()).stdout, 'metrics and probes')
  t.equal((await product.stop()).code, 0)
})

t.test('a packet thread that stands still is no life', { skip, timeout: 2 * STALL_TIMEOUT_MS }, async (t) => {
  const net = await network()
  t.after(() => net.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('world.yaml', world)
  const modules = await mkdtemp(join(tmpdir(), 'knp-evaluators-'))
  t.after(() => rm(modules, { recursive: true, force: true }))
  await writeFile(join(modules, 'endless.js'), endless, { mode: 0o600 })
  const args = ['--evaluator', join(modules, 'endless.js'), '--metrics-address', '[::1]:9090']
  const product = await Product.start(net, folder, { args })
  const healthz = () => get(net, 9090, '/healthz', '[::1]')
  t.same(await healthz(), { status: 200, body: 'ok\n' })
  const client = await Agent.start(net, 'client')
  t.match(await client.probe({ protocol: 'tcp', address: db[0], port: 80, timeoutMs: 500 }), { ok: false })
  await until(async () => (await healthz()).status === 503, STALL_TIMEOUT_MS)
  t.match(await healthz(), { body: 'the packet thread of queue 100 stands still: what waits there gets no verdict\n' })
  t.match(await product.statusCommand(), { code: 1, stdout: /problem +the packet thread of queue 100 stands still/ })
  await product.stop('SIGKILL')
})
