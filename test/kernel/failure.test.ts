import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { forgetful, knp, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const cache = ['10.77.2.3', 'fd77:2::3']
const objects = [pod({ name: 'db', addresses: db }), pod({ name: 'cache', addresses: cache })]
/** Port 80 of db is open, 81 is not; no policy selects cache. */
const policy = networkPolicy('db', {
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ ports: [{ port: 80 }, { protocol: 'UDP', port: 80 }] }],
})
const TIMEOUT_MS = 500

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly far: Agent
}

async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: [...db, ...cache] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', [...objects, policy])
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  for (const address of [...db, ...cache]) {
    for (const port of [80, 81]) {
      for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port })
    }
  }
  return { network, folder, near, far }
}

/** Which new connections pass: a word each for port 80 and 81 of db and 80 of cache, by every family and protocol. */
async function reach({ near }: Site): Promise<Record<'db:80' | 'db:81' | 'cache:80', string>> {
  const outcome = async (addresses: readonly string[], port: number) => {
    const answers = await Promise.all(
      addresses.flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) => near.probe({ protocol, address, port, timeoutMs: TIMEOUT_MS })),
      ),
    )
    return [
      ...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error === 'timeout' ? 'dropped' : error))),
    ].join()
  }
  const [open, denied, untouched] = await Promise.all([outcome(db, 80), outcome(db, 81), outcome(cache, 80)])
  return { 'db:80': open, 'db:81': denied, 'cache:80': untouched }
}

/** A connection of each family and protocol, to one port of db. */
async function connectAll({ near }: Site, port: number) {
  const opened = await Promise.all(
    db.flatMap((address) => (['tcp', 'udp'] as const).map((protocol) => near.open({ protocol, address, port }))),
  )
  const connections = opened.map(({ connection }) => connection!)
  return {
    exchange: async (nonce: string) => {
      const answers = await Promise.all(connections.map((connection) => connection.exchange(nonce, TIMEOUT_MS)))
      return [
        ...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error === 'timeout' ? 'dropped' : error))),
      ].join()
    },
  }
}

const enforced = { 'db:80': 'passes', 'db:81': 'dropped', 'cache:80': 'passes' }

for (const mode of ['closed', 'open'] as const) {
  t.test(`kill -9 under ${mode}, and a restart`, { skip }, async (t) => {
    const lab = await site(t)
    const args = ['--on-failure', mode, ...forgetful]
    const first = await Product.start(lab.network, lab.folder, { args })
    t.same(await reach(lab), enforced)
    const established = await connectAll(lab, 80)
    t.equal(await established.exchange('one'), 'passes')

    t.match(await first.stop('SIGKILL'), { signal: 'SIGKILL' })
    t.same(
      await reach(lab),
      mode === 'closed'
        ? { 'db:80': 'dropped', 'db:81': 'dropped', 'cache:80': 'passes' }
        : { 'db:80': 'passes', 'db:81': 'passes', 'cache:80': 'passes' },
    )
    t.equal(await established.exchange('two'), 'passes', 'what was allowed before goes on')
    const gap = mode === 'open' ? await connectAll(lab, 81) : undefined
    t.equal(await gap?.exchange('gap'), mode === 'open' ? 'passes' : undefined)

    const second = await Product.start(lab.network, lab.folder, { args })
    t.same(await reach(lab), enforced)
    t.equal(await established.exchange('three'), 'passes')
    if (gap)
      t.equal(await gap.exchange('judged'), 'dropped', 'what policy denies is cut, also when it is there already')
    t.match(await second.stop(), { code: 0 })
  })

  t.test(`SIGTERM under ${mode}`, { skip }, async (t) => {
    const lab = await site(t)
    const product = await Product.start(lab.network, lab.folder, { args: ['--on-failure', mode, ...forgetful] })
    t.same(await reach(lab), enforced)
    const { code, stderr } = await product.stop()
    t.equal(code, 0)
    t.match(stderr, mode === 'closed' ? /stopped; the rules stay/ : /stopped; the rules are removed/)
    const tables = await lab.network.exec('router', ['nft', 'list', 'tables'])
    t.equal(tables.stdout, mode === 'closed' ? 'table inet knp\n' : '')
    t.equal((await reach(lab))['db:80'], mode === 'closed' ? 'dropped' : 'passes')
    t.equal((await reach(lab))['db:81'], mode === 'closed' ? 'dropped' : 'passes')
    if (mode === 'closed') {
      t.match(await lab.network.exec('router', knp(['ruleset', 'remove'])), { code: 0 })
      t.equal((await reach(lab))['db:81'], 'passes', 'knp ruleset remove')
    }
  })
}

