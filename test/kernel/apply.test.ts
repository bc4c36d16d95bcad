import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { hostEndpoint, knp, networkPolicy, type Policies, Product, policies, skip } from './product.ts'

const edge = ['10.77.0.1', 'fd77::1']
const admin = ['10.77.1.2', 'fd77:1::2']
const families = [0, 1] as const
/** Where the administrator's server listens: no failsafe port. */
const SSH_PORT = 2222
const DENIED_AFTER_MS = 500
/** An administrator whose connection no policy can cut: the failsafe passes it. */
const safe = { SSH_CONNECTION: `${admin[0]} 4000 ${edge[0]} 22` }

const self = hostEndpoint({ name: 'edge', node: 'edge' })
const only = (...ports: number[]) => [
  self,
  networkPolicy('edge', {
    podSelector: { matchLabels: { app: 'edge' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ ports: ports.map((port) => ({ port })) }],
  }),
]
const broken = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  nam: x\n'

interface Site {
  readonly network: Network
  /** What the firewall is started with: port 80 and the administrator's are open. */
  readonly folder: Policies
  /** What is applied: port 81 is open instead of 80. */
  readonly next: Policies
  readonly remote: Agent
}

async function site(t: Test): Promise<Site> {
  const network = await createNetwork({ prefix: 'knpk', hosts: [{ name: 'admin', addresses: admin }] })
  t.after(() => network.destroy())
  const [remote, router] = await Promise.all([Agent.start(network, 'admin'), Agent.start(network, 'router')])
  for (const address of edge)
    for (const port of [80, 81, SSH_PORT]) await router.listen({ protocol: 'tcp', address, port })
  const folder = await folderOf(t, only(80, SSH_PORT))
  return { network, folder, next: await folderOf(t, only(81, SSH_PORT)), remote }
}

async function folderOf(t: Test, content: string | readonly object[]): Promise<Policies> {
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', content)
  return folder
}

function run({ network, folder }: Site): Promise<Product> {
  return Product.start(network, folder, { args: ['--node-name', 'edge'] })
}

/** Which policies are in force: the ports that new connections of both families reach. */
async function inForce({ remote }: Site): Promise<string> {
  const reached = await Promise.all(
    [80, 81].map(async (port) => {
      const answers = await Promise.all(
        edge.map((address) => remote.probe({ protocol: 'tcp', address, port, timeoutMs: DENIED_AFTER_MS })),
      )
      return answers.every(({ ok }) => ok) ? [port] : answers.some(({ ok }) => ok) ? [`half of ${port}`] : []
    }),
  )
  return reached.flat().join()
}

// Each in a network of its own.
t.jobs = 3

