import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import { exemptionOf } from '../../src/engine/engine.ts'
import { ANY_HOOK, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import { formatBlock, InvalidObject, ObjectReader, readHostEndpoint } from '../../src/engine/index.ts'
import {
  ask,
  hostLine,
  type PacketFields,
  packet,
  podLine,
  policyLine,
  type World,
  worldOf,
} from '../fixtures/world.ts'

const endpoint = (spec: unknown, more: object = {}) =>
  new ObjectReader({
    apiVersion: 'knp.dev/v1alpha1',
    kind: 'HostEndpoint',
    metadata: { name: 'web1', namespace: 'edge', labels: { role: 'web' } },
    spec,
    ...more,
  })

t.test('a HostEndpoint is a workload: the node itself', async (t) => {
  const host = readHostEndpoint(
    endpoint({
      node: 'n1',
      addresses: ['192.0.2.1', '2001:db8::1'],
      forwards: ['172.17.0.0/16', 'fd00:17::/64'],
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'm3ua', port: 2905, protocol: 'SCTP' },
      ],
    }),
  )
  t.match(host, { type: 'Workload', isHost: true, hostNetwork: false, phase: 'Running', node: 'n1' })
  t.match(host, { ref: { kind: 'HostEndpoint', namespace: 'edge', name: 'web1' }, namespace: 'edge', name: 'web1' })
  t.same([...host.labels], [['role', 'web']])
  t.same(host.addresses.map(formatAddress), ['192.0.2.1', '2001:db8::1'])
  t.same(host.forwards.map(formatBlock), ['172.17.0.0/16', 'fd00:17::/64'])
  t.same(host.ports, [
    { name: 'http', protocol: 6, port: 80 },
    { name: 'dns', protocol: 17, port: 53 },
    { name: 'm3ua', protocol: 132, port: 2905 },
  ])
  const bare = readHostEndpoint(endpoint({ node: 'n1' }))
  t.match(bare, { addresses: [], forwards: [], ports: [] }, 'only its node has to be said')
  t.equal(
    readHostEndpoint(new ObjectReader({ metadata: { name: 'a' }, spec: { node: 'n1' } })).namespace,
    'default',
    'an object without a namespace is in `default`',
  )
})

t.test('what a HostEndpoint may not be', async (t) => {
  const refused: readonly [rule: string, object: ObjectReader, message: string][] = [
    ['no spec', endpoint(undefined), 'spec: node is missing: the name of the machine, as `knp run --node-name` has it'],
    ['no node', endpoint({ addresses: [] }), 'spec: node is missing: the name of the machine'],
    ['a node that is null', endpoint({ node: null }), 'spec: node is missing'],
    ['a node that is no text', endpoint({ node: 7 }), 'spec.node: expected a string, found 7'],
    ['a spec that is no mapping', endpoint([]), 'spec: expected a mapping, found a list'],
    [
      'an unknown field',
      endpoint({ node: 'n1', address: [] }),
      'spec.address: unknown field "address"; known here: node, addresses, forwards, ports',
    ],
    ['a status', endpoint({ node: 'n1' }, { status: {} }), 'status: unknown field "status"'],
    ['addresses that are no list', endpoint({ node: 'n1', addresses: '192.0.2.1' }), 'spec.addresses: expected a list'],
    [
      'an address that is none',
      endpoint({ node: 'n1', addresses: ['192.0.2.1', 'web1.example'] }),
      'spec.addresses[1]: "web1.example" is no IP address',
    ],
    ['a block for an address', endpoint({ node: 'n1', addresses: ['192.0.2.0/24'] }), 'is no IP address'],
    [
      'an address for a block',
      endpoint({ node: 'n1', forwards: ['172.17.0.2'] }),
      'spec.forwards[0]: "172.17.0.2" is no CIDR',
    ],
    ['a block too long', endpoint({ node: 'n1', forwards: ['172.17.0.0/33'] }), 'spec.forwards[0]: "172.17.0.0/33"'],
    ['a port without a name', endpoint({ node: 'n1', ports: [{ port: 80 }] }), 'spec.ports[0].name: expected a string'],
    [
      'a port without a number',
      endpoint({ node: 'n1', ports: [{ name: 'http' }] }),
      'spec.ports[0].port: expected an integer, found nothing',
    ],
    [
      'a port out of range',
      endpoint({ node: 'n1', ports: [{ name: 'http', port: 65536 }] }),
      'spec.ports[0].port: 65536 is outside 1-65535',
    ],
    [
      'a protocol without ports',
      endpoint({ node: 'n1', ports: [{ name: 'http', port: 80, protocol: 'ICMP' }] }),
      'spec.ports[0].protocol: "ICMP" is none of TCP, UDP, SCTP',
    ],
    [
      "a container's port",
      endpoint({ node: 'n1', ports: [{ name: 'http', containerPort: 80 }] }),
      'spec.ports[0].containerPort: unknown field "containerPort"; known here: name, port, protocol',
    ],
    ['no name', new ObjectReader({ metadata: {}, spec: { node: 'n1' } }), 'metadata: name is missing'],
  ]
  for (const [rule, object, message] of refused) {
    t.throws(() => readHostEndpoint(object), InvalidObject, rule)
    t.throws(() => readHostEndpoint(object), { message }, rule)
  }
})

