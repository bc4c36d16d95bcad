import { parseBlock } from '../../src/engine/address.ts'
import { NAMESPACE_NAME_LABEL } from '../../src/engine/objects.ts'
import { SCTP, TCP, UDP } from '../../src/engine/packet.ts'
import type { Action, PeerMatch, Policy, PortMatch, Rule } from '../../src/engine/policy.ts'
import { everything, type LabelSelector } from '../../src/engine/selector.ts'
import { appName, environments, MONITORING, namespaceName, SYSTEM, TEAMS, teamName, tiers } from './cluster.ts'
import type { Random } from './random.ts'

/** Labels as `matchLabels` has them. */
function labelled(labels: Readonly<Record<string, string>>): LabelSelector {
  return { requirements: Object.entries(labels).map(([key, value]) => ({ key, operator: 'In', values: [value] })) }
}

function ports(protocol: number, first: number, last = first): PortMatch {
  return { protocol, first, last }
}

function named(portName: string): PortMatch {
  return { protocol: TCP, first: 0, last: 0, portName }
}

/** @param namespaceSelector left out for the policy's own namespace */
function pods(podSelector: LabelSelector, namespaceSelector?: LabelSelector): PeerMatch {
  return { type: 'pods', namespaceSelector, podSelector }
}

function block(cidr: string, ...except: readonly string[]): PeerMatch {
  return { type: 'block', cidr: parseBlock(cidr)!, except: except.map((each) => parseBlock(each)!) }
}

function rule(action: Action, peers: readonly PeerMatch[] | undefined, matches?: readonly PortMatch[]): Rule {
  return { action, peers, ports: matches }
}

