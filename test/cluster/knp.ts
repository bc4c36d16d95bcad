import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import type { Cluster } from './cluster.ts'
import { run } from './command.ts'
import { until } from './process.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const manifests = join(project, 'packaging/kubernetes/knp.yaml')

/** Makes an image of the working tree, as users do, and puts it into every node. Answers its name. */
export async function loadKnpImage(cluster: Cluster): Promise<string> {
  const name = /image: (\S+)/.exec(await readFile(manifests, 'utf8'))?.[1]
  if (name === undefined) throw new Error(`${manifests}: names no image`)
  const folder = await mkdtemp(join(tmpdir(), 'knp-image-'))
  try {
    const archive = join(folder, 'knp.oci.tar')
    await run([join(project, 'packaging/container/build.sh'), archive])
    await cluster.load(archive)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return name
}

/** Applies the project's own manifests and waits until knp is ready on every node. */
export async function deployKnp(cluster: Cluster): Promise<void> {
  await cluster.kubectl(['apply', '-f', manifests])
  await rolledOut(cluster)
}

/** Waits until every node has the latest version of the DaemonSet's pods, ready. Throws with what they said otherwise. */
export async function rolledOut(cluster: Cluster): Promise<void> {
  const knp = ['-n', 'kube-system']
  const { code } = await cluster.attemptKubectl([...knp, 'rollout', 'status', 'daemonset/knp', '--timeout=120s'])
  if (code === 0) return
  const { stdout: pods } = await cluster.attemptKubectl([...knp, 'get', 'pods', '-o', 'wide'])
  const { stdout: said } = await cluster.attemptKubectl([...knp, 'logs', 'daemonset/knp', '--tail=10'])
  throw new Error(`knp is not ready on every node:\n${pods}\n${said}`)
}

/** Changes knp's configuration, as users do: its text in the ConfigMap, and new pods that read it. */
export async function configureKnp(cluster: Cluster, change: (text: string) => string): Promise<void> {
  const path = ['-n', 'kube-system', 'configmap', 'knp']
  const { data } = JSON.parse(await cluster.kubectl(['get', ...path, '-o', 'json'])) as {
    readonly data: Readonly<Record<string, string>>
  }
  const patch = JSON.stringify({ data: { 'knp.yaml': change(data['knp.yaml'] ?? '') } })
  await cluster.kubectl(['patch', ...path, '-p', patch])
  await cluster.kubectl(['-n', 'kube-system', 'rollout', 'restart', 'daemonset/knp'])
  await rolledOut(cluster)
}

/** A pod of the DaemonSet. */
export interface KnpPod {
  readonly name: string
  readonly node: string
  readonly restarts: number
}

/** The pods of the DaemonSet that are there, without those that are going. */
export async function knpPods(cluster: Cluster): Promise<readonly KnpPod[]> {
  const text = await cluster.kubectl([
    '-n',
    'kube-system',
    'get',
    'pods',
    '-l',
    'app.kubernetes.io/name=knp',
    '-o',
    'json',
  ])
  const { items } = JSON.parse(text) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
      readonly spec: { readonly nodeName?: string }
      readonly status: { readonly containerStatuses?: readonly { readonly restartCount: number }[] }
    }[]
  }
  return items
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map(({ metadata, spec, status }) => ({
      name: metadata.name,
      node: spec.nodeName ?? '',
      restarts: status.containerStatuses?.reduce((sum, { restartCount }) => sum + restartCount, 0) ?? 0,
    }))
}

/** What `knp status --json` says on a node. Asked on the node itself, so that it needs no API server. */
export async function knpStatus(cluster: Cluster, node: string): Promise<FirewallStatus> {
  const member = cluster.members.find(({ name }) => name === node)
  if (member === undefined) throw new Error(`${node}: no such node`)
  // The first process of the container: its root has the program, and the socket.
  const script = `for command in /proc/[0-9]*/cmdline; do
    tr '\\0' ' ' <"$command" 2>/dev/null | grep -q '^/usr/bin/node /usr/bin/knp run ' || continue
    pid=\${command#/proc/} pid=\${pid%/cmdline}
    exec nsenter --target "$pid" --mount --pid -- /usr/bin/knp status --json
  done
  echo 'knp does not run' >&2
  exit 4`
  const { code, stdout, stderr } = await cluster.execOn(member, ['sh', '-c', script])
  if (stdout === '') throw new Error(`knp status on ${node}: ${code}: ${stderr}`)
  return JSON.parse(stdout)
}

/** Waits until the status of every node is as asked for. */
export async function untilStatus(
  cluster: Cluster,
  what: string,
  isSo: (status: FirewallStatus) => boolean,
  timeoutMs = 60_000,
): Promise<void> {
  for (const { name } of cluster.members) {
    await until(`${name}: ${what}`, async () => isSo(await knpStatus(cluster, name)), timeoutMs)
  }
}