t.test('policies that cut the administrator off', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab)
  const cut = await folderOf(t, only(81))
  const connections = await Promise.all(
    edge.map(async (address) => (await lab.remote.open({ protocol: 'tcp', address, port: SSH_PORT })).connection!),
  )
  const [near, far] = ['fe80::ff:fe01:1', 'fe80::ff:fe02:1']
  const sessions = [
    ...families.map((i) => `${admin[i]} ${connections[i]!.port} ${edge[i]} ${SSH_PORT}`),
    `${far}%admin 4000 ${near}%admin ${SSH_PORT}`,
  ]

  for (const session of sessions) {
    await t.test(`refused: ${session}`, async (t) => {
      const before = await product.status()
      const { code, stdout, stderr } = await product.command(['apply', cut.path], { SSH_CONNECTION: session })
      t.equal(code, 1)
      t.equal(stdout, '')
      t.match(stderr, /:2222\/tcp, your own connection, would be denied by these policies\n.*--force/)
      const after = await product.status()
      t.equal(after.generation, before.generation)
      t.notOk(after.trial)
      t.equal(await inForce(lab), '80')
      for (const connection of connections) t.match(await connection.exchange('kept'), { ok: true })
    })
  }

  await t.test('refused under sudo, which takes the variable away', async (t) => {
    const script = 'env -u SSH_CONNECTION "$@"; exit $?'
    const argv = knp(['apply', cut.path, '--control-socket', join(lab.folder.path, '.control.sock')])
    const env = { SSH_CONNECTION: sessions[0]! }
    const { code } = await lab.network.exec('router', ['sh', '-c', script, 'sh', ...argv], { env })
    t.equal(code, 1)
  })

  await t.test('forced: the connections stall, and go on when the time is over', async (t) => {
    const started = Date.now()
    const forced = await product.command(['apply', cut.path, '--force', '--confirm', '2s', '--json'], {
      SSH_CONNECTION: sessions[0]!,
    })
    t.equal(forced.code, 0)
    const { folder, endsAtMs } = JSON.parse(forced.stdout)
    t.equal(folder, cut.path)
    t.ok(endsAtMs >= started + 2000 && endsAtMs <= Date.now() + 2000, 'the time is the one that was given')
    t.match(await product.status(), { trial: { folder: cut.path, endsAtMs } })
    const stalled = await Promise.all(connections.map((connection) => connection.exchange('one', DENIED_AFTER_MS)))
    t.match(stalled, [
      { ok: false, error: 'timeout' },
      { ok: false, error: 'timeout' },
    ])
    t.ok(Date.now() < endsAtMs, 'that was within the time')
    await product.said('was not confirmed in time: the former policies are in force again')
    // What was sent meanwhile is sent again by TCP, and answered first, if not before this is asked.
    const late = await Promise.all(connections.map((connection) => connection.exchange('two', 5000)))
    t.match(late, [
      { ok: true, answer: /^(one|two) from router$/ },
      { ok: true, answer: /^(one|two) from router$/ },
    ])
    const next = await Promise.all(connections.map((connection) => connection.exchange('three')))
    t.match(next, [{ ok: true }, { ok: true }])
    t.notOk((await product.status()).trial)
    t.equal(await inForce(lab), '80')
  })
})

t.test('a trial: status, restart, rollback, confirmation', { skip }, async (t) => {
  const lab = await site(t)
  const apply = (product: Product) => product.command(['apply', lab.next.path, '--confirm', '1h'], safe)
  let product = await run(lab)
  const restart = async () => {
    await product.stop()
    product = await run(lab)
  }
  const former = await readFile(join(lab.folder.path, 'all.yaml'), 'utf8')
  const wanted = await readFile(join(lab.next.path, 'all.yaml'), 'utf8')
  const onDisk = () => readFile(join(lab.folder.path, 'all.yaml'), 'utf8')

  await t.test('nothing has been tried', async (t) => {
    for (const command of ['confirm', 'rollback']) {
      const { code, stderr } = await product.command([command])
      t.equal(code, 2, command)
      t.match(stderr, /^knp: (nothing waits to be confirmed|there is nothing to go back to)\n/)
    }
  })

  await t.test('status shows it with its end', async (t) => {
    const { code, stdout } = await apply(product)
    t.equal(code, 0)
    const until = /^generation \d+ is in force until (\S+Z); keep it with: knp confirm\n$/.exec(stdout)?.[1]
    t.ok(until, stdout)
    t.equal(await inForce(lab), '81')
    t.match((await product.statusCommand()).stdout, `${lab.next.path}, goes back at ${until} unless confirmed`)
    t.equal(await onDisk(), former, 'nothing is written before it is confirmed')
  })

  await t.test('a restart goes back', async (t) => {
    await restart()
    t.equal(await inForce(lab), '80')
    t.notOk((await product.status()).trial)
    t.match(await product.command(['confirm']), { code: 2 })
  })

  await t.test('rollback goes back at once', async (t) => {
    t.match(await apply(product), { code: 0 })
    t.equal(await inForce(lab), '81')
    t.match(await product.command(['rollback']), { code: 0, stdout: 'the trial is over\n' })
    t.equal(await inForce(lab), '80')
    t.equal(await onDisk(), former)
  })

  await t.test('what is confirmed stays, also over a restart', async (t) => {
    t.match(await apply(product), { code: 0 })
    t.match(await product.command(['confirm']), { code: 0, stdout: `confirmed: ${lab.next.path}\n` })
    t.notOk((await product.status()).trial)
    t.equal(await inForce(lab), '81')
    t.equal(await onDisk(), wanted)
    await restart()
    t.equal(await inForce(lab), '81')
    t.match(await product.command(['confirm']), { code: 2 })
  })

  await t.test('rollback after that brings the former ones back, also over a restart', async (t) => {
    const { code, stdout } = await product.command(['rollback'])
    t.match({ code, stdout }, { code: 0, stdout: 'the former policies are in force again\n' })
    t.equal(await inForce(lab), '80')
    t.equal(await onDisk(), former)
    await restart()
    t.equal(await inForce(lab), '80')
  })

  await t.test('no firewall answers', async (t) => {
    await product.stop()
    for (const command of [['apply', lab.next.path], ['confirm'], ['rollback']]) {
      t.match(await product.command(command, safe), { code: 4, stderr: /no firewall runs here/ }, command[0]!)
    }
  })
})

