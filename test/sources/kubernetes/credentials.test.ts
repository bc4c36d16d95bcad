import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { readAccess, readAccessByClient } from '../../../src/sources/kubernetes/credentials.ts'
import { KubernetesSource, readKubernetes } from '../../../src/sources/kubernetes/kubernetes.ts'
import { readPlainAccess } from '../../../src/sources/kubernetes/plain-access.ts'
import { type ApiServer, certificate, watchesOf } from './api-server.ts'
import { begin, namespace, pod, quick, serve, soon } from './follow.ts'

const run = promisify(execFile)

async function kubeconfig(t: Test, server: ApiServer, user?: object): Promise<string> {
  const path = join(t.testdir(), 'kubeconfig')
  await writeFile(path, JSON.stringify(server.kubeconfig(user)))
  return path
}

/** A user of a kubeconfig whose credentials a program tells. */
function plugin(script: string): object {
  return { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] } }
}

t.test('a kubeconfig says where, and as whom', async (t) => {
  const server = await serve(t)
  const data = (text: string) => Buffer.from(text).toString('base64')
  const folder = t.testdir({
    token: JSON.stringify(server.kubeconfig()),
    certificate: JSON.stringify(
      server.kubeconfig({ 'client-certificate-data': data('c'), 'client-key-data': data('k') }),
    ),
    password: JSON.stringify(server.kubeconfig({ username: 'a', password: 'b' })),
  })
  const [token, certified, password] = await Promise.all([
    readAccess({ kubeconfig: join(folder, 'token'), context: 'prod' }),
    readAccess({ kubeconfig: join(folder, 'certificate') }),
    readAccess({ kubeconfig: join(folder, 'password') }),
  ])
  t.same(token, { server: server.url, tls: { ca: certificate }, headers: { Authorization: 'Bearer secret' } })
  t.match(certified, { tls: { cert: Buffer.from('c'), key: Buffer.from('k') }, headers: {} })
  t.match(password, { headers: { Authorization: `Basic ${data('a:b')}` } })
})

t.test('what stands as it is in a kubeconfig is read as the client reads it', async (t) => {
  const server = await serve(t)
  const data = (text: string) => Buffer.from(text).toString('base64')
  const config = server.kubeconfig() as {
    clusters: { name: string; cluster: object }[]
    users: object[]
    contexts: object[]
  }
  const withCluster = (cluster: object) => ({ ...config, clusters: [{ name: config.clusters[0]!.name, cluster }] })
  const { server: url } = config.clusters[0]!.cluster as { server: string }
  const cases: Record<string, object> = {
    token: config,
    'token and file': server.kubeconfig({ token: 'secret', tokenFile: 'file' }),
    'absolute file': server.kubeconfig({ tokenFile: '/run/token' }),
    certificate: server.kubeconfig({ 'client-certificate-data': data('c'), 'client-key-data': data('k') }),
    'certificate in files': server.kubeconfig({
      'client-certificate': 'file',
      'client-certificate-data': data('c'),
      'client-key': 'file',
    }),
    password: server.kubeconfig({ username: 'a', password: 'b' }),
    'token and password': server.kubeconfig({ username: 'a', password: 'b', token: 'c' }),
    nobody: server.kubeconfig({}),
    'slash at the end': withCluster({ server: `${url}/` }),
    insecure: withCluster({ server: url, 'insecure-skip-tls-verify': true }),
    secure: withCluster({ server: url, 'insecure-skip-tls-verify': false, 'certificate-authority': 'file' }),
    'proxy and name': withCluster({ server: url, 'proxy-url': 'http://proxy:3128', 'tls-server-name': 'api' }),
    'two of one name': { ...config, users: [...config.users, { name: 'admin', user: { token: 'other' } }] },
  }
  const folder = t.testdir({
    file: 'f',
    ...Object.fromEntries(Object.keys(cases).map((name) => [name, JSON.stringify(cases[name])])),
  })
  for (const name of Object.keys(cases)) {
    const choice = { kubeconfig: join(folder, name) }
    const plain = readPlainAccess(choice)
    t.ok(plain, name)
    t.same(plain, await readAccessByClient(choice), name)
  }
})

