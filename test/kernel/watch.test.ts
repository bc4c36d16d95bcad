import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { networkPolicy, Product, pod, policies, skip } from './product.ts'

const child = (name: string) => fileURLToPath(new URL(`./children/${name}.ts`, import.meta.url))

t.test('the watch by itself', { skip }, async (t) => {
  const namespace = `knpw-${process.pid}`
  const ip = (...args: readonly string[]) => execFileSync('ip', args)
  ip('netns', 'add', namespace)
  t.teardown(() => ip('netns', 'del', namespace))
  ip('-n', namespace, 'link', 'set', 'lo', 'up')
  const argv = ['netns', 'exec', namespace, process.execPath, '--no-warnings', child('kernel-watch')]
  await t.spawn('ip', argv, {}, 'kernel-watch')
})

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
/** Port 80 is open, 81 is not. */
const policy = networkPolicy('db', { ingress: [{ ports: [{ port: 80 }] }] })
const LIMIT_MS = 100
const ATTEMPTS = 8

async function site(t: Test) {
  const network = await createNetwork({
    prefix: 'knpw',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', [pod({ name: 'db', addresses: db }), policy])
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  for (const address of db) for (const port of [80, 81]) await far.listen({ protocol: 'tcp', address, port })
  const product = await Product.start(network, folder)
  const reach = async () => {
    const probes = db.flatMap((address) =>
      [80, 81].map((port) => near.probe({ protocol: 'tcp', address, port, timeoutMs: 500 })),
    )
    return (await Promise.all(probes)).map(({ ok, error }) => (ok ? 'passes' : error))
  }
  return { network, folder, near, product, reach }
}

const enforced = ['passes', 'timeout', 'passes', 'timeout']

/** Runs nft with a script, so many times; answers how long after its end the table was right again. */
async function harm(network: Network, script: string, times = 1) {
  const argv = [process.execPath, '--no-warnings', child('heal'), script, String(times)]
  const { code, stdout, stderr } = await network.exec('router', argv, { timeoutMs: 30_000 })
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as { isRight: boolean; isHarmed: boolean; tookMs: number }
}

t.test('whatever another program does to the table is undone within 100 ms', { skip }, async (t) => {
  const { network, near, product, reach } = await site(t)
  t.same(await reach(), enforced)
  const { connection } = await near.open({ protocol: 'tcp', address: db[0]!, port: 80 })
  t.ok((await connection!.exchange('before', 500)).ok)
  const rule = async (chain: string) => {
    const { stdout } = await network.exec('router', ['nft', '-a', 'list', 'chain', 'inet', 'knp', chain])
    return /"queued" # handle (\d+)/.exec(stdout)![1]
  }
  const cases: [name: string, script: () => string | Promise<string>][] = [
    ['flush ruleset', () => 'flush ruleset'],
    ['the table deleted', () => 'delete table inet knp'],
    ['one rule deleted', async () => `delete rule inet knp ask handle ${await rule('ask')}`],
    ['the subjects flushed', () => 'flush set inet knp subjects4'],
    ['a rule added', () => 'insert rule inet knp prepare accept'],
    ['a base chain deleted', () => 'flush chain inet knp after_forward\ndelete chain inet knp after_forward'],
    ['a chain added', () => 'add chain inet knp x { type filter hook forward priority -300; policy drop;\n }'],
  ]
  let repairs = 0
  for (const [name, script] of cases) {
    const took: number[] = []
    for (let attempt = 0; attempt < ATTEMPTS && !(Math.min(...took) < LIMIT_MS); attempt++) {
      const { isRight, tookMs } = await harm(network, await script())
      t.ok(isRight, name)
      took.push(tookMs)
      await product.said('are in force again', ++repairs)
    }
    const figures = took.map((ms) => ms.toFixed(0)).join(', ')
    t.ok(Math.min(...took) < LIMIT_MS, `${name}: right again after ${figures} ms`)
    t.same(await reach(), enforced, name)
    t.ok((await connection!.exchange(name, 500)).ok, 'a connection that is there goes on')
  }
  t.match(product.stderr, /another program \(nft\) has changed table inet knp \(chain ask\)/)
  t.match(product.stderr, /another program \(nft\) has changed table inet knp \(elements of set subjects4\)/)
  t.match(await product.status(), { enforcing: true, repairs })
})

t.test("changes of our own and other programs' of their own tables are no reason to repair", { skip }, async (t) => {
  const { network, folder, product, reach } = await site(t)
  for (let i = 0; i < 5; i++) {
    await product.change(() => folder.write('more.yaml', [pod({ name: `x${i}`, addresses: [`10.88.0.${i + 1}`] })]))
  }
  const other =
    'table inet other {\n chain x { type filter hook forward priority 0; policy accept; tcp dport 9 drop\n }\n }'
  for (let i = 0; i < 5; i++) {
    const { isHarmed } = await harm(network, `${other}\ndelete table inet other`)
    t.equal(isHarmed, false)
  }
  t.same(await reach(), enforced)
  t.match(await product.status(), { enforcing: true, repairs: 0, problems: [] })
  t.match((await product.statusCommand()).stdout, /^repairs +0$/m)
})

t.test('a program that flushes in a loop is named, and starves nobody', { skip }, async (t) => {
  const { network, product, reach } = await site(t)
  const started = performance.now()
  const { isRight } = await harm(network, 'flush ruleset', 200)
  const seconds = (performance.now() - started) / 1000
  t.ok(isRight, 'right again in the end')
  await product.said('are in force again')
  const { repairs, enforcing, problems } = await product.status()
  t.ok(repairs < 30, `${repairs} repairs in ${seconds.toFixed(1)} s`)
  t.equal(enforcing, true)
  t.match(problems, [/^another program \(nft\) keeps changing table inet knp: \d+ repairs in 10 s$/])
  t.match(product.stderr, /keeps changing table inet knp: \d+ repairs in 10 s; the next one waits \d+ ms/)
  t.same(await reach(), enforced)
})
