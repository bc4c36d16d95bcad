import { makeWorld } from '../engine/worlds.ts'
import { type Manifest, manifestOf } from './manifests.ts'

/** Who opens connections, and to whom: addresses. */
export interface Ends {
  readonly clients: readonly string[]
  readonly servers: readonly string[]
}

/** How many pods and policies there are, the bench's own among them. */
export const WORKLOADS = 10_000
export const POLICIES = 1000

/** Where the bench's own pods are. */
export const OWN_NAMESPACE = 'bench'

/**
 * A cluster in which every server is a pod that policies select and every client one that they let in, and ask all tiers
 * before they do. A line of JSON for each, which is YAML too, is what the firewall reads.
 */
export function worldManifests(ends: Ends): readonly Manifest[] {
  const own = ownPods(ends)
  const world = makeWorld({
    name: 'datapath',
    workloads: WORKLOADS,
    policies: POLICIES - ownPolicies.length,
    isOnePod: false,
  })
  const { namespaces, nodes, networkPolicies, clusterPolicies } = world
  const workloads = world.workloads.slice(own.length)
  const others = [...namespaces, ...nodes, ...workloads, ...networkPolicies, ...clusterPolicies]
  return [...others.map(manifestOf), ownNamespace, ...own, ...ownPolicies]
}

/** The same as a file. */
export function worldYaml(ends: Ends): string {
  return worldManifests(ends)
    .map((manifest) => JSON.stringify(manifest))
    .join('\n---\n')
}

function ownPods({ clients, servers }: Ends): Manifest[] {
  const pod = (address: string, role: string, i: number) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `${role}-${i}`, namespace: OWN_NAMESPACE, labels: { role } },
    status: { phase: 'Running', podIPs: [{ ip: address }] },
  })
  return [
    ...servers.map((address, i) => pod(address, 'server', i)),
    ...clients.map((address, i) => pod(address, 'client', i)),
  ]
}

const ownNamespace: Manifest = {
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name: OWN_NAMESPACE, labels: { team: 'team-2', env: 'production' } },
}

const ownPolicies: readonly Manifest[] = [
  networkPolicy('default-deny', { podSelector: {}, ingress: [] }),
  networkPolicy('servers', {
    podSelector: { matchLabels: { role: 'server' } },
    ingress: [
      {
        from: [{ podSelector: { matchLabels: { role: 'client' } } }],
        ports: ['TCP', 'UDP'].map((protocol) => ({ protocol, port: 1, endPort: 65535 })),
      },
    ],
  }),
]

function networkPolicy(name: string, spec: Manifest): Manifest {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: OWN_NAMESPACE },
    spec,
  }
}
