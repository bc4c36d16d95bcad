import { fields, type Wanted } from './json-scanner.ts'
import { message } from './protobuf.ts'

/** Of any object's metadata. */
export const wantedMetadata = fields({
  name: 'all',
  namespace: 'all',
  labels: { alike: 'all' },
  creationTimestamp: 'all',
  resourceVersion: 'all',
})

const ports: Wanted = { alike: { items: fields({ name: 'all', containerPort: 'all', protocol: 'all' }) } }

/** What is kept of a pod. */
export const wantedOfPod = fields({
  metadata: wantedMetadata,
  spec: fields({
    nodeName: 'all',
    hostNetwork: 'all',
    containers: { items: fields({ ports }) },
    initContainers: { items: fields({ ports, restartPolicy: 'all' }) },
  }),
  status: fields({ phase: 'all', podIP: 'all', podIPs: { items: fields({ ip: 'all' }) } }),
})

/** The ports of a container. */
export const portMessages = {
  name: 'ports',
  type: 'alike messages',
  of: message({
    1: { name: 'name', type: 'text' },
    3: { name: 'containerPort', type: 'number' },
    4: { name: 'protocol', type: 'text' },
  }),
} as const

/** `wantedOfPod` by the numbers of k8s.io/api/core/v1/generated.proto and k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto. */
export const wantedPodMessage = message({
  1: {
    name: 'metadata',
    type: 'message',
    of: message({
      1: { name: 'name', type: 'text' },
      3: { name: 'namespace', type: 'text' },
      8: { name: 'creationTimestamp', type: 'time' },
      11: { name: 'labels', type: 'alike texts' },
    }),
  },
  2: {
    name: 'spec',
    type: 'message',
    of: message({
      2: { name: 'containers', type: 'messages', of: message({ 6: portMessages }) },
      10: { name: 'nodeName', type: 'text' },
      11: { name: 'hostNetwork', type: 'boolean' },
      20: {
        name: 'initContainers',
        type: 'messages',
        of: message({ 6: portMessages, 24: { name: 'restartPolicy', type: 'text' } }),
      },
    }),
  },
  3: {
    name: 'status',
    type: 'message',
    of: message({
      1: { name: 'phase', type: 'text' },
      6: { name: 'podIP', type: 'text' },
      12: { name: 'podIPs', type: 'messages', of: message({ 1: { name: 'ip', type: 'text' } }) },
    }),
  },
})