const web1 = '192.0.2.1' // edge/web1, this machine, n1
const web2 = '192.0.2.2' // edge/web2, n2
const pod1 = '10.0.0.1' // edge/pod1, on n1
const pod2 = '10.0.0.2' // edge/pod2, on n2
const pod3 = '10.0.0.3' // edge/pod3, names no node
const container = '172.17.0.2' // behind n1
const shadowed = '172.17.0.9' // edge/pod9's own, behind n1 otherwise
const farContainer = '172.18.0.2' // behind n2
const outside = '203.0.113.9'

const ends =
  hostLine('edge/web1', 'role: web', `node: n1, addresses: [${web1}], forwards: [172.17.0.0/16, 'fd00:17::/64']`) +
  hostLine('edge/web2', 'role: far', `node: n2, addresses: [${web2}], forwards: [172.18.0.0/16]`) +
  podLine('edge/pod1', pod1, 'role: pod', 'nodeName: n1') +
  podLine('edge/pod2', pod2, 'role: pod', 'nodeName: n2') +
  podLine('edge/pod3', pod3, 'role: pod') +
  podLine('edge/pod9', shadowed, 'role: pod', 'nodeName: n1')
const denyAll = policyLine('edge/deny-all', 'podSelector: {}, policyTypes: [Ingress, Egress]')
const onN1 = worldOf(ends + denyAll, 'n1')
const asked = worldOf(ends + denyAll)

/** `source -> destination`, each by its name; `-` is nobody. */
function endsOf({ compiled }: World, fields: PacketFields, hook: number): string {
  const { sourceWorkload, destinationWorkload } = compiled.engine.identify(packet(fields), hook)
  const name = (workload: number) => compiled.identities.workloads[workload]?.name ?? '-'
  return `${name(sourceWorkload)} -> ${name(destinationWorkload)}`
}

