import t from 'tap'
import { formatAddress } from '../../src/engine/address.ts'
import { type EndpointName, parseQuestion, resolveEndpoint, targetText } from '../../src/engine/endpoint.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, podLine, worldOf } from '../fixtures/world.ts'

function text(name: EndpointName): string {
  if (name.type === 'address') return formatAddress(name.address)
  if (name.type === 'node') return `node ${name.name}`
  return `${name.kind ? `${name.kind} ` : ''}${name.namespace} ${name.name}`
}

type Given = Parameters<typeof parseQuestion>[2]
type Case = readonly [to: string, expected: string, given?: Given]

const cases: readonly Case[] = [
  ['shop/db:5432', 'shop db tcp 5432'],
  ['shop/db:5432/udp', 'shop db udp 5432'],
  ['shop/db:5432/SCTP', 'shop db sctp 5432'],
  ['shop/db/icmp', 'shop db icmp 0'],
  ['pod:shop/db:80', 'Pod shop db tcp 80'],
  ['deployment:shop/db:80/udp', 'Deployment shop db udp 80'],
  ['replicationcontroller:shop/db/icmp', 'ReplicationController shop db icmp 0'],
  ['pod:shop/tcp:80', 'Pod shop tcp tcp 80'],
  ['pod:shop/tcp', 'Pod shop tcp tcp 80', { port: 80 }],
  ['shop/tcp:80', 'shop tcp tcp 80'],
  ['shop/tcp:80/udp', 'shop tcp udp 80'],
  ['shop/icmp/icmp', 'shop icmp icmp 0'],
  ['node:n1:443', 'node n1 tcp 443'],
  ['node:n1/icmp', 'node n1 icmp 0'],
  ['203.0.113.9:443', '203.0.113.9 tcp 443'],
  ['203.0.113.9/icmp', '203.0.113.9 icmp 0'],
  ['[2001:db8::9]:53/udp', '2001:db8::9 udp 53'],
  ['[2001:db8::9]/icmp', '2001:db8::9 icmp 0'],
  ['2001:db8::9/icmp', '2001:db8::9 icmp 0'],
  ['2001:db8::9', '2001:db8::9 tcp 53', { port: 53 }],
  ['shop/db', 'shop db udp 53', { port: 53, protocol: 'udp' }],
  ['shop/db:53/udp', 'shop db udp 53', { port: 53, protocol: 'udp' }],
  ['shop/db', 'shop db icmp 0', { protocol: 'icmp' }],
]

t.test('questions', async (t) => {
  for (const [to, expected, given] of cases) {
    const question = parseQuestion('shop/web', to, given)
    t.equal(`${text(question.to)} ${question.protocol} ${question.port}`, expected, to)
    t.equal(text(question.from), 'shop web')
  }
})

t.test('what is no question', async (t) => {
  const refused: readonly [from: string, to: string, message: string, given?: Given][] = [
    ['shop/web', 'shop/db', 'shop/db: port missing; write shop/db:PORT'],
    ['shop/web', 'shop/db/tcp', 'shop/db/tcp: port missing; write shop/db:PORT'],
    ['shop/web', 'shop/icmp', 'shop/icmp: port missing; write shop/icmp:PORT'],
    ['shop/web', 'shop/db:0', 'shop/db:0: port 0 is outside 1-65535'],
    ['shop/web', 'shop/db:65536', 'shop/db:65536: port 65536 is outside 1-65535'],
    ['shop/web', 'shop/db:80/icmp', 'shop/db:80/icmp: icmp has no port'],
    ['shop/web', 'shop/db:80/udp', 'shop/db:80/udp: protocol given twice, as udp and tcp', { protocol: 'tcp' }],
    ['shop/web', 'shop/db:80', 'shop/db:80: port given twice, as 80 and 81', { port: 81 }],
    ['shop/web', 'shop/db:80', '"gre" is no protocol; known: tcp, udp, sctp, icmp', { protocol: 'gre' }],
    ['web', 'shop/db:80', '"web" is neither namespace/name, node:NAME nor an IP address'],
    ['shop/web:80', 'shop/db:80', '"shop/web:80" is neither namespace/name, node:NAME nor an IP address'],
    ['shop/web', '10.0.0:80', '"10.0.0" is neither namespace/name, node:NAME nor an IP address'],
    ['a/b/c', 'shop/db:80', '"a/b/c" is neither namespace/name, node:NAME nor an IP address'],
    [
      'service:shop/web',
      'shop/db:80',
      'service:shop/web: "service" is no kind of workload; known: pod, deployment, statefulset, daemonset, replicaset, job, cronjob, replicationcontroller',
    ],
    ['node:', 'shop/db:80', 'node: needs the name of a node'],
    ['', 'shop/db:80', '"" is neither namespace/name, node:NAME nor an IP address'],
  ]
  for (const [from, to, message, given] of refused) {
    t.throws(() => parseQuestion(from, to, given), { name: 'QuestionError', kind: 'syntax', message })
  }
})

const world = worldOf(`${shop}
${podLine('shop/v6', 'fd00::66', 'app: v6')}
--- {apiVersion: v1, kind: Pod, metadata: {name: done, namespace: shop}, status: {phase: Succeeded, podIP: 10.0.0.99}}
--- {apiVersion: v1, kind: Pod, metadata: {name: lost, namespace: shop}, spec: {hostNetwork: true, nodeName: n9}}
--- {apiVersion: v1, kind: Node, metadata: {name: bare}}
`)

