import t from 'tap'
import { ObjectReader } from '../../src/engine/object-reader.ts'
import {
  isPodTemplate,
  type PodTemplateKind,
  podTemplateKinds,
  readPodTemplate,
} from '../../src/engine/pod-template.ts'

const metadata = { name: 'web', namespace: 'shop', labels: { app: 'other' }, creationTimestamp: '1970-01-01T00:00:01Z' }
const template = {
  metadata: { labels: { app: 'web' } },
  spec: { nodeName: 'n1', containers: [{ ports: [{ name: 'http', containerPort: 80 }] }] },
}
const selector = { matchLabels: { app: 'web' } }

function read(kind: PodTemplateKind, spec: object, more: object = {}) {
  return readPodTemplate(new ObjectReader({ kind, metadata, spec, ...more }), kind)
}

t.test('every kind is one workload with its template’s labels and ports', async (t) => {
  const specs: Record<PodTemplateKind, object> = {
    Deployment: { selector, template, replicas: 3 },
    StatefulSet: { selector, template, serviceName: 'web' },
    DaemonSet: { selector, template },
    ReplicaSet: { selector, template },
    Job: { template },
    CronJob: { schedule: '0 * * * *', jobTemplate: { spec: { template } } },
    ReplicationController: { selector: { app: 'web' }, template },
  }
  for (const kind of podTemplateKinds) {
    const workload = read(kind, specs[kind])
    t.match(workload, {
      type: 'Workload',
      ref: { kind, namespace: 'shop', name: 'web' },
      namespace: 'shop',
      name: 'web',
      node: 'n1',
      hostNetwork: false,
      phase: 'Running',
      createdMs: 1000,
    })
    t.same(workload.addresses, [], `${kind}: it owns no address`)
    t.same(workload.ports, [{ name: 'http', protocol: 6, port: 80 }])
    t.equal(workload.labels.get('app'), 'web', `${kind}: its own labels are not those of its pods`)
    t.ok(isPodTemplate(workload))
    t.same(read(kind, specs[kind], { status: { replicas: 3 } }), workload, `${kind}: its status does not matter`)
  }
})

t.test('selectors', async (t) => {
  t.equal(
    read('ReplicationController', { template }).labels.get('app'),
    'web',
    'a controller may leave its selector out',
  )
  const uid = { 'batch.kubernetes.io/controller-uid': '1' }
  const written = { metadata: { labels: { ...uid, app: 'web' } } }
  t.equal(read('Job', { selector: { matchLabels: uid }, template: written }).labels.get('app'), 'web')
  t.same(
    [...read('Job', { manualSelector: true, selector, template }).labels],
    [['app', 'web']],
    'a Job with a selector of its own gets no label of its name',
  )
})

t.test('what the API refuses', async (t) => {
  const labels = (label: string) => ({ metadata: { labels: { app: label } } })
  const refused: readonly [kind: PodTemplateKind, spec: object, message: string | RegExp][] = [
    ['Deployment', { selector }, 'spec: template is missing'],
    ['Deployment', { template }, 'spec: selector is missing'],
    ['Deployment', { selector: {}, template }, 'spec.selector: an empty selector is no selector of a Deployment'],
    ['Deployment', { selector: { matchLabel: {} }, template }, /^spec\.selector\.matchLabel: unknown field/],
    [
      'ReplicaSet',
      { selector, template: labels('wub') },
      "spec.template.metadata.labels: the selector does not match the template's labels: app=web",
    ],
    [
      'StatefulSet',
      { selector, template: {} },
      "spec.template: the selector does not match the template's labels: app=web",
    ],
    [
      'DaemonSet',
      { selector, template: labels('-') },
      'spec.template.metadata.labels.app: "-" is no valid label value',
    ],
    ['DaemonSet', { selector, template: { ...template, status: {} } }, /^spec\.template\.status: unknown field/],
    ['ReplicationController', { selector: { app: 'x' }, template }, /does not match the template's labels: app=x$/],
    ['Job', { selector: { matchLabels: { app: 'x' } }, template }, /does not match/],
    ['Job', {}, 'spec: template is missing'],
    ['CronJob', {}, 'spec: jobTemplate is missing'],
    ['CronJob', { jobTemplate: {} }, 'spec.jobTemplate.spec: template is missing'],
    ['CronJob', { jobTemplate: { template } }, /^spec\.jobTemplate\.template: unknown field/],
  ]
  for (const [kind, spec, message] of refused) t.throws(() => read(kind, spec), { message })
  t.throws(() => read('Deployment', { selector, template }, { replicas: 3 }), { message: /^replicas: unknown field/ })
})
