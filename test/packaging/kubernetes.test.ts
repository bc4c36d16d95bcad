import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { clusterPolicyApis } from '../../src/engine/index.ts'
import { parseListenAddress } from '../../src/listen-address.ts'
import { builtInResources } from '../../src/sources/kubernetes/resources.ts'
import { buildKnp, knp } from '../fixtures/knp.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const packaging = join(root, 'packaging/kubernetes')
const folder = mkdtempSync(join(tmpdir(), 'knp-packaging-'))
t.after(() => rmSync(folder, { recursive: true }))
buildKnp()

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
  readonly [other: string]: unknown
}

interface Probe {
  readonly httpGet: { readonly host: string; readonly port: number; readonly path: string }
}

interface Container {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[]
  readonly startupProbe?: Probe
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly securityContext: object
  readonly volumeMounts: readonly {
    readonly name: string
    readonly mountPath: string
    readonly subPath?: string
    readonly readOnly?: boolean
  }[]
}

interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly data?: Readonly<Record<string, string>>
  readonly rules?: readonly Rule[]
  readonly roleRef?: object
  readonly subjects?: readonly object[]
  readonly spec?: {
    readonly updateStrategy: object
    readonly selector: { readonly matchLabels: object }
    readonly template: {
      readonly metadata: { readonly labels: object }
      readonly spec: {
        readonly containers: readonly Container[]
        readonly volumes: readonly { readonly name: string; readonly [kind: string]: unknown }[]
        readonly [other: string]: unknown
      }
    }
  }
}

/** The objects of a file, which must be YAML without a mistake. */
function manifestsOf(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => {
    if (document.errors.length > 0) throw document.errors[0]
    return document.toJS() as Manifest
  })
}

const knpYaml = manifestsOf(readFileSync(join(packaging, 'knp.yaml'), 'utf8'))

/** Its object of a kind, and of a name where there are several. */
function only(manifests: readonly Manifest[], kind: string, name = 'knp'): Manifest {
  const found = manifests.filter((manifest) => manifest.kind === kind && manifest.metadata.name === name)
  if (found.length !== 1) throw new Error(`${found.length} objects ${kind} ${name}`)
  return found[0]!
}

function podOf(manifests: readonly Manifest[]) {
  const { spec } = only(manifests, 'DaemonSet').spec!.template
  return { spec, container: spec.containers[0]! }
}

interface PrintedConfig {
  readonly nodeName: string
  readonly onFailure: string
  readonly sources: readonly object[]
  readonly control: { readonly socket: string }
  readonly metrics: { readonly address: string }
  readonly stateDir: string
  readonly [key: string]: unknown
}

/** What `knp run` makes of the arguments and the configuration of these manifests, on a node of this name. */
async function configOf(manifests: readonly Manifest[], node: string): Promise<PrintedConfig> {
  const { container } = podOf(manifests)
  const file = join(folder, 'knp.yaml')
  writeFileSync(file, only(manifests, 'ConfigMap').data!['knp.yaml']!, { mode: 0o600 })
  const args = container.args.map((arg) => arg.replace('$(NODE_NAME)', node))
  const { status, stdout, stderr } = await knp(folder, ...args, '--config', file, '--print-config', '--json')
  if (status !== 0) throw new Error(`knp ${args.join(' ')}: exit status ${status}: ${stdout}${stderr}`)
  return JSON.parse(stdout) as PrintedConfig
}

/** Values that configurations of knp may have, by what the chart's schema says of them. */
type Schema = { readonly [key: string]: unknown }
const schema = JSON.parse(readFileSync(join(packaging, 'chart/values.schema.json'), 'utf8')) as {
  readonly properties: { readonly config: { readonly properties: Readonly<Record<string, Schema>> } }
}
const configSchema = schema.properties.config.properties

