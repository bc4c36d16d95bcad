import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './command.ts'
import { POD_NETWORKS } from './node.ts'
import { endProcess, isRunning, startDaemon, until } from './process.ts'
import type { Programs } from './programs.ts'

/** Where the API server answers, for everyone. */
export const API_ADDRESS = '10.99.0.100'
export const API_PORT = 6443

/** The machine that etcd, the API server and the controllers run on: a network namespace on the nodes' network. */
export interface ControlPlane {
  readonly folder: string
  /** Name of its network namespace. */
  readonly namespace: string
}

const SERVICE_NETWORKS = ['10.96.0.0/16', 'fd00:10:96::/112']
/** A name of a program's user, and the group that gives it its rights. */
const users = {
  admin: ['admin', 'system:masters'],
  'kube-controller-manager': ['system:kube-controller-manager', ''],
  'kube-scheduler': ['system:kube-scheduler', ''],
  'kube-proxy': ['system:kube-proxy', 'system:node-proxier'],
} as const

/** Makes keys, certificates and a kubeconfig for every program: `<user>.kubeconfig` in the folder. */
export async function createCredentials(folder: string, nodes: readonly string[]): Promise<void> {
  const pki = join(folder, 'pki')
  await mkdir(pki, { recursive: true })
  const openssl = (...args: string[]) => run(['openssl', ...args], { cwd: pki })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '30',
    '-subj',
    '/CN=knp-cluster',
  )
  const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'].map((name) => `DNS:${name}`)
  const addresses = [API_ADDRESS, '127.0.0.1', '10.96.0.1', 'fd00:10:96::1'].map((address) => `IP:${address}`)
  for (const [name, subject, extension] of [
    ['kube-apiserver', '/CN=kube-apiserver', `subjectAltName=${[...names, ...addresses].join(',')}`],
    ['kubelet-client', '/O=system:masters/CN=kube-apiserver-kubelet-client', 'extendedKeyUsage=clientAuth'],
  ] as const) {
    await openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    await writeFile(join(pki, `${name}.ext`), extension)
    const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-extfile', `${name}.ext`]
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.crt`, ...signed)
  }
  await openssl('genrsa', '-out', 'service-accounts.key', '2048')
  const tokens: string[] = []
  const all = [
    ...Object.entries(users),
    ...nodes.map((name) => [name, [`system:node:${name}`, 'system:nodes']] as const),
  ]
  for (const [name, [user, group]] of all) {
    tokens.push(`${name}-token,${user},${name},"${group}"\n`)
    await writeFile(join(folder, `${name}.kubeconfig`), JSON.stringify(kubeconfig(join(pki, 'ca.crt'), name)))
  }
  await writeFile(join(pki, 'tokens.csv'), tokens.join(''), { mode: 0o600 })
}

function kubeconfig(authority: string, name: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'knp', cluster: { server: `https://${API_ADDRESS}:${API_PORT}`, 'certificate-authority': authority } },
    ],
    users: [{ name, user: { token: `${name}-token` } }],
    contexts: [{ name: 'knp', context: { cluster: 'knp', user: name } }],
    'current-context': 'knp',
  }
}

