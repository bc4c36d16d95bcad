import { type ObjectReader, readMetadata } from './object-reader.ts'
import type { Labels, Workload } from './objects.ts'
import { formatRequirement, isMet, type LabelSelector, readSelector } from './selector.ts'
import { readPodSpec } from './workload.ts'

/** Kinds whose objects make pods from a template. */
export const podTemplateKinds = [
  'Deployment',
  'StatefulSet',
  'DaemonSet',
  'ReplicaSet',
  'Job',
  'CronJob',
  'ReplicationController',
] as const

export type PodTemplateKind = (typeof podTemplateKinds)[number]

/** Whether the workload stands for the pods of a template, which may be several. */
export function isPodTemplate({ ref }: Workload): boolean {
  return (podTemplateKinds as readonly string[]).includes(ref.kind)
}

/**
 * An object that makes pods as one workload: its own name, with the labels, ports and node of its pod template. It owns
 * no address; its pods do. Throws InvalidObject, also where its selector does not match its template (the API's
 * `validation.go` of apps, batch and core).
 */
export function readPodTemplate(object: ObjectReader, kind: PodTemplateKind): Workload {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, createdMs } = readMetadata(object, kind, 'Namespaced')
  const spec = kind === 'CronJob' ? readJobTemplate(top('spec')) : top('spec')
  const template = spec.fields()('template')
  if (!template.isPresent) spec.fail('template is missing')
  const field = template.fields(['metadata', 'spec'])
  const templateLabels = field('metadata').fields()('labels')
  const labels = templateLabels.labels()
  const unmet = readOwnSelector(spec, kind)?.requirements.filter((requirement) => !isMet(requirement, labels)) ?? []
  if (unmet.length > 0) {
    const place = templateLabels.isPresent ? templateLabels : template
    place.fail(`the selector does not match the template's labels: ${unmet.map(formatRequirement).join(', ')}`)
  }
  return {
    type: 'Workload',
    ref,
    isHost: false,
    namespace: ref.namespace!,
    name: ref.name,
    labels: kind === 'Job' ? withJobName(labels, ref.name, spec) : labels,
    ...readPodSpec(field('spec')),
    addresses: [],
    forwards: [],
    phase: 'Running',
    createdMs,
  }
}

function readJobTemplate(spec: ObjectReader): ObjectReader {
  const jobTemplate = spec.fields()('jobTemplate')
  if (!jobTemplate.isPresent) spec.fail('jobTemplate is missing')
  return jobTemplate.fields(['metadata', 'spec'])('spec')
}

/** The selector by which the object knows its pods; `undefined` where the API server would make one. */
function readOwnSelector(spec: ObjectReader, kind: PodTemplateKind): LabelSelector | undefined {
  const selector = spec.fields()('selector')
  switch (kind) {
    case 'ReplicationController':
      return { requirements: [...selector.labels()].map(([key, value]) => ({ key, operator: 'In', values: [value] })) }
    case 'Job':
    case 'CronJob':
      return selector.isPresent ? readSelector(selector) : undefined
    case 'Deployment':
    case 'StatefulSet':
    case 'DaemonSet':
    case 'ReplicaSet': {
      if (!selector.isPresent) spec.fail('selector is missing')
      const read = readSelector(selector)
      if (read.requirements.length === 0) selector.fail(`an empty selector is no selector of a ${kind}`)
      return read
    }
  }
}

/** The API server writes a Job's name into its template (batch `strategy.go`), so policies may select by it. */
function withJobName(labels: Labels, name: string, spec: ObjectReader): Labels {
  if (spec.fields()('manualSelector').optionalBoolean()) return labels
  return new Map([...labels, ['job-name', name], ['batch.kubernetes.io/job-name', name]])
}