t.test('the objects of knp.yaml', async (t) => {
  t.same(
    knpYaml.map(
      ({ apiVersion, kind, metadata }) => `${apiVersion} ${kind} ${metadata.namespace ?? '-'} ${metadata.name}`,
    ),
    [
      'v1 ServiceAccount kube-system knp',
      'v1 ConfigMap kube-system knp',
      'rbac.authorization.k8s.io/v1 ClusterRole - knp',
      'rbac.authorization.k8s.io/v1 ClusterRoleBinding - knp',
      'apps/v1 DaemonSet kube-system knp',
    ],
  )
  const { roleRef, subjects } = only(knpYaml, 'ClusterRoleBinding')
  t.same(roleRef, { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'knp' })
  t.same(subjects, [{ kind: 'ServiceAccount', name: 'knp', namespace: 'kube-system' }])
  const { selector, template, updateStrategy } = only(knpYaml, 'DaemonSet').spec!
  t.match(template.metadata.labels, selector.matchLabels)
  t.same(updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } })
  t.match(template.spec, {
    serviceAccountName: 'knp',
    hostNetwork: true,
    dnsPolicy: 'Default',
    priorityClassName: 'system-node-critical',
    tolerations: [{ operator: 'Exists' }],
  })
})

t.test('rights: list and watch, of what the source reads and nothing else', async (t) => {
  const rules = only(knpYaml, 'ClusterRole').rules!
  const granted = rules.flatMap(({ apiGroups, resources, verbs, ...others }) => {
    t.same(others, {}, 'no names, no URLs')
    t.same([...verbs].sort(), ['list', 'watch'])
    return apiGroups.flatMap((group) => resources.map((name) => (group === '' ? name : `${name}.${group}`)))
  })
  const clusterWide = clusterPolicyApis.map(({ kind, versions }) => {
    const plural = kind.toLowerCase().replace(/y$/, 'ies')
    return `${plural}.${versions[0]!.split('/')[0]}`
  })
  t.same([...granted].sort(), [...builtInResources.map(({ name }) => name), ...clusterWide].sort())
  t.notMatch(JSON.stringify(rules), /\*/, 'no wildcards')
})

t.test('privileges: NET_ADMIN and nothing else', async (t) => {
  const { spec, container } = podOf(knpYaml)
  t.equal(spec.containers.length, 1)
  t.notOk(spec.initContainers, 'nothing runs before it')
  for (const key of ['hostPID', 'hostIPC', 'shareProcessNamespace']) t.notOk(spec[key], key)
  t.same(spec.securityContext, { seccompProfile: { type: 'RuntimeDefault' } })
  t.same(container.securityContext, {
    runAsUser: 0,
    runAsGroup: 0,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
  })
  const paths = spec.volumes.flatMap(({ hostPath }) => (hostPath ? [hostPath] : []))
  t.same(paths, [{ path: '/var/lib/knp', type: 'DirectoryOrCreate' }], 'of the node, its own folder')
})

t.test('the configuration is one that knp run takes, and its paths are there', async (t) => {
  const { spec, container } = podOf(knpYaml)
  const config = await configOf(knpYaml, 'node-1.example')
  t.match(config, { nodeName: 'node-1.example', onFailure: 'open', sources: [{ kubernetes: {} }] })
  t.same(container.command, ['/usr/bin/knp'], 'where the image has it')
  t.same(
    container.env.find(({ name }) => name === 'NODE_NAME'),
    { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
  )
  const mounts = new Map(container.volumeMounts.map((mount) => [mount.mountPath, mount]))
  for (const path of [dirname(config.control.socket), config.stateDir]) {
    const mount = mounts.get(path)
    t.ok(mount && !mount.readOnly, `${path} can be written`)
  }
  t.match(mounts.get('/etc/knp/knp.yaml'), { name: 'config', subPath: 'knp.yaml', readOnly: true })
  t.same(
    spec.volumes.map(({ name }) => name).sort(),
    [...new Set(container.volumeMounts.map(({ name }) => name))].sort(),
    'every volume is mounted, and every mount has one',
  )
})

/** What the probes of a container ask, or none. */
function probesOf({ startupProbe, livenessProbe, readinessProbe }: Container): (string | undefined)[] {
  return [startupProbe, livenessProbe, readinessProbe].map(
    (probe) => probe && `${probe.httpGet.host} ${probe.httpGet.port}${probe.httpGet.path}`,
  )
}

t.test('probes ask where the configuration says that it answers', async (t) => {
  const { metrics } = await configOf(knpYaml, 'node1')
  const { host, port } = parseListenAddress(metrics.address)!
  t.ok(host.startsWith('127.'), 'nobody outside the node')
  const { container } = podOf(knpYaml)
  t.same(probesOf(container), [`${host} ${port}/healthz`, `${host} ${port}/healthz`, `${host} ${port}/readyz`])
  t.notOk(container.ports, 'no port of the node is taken in the eyes of the scheduler')
})

t.test("the chart's version is the program's", async (t) => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  t.match(parse(readFileSync(join(packaging, 'chart/Chart.yaml'), 'utf8')), { version, appVersion: version })
  t.equal(podOf(knpYaml).container.image, `knp:${version}`)
})