t.test('what takes more than reading is left to the client', async (t) => {
  const server = await serve(t)
  const config = server.kubeconfig() as { clusters: { name: string; cluster: object }[] }
  const withCluster = (cluster: object) => ({ ...config, clusters: [{ name: config.clusters[0]!.name, cluster }] })
  const cases: Record<string, object> = {
    plugin: server.kubeconfig(plugin('true')),
    'auth-provider': server.kubeconfig({ 'auth-provider': { name: 'oidc', config: {} } }),
    impersonation: server.kubeconfig({ token: 'secret', as: 'somebody' }),
    'other token-file': server.kubeconfig({ 'token-file': 'file' }),
    'no text': server.kubeconfig({ token: 1 }),
    'missing file': server.kubeconfig({ 'client-certificate': 'nowhere', 'client-key': 'nowhere' }),
    'no TLS': withCluster({ server: 'http://127.0.0.1:1', 'insecure-skip-tls-verify': true }),
    'no server': withCluster({}),
    SOCKS: withCluster({ server: 'https://127.0.0.1:1', 'proxy-url': 'socks5://127.0.0.1:1' }),
    'no list': { ...config, users: {} },
    'no context': { ...config, contexts: [] },
    empty: [],
  }
  const folder = t.testdir(Object.fromEntries(Object.keys(cases).map((name) => [name, JSON.stringify(cases[name])])))
  for (const name of Object.keys(cases)) t.equal(readPlainAccess({ kubeconfig: join(folder, name) }), undefined, name)
  t.equal(readPlainAccess({ kubeconfig: `${join(folder, 'a')}:${join(folder, 'b')}` }), undefined)
  t.equal(readPlainAccess({ kubeconfig: join(folder, 'nowhere') }), undefined)
})

t.test('credentials that cannot be read', async (t) => {
  const server = await serve(t)
  const proxied = server.kubeconfig() as { clusters: { cluster: object }[] }
  Object.assign(proxied.clusters[0]!.cluster, { 'proxy-url': 'socks5://127.0.0.1:1' })
  const folder = t.testdir({
    good: JSON.stringify(server.kubeconfig()),
    lone: JSON.stringify({ ...server.kubeconfig(), clusters: [] }),
    proxied: JSON.stringify(proxied),
    failing: JSON.stringify(server.kubeconfig(plugin('echo no luck >&2; exit 3'))),
  })
  const cases: [string, string | undefined, RegExp][] = [
    ['good', 'x', /good: there is no context "x"; known: prod$/],
    ['missing', undefined, /missing: ENOENT: no such file/],
    ['lone', undefined, /context "prod" names no cluster that is there$/],
    ['proxied', undefined, /proxy-url "socks5:.*" is no HTTP proxy/],
    ['failing', undefined, /failing: no luck$/],
  ]
  const reads = cases.map(([name, context]) =>
    readAccess({ kubeconfig: join(folder, name), ...(context !== undefined && { context }) }),
  )
  const results = await Promise.allSettled(reads)
  for (const [i, [name, , message]] of cases.entries()) {
    const result = results[i]!
    t.match(result.status === 'rejected' && result.reason, { code: 'UNREADABLE_SOURCE', message }, name)
  }
})

t.test('a source whose credentials cannot be read ends its start at once', async (t) => {
  const source = new KubernetesSource(
    { kubeconfig: '/nonexistent' },
    { timing: { ...quick, firstPauseMs: 10_000, longestPauseMs: 10_000 } },
  )
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  await t.rejects(
    source.start(() => {}, abort.signal),
    { code: 'UNREADABLE_SOURCE', message: /ENOENT/ },
  )
  t.equal(source.name, 'kubernetes /nonexistent')
})

t.test('a token in a file is replaced while the source runs', async (t) => {
  const server = await serve(t)
  const path = await kubeconfig(t, server, { tokenFile: 'token' })
  const token = join(path, '..', 'token')
  await writeFile(token, 'secret\n')
  server.put(pod('a'))
  const { started, has, healths } = begin(t, () => readAccess({ kubeconfig: path }))
  await started
  await soon(() => server.watches('Pod') === 1)
  await writeFile(token, 'renewed\n')
  server.tokens.clear()
  server.tokens.add('renewed')
  server.endWatches('Pod')
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
  t.equal(server.asked.filter(watchesOf('pods')).at(-1)!.token, 'renewed')
  t.same(healths, [])
})