t.test('who the ends are, at each hook of this machine', async (t) => {
  const cases: readonly [rule: string, source: string, destination: string, hook: number, expected: string][] = [
    ['what comes in is for this machine', outside, web1, HOOK_INPUT, '- -> web1'],
    ['whatever address it has at the moment', outside, '198.51.100.50', HOOK_INPUT, '- -> web1'],
    ['one that another workload claims too', outside, pod2, HOOK_INPUT, '- -> web1'],
    ['the source is who owns the address', pod2, web1, HOOK_INPUT, 'pod2 -> web1'],
    ['another host too', web2, web1, HOOK_INPUT, 'web2 -> web1'],
    ['what goes out is from this machine', web1, outside, HOOK_OUTPUT, 'web1 -> -'],
    ['whatever address it has', '198.51.100.50', outside, HOOK_OUTPUT, 'web1 -> -'],
    ['the destination is who owns the address', web1, pod2, HOOK_OUTPUT, 'web1 -> pod2'],
    ['what this machine sends to containers is not forwarded', web1, container, HOOK_OUTPUT, 'web1 -> -'],
    ['nor is it elsewhere', web1, farContainer, HOOK_OUTPUT, 'web1 -> -'],
    ['what is forwarded to those behind this machine is its own', outside, container, HOOK_FORWARD, '- -> web1'],
    ['in IPv6 too', '2001:db8::9', 'fd00:17::2', HOOK_FORWARD, '- -> web1'],
    ['behind it ends with its blocks', outside, '172.16.0.2', HOOK_FORWARD, '- -> -'],
    ['those behind other hosts are none of its own', outside, farContainer, HOOK_FORWARD, '- -> -'],
    ['a pod comes before the block that it lies in', outside, shadowed, HOOK_FORWARD, '- -> pod9'],
    ['what those behind it begin is not its own', container, outside, HOOK_FORWARD, '- -> -'],
  ]
  for (const [rule, source, destination, hook, expected] of cases) {
    t.equal(endsOf(onN1, { source, destination }, hook), expected, rule)
  }
})

t.test('a block of IPv6 holds no address of IPv4', async (t) => {
  const world = worldOf(hostLine('edge/web1', 'role: web', "node: n1, forwards: ['::/0']") + denyAll, 'n1')
  t.equal(endsOf(world, { source: outside, destination: container }, HOOK_FORWARD), '- -> -')
  t.equal(endsOf(world, { source: '2001:db8::9', destination: '2001:db8::2' }, HOOK_FORWARD), '- -> web1')
})

t.test('who the ends are, as explain asks', async (t) => {
  const cases: readonly [rule: string, source: string, destination: string, expected: string][] = [
    ['hosts are known by their addresses', web2, web1, 'web2 -> web1'],
    ['and by no others', '198.51.100.50', '198.51.100.51', '- -> -'],
    ['those behind any host', outside, farContainer, '- -> web2'],
    ['another host reaches them through their host', web1, farContainer, 'web1 -> web2'],
    ['a pod comes before the block', outside, shadowed, '- -> pod9'],
    ['their own host reaches them without being judged for them', web2, farContainer, 'web2 -> -'],
  ]
  for (const [rule, source, destination, expected] of cases) {
    for (const world of [onN1, asked]) t.equal(endsOf(world, { source, destination }, ANY_HOOK), expected, rule)
  }
})

t.test('a machine without a HostEndpoint is no workload', async (t) => {
  const { compiled } = worldOf(ends + denyAll, 'n3')
  t.notOk('host' in compiled)
  t.equal(endsOf({ ...onN1, compiled }, { source: outside, destination: outside }, HOOK_INPUT), '- -> -')
  t.equal(endsOf({ ...onN1, compiled }, { source: outside, destination: outside }, HOOK_OUTPUT), '- -> -')
  t.equal(endsOf({ ...onN1, compiled }, { source: outside, destination: container }, HOOK_FORWARD), '- -> -')
})

/** Why nobody is asked, or else the verdict. */
function decide({ compiled: { engine } }: World, source: string, destination: string, hook: number): string {
  const flow = engine.identify(packet({ source, destination, port: 80 }), hook)
  const exemption = exemptionOf(flow)
  return exemption === 'none' ? engine.decideFlow(flow) : exemption
}