/** One value for each key of the schema, by its path. */
function samples(properties: Readonly<Record<string, Schema>>, path: readonly string[] = []): [string, unknown][] {
  return Object.entries(properties).flatMap(([name, value]): [string, unknown][] => {
    const here = [...path, name]
    if (value.properties) return samples(value.properties as Readonly<Record<string, Schema>>, here)
    return [[here.join('.'), sampleOf(here.join('.'), value)]]
  })
}

function sampleOf(path: string, value: Schema): unknown {
  const fixed: Readonly<Record<string, unknown>> = {
    'marks.packet': '0x00fe0000',
    'marks.conntrack': '0x000000f0',
    'metrics.address': '[::1]:9999',
    'control.socket': '/run/knp/other.sock',
    'control.group': 'adm',
    'failsafe.inbound': [{ protocol: 'tcp', port: 2222, from: ['10.0.0.0/8'] }],
    'failsafe.outbound': [{ protocol: 'udp', port: 53, to: ['10.0.0.53/32'] }],
    podCIDRs: ['10.244.1.0/24'],
    evaluators: [{ module: '/etc/knp/quarantine.js', before: 'NetworkPolicy' }],
  }
  if (path in fixed) return fixed[path]
  if (value.enum) return (value.enum as unknown[])[0]
  if (value.$ref === '#/definitions/duration') return '7s'
  // What is not set is true.
  if (value.type === 'boolean') return false
  if (value.type === 'integer') return Math.max(3, value.minimum as number)
  throw new Error(`${path}: the test knows no value for it`)
}

