import t from 'tap'
import type { PlainObject } from './oracle/objects.ts'
import { admin, answerTo, baseline, cluster, network } from './oracle-world.ts'

/** Worked out by hand from the sentences: what holds the oracle to them. The world is in oracle-world.ts. */
interface Case {
  /** The rule. */
  readonly says: string
  readonly policies: readonly PlainObject[]
  readonly answers: Readonly<Record<string, string>>
}

const audit = 'knp.dev/mode: audit'
const everyone = 'subject: {namespaces: {}}'
const web = 'subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}'
const adminTier = `tier: Admin, priority: 10, ${everyone}`
const baselineTier = `tier: Baseline, priority: 10, ${everyone}`
const all = '[{namespaces: {}}]'
const egress = (action: string, to: string, more = '') => `egress: [{action: ${action}, to: ${to}${more}}]`
const ingress = (action: string, from: string, more = '') => `ingress: [{action: ${action}, from: ${from}${more}}]`
const acceptTo = (peers: string, more = '') => [cluster('c', `${adminTier}, ${egress('Accept', peers, more)}`)]
const denyTo = (peers: string, more = '') => [cluster('c', `${adminTier}, ${egress('Deny', peers, more)}`)]
/** A host that calls the address of the pod `tool` its own; it is older. */
const claimOnTool: PlainObject = {
  apiVersion: 'knp.dev/v1alpha1',
  kind: 'HostEndpoint',
  metadata: { name: 'old', namespace: 'lab', labels: {}, creationTimestamp: '2026-01-01T00:00:00Z' },
  spec: { node: 'n2', addresses: ['10.0.1.1'] },
}
const isolate = network('isolate', 'podSelector: {}, policyTypes: [Ingress, Egress]')
const open = network(
  'open',
  'podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: []}], egress: [{to: []}]',
)