t.test('credentials that are refused are read again', async (t) => {
  const server = await serve(t)
  let token = 'secret'
  let reads = 0
  const access = async () => {
    reads++
    return server.access(token)
  }
  const { started, has, isBroken, isWell, objects } = begin(t, access)
  server.put(pod('a'))
  await started
  await soon(() => server.watches('Pod') === 1)
  t.equal(reads, 1)
  token = 'renewed'
  server.tokens.clear()
  server.tokens.add('renewed')
  server.dropConnections()
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
  await isWell()

  server.tokens.clear()
  server.endWatches('Pod')
  await isBroken(/pods.*: API server .* answers 401: Unauthorized; the API server does not know us: renew the token/)
  t.equal(objects.size, 2)
  server.tokens.add('renewed')
  await isWell()
})

t.test('a plugin is asked anew when its token has ended', async (t) => {
  const server = await serve(t)
  const file = join(t.testdir(), 'plugin-token')
  await writeFile(file, 'secret')
  const script = `printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat ${file})"`
  await writeFile(join(file, '..', 'kubeconfig'), JSON.stringify(server.kubeconfig(plugin(script))))
  const { started, has } = begin(t, () => readAccess({ kubeconfig: join(file, '..', 'kubeconfig') }))
  server.put(pod('a'))
  await started
  await soon(() => server.watches('Pod') === 1)
  await writeFile(file, 'renewed')
  server.tokens.clear()
  server.tokens.add('renewed')
  server.endWatches('Pod')
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
})

t.test('a server that another authority vouches for is not spoken to', async (t) => {
  const server = await serve(t)
  const access = { ...server.access(), tls: {} }
  const { started } = begin(t, async () => access, { firstPictureMs: 50 })
  await t.rejects(started, { code: 'UNREACHABLE', message: /cannot be reached: self-signed certificate/ })
  t.same(server.asked, [], 'no token is shown to it')
})

t.test('a list is read once', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  server.put(namespace('shop'))
  const { delta, notes, name } = await readKubernetes({ kubeconfig: await kubeconfig(t, server) })
  t.same(
    delta.upserts.map(({ ref }) => ref.name),
    ['a', 'shop'],
  )
  t.same(notes, [])
  t.match(name, /^kubernetes \//)
  t.same(
    server.asked.filter(({ query }) => query.has('watch')),
    [],
    'rights to list are enough',
  )
  server.forbidden.add('nodes')
  await t.rejects(readKubernetes({}, { readAccess: async () => server.access() }), {
    code: 'API_REFUSED',
    message: /^nodes: forbidden: .* grant list and watch on nodes$/,
  })
})

t.test(
  'in a pod the service account is used',
  { skip: process.geteuid?.() === 0 ? false : 'needs root: it mounts a service account' },
  async (t) => {
    const server = await serve(t)
    server.put(pod('a'))
    const folder = t.testdir({ token: 'secret', 'ca.crt': certificate.toString(), namespace: 'kube-system' })
    const { port } = new URL(server.url)
    const module = new URL('../../../src/sources/kubernetes/kubernetes.ts', import.meta.url)
    const script = `import { readKubernetes } from ${JSON.stringify(module)}
      const { delta } = await readKubernetes({})
      console.log(delta.upserts.map(({ ref }) => ref.name).join())`
    const place = '/var/run/secrets/kubernetes.io/serviceaccount'
    const mounts = `set -e; mount -t tmpfs none /run; mkdir -p ${place}; mount --bind "$1" ${place}; shift; exec "$@"`
    const node = [process.execPath, '--input-type=module', '-e', script]
    const environment = {
      PATH: process.env.PATH,
      HOME: folder,
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: port,
    }
    const { stdout } = await run('unshare', ['--mount', 'sh', '-c', mounts, 'sh', folder, ...node], {
      env: environment,
    })
    t.equal(stdout.trim(), 'a')
  },
)
