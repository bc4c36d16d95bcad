import { readAdminNetworkPolicy, readBaselineAdminNetworkPolicy } from './admin-network-policy.ts'
import { readClusterNetworkPolicy } from './cluster-network-policy.ts'
import { readDomainName } from './domain-name.ts'
import { readNetworkPolicy } from './network-policy.ts'
import { ObjectReader } from './object-reader.ts'
import { type PodTemplateKind, podTemplateKinds, readPodTemplate } from './pod-template.ts'
import type { PolicyObject } from './snapshot.ts'
import { clusterPolicyApis } from './understand.ts'
import { readHostEndpoint, readNamespace, readNetworkSet, readNode, readPod } from './workload.ts'

const readers = new Map<string, (object: ObjectReader) => PolicyObject>([
  ['v1 Pod', readPod],
  ['v1 Namespace', readNamespace],
  ['v1 Node', readNode],
  ['networking.k8s.io/v1 NetworkPolicy', readNetworkPolicy],
  ['policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy', readClusterNetworkPolicy],
  ['policy.networking.k8s.io/v1beta1 ClusterNetworkPolicy', readClusterNetworkPolicy],
  ['policy.networking.k8s.io/v1alpha1 AdminNetworkPolicy', readAdminNetworkPolicy],
  ['policy.networking.k8s.io/v1alpha1 BaselineAdminNetworkPolicy', readBaselineAdminNetworkPolicy],
  ['knp.dev/v1alpha1 DomainName', readDomainName],
  ['knp.dev/v1alpha1 HostEndpoint', readHostEndpoint],
  ['knp.dev/v1alpha1 NetworkSet', readNetworkSet],
  ...podTemplateKinds.map((kind) => [`${templateVersion(kind)} ${kind}`, readTemplate(kind)] as const),
])

function templateVersion(kind: PodTemplateKind): string {
  if (kind === 'ReplicationController') return 'v1'
  return kind === 'Job' || kind === 'CronJob' ? 'batch/v1' : 'apps/v1'
}

function readTemplate(kind: PodTemplateKind): (object: ObjectReader) => PolicyObject {
  return (object) => readPodTemplate(object, kind)
}

/**
 * Reads an object as the Kubernetes API has it in JSON, with `apiVersion` and `kind`, as strictly as the API server.
 * `undefined` for a kind that no policy refers to, such as Service. Throws InvalidObject for what is wrong, and for a
 * policy that is of no version known: what promises protection is never left out quietly.
 */
export function readObject(value: unknown): PolicyObject | undefined {
  const object = new ObjectReader(value)
  const field = object.fields()
  const apiVersion = field('apiVersion').string()
  const kind = field('kind').string()
  const read = readers.get(`${apiVersion} ${kind}`)
  if (read) return read(object)
  refuseUnknownPolicy(object, apiVersion, kind)
  return undefined
}

function refuseUnknownPolicy(object: ObjectReader, apiVersion: string, kind: string): void {
  const field = object.fields()
  const group = apiVersion.split('/')[0]!
  if (kind.toLowerCase() === 'networkpolicy' && ['v1', 'extensions', 'networking.k8s.io'].includes(group)) {
    if (kind !== 'NetworkPolicy') field('kind').fail(`unknown kind ${kind}; write NetworkPolicy`)
    field('apiVersion').fail(`"${apiVersion}" has no NetworkPolicy (any more); write networking.k8s.io/v1`)
  }
  if (group === 'networking.k8s.io' && kind.endsWith('Policy')) field('kind').fail(`unknown kind ${kind}`)
  if (group === 'policy.networking.k8s.io') {
    const known = clusterPolicyApis.map(({ kind, versions }) => `${kind} (${versions.join(', ')})`).join(', ')
    field('kind').fail(`${kind} (${apiVersion}) is not enforced by this version of knp; known: ${known}`)
  }
  if (group === 'knp.dev') {
    field('kind').fail(`${kind} (${apiVersion}) is not enforced by this version of knp`)
  }
}