t.test('what cannot be applied changes nothing', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab)
  const wrong = await folderOf(t, broken)
  const apply = (path: string, env: Readonly<Record<string, string>> = safe) =>
    product.command(['apply', path, '--confirm', '1h'], env)

  await t.test('a broken folder', async (t) => {
    const before = await product.status()
    const { code, stderr } = await apply(wrong.path)
    t.equal(code, 2)
    t.match(stderr, `knp: ${wrong.path}/all.yaml:4: NetworkPolicy: `)
    const { generation, trial, problems } = await product.status()
    t.same({ generation, trial, problems }, { generation: before.generation, trial: undefined, problems: [] })
    t.equal(await inForce(lab), '80')
  })

  await t.test('what is no folder', async (t) => {
    for (const path of [`${lab.next.path}/none`, `${lab.next.path}/all.yaml`]) {
      t.match(await apply(path), { code: 2 }, path)
      t.notOk((await product.status()).trial)
    }
  })

  await t.test('beside another trial', async (t) => {
    t.match(await apply(lab.next.path), { code: 0 })
    const { trial } = await product.status()
    const cut = await folderOf(t, only(80))
    t.match(await apply(wrong.path), { code: 2 })
    t.match(await apply(cut.path, { SSH_CONNECTION: `${admin[0]} 4000 ${edge[0]} ${SSH_PORT}` }), { code: 1 })
    t.same((await product.status()).trial, trial, 'it goes on as it was')
    t.equal(await inForce(lab), '81')

    const both = await folderOf(t, only(80, 81))
    t.match(await apply(both.path), { code: 0 })
    t.match(await product.status(), { trial: { folder: both.path } }, 'another one takes its place')
    t.equal(await inForce(lab), '80,81')
    t.match(await product.command(['rollback']), { code: 0 })
    t.equal(await inForce(lab), '80', 'and goes back to what was there before both')
  })

  await t.test('a time that is over before they are in force', async (t) => {
    t.match(await product.command(['apply', lab.next.path, '--confirm', '1ms'], safe), { code: 0 })
    await product.said('was not confirmed in time')
    t.equal(await inForce(lab), '80')
  })

  await t.test('a folder that has changed since is not confirmed', async (t) => {
    const former = await readFile(join(lab.folder.path, 'all.yaml'), 'utf8')
    const tried = await folderOf(t, only(81))
    t.match(await apply(tried.path), { code: 0 })
    for (const content of [only(80, 81), broken]) {
      await tried.write('all.yaml', content)
      const { code, stderr } = await product.command(['confirm'])
      t.equal(code, 2)
      t.match(stderr, tried.path)
      t.equal(await readFile(join(lab.folder.path, 'all.yaml'), 'utf8'), former)
      t.match(await product.status(), { trial: { folder: tried.path }, problems: [] })
      t.equal(await inForce(lab), '81', 'what was applied is in force')
    }
    await tried.write('all.yaml', only(81))
    t.match(await product.command(['confirm']), { code: 0 })
    t.equal(await inForce(lab), '81')
  })
})