t.test('a host and the pods on it', async (t) => {
  const cases: readonly [rule: string, source: string, destination: string, hook: number, expected: string][] = [
    ['a host reaches its pods', web1, pod1, HOOK_OUTPUT, 'own node'],
    ['whatever its address', '198.51.100.50', pod1, HOOK_OUTPUT, 'own node'],
    ['one that names no node', web1, pod3, HOOK_OUTPUT, 'own node'],
    ['not those of another', web1, pod2, HOOK_OUTPUT, 'deny'],
    ['a forwarded packet with its address is not from it', web1, pod1, HOOK_FORWARD, 'deny'],
    ['to explain the same', web1, pod1, ANY_HOOK, 'own node'],
    ['to explain the same of every host', web2, pod2, ANY_HOOK, 'own node'],
    ['and of others', web2, pod1, ANY_HOOK, 'deny'],
    ['a host is judged for what it sends to another', web1, web2, HOOK_OUTPUT, 'deny'],
    ['it reaches itself', web1, web1, ANY_HOOK, 'own address'],
    ['what is forwarded with its address does not come from it', web1, container, HOOK_FORWARD, 'deny'],
    ['what it sends to those behind it is judged', web1, container, HOOK_OUTPUT, 'deny'],
    ['to explain the same', web1, container, ANY_HOOK, 'deny'],
  ]
  for (const [rule, source, destination, hook, expected] of cases) {
    t.equal(decide(onN1, source, destination, hook), expected, rule)
  }
})

t.test('a pod reaches the host that it runs on, where the host lets it', async (t) => {
  const onPods = 'podSelector: {matchLabels: {role: pod}}, policyTypes: [Egress]'
  const podsOnly = ends + policyLine('edge/pods', onPods)
  const hostsToo = podsOnly + policyLine('edge/hosts', 'podSelector: {matchLabels: {role: web}}')
  const cases: readonly [rule: string, yaml: string, source: string, destination: string, hook: number, v: string][] = [
    ['no egress policy of a pod keeps it from its host', podsOnly, pod1, web1, HOOK_INPUT, 'accept'],
    ['whatever the address', podsOnly, pod1, '198.51.100.50', HOOK_INPUT, 'accept'],
    ['a pod from elsewhere', podsOnly, pod2, web1, HOOK_INPUT, 'deny'],
    ['as explain sees it', podsOnly, pod1, web1, ANY_HOOK, 'accept'],
    ['as explain sees it from elsewhere', podsOnly, pod2, web1, ANY_HOOK, 'deny'],
    ['containers behind the host are not the host', podsOnly, pod1, container, HOOK_FORWARD, 'deny'],
    ['nor to explain', podsOnly, pod1, container, ANY_HOOK, 'deny'],
    ["the host's own policies judge it", hostsToo, pod1, web1, HOOK_INPUT, 'deny'],
    ["the host's own policies judge it, to explain too", hostsToo, pod1, web1, ANY_HOOK, 'deny'],
  ]
  for (const [rule, yaml, source, destination, hook, expected] of cases) {
    t.equal(decide(worldOf(yaml, 'n1'), source, destination, hook), expected, rule)
  }
  t.match(ask(worldOf(podsOnly), 'edge/pod1', 'host:edge/web1:80'), {
    verdict: 'allow',
    decidedBy: { reason: 'a pod always reaches the node it runs on' },
  })
})

t.test('what of this machine is judged', async (t) => {
  const policies: readonly [rule: string, spec: string | undefined, ingress: boolean, egress: boolean][] = [
    ['nothing without a policy', undefined, false, false],
    ['what comes in', 'podSelector: {}', true, false],
    ['what goes out', 'podSelector: {}, policyTypes: [Egress]', false, true],
    ['both', 'podSelector: {}, policyTypes: [Egress, Ingress]', true, true],
    ['nothing where it is not selected', 'podSelector: {matchLabels: {role: far}}', false, false],
  ]
  for (const [rule, spec, ingress, egress] of policies) {
    const { host } = worldOf(ends + (spec ? policyLine('edge/p', spec) : ''), 'n1').compiled
    t.match(host, { name: 'edge/web1', ingress, egress }, rule)
    t.same(
      host!.forwards.map(formatBlock),
      ingress ? ['172.17.0.0/16', 'fd00:17::/64'] : [],
      `${rule}: what is forwarded is judged by ingress`,
    )
  }
  const two = policyLine('edge/p', 'podSelector: {}') + policyLine('edge/q', 'podSelector: {}, policyTypes: [Egress]')
  t.match(worldOf(ends + two, 'n1').compiled.host, { ingress: true, egress: true }, 'policies add up')
  t.notOk('host' in asked.compiled, 'none where no machine decides')
})