/** Starts etcd and answers its process id. Its data are gone with the folder. */
export function startEtcd(programs: Programs, { folder, namespace }: ControlPlane): number {
  const peers = 'http://127.0.0.1:2380'
  return startDaemon(
    inNamespace(namespace, [
      programs.path('etcd'),
      `--data-dir=${join(folder, 'etcd')}`,
      '--listen-client-urls=http://127.0.0.1:2379',
      '--advertise-client-urls=http://127.0.0.1:2379',
      `--listen-peer-urls=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
      `--initial-cluster=default=${peers}`,
      // What kubeadm sets: quiet resources' watches learn by it how far they have come.
      '--watch-progress-notify-interval=5s',
      '--unsafe-no-fsync',
    ]),
    join(folder, 'etcd.log'),
  )
}

/**
 * Starts an API server on the port, waits until it is ready, and answers its process id. It gives up by itself where
 * etcd is too slow for its first steps; a kubelet would start it again, and so does this.
 */
export async function startApiServer(programs: Programs, plane: ControlPlane, port = API_PORT): Promise<number> {
  const log = join(plane.folder, 'kube-apiserver.log')
  for (let attemptsLeft = 2; ; attemptsLeft--) {
    const pid = runApiServer(programs, plane, port, log)
    if (await becomesReady(programs, plane, port, pid)) return pid
    const said = (await readFile(log, 'utf8')).trimEnd().split('\n').slice(-10).join('\n')
    if (attemptsLeft === 0) throw new Error(`the API server on port ${port} ends by itself; it said last:\n${said}`)
    console.error(`the API server on port ${port} has ended by itself and is started again; it said last:\n${said}`)
  }
}

/** Waits until the API server is ready; false as soon as its process has ended. */
async function becomesReady(
  programs: Programs,
  { folder, namespace }: ControlPlane,
  port: number,
  pid: number,
): Promise<boolean> {
  const client = ['--kubeconfig', join(folder, 'admin.kubeconfig'), '--server', `https://${API_ADDRESS}:${port}`]
  const ask = inNamespace(namespace, [programs.path('kubectl'), ...client, 'get', '--raw', '/readyz'])
  let runs = true
  await until(`the API server on port ${port}`, async () => {
    runs = await isRunning(pid)
    if (runs) await run(ask)
    return true
  })
  return runs
}

function runApiServer(programs: Programs, { folder, namespace }: ControlPlane, port: number, log: string): number {
  const pki = (name: string) => join(folder, 'pki', name)
  return startDaemon(
    inNamespace(namespace, [
      programs.path('kube-apiserver'),
      '--etcd-servers=http://127.0.0.1:2379',
      '--bind-address=0.0.0.0',
      `--secure-port=${port}`,
      `--advertise-address=${API_ADDRESS}`,
      `--service-cluster-ip-range=${SERVICE_NETWORKS.join(',')}`,
      '--authorization-mode=Node,RBAC',
      '--allow-privileged',
      `--token-auth-file=${pki('tokens.csv')}`,
      `--tls-cert-file=${pki('kube-apiserver.crt')}`,
      `--tls-private-key-file=${pki('kube-apiserver.key')}`,
      `--client-ca-file=${pki('ca.crt')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${pki('service-accounts.key')}`,
      `--service-account-signing-key-file=${pki('service-accounts.key')}`,
      `--kubelet-client-certificate=${pki('kubelet-client.crt')}`,
      `--kubelet-client-key=${pki('kubelet-client.key')}`,
      '--kubelet-preferred-address-types=InternalIP',
      // One that is only there for a while must leave the Service of the usual one alone.
      ...(port === API_PORT ? [] : ['--endpoint-reconciler-type=none']),
    ]),
    log,
  )
}

/** Starts the controllers and the scheduler and answers their process ids. */
export function startControllers(programs: Programs, { folder, namespace }: ControlPlane): number[] {
  const daemon = (name: string, args: readonly string[]) =>
    startDaemon(
      inNamespace(namespace, [
        programs.path(name),
        `--kubeconfig=${join(folder, `${name}.kubeconfig`)}`,
        '--leader-elect=false',
        ...args,
      ]),
      join(folder, `${name}.log`),
    )
  return [
    daemon('kube-controller-manager', [
      `--service-account-private-key-file=${join(folder, 'pki/service-accounts.key')}`,
      `--root-ca-file=${join(folder, 'pki/ca.crt')}`,
      '--use-service-account-credentials',
      '--allocate-node-cidrs',
      `--cluster-cidr=${POD_NETWORKS.join(',')}`,
      `--service-cluster-ip-range=${SERVICE_NETWORKS.join(',')}`,
      '--controllers=*,-service-lb-controller,-cloud-node-lifecycle-controller',
    ]),
    daemon('kube-scheduler', []),
  ]
}

/** Makes etcd forget everything but the present: who asks what happened since then is told 410. */
export async function forgetHistory({ namespace }: ControlPlane): Promise<void> {
  const ask = async (path: string, body: object) => {
    const script = `fetch('http://127.0.0.1:2379${path}', {method: 'POST', body: process.argv[1]}).then(async (answer) => {
      if (!answer.ok) throw new Error(await answer.text())
      console.log(await answer.text())
    })`
    return JSON.parse(await run(inNamespace(namespace, [process.execPath, '-e', script, JSON.stringify(body)])))
  }
  const { header } = await ask('/v3/kv/range', { key: Buffer.from('none').toString('base64') })
  await ask('/v3/kv/compaction', { revision: header.revision, physical: true })
}

/** A command line that runs on the control plane's machine; its process is the program itself. */
export function inNamespace(namespace: string, argv: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv]
}

/** Ends programs of the control plane, the API server's clients first. */
export async function endControlPlane(pids: readonly number[]): Promise<void> {
  for (const pid of [...pids].reverse()) await endProcess(pid, 'SIGKILL')
}

/** Removes what a control plane has kept. */
export async function removeControlPlane({ folder }: ControlPlane): Promise<void> {
  await rm(folder, { recursive: true, force: true })
}
