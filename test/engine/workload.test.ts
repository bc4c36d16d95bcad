import t from 'tap'
import { formatAddress, formatBlock } from '../../src/engine/address.ts'
import { ObjectReader } from '../../src/engine/object-reader.ts'
import { readNamespace, readNode, readPod } from '../../src/engine/workload.ts'

interface PodParts {
  readonly spec?: object
  readonly status?: object
}

function pod({ spec, status }: PodParts) {
  const metadata = { name: 'web', namespace: 'shop', labels: { app: 'web' } }
  const read = readPod(new ObjectReader({ apiVersion: 'v1', kind: 'Pod', metadata, spec, status }))
  return { ...read, addresses: read.addresses.map(formatAddress) }
}

const podIP = '10.0.0.1'

t.test('phases', async (t) => {
  for (const phase of ['Pending', 'Running', 'Unknown']) {
    t.match(pod({ status: { phase, podIP } }), { phase, addresses: [podIP] }, `${phase} owns its address`)
  }
  for (const phase of ['Succeeded', 'Failed']) {
    t.match(pod({ status: { phase, podIP } }), { phase, addresses: [] }, `${phase} owns no address`)
  }
  t.equal(pod({ status: { podIP } }).phase, 'Running', 'a manifest that says none means a running pod')
  t.throws(() => pod({ status: { phase: 'running' } }), { message: /^status\.phase: "running" is none of Pending/ })
})

t.test('addresses', async (t) => {
  const cases: readonly [rule: string, status: object | undefined, addresses: string[]][] = [
    ['none without a status', undefined, []],
    ['podIP alone', { podIP }, [podIP]],
    ['an empty podIP is none', { podIP: '' }, []],
    ['podIPs in their order', { podIP, podIPs: [{ ip: podIP }, { ip: 'fd00::1' }] }, [podIP, 'fd00::1']],
    ['podIPs alone', { podIPs: [{ ip: 'fd00::1' }] }, ['fd00::1']],
    ['empty podIPs leave podIP', { podIP, podIPs: [] }, [podIP]],
  ]
  for (const [rule, status, addresses] of cases) t.same(pod({ ...(status && { status }) }).addresses, addresses, rule)
  t.same(pod({ spec: { hostNetwork: true }, status: { podIP } }).addresses, [], 'a host-network pod owns none')
  t.equal(pod({ spec: { hostNetwork: true } }).hostNetwork, true)
  t.throws(() => pod({ status: { podIP: '10.0.0' } }), { message: 'status.podIP: "10.0.0" is no IP address' })
  t.throws(() => pod({ status: { podIPs: [{ ip: 'x' }] } }), { message: 'status.podIPs[0].ip: "x" is no IP address' })
})

t.test('named ports', async (t) => {
  const port = (name: string, containerPort: number, more: object = {}) => ({ name, containerPort, ...more })
  const spec = {
    containers: [
      { name: 'web', image: 'web', ports: [port('http', 8080), port('dns', 53, { protocol: 'UDP' })] },
      {
        name: 'other',
        ports: [port('sctp', 9, { protocol: 'SCTP', hostPort: 9, hostIP: '10.0.0.1' }), { containerPort: 1 }],
      },
    ],
    initContainers: [
      { name: 'sidecar', restartPolicy: 'Always', ports: [port('mesh', 15000)] },
      { name: 'setup', ports: [port('gone', 1)] },
      { name: 'onfailure', restartPolicy: 'OnFailure', ports: [port('gone-too', 2)] },
    ],
  }
  t.same(
    pod({ spec }).ports,
    [
      { name: 'http', protocol: 6, port: 8080 },
      { name: 'dns', protocol: 17, port: 53 },
      { name: 'sctp', protocol: 132, port: 9 },
      { name: 'mesh', protocol: 6, port: 15000 },
    ],
    'of containers and sidecars; other init containers are gone when the pod serves',
  )
  const refused: readonly [rule: string, port: object, message: string | RegExp][] = [
    ['a port that is none', { containerPort: 0 }, /containerPort: 0 is outside 1-65535$/],
    ['a protocol that is none', { containerPort: 1, protocol: 'tcp' }, /protocol: "tcp" is none of TCP, UDP, SCTP$/],
    ['an unknown field', { containerPort: 1, port: 2 }, /^spec\.containers\[0\]\.ports\[0\]\.port: unknown field/],
  ]
  for (const [rule, each, message] of refused) {
    t.throws(() => pod({ spec: { containers: [{ ports: [each] }] } }), { message }, rule)
  }
})

t.test('node', async (t) => {
  t.equal(pod({ spec: { nodeName: 'n1' } }).node, 'n1')
  t.equal(pod({ spec: { nodeName: '' } }).node, undefined, 'an empty name is none')
  t.equal(pod({}).node, undefined)
})

t.test('namespaces carry their name as a label, written or not', async (t) => {
  const read = (labels?: object) => readNamespace(new ObjectReader({ metadata: { name: 'shop', labels } }))
  t.same([...read().labels], [['kubernetes.io/metadata.name', 'shop']])
  t.same(
    [...read({ team: 'a' }).labels],
    [
      ['team', 'a'],
      ['kubernetes.io/metadata.name', 'shop'],
    ],
  )
  t.equal(
    read({ 'kubernetes.io/metadata.name': 'other' }).labels.get('kubernetes.io/metadata.name'),
    'shop',
    'and no other',
  )
})

t.test('blocks of a node’s pods', async (t) => {
  const blocksOf = (spec: object) => {
    const { podBlocks } = readNode(new ObjectReader({ metadata: { name: 'n1' }, spec }))
    return podBlocks?.map(formatBlock)
  }
  const podCIDRs = ['10.244.1.0/24', 'fd00:1::/64']
  t.same(blocksOf({ podCIDR: '10.244.1.0/24', podCIDRs }), podCIDRs)
  t.same(blocksOf({ podCIDR: '10.244.1.0/24' }), ['10.244.1.0/24'], 'as older ones have it')
  t.equal(blocksOf({ podCIDR: '', podCIDRs: [] }), undefined)
  t.equal(blocksOf({}), undefined, 'where the network plugin keeps them elsewhere')
  t.throws(() => blocksOf({ podCIDRs: ['10.244.1.0'] }), {
    message: /^spec\.podCIDRs\[0\]: "10\.244\.1\.0" is no CIDR/,
  })
})

t.test('addresses of a node are its IP addresses, not its names', async (t) => {
  const addresses = [
    { type: 'Hostname', address: 'n1' },
    { type: 'InternalIP', address: '10.9.0.1' },
    { type: 'InternalIP', address: 'fd00:9::1' },
    { type: 'ExternalIP', address: '203.0.113.1' },
    { type: 'ExternalDNS', address: 'n1.example.net' },
  ]
  const node = readNode(new ObjectReader({ metadata: { name: 'n1' }, status: { addresses } }))
  t.same(node.addresses.map(formatAddress), ['10.9.0.1', 'fd00:9::1', '203.0.113.1'])
  t.throws(
    () =>
      readNode(
        new ObjectReader({ metadata: { name: 'n1' }, status: { addresses: [{ type: 'InternalIP', address: 'n1' }] } }),
      ),
    {
      message: 'status.addresses[0].address: "n1" is no IP address',
    },
  )
})
