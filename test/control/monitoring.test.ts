import { once } from 'node:events'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { Monitoring } from '../../src/control/monitoring.ts'
import type { FirewallFigures } from '../../src/firewall-figures.ts'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import type { Source } from '../../src/sources/source.ts'

const healthy = { enforcing: true, sources: [], problems: [], warnings: ['w'] } as unknown as FirewallStatus

const figures = (): FirewallFigures => {
  throw new Error('nobody asked for figures')
}

/** A port that nobody listens at. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function start(test: Test, address: string, said: (string | undefined)[] = []): Promise<Monitoring> {
  const waiting: Source = {
    name: 'world',
    start: async () => {},
    health: () => ({ name: 'world', isCurrent: false, notes: [] }),
  }
  const monitoring = await Monitoring.start({
    address,
    sources: [waiting],
    version: '1.2.3',
    onProblem: (problem) => said.push(problem),
  })
  test.teardown(() => monitoring.close())
  return monitoring
}

const get = async (port: number, path: string) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`)
  return `${response.status} ${await response.text()}`
}

t.test('alive and not ready, then ready, then what is wrong', async (t) => {
  const port = await freePort()
  const monitoring = await start(t, `127.0.0.1:${port}`)
  t.equal(await get(port, '/healthz'), '200 ok\n')
  t.equal(await get(port, '/readyz'), '503 starting: nothing is enforced yet\nsource world: not read yet\n')
  let status = healthy
  let stalled: number[] = []
  monitoring.watch({ status: () => status, figures, stalledQueues: () => stalled })
  t.equal(await get(port, '/readyz'), '200 ok\n')
  status = { ...healthy, enforcing: false, problems: ['somebody flushed it'] }
  t.equal(await get(port, '/readyz'), '503 the rules are not in force\nsomebody flushed it\n')
  t.equal(await get(port, '/healthz'), '200 ok\n', 'what another start would not mend is no reason for one')
  stalled = [100]
  t.match(await get(port, '/healthz'), /^503 the packet thread of queue 100 stands still/)
  t.same(monitoring.complete(healthy), { ...healthy, metricsAddress: `127.0.0.1:${port}` })
})

t.test('a port that is taken is a warning of a firewall that is healthy', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => void other.close())
  const said: (string | undefined)[] = []
  const monitoring = await start(t, `127.0.0.1:${(other.address() as { port: number }).port}`, said)
  t.match(said, [/another program listens there/])
  t.same(monitoring.complete(healthy), { ...healthy, warnings: ['w', said[0]] })
})

t.test('none is none', async (t) => {
  const monitoring = await start(t, 'none')
  monitoring.watch({ status: () => healthy, figures, stalledQueues: () => [] })
  t.same(monitoring.complete(healthy), healthy)
})
