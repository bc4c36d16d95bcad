import type { Test } from 'tap'
import type { Cluster } from './cluster.ts'
import { POD_IMAGE } from './image.ts'
import { inNode } from './node.ts'

/** A pod to be made. */
export interface PodSpec {
  readonly namespace: string
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly node?: string
  /** Of its one container; without them it listens on TCP and UDP 80 and answers probes there. */
  readonly command?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly hostNetwork?: boolean
}

export type Protocol = 'tcp' | 'udp' | 'sctp'

/** A manifest of a pod. It can listen on port 80 of TCP, UDP and SCTP, and be asked to connect. */
export function podManifest({ namespace, name, labels = {}, node, command, env = {}, hostNetwork }: PodSpec): object {
  const server = {
    args: ['netexec', '--http-port=80', '--udp-port=80'],
    ports: [
      { name: 'web', containerPort: 80 },
      { name: 'dns', containerPort: 80, protocol: 'UDP' },
    ],
    readinessProbe: { httpGet: { path: '/hostname', port: 80 }, periodSeconds: 1, timeoutSeconds: 2 },
    livenessProbe: {
      httpGet: { path: '/hostname', port: 80 },
      periodSeconds: 1,
      timeoutSeconds: 2,
      failureThreshold: 3,
    },
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels: { app: name, ...labels } },
    spec: {
      ...(node === undefined ? {} : { nodeName: node }),
      ...(hostNetwork ? { hostNetwork } : {}),
      restartPolicy: command ? 'Never' : 'Always',
      terminationGracePeriodSeconds: 0,
      enableServiceLinks: false,
      containers: [
        {
          name: 'main',
          image: POD_IMAGE,
          env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
          ...(command ? { command } : server),
        },
      ],
    },
  }
}

export function namespaceManifest(name: string, labels: Readonly<Record<string, string>> = {}): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
}

/** A Service for the pods with the label `app`. */
export function serviceManifest(namespace: string, app: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name: app },
    spec: { selector: { app }, ports: [{ name: 'web', port: 80, targetPort: 80 }] },
  }
}

/** Creates objects or brings them to what they should be. */
export async function apply(cluster: Pick<Cluster, 'kubectl'>, objects: readonly object[]): Promise<void> {
  const list = { apiVersion: 'v1', kind: 'List', items: objects }
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify(list) })
}

/** Deletes what has been applied; what is not there is no error. Waits until it has gone. */
export async function remove(cluster: Pick<Cluster, 'kubectl'>, objects: readonly object[]): Promise<void> {
  const list = { apiVersion: 'v1', kind: 'List', items: objects }
  await cluster.kubectl(['delete', '--ignore-not-found', '-f', '-'], { input: JSON.stringify(list) })
}

/** Creates pods, each in a namespace of the test's own, and waits until all are ready. */
export async function createPods(cluster: Cluster, pods: readonly PodSpec[]): Promise<void> {
  await apply(cluster, pods.map(podManifest))
  for (const namespace of new Set(pods.map((pod) => pod.namespace))) {
    const names = pods.filter((pod) => pod.namespace === namespace).map(({ name }) => `pod/${name}`)
    await cluster.kubectl(['-n', namespace, 'wait', '--for=condition=Ready', '--timeout=120s', ...names])
  }
}

/** Namespaces that end with the test, and all that is in them. */
export async function createNamespaces(
  t: Test,
  cluster: Cluster,
  names: readonly string[],
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  const manifests = names.map((name) => namespaceManifest(name, labels))
  t.teardown(() => remove(cluster, manifests))
  await apply(cluster, manifests)
  for (const name of names) {
    // Pods are refused until their account is there.
    await cluster.kubectl(['-n', name, 'wait', '--for=create', 'serviceaccount/default', '--timeout=30s'])
  }
}

/** Addresses of a pod, IPv4 first. */
export async function addressesOf(cluster: Cluster, namespace: string, name: string): Promise<readonly string[]> {
  const path = '{range .status.podIPs[*]}{.ip} {end}'
  const text = await cluster.kubectl(['-n', namespace, 'get', 'pod', name, '-o', `jsonpath=${path}`])
  return text.trim().split(' ')
}

/** How an attempt to connect ended. */
export type Outcome = 'connected' | 'timeout' | 'refused'

/** Connects from a pod: one attempt, of a second. Throws where it could not be made. */
export async function connect(
  cluster: Cluster,
  from: string,
  address: string,
  port = 80,
  protocol: Protocol = 'tcp',
): Promise<Outcome> {
  const [namespace = '', name = ''] = from.split('/')
  const target = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  const ask = ['/agnhost', 'connect', target, '--timeout=1s', `--protocol=${protocol}`]
  const { code, stderr } = await cluster.attemptKubectl(['-n', namespace, 'exec', name, '--', ...ask])
  if (code === 0) return 'connected'
  if (stderr.includes('TIMEOUT')) return 'timeout'
  if (stderr.includes('REFUSED')) return 'refused'
  throw new Error(`${from} to ${target}: ${stderr}`)
}

/**
 * A command line that runs in a pod's network, on the node: for when there is no API server to ask, and for programs that
 * the image has not. `from` is an address of the pod.
 */
export async function inNetworkOfPod(
  cluster: Cluster,
  node: string,
  from: string,
  argv: readonly string[],
): Promise<readonly string[]> {
  const member = cluster.members.find(({ name }) => name === node)
  if (member === undefined) throw new Error(`${node}: no such node`)
  const script = `for network in /run/netns/*; do
    nsenter --net="$network" ip -o address show to ${from} | grep -q . && echo "$network"
  done`
  const { stdout } = await cluster.execOn(member, ['sh', '-c', script])
  const network = stdout.trim()
  if (network === '' || network.includes('\n')) throw new Error(`${from}: not one network on ${node}: ${stdout}`)
  return inNode(member, ['nsenter', `--net=${network}`, '--', ...argv])
}