t.test('it refuses to start where it could not enforce', { skip }, async (t) => {
  const lab = await site(t)
  const holder = spawn(
    'ip',
    [
      'netns',
      'exec',
      lab.network.namespaceOf('router'),
      process.execPath,
      '--no-warnings',
      fileURLToPath(new URL('./children/hold-queue.ts', import.meta.url)),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  t.after(() => holder.kill())
  await once(holder.stdout, 'data')

  t.test('the queue is taken', async (t) => {
    const end = await Product.launch(lab.network, lab.folder, { args: ['--queue-first', '87'] }).ended
    t.equal(end.code, 5)
    t.match(end.stderr, `knp: queue 87: already bound by netlink port ${holder.pid}, node (pid ${holder.pid})`)
    t.equal((await lab.network.exec('router', ['nft', 'list', 'tables'])).stdout, '', 'nothing is left behind')
    t.same(await reach(lab), { 'db:80': 'passes', 'db:81': 'passes', 'cache:80': 'passes' })
  })

  t.test('no privilege', async (t) => {
    const user = { uid: 65534, gid: 65534 }
    await chmod(lab.folder.path, 0o755)
    const [command, ...args] = knp(['run', '--source', lab.folder.path])
    const child = spawn(command!, args, { ...user, stdio: 'pipe' })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const [code] = await once(child, 'close')
    t.equal(code, 5)
    t.match(stderr, /privilege: CAP_NET_ADMIN is missing\n.*run as root or grant CAP_NET_ADMIN/)
  })

  t.test('a broken policy', async (t) => {
    await lab.folder.write(
      'broken.yaml',
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  nam: x\n',
    )
    const end = await Product.launch(lab.network, lab.folder).ended
    t.equal(end.code, 2)
    t.match(end.stderr, `${lab.folder.path}/broken.yaml:4: `)
    t.equal((await lab.network.exec('router', ['nft', 'list', 'tables'])).stdout, '', 'nothing is left behind')
    await lab.folder.remove('broken.yaml')
  })
})

t.test("another program takes knp's rules away", { skip }, async (t) => {
  const lab = await site(t)
  const product = await Product.start(lab.network, lab.folder)
  const established = await connectAll(lab, 80)
  t.equal(await established.exchange('before'), 'passes')
  const harm = [
    ['flush', 'ruleset'],
    ['delete', 'table', 'inet', 'knp'],
    ['flush', 'table', 'inet', 'knp'],
    ['flush', 'chain', 'inet', 'knp', 'divert_forward'],
  ]
  for (const [i, argv] of harm.entries()) {
    t.test(`nft ${argv.join(' ')}`, async (t) => {
      t.match(await lab.network.exec('router', ['nft', ...argv]), { code: 0 })
      const tookMs = await product.said('are in force again', i + 1)
      t.ok(tookMs < 3000, `repaired after ${Math.round(tookMs)} ms`)
      t.match(product.stderr, /another program \(nft\) has changed table inet knp/)
      t.same(await reach(lab), enforced)
      t.equal(await established.exchange(`after ${i}`), 'passes')
      t.match(await product.status(), { enforcing: true, problems: [] })
    })
  }
})

t.test('a packet thread that dies takes the firewall with it', { skip }, async (t) => {
  for (const mode of ['closed', 'open'] as const) {
    const lab = await site(t)
    const preload = new URL('./children/failing-thread.ts', import.meta.url)
    const trigger = `${lab.folder.path}/fail`
    const env = { NODE_OPTIONS: `--import=${preload}`, KNP_TEST_TRIGGER: trigger }
    const product = await Product.start(lab.network, lab.folder, { args: ['--on-failure', mode, ...forgetful], env })
    t.same(await reach(lab), enforced)
    await lab.folder.write('fail', '')
    // New connections wake the thread.
    const [end] = await Promise.all([product.ended, reach(lab)])
    t.equal(end.code, 70, 'the exit status of a defect')
    t.match(end.stderr, /packet thread/)
    t.equal((await reach(lab))['db:80'], mode === 'closed' ? 'dropped' : 'passes', mode)
  }
})