t.test('what the chart takes as configuration is what knp takes', async (t) => {
  const all = samples(configSchema)
  const documented = [
    ...readFileSync(join(root, 'docs/configuration.md'), 'utf8').matchAll(
      /^\| `([a-zA-Z.]+)` +\|(?=.*\| `?--|.*\| none)/gm,
    ),
  ].map(([, key]) => key!)
  const chartsOwn = ['sources', 'nodeName', 'stateDir']
  t.same(
    all.map(([path]) => path).sort(),
    documented.filter((key) => !chartsOwn.includes(key)).sort(),
    'every key that is documented, and no other',
  )
  const config: Record<string, unknown> = { sources: [{ kubernetes: {} }] }
  for (const [path, value] of all) {
    const [first, second] = path.split('.') as [string, string?]
    if (second === undefined) config[first] = value
    else config[first] = { ...(config[first] as object | undefined), [second]: value }
  }
  const file = join(folder, 'all.yaml')
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
  const { status, stdout } = await knp(folder, 'run', '--config', file, '--print-config', '--json')
  t.equal(status, 0, stdout)
})

t.test('templates name no setting that values.yaml does not have', async (t) => {
  const values = parse(readFileSync(join(packaging, 'chart/values.yaml'), 'utf8')) as object
  t.same(
    Object.keys(values).sort(),
    Object.keys(schema.properties)
      .filter((name) => name !== 'global')
      .sort(),
  )
  for (const file of readdirSync(join(packaging, 'chart/templates'))) {
    const text = readFileSync(join(packaging, 'chart/templates', file), 'utf8')
    for (const [, name] of text.matchAll(/\.Values\.(\w+)/g)) t.ok(Object.hasOwn(values, name!), `${file}: ${name}`)
  }
})

const helm = spawnSync('helm', ['version', '--short'], { encoding: 'utf8' })
/** Not a skip where helm is not there: in CI that would be a failure, and nothing of knp depends on helm. */
const withHelm = (name: string, test: (t: Test) => Promise<void>) =>
  helm.status === 0 ? t.test(name, test) : undefined

function rendered(...args: string[]): { status: number | null; manifests: Manifest[]; stderr: string } {
  const { status, stdout, stderr } = spawnSync(
    'helm',
    ['template', 'knp', join(packaging, 'chart'), '--namespace', 'kube-system', '--kube-version', '1.30.0', ...args],
    { encoding: 'utf8' },
  )
  return { status, manifests: status === 0 ? manifestsOf(stdout) : [], stderr }
}

withHelm('knp.yaml is the chart with its own values', async (t) => {
  const { status, stdout, stderr } = spawnSync('sh', [join(packaging, 'render.sh'), '--check'], { encoding: 'utf8' })
  t.equal(status, 0, stdout + stderr)
  t.equal(spawnSync('helm', ['lint', '--strict', join(packaging, 'chart')]).status, 0)
})

withHelm('settings arrive where they belong', async (t) => {
  const set = (...pairs: string[]) => rendered(...pairs.flatMap((pair) => ['--set', pair])).manifests
  const image = podOf(set('image.repository=registry.example/knp', 'image.tag=1.2')).container.image
  t.equal(image, 'registry.example/knp:1.2')

  const other = set('apiServer.host=api.example', 'config.onFailure=closed', 'config.queue.count=2')
  t.same(podOf(other).container.env.slice(1), [
    { name: 'KUBERNETES_SERVICE_HOST', value: 'api.example' },
    { name: 'KUBERNETES_SERVICE_PORT', value: '6443' },
  ])
  t.match(await configOf(other, 'node1'), { onFailure: 'closed', queue: { count: 2 } })
  const versionOf = (manifests: readonly Manifest[]) => only(manifests, 'DaemonSet').spec!.template.metadata
  t.notSame(versionOf(other), versionOf(set('apiServer.host=api.example')), 'another configuration makes new pods')

  const addresses: readonly [address: string, asked: string | undefined][] = [
    ['0.0.0.0:9090', '127.0.0.1 9090'],
    ['[::]:9090', '::1 9090'],
    ['10.0.0.1:80', '10.0.0.1 80'],
    ['[fd00::1]:80', 'fd00::1 80'],
    ['none', undefined],
  ]
  for (const [address, asked] of addresses) {
    const manifests = set(`config.metrics.address=${address}`)
    t.equal((await configOf(manifests, 'node1')).metrics.address, address)
    const paths = ['/healthz', '/healthz', '/readyz']
    t.same(
      probesOf(podOf(manifests).container),
      paths.map((path) => asked && `${asked}${path}`),
      address,
    )
  }
  t.same(
    probesOf(podOf(set('config.metrics=null')).container),
    probesOf(podOf(knpYaml).container),
    'what the configuration leaves out is as knp has it',
  )
  const monitored = set('podMonitor.enabled=true', 'config.metrics.address=0.0.0.0:9091')
  t.match(podOf(monitored).container.ports, [{ name: 'metrics', containerPort: 9091 }])
  t.match(only(monitored, 'PodMonitor').spec, { podMetricsEndpoints: [{ port: 'metrics' }] })

  writeFileSync(join(folder, 'values.yaml'), 'policies:\n  deny.yaml: |\n    kind: NetworkPolicy\n')
  const { manifests } = rendered('--values', join(folder, 'values.yaml'))
  t.same(only(manifests, 'ConfigMap', 'knp-policies').data, { 'deny.yaml': 'kind: NetworkPolicy\n' })
  t.match(
    podOf(manifests).container.volumeMounts.find(({ name }) => name === 'policies'),
    { mountPath: '/etc/knp/policies', readOnly: true },
  )
  t.match(await configOf(manifests, 'node1'), {
    sources: [{ kubernetes: {} }, { files: { path: '/etc/knp/policies' } }],
  })
})

withHelm('mistakes are refused', async (t) => {
  const cases: readonly [rule: string, message: RegExp, ...set: string[]][] = [
    ['a value of the configuration', /onFailure/, 'config.onFailure=ajar'],
    ['a key that is none', /onFailures/, 'config.onFailures=open'],
    ["the chart's own keys", /nodeName/, 'config.nodeName=a'],
    ['a setting that is none', /tolerate/, 'tolerate=true'],
    ['a URL for a host', /host/, 'apiServer.host=https://api.example'],
    ['an address without a port', /address/, 'config.metrics.address=127.0.0.1'],
    ['a file that would not be read', /deny\.txt/, 'policies.deny\\.txt=x'],
    [
      'metrics that Prometheus cannot reach',
      /podMonitor\.enabled: config\.metrics\.address/,
      'podMonitor.enabled=true',
    ],
  ]
  for (const [rule, message, ...set] of cases) {
    const { status, stderr } = rendered(...set.flatMap((pair) => ['--set', pair]))
    t.not(status, 0, rule)
    t.match(stderr, message, rule)
  }
})
