import { formatAddress } from '../../src/engine/index.ts'
import type { Workload } from '../../src/engine/objects.ts'
import { type Manifest, manifestOf } from '../datapath/manifests.ts'

const TOKEN_PATH = '/var/run/secrets/kubernetes.io/serviceaccount'

/** What of a pod is not said by the workload that is made of it. */
export interface PodState {
  /** Tells pods apart: most of a pod's generated names and numbers follow from it. */
  readonly number: number
  /** When its conditions changed last, in seconds since 1970. */
  readonly changedAt: number
  readonly isReady: boolean
  readonly resourceVersion: string
}

/**
 * A pod as `kubectl get -o json` shows those of a deployment: about 4 KB with owner, managed fields, volumes, probes,
 * conditions and container states.
 */
export function podOf(workload: Workload, state: PodState): Manifest {
  const { metadata, spec, status } = manifestOf(workload) as Record<'metadata' | 'spec' | 'status', Manifest>
  const { labels } = workload
  const hash = labels.get('pod-template-hash') ?? '0'
  const owner = `${labels.get('app')}-${hash}`
  const uid = uuid(state.number)
  const ownerUid = uuid(Number.parseInt(hash, 16))
  const created = time(workload.createdMs / 1000)
  const token = `kube-api-access-${suffix(state.number)}`
  const readiness = state.isReady ? 'True' : 'False'
  const condition = (type: string, value: string, at = created) => {
    return { type, status: value, lastProbeTime: null, lastTransitionTime: at }
  }
  return {
    metadata: {
      name: metadata.name,
      generateName: `${owner}-`,
      namespace: metadata.namespace,
      uid,
      resourceVersion: state.resourceVersion,
      generation: 1,
      creationTimestamp: created,
      labels: sorted(metadata.labels as Manifest),
      annotations: { 'prometheus.io/scrape': 'true' },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: owner,
          uid: ownerUid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
      managedFields: managedFields(workload, ownerUid, created, time(state.changedAt)),
    },
    spec: specOf(spec, labels.get('app') ?? 'app', token),
    status: {
      phase: status.phase,
      conditions: [
        condition('Initialized', 'True'),
        condition('Ready', readiness, time(state.changedAt)),
        condition('ContainersReady', readiness, time(state.changedAt)),
        condition('PodScheduled', 'True'),
      ],
      hostIP: '172.16.0.1',
      hostIPs: [{ ip: '172.16.0.1' }],
      ...(workload.addresses[0] && { podIP: formatAddress(workload.addresses[0]) }),
      podIPs: status.podIPs,
      startTime: created,
      containerStatuses: [
        {
          name: 'main',
          state: { running: { startedAt: created } },
          lastState: {},
          ready: state.isReady,
          restartCount: state.number % 7 === 0 ? 1 : 0,
          image: imageOf(labels.get('app') ?? 'app'),
          imageID: `registry.example.com/shop/${labels.get('app')}@sha256:${hex(ownerUid)}`,
          containerID: `containerd://${hex(uid)}`,
          started: true,
        },
      ],
      qosClass: 'Burstable',
    },
  }
}

/** What of `podOf` an API server takes from whoever makes a pod. */
export function newPodOf(workload: Workload, state: PodState): Manifest {
  const { metadata, spec } = podOf(workload, state) as Record<'metadata' | 'spec', Manifest>
  const { name, namespace, labels, annotations } = metadata
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels, annotations }, spec }
}

