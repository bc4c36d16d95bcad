import { adminNetworkPolicyApi, baselineAdminNetworkPolicyApi } from './admin-network-policy.ts'
import { clusterNetworkPolicyApi } from './cluster-network-policy.ts'
import {
  acceptOf,
  type ClusterPolicyApi,
  readClusterPolicy,
  salvageClusterPolicy,
  unlimited,
} from './cluster-policy-reader.ts'
import { readNetworkPolicy } from './network-policy.ts'
import { attempt, InvalidObject, ObjectReader } from './object-reader.ts'
import { MODE_ANNOTATION, refName } from './objects.ts'
import type { Policy } from './policy.ts'
import { everything, readSelector } from './selector.ts'

/** The APIs of cluster-wide policies. */
export const clusterPolicyApis: readonly ClusterPolicyApi[] = [
  clusterNetworkPolicyApi,
  adminNetworkPolicyApi,
  baselineAdminNetworkPolicyApi,
]

/** What is enforced of an object that an API server delivered. */
export interface UnderstoodPolicy {
  /** `undefined` where there is nothing to enforce. */
  readonly policy: Policy | undefined
  /** Why that is not what the object says: one sentence with the object, the field, and what is in force. */
  readonly problem?: string
}

/**
 * Reads a policy that an API server took, and that cannot be refused: its validation is another version's, or lets
 * through what it should not. The API's limits on lists and names are not asked for.
 *
 * Where the object cannot be understood, its last good version stays in force. Without one, in the order tried:
 * - A mode (`knp.dev/mode`) that is none counts as `enforce`, if the rest can be understood.
 * - A cluster-wide policy is what `salvageClusterPolicy` makes of it: Accept rules match nothing, Deny and Pass rules deny
 *   everything, and what cannot be read counts as whatever denies the most.
 * - A NetworkPolicy isolates what it selects and allows nothing: the directions of its policyTypes, both where they
 *   cannot be read, and its whole namespace where its selector cannot be read.
 * - What has no kind that is known, or no name, is nothing.
 * @param value the object as JSON gives it, with `apiVersion` and `kind`
 * @param lastGood the last version of the same object that was understood
 */
export function understandPolicy(value: unknown, lastGood: Policy | undefined): UnderstoodPolicy {
  const object = new ObjectReader(value)
  try {
    return { policy: readPolicy(object) }
  } catch (error) {
    if (!(error instanceof InvalidObject)) throw error
    const why = `${nameOf(object)}: ${error.message}`
    if (lastGood) return { policy: lastGood, problem: `${why}; its last good version stays in force` }
    if (error.path.at(-1) === MODE_ANNOTATION) {
      const policy = attempt(() => readPolicy(withoutMode(object)))
      if (policy) {
        const problem = `${why}; until it can be read the policy is enforced`
        return { policy: { ...policy, problems: [...policy.problems, problem] }, problem }
      }
    }
    return salvage(object, why)
  }
}

function readPolicy(object: ObjectReader): Policy {
  const field = object.fields()
  const apiVersion = field('apiVersion').string()
  const kind = field('kind').oneOf(['NetworkPolicy', ...clusterPolicyApis.map(({ kind }) => kind)])
  const api = clusterPolicyApis.find((api) => api.kind === kind)
  const versions = api?.versions ?? ['networking.k8s.io/v1']
  if (!versions.includes(apiVersion)) {
    field('apiVersion').fail(`"${apiVersion}" is no known version of ${kind}; known: ${versions.join(', ')}`)
  }
  return api ? readClusterPolicy(object, api, unlimited) : readNetworkPolicy(object)
}

function salvage(object: ObjectReader, why: string): UnderstoodPolicy {
  const kind = attempt(() => object.fields()('kind').string())
  const api = clusterPolicyApis.find((api) => api.kind === kind)
  if (api) {
    const problem = `${why}; until it can be read, its ${acceptOf(api)} rules match nothing and its other rules deny everything`
    const policy = salvageClusterPolicy(object, api, problem)
    if (policy) return { policy, problem }
  } else if (kind === 'NetworkPolicy') {
    const problem = `${why}; until it can be read it isolates what it selects and allows nothing`
    const policy = salvageNetworkPolicy(object, problem)
    if (policy) return { policy, problem }
  }
  return { policy: undefined, problem: `${why}; nothing of it can be enforced` }
}

function salvageNetworkPolicy(object: ObjectReader, problem: string): Policy | undefined {
  const top = object.fields()
  const metadata = attempt(() => top('metadata').fields())
  const name = attempt(() => metadata?.('name').string())
  if (!metadata || !name) return undefined
  const namespace = attempt(() => metadata('namespace').optionalString()) || 'default'
  const spec = attempt(() => top('spec').fields())
  const types = attempt(() => readPolicyTypes(top('spec'))) ?? ['Ingress', 'Egress']
  const mode = attempt(() => metadata('annotations').fields()(MODE_ANNOTATION).value)
  return {
    type: 'Policy',
    ref: { kind: 'NetworkPolicy', namespace, name },
    tier: 'NetworkPolicy',
    priority: 0,
    namespace,
    subject: {
      namespaceSelector: undefined,
      podSelector: (spec && attempt(() => readSelector(spec('podSelector')))) ?? everything,
    },
    ingress: types.includes('Ingress') ? [] : undefined,
    egress: types.includes('Egress') ? [] : undefined,
    isAudited: mode === 'audit',
    problems: [problem],
  }
}

function readPolicyTypes(spec: ObjectReader): readonly string[] {
  const field = spec.fields()
  const types = field('policyTypes')
    .items()
    .map((item) => item.oneOf(['Ingress', 'Egress']))
  if (types.length > 0) return types
  return field('egress').items().length > 0 ? ['Ingress', 'Egress'] : ['Ingress']
}

function withoutMode(object: ObjectReader): ObjectReader {
  const { metadata, ...rest } = object.value as { metadata: { annotations: Record<string, unknown> } }
  const { [MODE_ANNOTATION]: _, ...annotations } = metadata.annotations
  return new ObjectReader({ ...rest, metadata: { ...metadata, annotations } })
}

/** `ClusterNetworkPolicy web`, as far as it can be told. */
function nameOf(object: ObjectReader): string {
  const top = attempt(() => object.fields())
  const kind = attempt(() => top?.('kind').string()) ?? 'an object without a kind'
  const metadata = attempt(() => top?.('metadata').fields())
  const name = attempt(() => metadata?.('name').string())
  const namespace = attempt(() => metadata?.('namespace').optionalString())
  if (!name) return kind
  return `${kind} ${refName(namespace ? { namespace, name } : { name })}`
}