const pipeline: Case[] = [
  {
    says: 'a stage that ends with next accepts',
    policies: [cluster('c', `${adminTier}, ${egress('Deny', '[{networks: [192.0.2.0/24]}]')}`)],
    answers: { 'web -> db tcp 80': 'default', 'stranger -> www tcp 80': 'default' },
  },
  {
    says: 'first egress, then ingress; a deny in either is final',
    policies: [
      cluster('in', `${adminTier}, ${ingress('Deny', all)}`),
      cluster('out', `tier: Admin, priority: 20, ${web}, ${egress('Deny', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'deny: Admin egress out 0', 'db -> web tcp 80': 'deny: Admin ingress in 0' },
  },
  {
    says: 'an egress accept does not open the destination’s ingress',
    policies: [cluster('c', `${adminTier}, ${egress('Accept', all)}, ${ingress('Deny', all)}`)],
    answers: { 'web -> db tcp 80': 'deny: Admin ingress c 0' },
  },
  {
    says: 'the Admin tier is asked before NetworkPolicy',
    policies: [...denyTo(all), open],
    answers: { 'web -> db tcp 80': 'deny: Admin egress c 0' },
  },
  {
    says: 'an accept of the Admin tier leaves NetworkPolicy out, in its direction only',
    policies: [...acceptTo(all), isolate],
    answers: { 'web -> tool tcp 80': 'allow: Admin egress c 0', 'web -> db tcp 80': 'deny: NetworkPolicy ingress' },
  },
  {
    says: 'the Baseline tier is asked where no NetworkPolicy selects, and not where one does',
    policies: [
      cluster('b', `${baselineTier}, ${egress('Deny', all)}`),
      network('web', 'podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: []}]'),
    ],
    answers: {
      'db -> web tcp 80': 'deny: Baseline egress b 0',
      'web -> db tcp 80': 'allow: NetworkPolicy egress web 0',
    },
  },
  {
    says: 'a policy that isolates one direction leaves the other to the Baseline tier',
    policies: [
      cluster('b', `${baselineTier}, ${egress('Deny', all)}, ${ingress('Deny', all)}`),
      network('in', 'podSelector: {}, policyTypes: [Ingress], ingress: [{from: []}]'),
    ],
    answers: { 'web -> db tcp 80': 'deny: Baseline egress b 0', 'tool -> web tcp 80': 'deny: Baseline egress b 0' },
  },
  {
    says: 'the decider of an accept is the last stage’s',
    policies: [cluster('c', `${adminTier}, ${egress('Accept', all)}, ${ingress('Accept', all)}`)],
    answers: {
      'web -> db tcp 80': 'allow: Admin ingress c 0',
      'web -> stranger tcp 80': 'default',
      'stranger -> web tcp 80': 'default',
    },
  },
  {
    says: 'exempt: a workload to itself, the node to its own pods, path-MTU errors',
    policies: [...denyTo(all), cluster('in', `${adminTier}, ${ingress('Deny', '[{}]')}`)],
    answers: {
      'web -> web tcp 80': 'exempt',
      'n1 -> web tcp 80': 'exempt',
      'n2 -> web tcp 80': 'deny: Admin ingress in 0',
      'stranger -> web tcp 80 output': 'exempt',
      'n1 -> web tcp 80 forward': 'deny: Admin ingress in 0',
      'web6 -> db6 icmp 2': 'exempt',
      'web6 -> db6 icmp 128': 'deny: Admin egress c 0',
    },
  },
  {
    says: 'a pod to its own node: NetworkPolicy accepts where it would deny, and where it would not',
    policies: [isolate],
    answers: {
      'web -> n1 tcp 80': 'allow: NetworkPolicy egress',
      'web -> n2 tcp 80': 'deny: NetworkPolicy egress',
      'web -> stranger tcp 80 input': 'allow: NetworkPolicy egress',
    },
  },
  {
    says: 'the Admin and Baseline tiers judge the own node like any node',
    policies: [cluster('c', `tier: Baseline, priority: 1, ${web}, ${egress('Deny', '[{nodes: {}}]')}`)],
    answers: { 'web -> n1 tcp 80': 'deny: Baseline egress c 0', 'web -> n2 tcp 80': 'deny: Baseline egress c 0' },
  },
  {
    says: 'the Admin tier keeps a pod off its own node, whatever NetworkPolicy would say',
    policies: [...denyTo('[{nodes: {}}]'), isolate],
    answers: { 'web -> n1 tcp 10250': 'deny: Admin egress c 0' },
  },
]

const order: Case[] = [
  {
    says: 'the lower priority number wins',
    policies: [
      cluster('a', `tier: Admin, priority: 20, ${everyone}, ${egress('Deny', all)}`),
      cluster('b', `tier: Admin, priority: 3, ${everyone}, ${egress('Accept', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'allow: Admin egress b 0' },
  },
  {
    says: 'priorities are numbers, not texts',
    policies: [
      cluster('a', `tier: Admin, priority: 1000, ${everyone}, ${egress('Deny', all)}`),
      cluster('b', `tier: Admin, priority: 5, ${everyone}, ${egress('Accept', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'allow: Admin egress b 0' },
  },
  {
    says: 'equal priorities are by name',
    policies: [
      cluster('b', `tier: Admin, priority: 5, ${everyone}, ${egress('Accept', all)}`),
      cluster('a', `tier: Admin, priority: 5, ${everyone}, ${egress('Deny', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'deny: Admin egress a 0' },
  },
  {
    says: 'equal priorities are by kind before name',
    policies: [
      cluster('a', `tier: Admin, priority: 5, ${everyone}, ${egress('Accept', all)}`),
      admin('z', `priority: 5, ${everyone}, ${egress('Deny', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'deny: Admin egress z 0' },
  },
  {
    says: 'both kinds of the Admin tier are in one order of priorities',
    policies: [
      cluster('a', `tier: Admin, priority: 4, ${everyone}, ${egress('Accept', all)}`),
      admin('z', `priority: 5, ${everyone}, ${egress('Deny', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'allow: Admin egress a 0' },
  },
  {
    says: 'priorities are compared within their tier only',
    policies: [
      cluster('a', `tier: Admin, priority: 1000, ${everyone}, ${egress('Deny', all)}`),
      cluster('b', `tier: Baseline, priority: 0, ${everyone}, ${egress('Accept', all)}`),
    ],
    answers: { 'web -> db tcp 80': 'deny: Admin egress a 0' },
  },
  {
    says: 'in the Baseline tier ClusterNetworkPolicy comes first, then the BaselineAdminNetworkPolicy',
    policies: [
      baseline(`${everyone}, ${egress('Deny', '[{namespaces: {}}, {networks: [0.0.0.0/0]}]')}`),
      cluster('z', `tier: Baseline, priority: 1000, ${everyone}, ${egress('Accept', all)}`),
    ],
    answers: {
      'web -> db tcp 80': 'allow: Baseline egress z 0',
      'web -> www tcp 80': 'deny: Baseline egress default 0',
    },
  },
  {
    says: 'rules of one policy in written order; the first match decides',
    policies: [
      cluster(
        'c',
        `${adminTier}, egress: [{action: Deny, to: [{networks: [192.0.2.0/24]}]}, {action: Accept, to: ${all}}, {action: Deny, to: ${all}}]`,
      ),
    ],
    answers: { 'web -> db tcp 80': 'allow: Admin egress c 1', 'web -> stranger tcp 80': 'deny: Admin egress c 0' },
  },
  {
    says: 'a policy without rules in a direction says nothing about it',
    policies: [cluster('c', `${adminTier}, ingress: [], ${egress('Accept', all)}`)],
    answers: { 'stranger -> db tcp 80': 'default' },
  },
  {
    says: 'Pass ends this tier, and asks the next',
    policies: [
      cluster('a', `tier: Admin, priority: 1, ${everyone}, ${egress('Pass', all)}`),
      cluster('b', `tier: Admin, priority: 2, ${everyone}, ${egress('Deny', all)}`),
      open,
    ],
    answers: { 'web -> tool tcp 80': 'allow: NetworkPolicy egress open 0', 'tool -> box tcp 80': 'default' },
  },
  {
    says: 'Pass ends it in its direction only',
    policies: [cluster('a', `${adminTier}, ${egress('Pass', all)}, ${ingress('Deny', all)}`)],
    answers: { 'web -> db tcp 80': 'deny: Admin ingress a 0' },
  },
  {
    says: 'Pass is legal in the Baseline tier, where the default comes next',
    policies: [
      cluster('b', `tier: Baseline, priority: 1, ${everyone}, ${egress('Pass', all)}`),
      baseline(`${everyone}, ${egress('Deny', '[{networks: [0.0.0.0/0]}]')}`),
    ],
    answers: { 'web -> db tcp 80': 'default', 'web -> www tcp 80': 'deny: Baseline egress default 0' },
  },
]

const subjects: Case[] = [
  {
    says: 'subject namespaces: every workload of the namespaces selected',
    policies: [
      cluster('c', `tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: a}}}, ${egress('Deny', all)}`),
    ],
    answers: { 'web -> tool tcp 80': 'deny: Admin egress c 0', 'tool -> web tcp 80': 'default' },
  },
  {
    says: 'subject pods: both selectors must match',
    policies: [
      cluster(
        'c',
        `tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: db}}}}, ${egress('Deny', all)}`,
      ),
    ],
    answers: { 'db -> tool tcp 80': 'deny: Admin egress c 0', 'web -> tool tcp 80': 'default' },
  },
  {
    says: 'a namespace carries its name as a label',
    policies: [
      cluster(
        'c',
        `tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: lab}}}, ${egress('Deny', all)}`,
      ),
    ],
    answers: { 'tool -> web tcp 80': 'deny: Admin egress c 0', 'web -> tool tcp 80': 'default' },
  },
  {
    says: 'host-network pods are never subject, nor matched by pods and namespaces',
    policies: [cluster('c', `${adminTier}, ${egress('Deny', all)}, ${ingress('Deny', all)}`)],
    answers: { 'agent -> web tcp 80': 'default', 'web -> agent tcp 80': 'default' },
  },
  {
    says: 'the addresses of host-network pods are matched by networks and nodes',
    policies: denyTo('[{networks: [10.9.0.2/32]}]'),
    answers: { 'web -> agent tcp 80': 'deny: Admin egress c 0', 'web -> n3 tcp 80': 'default' },
  },
  {
    says: 'a HostEndpoint is subject and peer like a pod; what is behind it is judged by its ingress',
    policies: [
      cluster(
        'c',
        `tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: box}}}}, ${ingress('Deny', all)}, ${egress('Deny', all)}`,
      ),
      cluster(
        'd',
        `tier: Admin, priority: 0, ${web}, ${egress('Accept', '[{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: box}}}}]')}`,
      ),
    ],
    answers: {
      'tool -> box tcp 80': 'deny: Admin ingress c 0',
      'tool -> container tcp 80': 'deny: Admin ingress c 0',
      'box -> tool tcp 80': 'deny: Admin egress c 0',
      'web -> stranger tcp 80': 'default',
    },
  },
  {
    says: 'a NetworkSet is never a subject',
    policies: [
      cluster(
        'c',
        `tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {kind: partner}}}}, ${egress('Deny', all)}`,
      ),
    ],
    answers: { 'partner -> web tcp 80': 'default' },
  },
]

const peers: Case[] = [
  {
    says: 'peer namespaces: workloads of the namespaces selected, and nobody outside',
    policies: denyTo('[{namespaces: {matchLabels: {team: b}}}]'),
    answers: {
      'web -> tool tcp 80': 'deny: Admin egress c 0',
      'web -> box tcp 80': 'deny: Admin egress c 0',
      'web -> db tcp 80': 'default',
      'web -> partner tcp 80': 'default',
    },
  },
  {
    says: 'peer pods: both selectors must match; an empty one matches all workloads and nobody outside',
    policies: denyTo('[{pods: {namespaceSelector: {matchLabels: {team: a}}, podSelector: {}}}]'),
    answers: {
      'tool -> db tcp 80': 'deny: Admin egress c 0',
      'db -> tool tcp 80': 'default',
      'web -> partner tcp 80': 'default',
    },
  },
  {
    says: 'peer pods with a positive requirement: NetworkSets too, for addresses that no workload owns',
    policies: denyTo('[{pods: {namespaceSelector: {}, podSelector: {matchLabels: {kind: partner}}}}]'),
    answers: {
      'web -> partner tcp 80': 'deny: Admin egress c 0',
      'web -> tool tcp 80': 'default',
      'web -> stranger tcp 80': 'default',
    },
  },
  {
    says: 'a NetworkSet has to be in a namespace that the peer selects',
    policies: denyTo(
      '[{pods: {namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {kind: partner}}}}]',
    ),
    answers: { 'web -> partner tcp 80': 'default' },
  },
  {
    says: 'a requirement that a label be missing is not positive; Exists and In are',
    policies: [
      cluster(
        'c',
        `${adminTier}, egress: [{action: Deny, to: [{pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}}]}, {action: Accept, to: [{pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: kind, operator: Exists}]}}}]}]`,
      ),
    ],
    answers: { 'web -> partner tcp 80': 'allow: Admin egress c 1' },
  },
  {
    says: 'a NetworkSet is an ingress peer too; peer namespaces never means it',
    policies: [
      cluster(
        'c',
        `${adminTier}, ingress: [{action: Deny, from: ${all}}, {action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {kind: partner}}}}]}]`,
      ),
    ],
    answers: { 'partner -> web tcp 80': 'allow: Admin ingress c 1' },
  },
  {
    says: 'networks match pods and ICMP too',
    policies: denyTo('[{networks: [10.0.0.0/16]}]'),
    answers: {
      'web -> tool tcp 80': 'deny: Admin egress c 0',
      'web -> tool icmp 8': 'deny: Admin egress c 0',
      'web -> tool esp': 'deny: Admin egress c 0',
      'web -> stranger tcp 80': 'default',
    },
  },
  {
    says: 'networks are of their own family only',
    policies: denyTo('[{networks: ["::/0"]}]'),
    answers: { 'web -> db tcp 80': 'default', 'web6 -> db6 tcp 80': 'deny: Admin egress c 0' },
  },
  {
    says: 'nodes match the addresses of nodes by their labels, not the pods there',
    policies: denyTo('[{nodes: {matchLabels: {role: inner}}}]'),
    answers: {
      'web -> n2 tcp 80': 'deny: Admin egress c 0',
      'web -> n3 tcp 80': 'default',
      'web -> tool tcp 80': 'default',
      'web -> stranger tcp 80': 'default',
    },
  },
  {
    says: 'a HostEndpoint that is the destination is its node, by its address or by the hook; what is behind it is not',
    policies: denyTo('[{nodes: {matchLabels: {role: box}}}]'),
    answers: {
      'web -> box tcp 80': 'deny: Admin egress c 0',
      'web -> n3 tcp 80': 'deny: Admin egress c 0',
      'web -> container tcp 80': 'default',
    },
  },
  {
    says: 'an address that a host claims and a younger pod owns is the pod’s, and no node’s',
    policies: [...denyTo('[{nodes: {}}]'), claimOnTool],
    answers: { 'web -> tool tcp 80': 'default', 'web -> box tcp 80': 'deny: Admin egress c 0' },
  },
  {
    says: 'domainNames match what a name resolves to, and no name below or above it',
    policies: acceptTo('[{domainNames: [Example.com.]}]'),
    answers: { 'web -> example tcp 80': 'allow: Admin egress c 0', 'web -> www tcp 80': 'default' },
  },
  {
    says: '*. covers one or more labels, and not none',
    policies: acceptTo('[{domainNames: ["*.example.com"]}]'),
    answers: { 'web -> www tcp 80': 'allow: Admin egress c 0', 'web -> example tcp 80': 'default' },
  },
  {
    says: 'any of the peers is enough',
    policies: denyTo('[{networks: [192.0.2.0/24]}, {nodes: {}}, {namespaces: {matchLabels: {team: b}}}]'),
    answers: {
      'web -> stranger tcp 80': 'deny: Admin egress c 0',
      'web -> n2 tcp 80': 'deny: Admin egress c 0',
      'web -> tool tcp 80': 'deny: Admin egress c 0',
      'web -> db tcp 80': 'default',
    },
  },
]

const ports: Case[] = [
  {
    says: 'no protocols: any protocol, those without ports included; there is no TCP default',
    policies: denyTo(all),
    answers: {
      'web -> tool udp 53': 'deny: Admin egress c 0',
      'web -> tool esp': 'deny: Admin egress c 0',
      'web -> tool icmp 8': 'deny: Admin egress c 0',
    },
  },
  {
    says: 'a number is one port of one protocol',
    policies: denyTo(all, ', protocols: [{udp: {destinationPort: {number: 53}}}]'),
    answers: {
      'web -> tool udp 53': 'deny: Admin egress c 0',
      'web -> tool tcp 53': 'default',
      'web -> tool udp 54': 'default',
      'web -> tool icmp 8': 'default',
    },
  },
  {
    says: 'a range holds both of its ends',
    policies: denyTo(all, ', protocols: [{sctp: {destinationPort: {range: {start: 80, end: 90}}}}]'),
    answers: {
      'web -> tool sctp 79': 'default',
      'web -> tool sctp 80': 'deny: Admin egress c 0',
      'web -> tool sctp 90': 'deny: Admin egress c 0',
      'web -> tool sctp 91': 'default',
      'web -> tool tcp 85': 'default',
    },
  },
  {
    says: 'tcp: {} is any TCP port',
    policies: denyTo(all, ', protocols: [{tcp: {}}]'),
    answers: { 'web -> tool tcp 9': 'deny: Admin egress c 0', 'web -> tool udp 9': 'default' },
  },
  {
    says: 'any of the protocols is enough',
    policies: denyTo(
      all,
      ', protocols: [{tcp: {destinationPort: {number: 1}}}, {udp: {destinationPort: {number: 2}}}]',
    ),
    answers: { 'web -> tool tcp 1': 'deny: Admin egress c 0', 'web -> tool udp 2': 'deny: Admin egress c 0' },
  },
  {
    says: 'a named port is the destination’s: name, number and protocol agree',
    policies: denyTo(all, ', protocols: [{destinationNamedPort: http}, {destinationNamedPort: dns}]'),
    answers: {
      'tool -> web tcp 80': 'deny: Admin egress c 0',
      'tool -> web udp 80': 'default',
      'tool -> web udp 53': 'deny: Admin egress c 0',
      'tool -> web tcp 53': 'default',
      'tool -> db tcp 80': 'default',
      'tool -> db tcp 8080': 'deny: Admin egress c 0',
      'web -> tool tcp 80': 'default',
      'web -> box tcp 80': 'deny: Admin egress c 0',
    },
  },
  {
    says: 'in an ingress rule too it is the destination’s, not the peer’s',
    policies: [cluster('c', `${adminTier}, ${ingress('Deny', all, ', protocols: [{destinationNamedPort: http}]')}`)],
    answers: { 'web -> db tcp 8080': 'deny: Admin ingress c 0', 'web -> db tcp 80': 'default' },
  },
  {
    says: 'a named port never resolves at networks and nodes, also where the address is a workload’s',
    policies: denyTo('[{networks: [0.0.0.0/0]}, {nodes: {}}]', ', protocols: [{destinationNamedPort: http}]'),
    answers: { 'tool -> web tcp 80': 'default', 'web -> box tcp 80': 'default' },
  },
  {
    says: 'a named port beside a number: each peer with what resolves there',
    policies: denyTo(
      '[{networks: [10.0.0.0/24]}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}]',
      ', protocols: [{destinationNamedPort: http}, {tcp: {destinationPort: {number: 1}}}]',
    ),
    answers: {
      'tool -> web tcp 80': 'default',
      'tool -> web tcp 1': 'deny: Admin egress c 0',
      'tool -> db tcp 8080': 'deny: Admin egress c 0',
    },
  },
]

const closed: Case[] = [
  {
    says: 'an empty peer makes an Accept match nothing, whatever its other peers',
    policies: acceptTo(`[{}, {namespaces: {}}]`),
    answers: { 'web -> db tcp 80': 'default' },
  },
  {
    says: 'an empty peer makes a Deny deny all, whatever its protocols',
    policies: denyTo('[{}]', ', protocols: [{udp: {destinationPort: {number: 53}}}]'),
    answers: {
      'web -> stranger tcp 80': 'deny: Admin egress c 0',
      'web -> db icmp 8': 'deny: Admin egress c 0',
      'stranger -> web tcp 80': 'default',
    },
  },
  {
    says: 'an empty peer makes a Pass deny all',
    policies: [cluster('c', `${adminTier}, ${egress('Pass', '[{}]')}`)],
    answers: { 'web -> stranger tcp 80': 'deny: Admin egress c 0' },
  },
  {
    says: 'what comes before the rule that fails closed is in force',
    policies: [cluster('c', `${adminTier}, egress: [{action: Accept, to: ${all}}, {action: Deny, to: [{}]}]`)],
    answers: { 'web -> tool tcp 80': 'allow: Admin egress c 0', 'web -> www tcp 80': 'deny: Admin egress c 1' },
  },
  {
    says: 'an unknown field fails closed, also beside a known one',
    policies: [
      cluster(
        'c',
        `${adminTier}, egress: [{action: Accept, to: [{namespaces: {}, services: {}}]}, {action: Deny, to: [{nodes: {}, services: {}}]}]`,
      ),
    ],
    answers: { 'web -> tool tcp 80': 'deny: Admin egress c 1', 'web -> stranger udp 9': 'deny: Admin egress c 1' },
  },
  {
    says: 'networks, nodes and domain names are no ingress peers',
    policies: [cluster('c', `${adminTier}, ${ingress('Deny', '[{networks: [192.0.2.0/24]}]')}`)],
    answers: { 'db -> web tcp 80': 'deny: Admin ingress c 0' },
  },
  {
    says: 'domainNames in a Deny or a Pass fail closed',
    policies: [
      cluster('a', `tier: Admin, priority: 1, ${web}, ${egress('Deny', '[{domainNames: [example.com]}]')}`),
      cluster('b', `tier: Admin, priority: 2, ${everyone}, ${egress('Pass', '[{domainNames: [example.com]}]')}`),
    ],
    answers: { 'web -> db tcp 80': 'deny: Admin egress a 0', 'db -> web tcp 80': 'deny: Admin egress b 0' },
  },
  {
    says: 'a rule that fails closed is its subjects’ only',
    policies: [cluster('a', `tier: Admin, priority: 1, ${web}, ${egress('Deny', '[{}]')}`)],
    answers: { 'db -> tool tcp 80': 'default' },
  },
]

const v1alpha1: Case[] = [
  {
    says: 'Allow, Deny and Pass',
    policies: [
      admin(
        'a',
        `priority: 1, ${everyone}, egress: [{action: Allow, to: [{namespaces: {matchLabels: {team: b}}}]}, {action: Pass, to: [{networks: [192.0.2.0/24]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]`,
      ),
    ],
    answers: {
      'web -> tool tcp 80': 'allow: Admin egress a 0',
      'web -> stranger tcp 80': 'default',
      'web -> www tcp 80': 'deny: Admin egress a 2',
    },
  },
  {
    says: 'portNumber, with TCP as the default protocol',
    policies: [admin('a', `priority: 1, ${everyone}, ${egress('Deny', all, ', ports: [{portNumber: {port: 80}}]')}`)],
    answers: {
      'web -> tool tcp 80': 'deny: Admin egress a 0',
      'web -> tool udp 80': 'default',
      'web -> tool tcp 81': 'default',
    },
  },
  {
    says: 'portRange, both ends, with a protocol',
    policies: [
      admin(
        'a',
        `priority: 1, ${everyone}, ${egress('Deny', all, ', ports: [{portRange: {protocol: UDP, start: 5, end: 7}}]')}`,
      ),
    ],
    answers: {
      'web -> tool udp 5': 'deny: Admin egress a 0',
      'web -> tool udp 7': 'deny: Admin egress a 0',
      'web -> tool udp 8': 'default',
      'web -> tool tcp 6': 'default',
    },
  },
  {
    says: 'namedPort is any protocol’s that the destination gives the name',
    policies: [admin('a', `priority: 1, ${everyone}, ${egress('Deny', all, ', ports: [{namedPort: dns}]')}`)],
    answers: { 'tool -> web udp 53': 'deny: Admin egress a 0', 'tool -> web tcp 53': 'default' },
  },
  {
    says: 'it fails closed as ClusterNetworkPolicy does',
    policies: [
      admin('a', `priority: 1, ${everyone}, egress: [{action: Allow, to: [{}]}, {action: Deny, to: [{services: {}}]}]`),
    ],
    answers: { 'web -> stranger icmp 8': 'deny: Admin egress a 1' },
  },
  {
    says: 'the Baseline one has no domain names, in no rule',
    policies: [
      baseline(
        `${everyone}, egress: [{action: Allow, to: [{domainNames: [example.com]}]}, {action: Deny, to: [{networks: [203.0.113.0/24]}]}]`,
      ),
    ],
    answers: { 'web -> example tcp 80': 'deny: Baseline egress default 1' },
  },
]

const audited: Case[] = [
  {
    says: 'an audited policy is decided and not enforced',
    policies: [cluster('c', `${adminTier}, ${egress('Deny', all)}`, audit)],
    answers: { 'web -> db tcp 80': 'default; audited deny: Admin egress c 0' },
  },
  {
    says: 'an audited accept, too, changes nothing that is enforced',
    policies: [cluster('a', `tier: Admin, priority: 1, ${everyone}, ${egress('Accept', all)}`, audit), ...denyTo(all)],
    answers: { 'web -> tool tcp 80': 'deny: Admin egress c 0; audited allow: Admin egress a 0' },
  },
  {
    says: 'an audited NetworkPolicy does not isolate',
    policies: [network('isolate', 'podSelector: {}, policyTypes: [Egress]', audit)],
    answers: { 'web -> tool tcp 80': 'default; audited deny: NetworkPolicy egress' },
  },
  {
    says: 'any other mode is enforced',
    policies: [cluster('c', `${adminTier}, ${egress('Deny', all)}`, 'knp.dev/mode: enforce')],
    answers: { 'web -> db tcp 80': 'deny: Admin egress c 0' },
  },
]

for (const [topic, cases] of Object.entries({ pipeline, order, subjects, peers, ports, closed, v1alpha1, audited })) {
  t.test(topic, async (t) => {
    for (const { says, policies, answers } of cases) {
      t.test(says, async (t) => {
        for (const [question, answer] of Object.entries(answers))
          t.equal(answerTo(question, policies), answer, question)
      })
    }
  })
}

t.test('a HostEndpoint that is this machine is its node at the input hook, whatever the address', async (t) => {
  const policies = denyTo('[{nodes: {matchLabels: {role: box}}}]')
  t.equal(answerTo('web -> stranger tcp 80 input', policies, 'n3'), 'deny: Admin egress c 0')
  t.equal(answerTo('web -> stranger tcp 80 input', policies, 'n1'), 'default')
  t.equal(answerTo('web -> stranger tcp 80 forward', policies, 'n3'), 'default')
})