function specOf(spec: Manifest, app: string, token: string): Manifest {
  const [container] = spec.containers as readonly [Manifest]
  return {
    volumes: [
      {
        name: token,
        projected: {
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
            { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
            {
              downwardAPI: {
                items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
              },
            },
          ],
          defaultMode: 420,
        },
      },
    ],
    containers: [
      {
        name: container.name,
        image: imageOf(app),
        ...((container.ports as readonly unknown[]).length > 0 && { ports: container.ports }),
        env: [{ name: 'LOG_LEVEL', value: 'info' }],
        resources: { limits: { memory: '256Mi' }, requests: { cpu: '100m', memory: '128Mi' } },
        volumeMounts: [{ name: token, readOnly: true, mountPath: TOKEN_PATH }],
        terminationMessagePath: '/dev/termination-log',
        terminationMessagePolicy: 'File',
        imagePullPolicy: 'IfNotPresent',
      },
    ],
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    serviceAccountName: 'default',
    serviceAccount: 'default',
    nodeName: spec.nodeName,
    securityContext: {},
    schedulerName: 'default-scheduler',
    tolerations: ['not-ready', 'unreachable'].map((state) => ({
      key: `node.kubernetes.io/${state}`,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: 300,
    })),
    priority: 0,
    enableServiceLinks: true,
    preemptionPolicy: 'PreemptLowerPriority',
  }
}

/** Who has set which field: what the controller made, and what the kubelet reports. */
function managedFields(workload: Workload, ownerUid: string, created: string, changed: string): Manifest[] {
  const leaf = {}
  const labels = [...workload.labels.keys()].sort().map((key) => [`f:${key}`, leaf])
  const condition = {
    '.': leaf,
    'f:lastProbeTime': leaf,
    'f:lastTransitionTime': leaf,
    'f:status': leaf,
    'f:type': leaf,
  }
  const conditions = ['ContainersReady', 'Initialized', 'Ready']
  const addresses = workload.addresses.map((address) => [
    `k:{"ip":"${formatAddress(address)}"}`,
    { '.': leaf, 'f:ip': leaf },
  ])
  return [
    {
      manager: 'kube-controller-manager',
      operation: 'Update',
      apiVersion: 'v1',
      time: created,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:metadata': {
          'f:annotations': { '.': leaf, 'f:prometheus.io/scrape': leaf },
          'f:generateName': leaf,
          'f:labels': { '.': leaf, ...Object.fromEntries(labels) },
          'f:ownerReferences': { '.': leaf, [`k:{"uid":"${ownerUid}"}`]: leaf },
        },
        'f:spec': {
          'f:containers': {
            'k:{"name":"main"}': {
              '.': leaf,
              'f:image': leaf,
              'f:imagePullPolicy': leaf,
              'f:name': leaf,
              'f:resources': leaf,
            },
          },
          'f:dnsPolicy': leaf,
          'f:restartPolicy': leaf,
          'f:schedulerName': leaf,
        },
      },
    },
    {
      manager: 'kubelet',
      operation: 'Update',
      apiVersion: 'v1',
      time: changed,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:status': {
          'f:conditions': Object.fromEntries(conditions.map((type) => [`k:{"type":"${type}"}`, condition])),
          'f:containerStatuses': leaf,
          'f:phase': leaf,
          'f:podIP': leaf,
          'f:podIPs': { '.': leaf, ...Object.fromEntries(addresses) },
          'f:startTime': leaf,
        },
      },
      subresource: 'status',
    },
  ]
}

function imageOf(app: string): string {
  return `registry.example.com/shop/${app}:1.4.2`
}

function sorted(labels: Manifest): Manifest {
  return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function time(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

/** The same for the same number, and as good as random. */
function uuid(number: number): string {
  const part = (salt: number) => (Math.imul(number + salt, 0x9e3779b1) >>> 0).toString(16).padStart(8, '0')
  const digits = `${part(1)}${part(2)}${part(3)}${part(4)}`
  return [0, 8, 12, 16, 20].map((at, i) => digits.slice(at, [8, 12, 16, 20, 32][i])).join('-')
}

function hex(uid: string): string {
  return uid.replaceAll('-', '').repeat(2)
}

function suffix(number: number): string {
  return (Math.imul(number, 0x85ebca6b) >>> 0).toString(36).padStart(5, '0').slice(-5)
}
