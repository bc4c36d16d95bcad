import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { buildKnp } from '../fixtures/knp.ts'
import { networkPolicy, pod, skip } from '../kernel/product.ts'
import { slow } from '../slow.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const DENIED_AFTER_MS = 900
/** Of a container. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const folder = mkdtempSync(join(tmpdir(), 'knp-image-'))
t.after(() => rmSync(folder, { recursive: true }))
const image = join(folder, 'root')
if (!skip) {
  buildKnp()
  const { status, stderr } = spawnSync('sh', [join(root, 'packaging/container/rootfs.sh'), image], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`rootfs.sh: exit status ${status}: ${stderr}`)
}

/** Runs the image's program with nothing of this machine but its kernel. */
function inImage(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return spawnSync('chroot', [image, ...args], { encoding: 'utf8', env: { PATH, ...env } })
}

t.test('the image has what knp needs, and nothing else', { skip }, async (t) => {
  const files = spawnSync('find', ['.'], { cwd: image, encoding: 'utf8' }).stdout.trim().split('\n')
  for (const path of ['usr/bin/knp', 'usr/bin/node', 'usr/sbin/nft', 'usr/lib/knp/dist/commands/run.js']) {
    t.ok(existsSync(join(image, path)), path)
  }
  t.same(
    files.filter((file) => /(^|\/)(sh|bash|npm|npx|apt|typescript|tap)$/.test(file)),
    [],
    'no shell, no tools of development',
  )
  t.same(
    files.filter((file) => /\.(map|d\.ts)$/.test(file)),
    [],
    'nothing for development only',
  )
  t.same(
    spawnSync('find', [image, '-perm', '/6022', '!', '-type', 'l', '!', '-perm', '-1000']).stdout.toString(),
    '',
    'nobody else writes it, and nothing in it gives privileges',
  )
})

t.test('knp runs in it', { skip }, async (t) => {
  const version = inImage(['/usr/bin/knp', '--version'])
  t.match(version.stdout, /^knp\/\d+\.\d+\.\d+ linux-/)
  t.equal(version.stderr, '')
  cpSync(join(root, 'demo/shop'), join(image, 'tmp/shop'), { recursive: true })
  const explained = inImage(['/usr/bin/knp', 'explain', '198.51.100.7', 'shop/web:8080', '--source', '/tmp/shop'])
  t.match(explained, { status: 0, stdout: /^ALLOWED {2}198\.51\.100\.7 -> shop\/web:8080\/tcp\n/ })
  rmSync(join(image, 'tmp/shop'), { recursive: true })
})

t.test('the client of the API server is whole', { skip }, async (t) => {
  // As in a pod; nobody answers there.
  spawnSync('mknod', [join(image, 'dev/null'), 'c', '1', '3'])
  const account = join(image, 'run/secrets/kubernetes.io/serviceaccount')
  mkdirSync(account, { recursive: true })
  for (const name of ['token', 'ca.crt', 'namespace']) writeFileSync(join(account, name), '')
  const { status, stderr } = inImage(['/usr/bin/knp', 'explain', 'a/b', 'c/d:80', '--source', 'kubernetes'], {
    KUBERNETES_SERVICE_HOST: '127.0.0.1',
    KUBERNETES_SERVICE_PORT: '1',
  })
  t.equal(status, 4, stderr)
  t.match(stderr, /https:\/\/127\.0\.0\.1:1.*ECONNREFUSED/s)
  rmSync(join(image, 'run/secrets'), { recursive: true })
  rmSync(join(image, 'dev/null'))
})

const runc = spawnSync('runc', ['--version'])

