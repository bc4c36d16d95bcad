import { type Address, MAPPED_WORD } from '../../src/engine/address.ts'
import {
  NAMESPACE_NAME_LABEL,
  type NamedPort,
  type Namespace,
  type Node,
  type Workload,
} from '../../src/engine/objects.ts'
import { TCP, UDP } from '../../src/engine/packet.ts'

/** What policies are about, without the policies. */
export interface Cluster {
  readonly namespaces: readonly Namespace[]
  readonly nodes: readonly Node[]
  /** Those of a namespace stand together, a namespace's deployments in turn. */
  readonly workloads: readonly Workload[]
  readonly workloadsPerNamespace: number
}

export const tiers = ['frontend', 'backend', 'worker', 'database', 'cache'] as const
export const environments = ['production', 'staging', 'development', 'test'] as const
export const TEAMS = 20
/** Apps of a namespace: its deployments are these, and second versions of the first of them. */
const appsPerNamespace = 16
const deploymentsPerNamespace = 20
const podsPerNode = 100

const port = (name: string, number: number, protocol = TCP): NamedPort => ({ name, protocol, port: number })
const metrics = port('metrics', 9090)

/** What a workload listens on, by its tier. */
const portsByTier: Record<(typeof tiers)[number], readonly NamedPort[]> = {
  frontend: [port('http', 8080), port('https', 8443), metrics],
  backend: [port('http', 3000), port('grpc', 50051), metrics],
  worker: [metrics],
  database: [port('sql', 5432), metrics],
  cache: [port('redis', 6379), metrics],
}

/** The namespace of prometheus and of the DNS server; the first ones, and the only ones of their kind. */
export const MONITORING = 'monitoring'
export const SYSTEM = 'kube-system'

export function appName(app: number): string {
  return `${tiers[app % tiers.length]}-${Math.floor(app / tiers.length)}`
}

export function teamName(team: number): string {
  return `team-${team % TEAMS}`
}

/**
 * Namespaces of about a hundred workloads; a fifth as many identities as workloads: a namespace has twenty deployments.
 * Three workloads of ten have an IPv6 address too.
 */
export function makeCluster(count: number): Cluster {
  const namespaceCount = Math.max(5, Math.floor(count / 100))
  const workloadsPerNamespace = count / namespaceCount
  const nodeCount = Math.max(3, Math.ceil(count / podsPerNode))
  return {
    namespaces: Array.from({ length: namespaceCount }, (_, i) => makeNamespace(i)),
    nodes: Array.from({ length: nodeCount }, (_, i) => makeNode(i)),
    workloads: Array.from({ length: count }, (_, i) => {
      const namespace = Math.floor(i / workloadsPerNamespace)
      return makeWorkload(i, namespace, i % workloadsPerNamespace, nodeCount)
    }),
    workloadsPerNamespace,
  }
}

export function namespaceName(index: number): string {
  return index === 0 ? SYSTEM : index === 1 ? MONITORING : `ns-${index}`
}

function makeNamespace(index: number): Namespace {
  const name = namespaceName(index)
  const labels = new Map([
    [NAMESPACE_NAME_LABEL, name],
    ['team', teamName(index)],
    ['env', environments[index % environments.length]!],
    ['pod-security.kubernetes.io/enforce', index % 3 === 0 ? 'restricted' : 'baseline'],
  ])
  return { type: 'Namespace', ref: { kind: 'Namespace', name }, name, labels }
}

function makeNode(index: number): Node {
  const name = `node-${index}`
  const labels = new Map([
    ['kubernetes.io/hostname', name],
    ['topology.kubernetes.io/zone', `zone-${index % 3}`],
    ['node.kubernetes.io/instance-type', index % 4 === 0 ? 'large' : 'medium'],
  ])
  return {
    type: 'Node',
    ref: { kind: 'Node', name },
    name,
    labels,
    addresses: [v4(0xac100000 + index), v6(0xfd000010, index + 1)],
  }
}

function makeWorkload(index: number, namespaceIndex: number, place: number, nodeCount: number): Workload {
  const namespace = namespaceName(namespaceIndex)
  const deployment = place % deploymentsPerNamespace
  const app = deployment % appsPerNamespace
  const tier = tiers[app % tiers.length]!
  const replica = Math.floor(place / deploymentsPerNamespace)
  const hash = (0x5f000000 + namespaceIndex * deploymentsPerNamespace + deployment).toString(16)
  const name = `${appName(app)}-${hash}-${replica}`
  const node = index % nodeCount
  const isDNS = namespaceIndex === 0 && app === 1
  const isPrometheus = namespaceIndex === 1 && app === 1
  return {
    type: 'Workload',
    ref: { kind: 'Pod', namespace, name },
    isHost: false,
    namespace,
    name,
    labels: new Map([
      ['app', isPrometheus ? 'prometheus' : isDNS ? 'dns' : appName(app)],
      ['tier', tier],
      ['version', deployment < appsPerNamespace ? 'v1' : 'v2'],
      ['team', teamName(namespaceIndex)],
      ['app.kubernetes.io/managed-by', app % 2 === 0 ? 'helm' : 'kustomize'],
      ['pod-template-hash', hash],
    ]),
    node: `node-${node}`,
    hostNetwork: false,
    addresses: index % 10 < 3 ? [podAddress(index), v6(0xfd0000aa, index)] : [podAddress(index)],
    ports: isDNS ? [port('dns', 53, UDP), port('dns-tcp', 53), metrics] : portsByTier[tier],
    forwards: [],
    phase: 'Running',
    createdMs: 1_700_000_000_000 + index * 1000,
  }
}

/** 10.0.0.0/8, a hundred addresses in every block of 256, as nodes give them out. */
export function podAddress(index: number): Address {
  return v4(0x0a000000 + Math.floor(index / podsPerNode) * 256 + (index % podsPerNode) + 2)
}

export function v4(word: number): Address {
  return { w0: 0, w1: 0, w2: MAPPED_WORD, w3: word | 0 }
}

/** @param w0 the first word @param last the last */
export function v6(w0: number, last: number): Address {
  return { w0: w0 | 0, w1: 0x0010_0244, w2: 0, w3: last | 0 }
}