t.test('addresses whose traffic is decided', async (t) => {
  const subjects = ({ compiled }: World) => compiled.subjects.map(formatAddress).sort()
  t.same(subjects(onN1), [pod1, pod3, shadowed], "this machine's own are not among them: they come and go")
  t.same(
    subjects(worldOf(ends + denyAll, 'gateway')),
    [pod1, pod2, pod3, shadowed, web1, web2],
    'a gateway decides all',
  )
  const nameless = worldOf(hostLine('edge/web1', 'role: web', 'node: n1') + denyAll, 'n1').compiled
  t.match(nameless, { protectedWorkloads: 1, selectedWorkloads: 1, subjects: [], isGateway: false })
  const far = worldOf(hostLine('edge/web2', 'role: web', 'node: n2') + denyAll, 'n1').compiled
  t.match(far, { protectedWorkloads: 0, selectedWorkloads: 1, isGateway: true }, 'a host elsewhere without an address')
})

t.test('a second host of this machine is no pod of it', async (t) => {
  const own = (others: string) => worldOf(ends + others + denyAll, 'n1').compiled.areSubjectsOwnPods
  t.equal(own(''), true)
  t.equal(own(hostLine('edge/zzz', 'role: web', 'node: n1, addresses: [198.51.100.9]')), false)
})

t.test('one machine is one host', async (t) => {
  const twins = ['b', 'a'].map((name) => hostLine(`edge/${name}`, 'role: web', 'node: n1'))
  for (const order of [twins, twins.toReversed()]) {
    const { problems, host } = worldOf(order.join('') + hostLine('edge/c', 'role: web', 'node: n2'), 'n1').compiled
    const [kept, other] = ['a', 'b']
    t.equal(host?.name, `edge/${kept}`)
    t.match(problems, [
      {
        object: { kind: 'HostEndpoint', name: other },
        message: `node n1 is edge/${kept} already; this one stands for nothing there`,
      },
    ])
    t.equal(problems.length, 1)
  }
  t.same(asked.compiled.problems, [])
})

t.test('named ports of a host', async (t) => {
  const world = worldOf(
    hostLine('edge/web1', 'role: web', `node: n1, addresses: [${web1}], ports: [{name: http, port: 8080}]`) +
      policyLine('edge/p', 'podSelector: {}, ingress: [{ports: [{port: http}]}]'),
    'n1',
  )
  const decideOn = (port: number, protocol = 6) =>
    world.compiled.engine.decide(packet({ source: outside, destination: '198.51.100.50', port, protocol }), HOOK_INPUT)
  t.equal(decideOn(8080), 'accept')
  t.equal(decideOn(80), 'deny')
  t.equal(decideOn(8080, 17), 'deny')
})

t.test('hosts by name', async (t) => {
  const world = worldOf(
    ends +
      podLine('edge/web2', '10.0.0.22', 'role: pod') +
      policyLine('edge/p', 'podSelector: {matchLabels: {role: far}}'),
  )
  t.equal(ask(world, outside, 'edge/web1:80').verdict, 'allow')
  t.equal(ask(world, outside, 'edge/web2:80').verdict, 'allow', 'a name alone prefers the pod')
  t.match(ask(world, outside, 'host:edge/web2:80'), {
    verdict: 'deny',
    destination: { name: 'host:edge/web2' },
    stages: [{ subject: 'host:edge/web2' }],
  })
  t.match(
    ask(world, outside, `${web2}:80`),
    { verdict: 'deny', destination: { name: 'host:edge/web2' } },
    'an address is named so that it is found again',
  )
  t.match(ask(world, outside, `${farContainer}:80`), { verdict: 'deny', stages: [{ subject: farContainer }] })
})