t.test('a folder full of traps', { skip }, async (t) => {
  const lab = await site(t)
  const product = await run(lab)
  const outside = await policies()
  t.after(() => outside.close())
  const apply = (folder: Policies) => product.command(['apply', folder.path, '--confirm', '1h'], safe)

  await t.test('what lies outside is neither shown nor applied', async (t) => {
    const secrets = [
      'root:$6$hunter2:19000:0:99999:7:::\ndaemon:*:19000::::::\n',
      'hunter2\n',
      'key: value: hunter2\n',
      '!hunter2 x\n',
      '*hunter2\n',
      'hunter2: [\n',
      JSON.stringify(only(81)[1]),
    ]
    for (const [i, secret] of secrets.entries()) {
      const trap = await folderOf(t, only(81))
      const target = join(outside.path, `secret${i}`)
      await writeFile(target, secret, { mode: 0o600 })
      await symlink(target, join(trap.path, 'x.yaml'))
      const { code, stdout, stderr } = await apply(trap)
      t.equal(code, 2)
      t.notMatch(`${stdout}${stderr}${product.stderr}`, /hunter2/)
      t.match(stderr, `${trap.path}/x.yaml: `)
      t.notOk((await product.status()).trial)
    }
  })

  await t.test('what is no file is not waited for', async (t) => {
    const traps: readonly ((path: string) => Promise<void>)[] = [
      async (path) => void execFileSync('mkfifo', [path]),
      (path) => symlink('/dev/zero', path),
      (path) => symlink('.', path),
      (path) => symlink('x.yaml', path),
    ]
    for (const make of traps) {
      const trap = await folderOf(t, only(81))
      await make(join(trap.path, 'x.yaml'))
      const { code, stderr } = await apply(trap)
      t.equal(code, 2)
      t.match(stderr, `${trap.path}/x.yaml: `)
    }
    t.equal(await inForce(lab), '80')
  })

  await t.test('folders, links within, and names of all kinds are kept as they are', async (t) => {
    const odd = await folderOf(t, [self])
    const names = ['sub/folder/a.yaml', 'd.yaml/b.yml', ' leading space.yaml', 'line\nbreak.json', '\u001b[2J.yaml']
    for (const [i, name] of names.entries()) {
      await mkdir(dirname(join(odd.path, name)), { recursive: true })
      await writeFile(join(odd.path, name), JSON.stringify({ ...only(81)[1], metadata: metadata(`edge-${i}`) }))
    }
    // As Kubernetes mounts a ConfigMap.
    await mkdir(join(odd.path, '..2026'))
    await writeFile(
      join(odd.path, '..2026', 'mounted.yaml'),
      JSON.stringify({ ...only(81)[1], metadata: metadata('m') }),
    )
    await symlink('..2026', join(odd.path, '..data'))
    await symlink('..data/mounted.yaml', join(odd.path, 'mounted.yaml'))
    await writeFile(join(odd.path, '.hidden.yaml'), broken)
    await writeFile(join(odd.path, 'notes.txt'), 'none of ours')
    await symlink(outside.path, join(odd.path, 'elsewhere'))
    await chmod(join(odd.path, names[0]!), 0o666)

    t.match(await apply(odd), { code: 0 })
    t.equal((await product.status()).policies, names.length + 1)
    t.equal(await inForce(lab), '81')
    t.match(await product.command(['confirm']), { code: 0 })
    t.equal(await inForce(lab), '81')
    t.same(await filesBelow(lab.folder.path), ['all.yaml', 'mounted.yaml', ...names].sort())
    t.equal((await stat(join(lab.folder.path, names[0]!))).mode & 0o777, 0o644, 'only root may change it')
    t.match(await product.command(['rollback']), { code: 0 })
    t.equal(await inForce(lab), '80')
    t.same(await filesBelow(lab.folder.path), ['all.yaml'])
  })

  await t.test('a name forges no line of a message', async (t) => {
    const forged = await folderOf(t, only(81))
    await writeFile(join(forged.path, 'x\nconfirmed: all is well\u001b[2J.yaml'), broken)
    const { code, stderr } = await apply(forged)
    t.equal(code, 2)
    t.match(stderr, '/x\\u{a}confirmed: all is well\\u{1b}[2J.yaml:4: ')
    t.notMatch(stderr, /^confirmed/m)
  })
})

function metadata(name: string): object {
  return { namespace: 'shop', name }
}

/** Files that are no socket and lie in no hidden folder. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()
}