t.test('who is meant', async (t) => {
  const nameOf = (name: string) => {
    const { from } = parseQuestion(name, 'shop/db:1')
    const { name: found, addresses } = resolveEndpoint(from, world.snapshot, world.compiled.identities)
    return `${found ?? '-'} ${addresses.map(formatAddress).join(' ')}`
  }
  t.equal(nameOf('shop/db'), 'shop/db 10.0.0.3 fd00::3')
  t.equal(nameOf('fd00::3'), 'shop/db fd00::3', 'an address that belongs to a workload is that workload')
  t.equal(nameOf('10.9.0.2'), 'node:n2 10.9.0.2', 'else one that belongs to a node is that node')
  t.equal(nameOf('203.0.113.9'), '- 203.0.113.9')
  t.equal(nameOf('shop/agent'), 'node:n1 10.9.0.1 fd00:9::1', 'a host-network pod is its node')
})

t.test('workloads of one name', async (t) => {
  const workload = (apiVersion: string, kind: string, name: string) =>
    `--- {apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: ${name}, namespace: shop}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}}}}\n`
  const several = worldOf(
    shop +
      workload('apps/v1', 'Deployment', 'web') +
      workload('apps/v1', 'Deployment', 'twin') +
      workload('apps/v1', 'StatefulSet', 'twin') +
      workload('apps/v1', 'DaemonSet', 'alone'),
  )
  const find = (name: string) => {
    const { snapshot, compiled } = several
    const found = resolveEndpoint(parseQuestion(name, 'a/b:1').from, snapshot, compiled.identities)
    return `${found.name} ${compiled.identities.workloads[found.workload!]!.ref.kind}`
  }
  t.equal(find('shop/web'), 'shop/web Pod', 'the pod is preferred')
  t.equal(find('pod:shop/web'), 'shop/web Pod')
  t.equal(find('deployment:shop/web'), 'deployment:shop/web Deployment', 'and is named so that it is found again')
  t.equal(find('shop/alone'), 'shop/alone DaemonSet', 'a name that only one has needs no kind')
  t.equal(find('statefulset:shop/twin'), 'statefulset:shop/twin StatefulSet')
  t.throws(() => find('shop/twin'), {
    name: 'QuestionError',
    kind: 'syntax',
    message:
      'shop/twin is ambiguous: it is a Deployment and a StatefulSet; write deployment:shop/twin or statefulset:shop/twin',
  })
  t.throws(() => find('pod:shop/twin'), {
    name: 'QuestionError',
    kind: 'unknown',
    message: 'no source knows a Pod "shop/twin"; known there: web, api, db, agent',
  })
  t.throws(() => find('job:lab/web'), { name: 'QuestionError', message: 'no source knows a Job "lab/web"' })
})

t.test('names that nobody knows', async (t) => {
  const unknown: readonly [from: string, to: string, message: string][] = [
    [
      'shop/nobody',
      'shop/db:1',
      'no source knows a workload "shop/nobody"; known there: web, api, db, agent, v6, done, lost',
    ],
    ['none/nobody', 'shop/db:1', 'no source knows a workload "none/nobody"'],
    ['node:n7', 'shop/db:1', 'no source knows a node "n7"; known there: n1, n2, bare'],
    ['node:bare', 'shop/db:1', 'node "bare" has no address in its status'],
    ['shop/done', 'shop/db:1', 'shop/done has finished (Succeeded) and owns no address'],
    ['shop/lost', 'shop/db:1', 'shop/lost uses its node\'s addresses, and no source knows node "n9"'],
    ['shop/v6', 'shop/web:1', 'shop/v6 and shop/web have no address family in common'],
    ['203.0.113.9', 'shop/v6:1', '203.0.113.9 and shop/v6 have no address family in common'],
  ]
  for (const [from, to, message] of unknown) {
    t.throws(() => ask(world, from, to), { name: 'QuestionError', kind: 'unknown', message })
  }
})

t.test('the family of a connection', async (t) => {
  const addressesOf = (from: string, to: string) => {
    const { source, destination } = ask(world, from, to).addresses
    return [source, destination].map((address) => address && formatAddress(address))
  }
  t.same(addressesOf('lab/web', 'shop/db:1'), ['10.0.1.1', '10.0.0.3'], 'the first addresses')
  t.same(addressesOf('shop/v6', 'shop/db:1'), ['fd00::66', 'fd00::3'], 'IPv6 where the other end is IPv6')
  t.same(addressesOf('lab/web', '[fd00::66]:1'), ['fd00::11', 'fd00::66'])
  t.equal(ask(world, 'shop/web', 'shop/db/icmp').protocol, 1, 'ICMP in IPv4')
  t.equal(ask(world, 'shop/v6', 'shop/db/icmp').protocol, 58, 'ICMPv6 in IPv6')
})

t.test('targets as text', async (t) => {
  const end = (name: string) =>
    resolveEndpoint(parseQuestion(name, 'a/b:1').from, world.snapshot, world.compiled.identities)
  t.equal(targetText(end('shop/db'), 6, 5432), 'shop/db:5432/tcp')
  t.equal(targetText(end('2001:db8::9'), 17, 53), '[2001:db8::9]:53/udp')
  t.equal(targetText(end('node:n1'), 132, 9), 'node:n1:9/sctp')
  t.equal(targetText(end('shop/db'), 58, 0), 'shop/db/icmp')
  t.equal(targetText({ name: 'deployment:shop/db', addresses: [] }, 6, 80), 'deployment:shop/db:80/tcp')
})
