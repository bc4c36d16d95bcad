import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { ApiServer } from '../sources/kubernetes/api-server.ts'
import { namespace, networkPolicy, node, pod, serve } from '../sources/kubernetes/follow.ts'

const program = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function knp(...parameters: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...parameters], (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
    })
  })
}

/** A small shop, the flags that lead to it, and a file beside it. */
async function shop(
  t: Test,
  file: object = {},
): Promise<{ readonly server: ApiServer; readonly flags: readonly string[]; readonly file: string }> {
  const server = await serve(t)
  server.put(namespace('shop'))
  server.put(node('n1', '192.0.2.1'))
  server.put(pod('web', { app: 'web' }, '10.0.0.1'))
  server.put(pod('db', { app: 'db' }, '10.0.0.2'))
  const web = { podSelector: { matchLabels: { app: 'web' } } }
  const ingress = [{ from: [web], ports: [{ port: 5432 }] }]
  server.put(networkPolicy('db-only', { podSelector: { matchLabels: { app: 'db' } }, ingress }))
  const folder = t.testdir({ kubeconfig: JSON.stringify(server.kubeconfig()), 'file.json': JSON.stringify(file) })
  return {
    server,
    flags: ['--source', 'kubernetes', '--kubeconfig', join(folder, 'kubeconfig')],
    file: join(folder, 'file.json'),
  }
}

t.test('explain, test and lint ask a cluster', async (t) => {
  const checks = [
    { from: 'shop/web', to: 'shop/db', port: 5432, expect: 'allow' },
    { from: '203.0.113.1', to: 'shop/db', port: 5432, expect: 'deny' },
  ]
  const world = {
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'ConnectivityTest',
    metadata: { name: 'db', namespace: 'shop' },
    spec: { checks },
  }
  const { flags, file } = await shop(t, world)
  const [explained, tested, linted] = await Promise.all([
    knp('explain', 'shop/web', 'shop/db:5433', ...flags, '--context', 'prod'),
    knp('test', file, ...flags),
    knp('lint', ...flags, '--json'),
  ])
  t.equal(explained.code, 1, explained.stderr)
  t.match(explained.stdout, /^DENIED {2}shop\/web -> shop\/db:5433\/tcp\n.*db-only/s)
  t.equal(tested.code, 0, tested.stdout + tested.stderr)
  t.match(JSON.parse(linted.stdout), { schema: 'knp.lint/v1' }, linted.stderr)
})

t.test('files beside the cluster win where both have an object', async (t) => {
  const policy = { apiVersion: 'networking.k8s.io/v1', ...networkPolicy('db-only', { podSelector: {}, ingress: [{}] }) }
  const { flags, file } = await shop(t, policy)
  const { code, stderr } = await knp('explain', '203.0.113.1', 'shop/db:1', ...flags, '--source', file, '-q')
  t.equal(code, 0, stderr)
})

t.test('clusters that cannot be asked', async (t) => {
  const { server, flags } = await shop(t)
  server.forbidden.add('pods')
  const question = ['explain', 'shop/web', 'shop/db:5432', '--json']
  const refused = await knp(...question, ...flags)
  t.equal(refused.code, 4)
  t.match(JSON.parse(refused.stdout), {
    code: 'API_REFUSED',
    message: /^pods: forbidden: .*grant list and watch on pods$/,
  })
  await server.down()
  const [unreachable, context, stray] = await Promise.all([
    knp(...question, ...flags),
    knp(...question, ...flags, '--context', 'x'),
    knp(...question, '--source', '/dev/null', '--context', 'x'),
  ])
  t.equal(unreachable.code, 4)
  t.match(JSON.parse(unreachable.stdout), { code: 'UNREACHABLE', message: /ECONNREFUSED/, hint: /readyz/ })
  t.equal(context.code, 2)
  t.match(JSON.parse(context.stdout), { code: 'UNREADABLE_SOURCE', message: /there is no context "x"; known: prod/ })
  t.equal(stray.code, 2)
  t.match(JSON.parse(stray.stdout), { code: 'USAGE', hint: 'add --source kubernetes' })
})