/** A container as the DaemonSet has it: one capability, nothing to write but its volumes, the node's network. */
function bundle(
  path: string,
  network: string,
  volumes: Readonly<Record<string, string>>,
  args: readonly string[],
): void {
  const capabilities = ['CAP_NET_ADMIN']
  mkdirSync(path)
  const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']
  const config = {
    ociVersion: '1.0.2',
    process: {
      user: { uid: 0, gid: 0 },
      args,
      env: [`PATH=${PATH}`],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: true,
    },
    root: { path: image, readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
      ...Object.entries(volumes).map(([destination, source]) => ({
        destination,
        type: 'bind',
        source,
        options: ['bind', destination.startsWith('/etc/') ? 'ro' : 'rw'],
      })),
    ],
    linux: {
      namespaces: [
        ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
        { type: 'network', path: `/run/netns/${network}` },
      ],
      readonlyPaths,
      resources: { devices: [{ allow: false, access: 'rwm' }] },
    },
  }
  writeFileSync(join(path, 'config.json'), JSON.stringify(config))
}

t.test(
  'it enforces with NET_ADMIN alone',
  { skip: skip || (runc.status === 0 || process.env.CI ? false : 'runc is not there') },
  async (t) => {
    const web = ['10.77.1.2', 'fd77:1::2']
    const db = ['10.77.2.2', 'fd77:2::2']
    const network = await createNetwork({
      prefix: 'knpi',
      hosts: [
        { name: 'web', addresses: web },
        { name: 'db', addresses: db },
      ],
    })
    t.after(() => network.destroy())
    const [near, far] = await Promise.all([Agent.start(network, 'web'), Agent.start(network, 'db')])
    for (const address of db) for (const port of [80, 81]) await far.listen({ protocol: 'tcp', address, port })
    const volumes = Object.fromEntries(
      ['/run/knp', '/var/lib/knp', '/etc/knp'].map((path) => [path, join(folder, path)]),
    )
    for (const path of Object.values(volumes)) mkdirSync(path, { recursive: true })
    writeFileSync(join(folder, 'etc/knp/knp.yaml'), 'sources: [{ files: { path: /etc/knp/policies } }]\n', {
      mode: 0o644,
    })
    mkdirSync(join(folder, 'etc/knp/policies'))
    const objects = [
      pod({ name: 'web', addresses: web }),
      pod({ name: 'db', addresses: db }),
      networkPolicy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: [{ port: 80 }] }] }),
    ]
    writeFileSync(
      join(folder, 'etc/knp/policies/all.yaml'),
      objects.map((object) => `${JSON.stringify(object)}\n`).join('---\n'),
    )

    const name = `knp-test-${process.pid}`
    bundle(join(folder, 'bundle'), network.namespaceOf(network.router), volumes, [
      '/usr/bin/knp',
      'run',
      '--on-failure',
      'closed',
    ])
    const child = spawn('runc', ['run', '--bundle', join(folder, 'bundle'), name], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.after(() => spawnSync('runc', ['delete', '--force', name]))
    const closed = once(child, 'close')
    let said = ''
    child.stderr.on('data', (text: Buffer) => {
      said += text
    })
    const isEnforcing = await new Promise<boolean>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (line.startsWith('enforcing: ')) resolve(true)
      })
      child.once('close', () => resolve(false))
    })
    t.ok(isEnforcing, said)
    const reach = () =>
      Promise.all(
        db.flatMap((address) =>
          [80, 81].map(async (port) => {
            const { ok } = await near.probe({ protocol: 'tcp', address, port, timeoutMs: DENIED_AFTER_MS * slow })
            return `${port} ${ok ? 'passes' : 'dropped'}`
          }),
        ),
      )
    t.same(await reach(), ['80 passes', '81 dropped', '80 passes', '81 dropped'])
    const status = spawnSync('runc', ['exec', name, '/usr/bin/knp', 'status', '--json'], { encoding: 'utf8' })
    t.match(JSON.parse(status.stdout), {
      enforcing: true,
      policies: 1,
      queues: [{ statistics: { dropped: 0 } }],
      problems: [],
    })
    t.ok(existsSync(join(folder, 'var/lib/knp/last-good.jsonl')), 'the last good picture is kept')
    spawnSync('runc', ['kill', name, 'TERM'])
    t.same(await closed, [0, null])
    t.match(said, 'stopped; the rules stay', 'and says so')
  },
)