const namespaceNamed = (name: string) => labelled({ [NAMESPACE_NAME_LABEL]: name })
const dns = rule('Accept', [pods(labelled({ app: 'dns' }), namespaceNamed(SYSTEM))], [ports(UDP, 53), ports(TCP, 53)])
const internet = block('0.0.0.0/0', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16')

type Body = Pick<Policy, 'ingress' | 'egress'> & { readonly podSelector: LabelSelector }

/** NetworkPolicies as people write them, each about an app of its namespace or about all of it. */
const templates: Readonly<Record<string, (app: LabelSelector, random: Random) => Body>> = {
  'default-deny': () => ({ podSelector: everything, ingress: [], egress: undefined }),
  'app-to-app': (app, random) => ({
    podSelector: app,
    ingress: [
      rule('Accept', [pods(someApp(random)), pods(someApp(random))], [ports(TCP, random.of([8080, 3000, 5432, 6379]))]),
    ],
    egress: undefined,
  }),
  'other-namespaces': (app, random) => ({
    podSelector: app,
    ingress: [
      rule(
        'Accept',
        [pods(labelled({ tier: random.of(tiers) }), labelled({ team: teamName(random.below(TEAMS)) }))],
        [ports(TCP, 8080), ports(TCP, 8443)],
      ),
    ],
    egress: undefined,
  }),
  internet: (app, random) => ({
    podSelector: app,
    ingress: [rule('Accept', [block(`203.0.${random.below(256)}.0/24`)], [ports(TCP, 443), ports(TCP, 8443)])],
    egress: [rule('Accept', [internet], [ports(TCP, 443)]), dns],
  }),
  'named-ports': (app, random) => ({
    podSelector: app,
    ingress: [
      rule('Accept', [pods(labelled({ app: 'prometheus' }), namespaceNamed(MONITORING))], [named('metrics')]),
      rule('Accept', [pods(labelled({ tier: random.of(tiers) }))], [named('http'), named('grpc')]),
    ],
    egress: undefined,
  }),
  'port-range': (app, random) => ({
    podSelector: app,
    ingress: [
      rule(
        'Accept',
        [pods(labelled({ tier: random.of(tiers) }))],
        [ports(TCP, 30_000, 32_767), ports(SCTP, 7000, 7100)],
      ),
      rule('Accept', [pods(everything, labelled({ env: random.of(environments) }))], [ports(TCP, 8000, 8100)]),
    ],
    egress: undefined,
  }),
  'dns-egress': () => ({
    podSelector: everything,
    ingress: undefined,
    egress: [dns, rule('Accept', [pods(everything)]), rule('Accept', [internet], [ports(TCP, 443), ports(TCP, 80)])],
  }),
}

const kinds = Object.keys(templates)
/** How often each is met, in the order of `kinds`, of twenty. */
const mix = [3, 6, 3, 2, 2, 2, 2].flatMap((count, kind) => Array<string>(count).fill(kinds[kind]!))

function someApp(random: Random): LabelSelector {
  return labelled({ app: appName(random.below(16)) })
}

/**
 * NetworkPolicies that go around the namespaces; of the first seven each is of another kind.
 * @param subject the only app, of the only namespace, that all of them select; left out for any
 */
export function makeNetworkPolicies(
  count: number,
  namespaces: number,
  random: Random,
  subject?: { readonly namespace: number; readonly app: LabelSelector },
): Policy[] {
  return Array.from({ length: count }, (_, i) => {
    const kind = i < kinds.length ? kinds[i]! : random.of(mix)
    // Past the namespaces of the system, so that the fewest policies select what most are about.
    const namespace = namespaceName(
      subject?.namespace ?? (namespaces > 10 ? (i % (namespaces - 2)) + 2 : i % namespaces),
    )
    const app = subject?.app ?? someApp(random)
    const { podSelector, ingress, egress } = templates[kind]!(app, random)
    return {
      type: 'Policy',
      ref: { kind: 'NetworkPolicy', namespace, name: `${kind}-${i}` },
      tier: 'NetworkPolicy',
      priority: 0,
      namespace,
      subject: { namespaceSelector: undefined, podSelector: subject ? app : podSelector },
      ingress,
      egress,
      isAudited: false,
      problems: [],
    }
  })
}

/** What administrators put ahead of everybody's policies: every other one about everything, the rest about one team. */
export function makeAdminPolicies(count: number, random: Random): Policy[] {
  return Array.from({ length: count }, (_, i) => {
    const team = labelled({ team: teamName(i) })
    const bad = Array.from({ length: 4 }, () => block(`198.${18 + random.below(2)}.${random.below(256)}.0/24`))
    const ingress = [
      rule('Accept', [pods(labelled({ app: 'prometheus' }), namespaceNamed(MONITORING))], [named('metrics')]),
      rule('Deny', bad),
      rule('Pass', [pods(everything, team)], [ports(TCP, 8080), ports(TCP, 8443)]),
      rule('Deny', [pods(labelled({ tier: 'worker' }), labelled({ env: 'test', team: teamName(i + 1) }))]),
    ]
    const egress = [
      rule('Deny', [block('169.254.169.254/32')]),
      rule('Deny', [block('0.0.0.0/0'), block('::/0')], [ports(TCP, 25), ports(TCP, 10_000 + i)]),
      dns,
    ]
    return clusterPolicy('Admin', i, i % 2 === 0 ? everything : team, ingress, egress)
  })
}

/** What holds for those whom no NetworkPolicy selects. */
export function makeBaselinePolicies(count: number): Policy[] {
  return Array.from({ length: count }, (_, i) => {
    const env = labelled({ env: environments[i % environments.length]! })
    const ingress = [
      rule('Deny', [pods(labelled({ tier: 'worker' }), everything)], [ports(TCP, 5432)]),
      rule('Accept', [pods(everything, everything)]),
      rule('Deny', [block('0.0.0.0/0'), block('::/0')]),
    ]
    return clusterPolicy('Baseline', i, i === 0 ? everything : env, ingress, undefined)
  })
}

function clusterPolicy(
  tier: 'Admin' | 'Baseline',
  priority: number,
  namespaceSelector: LabelSelector,
  ingress: readonly Rule[],
  egress: readonly Rule[] | undefined,
): Policy {
  return {
    type: 'Policy',
    ref: { kind: 'ClusterNetworkPolicy', name: `${tier.toLowerCase()}-${priority}` },
    tier,
    priority,
    namespace: undefined,
    subject: { namespaceSelector, podSelector: everything },
    ingress,
    egress,
    isAudited: false,
    problems: [],
  }
}
