import { parse } from 'yaml'
import { type OracleFlow, type PlainObject, worldFrom } from './oracle/objects.ts'
import { type OracleDecision, oracle } from './oracle.ts'

/** Who is who in the cases of the oracle, by the names that the cases use. */
const addresses: Readonly<Record<string, string>> = {
  web: '10.0.0.1',
  db: '10.0.0.2',
  tool: '10.0.1.1',
  web6: 'fd00::1',
  db6: 'fd00::2',
  /** A host-network pod, by its node's address. */
  agent: '10.9.0.2',
  n1: '10.9.0.1',
  n2: '10.9.0.2',
  n3: '10.9.0.3',
  /** A HostEndpoint by an address of its own, and a container behind it. */
  box: '10.8.0.3',
  container: '172.17.0.5',
  /** Outside: in the network set, resolved from names, and neither. */
  partner: '198.51.100.9',
  www: '203.0.113.80',
  example: '203.0.113.81',
  stranger: '192.0.2.1',
}

const world = parse(`
- {kind: Namespace, metadata: {name: shop, labels: {team: a}}}
- {kind: Namespace, metadata: {name: lab, labels: {team: b}}}
- {kind: Node, metadata: {name: n1, labels: {role: edge}}, status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.9.0.1}]}}
- {kind: Node, metadata: {name: n2, labels: {role: inner}}, status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
- {kind: Node, metadata: {name: n3, labels: {role: box}}, status: {addresses: [{type: InternalIP, address: 10.9.0.3}]}}
- kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}, creationTimestamp: "2026-01-01T00:00:01Z"}
  spec:
    nodeName: n1
    containers: [{name: main, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]
    initContainers: []
  status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
- kind: Pod
  metadata: {name: db, namespace: shop, labels: {app: db}, creationTimestamp: "2026-01-01T00:00:02Z"}
  spec: {nodeName: n1, containers: [{name: main, ports: [{name: http, containerPort: 8080}]}], initContainers: []}
  status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
- kind: Pod
  metadata: {name: tool, namespace: lab, labels: {app: tool}, creationTimestamp: "2026-01-01T00:00:03Z"}
  spec: {nodeName: n2, containers: [{name: main}], initContainers: []}
  status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}
- kind: Pod
  metadata: {name: agent, namespace: lab, labels: {app: agent}, creationTimestamp: "2026-01-01T00:00:04Z"}
  spec: {nodeName: n2, hostNetwork: true, containers: [{name: main}], initContainers: []}
  status: {phase: Running, podIPs: [{ip: 10.9.0.2}]}
- kind: HostEndpoint
  metadata: {name: box, namespace: lab, labels: {app: box}, creationTimestamp: "2026-01-01T00:00:05Z"}
  spec: {node: n3, addresses: [10.8.0.3], forwards: [172.17.0.0/24], ports: [{name: http, port: 80}]}
- {kind: NetworkSet, metadata: {name: partners, namespace: lab, labels: {kind: partner}}, spec: {networks: [198.51.100.0/24, 10.0.1.0/24]}}
- {kind: DomainName, metadata: {name: www.example.com}, spec: {addresses: [203.0.113.80]}}
- {kind: DomainName, metadata: {name: example.com}, spec: {addresses: [203.0.113.81]}}
`) as PlainObject[]

/** A ClusterNetworkPolicy from its spec in YAML. */
export function cluster(name: string, spec: string, annotations = ''): PlainObject {
  return object('ClusterNetworkPolicy', name, spec, annotations)
}

/** An AdminNetworkPolicy from its spec in YAML. */
export function admin(name: string, spec: string): PlainObject {
  return object('AdminNetworkPolicy', name, spec)
}

/** The BaselineAdminNetworkPolicy from its spec in YAML. */
export function baseline(spec: string): PlainObject {
  return object('BaselineAdminNetworkPolicy', 'default', spec)
}

/** A NetworkPolicy of namespace shop from its spec in YAML. */
export function network(name: string, spec: string, annotations = ''): PlainObject {
  return object('NetworkPolicy', name, spec, annotations, 'shop')
}

function object(kind: string, name: string, spec: string, annotations = '', namespace?: string): PlainObject {
  const metadata = { name, ...(namespace && { namespace }), annotations: parse(`{${annotations}}`) as object }
  return { apiVersion: '', kind, metadata, spec: parse(`{${spec}}`) as object } as unknown as PlainObject
}

/**
 * The oracle's answer in words: `deny: Admin egress name 0`, or `allow: ...`, `default`, `exempt`; with what the audited
 * policies would make of it behind `; audited `, where that is different.
 * @param question `web -> db tcp 80`, with a hook behind it where it is on its way; for ICMP its type
 */
export function answerTo(question: string, policies: readonly PlainObject[], localNode = 'n1'): string {
  const [from, , to, protocol, number = '0', hook = 'none'] = question.split(' ')
  const isICMP = protocol === 'icmp'
  const flow: OracleFlow = {
    source: addresses[from!]!,
    destination: addresses[to!]!,
    protocol: protocol!.toUpperCase(),
    port: isICMP ? 0 : Number(number),
    icmpType: isICMP ? Number(number) : 0,
    icmpCode: 0,
    hook: hook as OracleFlow['hook'],
  }
  const answer = oracle(worldFrom([...world, ...policies]), flow, localNode)
  const [enforced, complete] = [textOf(answer), textOf(answer.complete)]
  return enforced === complete ? enforced : `${enforced}; audited ${complete}`
}

function textOf({ verdict, decidedBy }: OracleDecision): string {
  if (!decidedBy) return verdict
  const { tier, direction, rules } = decidedBy
  return [`${verdict}: ${tier} ${direction}`, ...rules.map(({ name, rule }) => `${name} ${rule}`)].join(' ')
}
