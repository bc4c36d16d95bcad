import t from 'tap'
import type { PeerMatch } from '../../src/engine/policy.ts'
import type { LintInput } from '../../src/lint/finding.ts'
import {
  block,
  clusterPolicy,
  lintInput,
  networkPolicy,
  networkSet,
  node,
  nodes,
  pods,
  podsMatch,
  rule,
  workload,
} from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const workloads = [
  workload('shop/db', 'app=db'),
  workload('lab/web', 'app=web'),
  workload('shop/agent', 'app=agent', { hostNetwork: true }),
  workload('shop/import', 'job=import', { phase: 'Succeeded' }),
]
const world = {
  workloads,
  nodes: [node('n1', 'role=edge')],
  networkSets: [networkSet('shop/partners', 'role=partner')],
}
const labels = { lab: 'team=research', empty: 'team=new' }

type Case = readonly [rule: string, input: LintInput, found: readonly string[]]

const subject = (name: string, labels: string) => [networkPolicy(name, { subject: podsMatch(labels), ingress: [] })]
const from = (...peers: readonly PeerMatch[]) => [
  networkPolicy('shop/p', { subject: podsMatch('app=db'), ingress: [rule(), rule({ peers })] }),
]

const cases: readonly Case[] = [
  ['a subject that is there', lintInput(subject('shop/p', 'app=db'), world), []],
  [
    'a subject that is not',
    lintInput(subject('shop/p', 'app=bd'), world),
    ['warning shop/p: selects nothing: no workload with app=bd in namespace shop is known'],
  ],
  [
    'a subject that is in another namespace',
    lintInput(subject('shop/p', 'app=web'), world),
    ['warning shop/p: selects nothing: no workload with app=web in namespace shop is known'],
  ],
  ['a subject, where no workload at all is known', lintInput(subject('shop/p', 'app=bd')), []],
  [
    'a subject for all of an empty namespace may be meant',
    lintInput(subject('empty/p', ''), world, labels),
    ['note empty/p: selects nothing: no workload in namespace empty is known'],
  ],
  [
    'a subject on the host network',
    lintInput(subject('shop/p', 'app=agent'), world),
    ['warning shop/p: selects only shop/agent on the host network: no policy is ever about those'],
  ],
  [
    'a subject that has finished',
    lintInput(subject('shop/p', 'job=import'), world),
    ['note shop/p: selects nothing: no unfinished workload with job=import in namespace shop is known'],
  ],
  [
    'a subject that is a NetworkSet',
    lintInput(subject('shop/p', 'role=partner'), world),
    [
      'warning shop/p: selects nothing but NetworkSets (shop/partners): they are peers, and never have policies of their own',
    ],
  ],
  [
    'subjects of a ClusterNetworkPolicy',
    lintInput(
      [
        clusterPolicy('a', { subject: podsMatch('', 'team=research'), ingress: [] }),
        clusterPolicy('b', { subject: podsMatch('app=db', 'team=research'), ingress: [] }),
        clusterPolicy('c', { subject: podsMatch('app=db', ''), ingress: [] }),
      ],
      world,
      labels,
    ),
    ['warning b: selects nothing: no workload with app=db in a namespace with team=research is known'],
  ],
  ['peers that are there', lintInput(from(pods('app=db'), pods('', 'team=research'), pods('', '')), world, labels), []],
  [
    'a peer that is not',
    lintInput(from(pods('app=db'), pods('app=web')), world, labels),
    ['note shop/p ingress 1: a peer selects nothing: no workload with app=web in namespace shop is known'],
  ],
  [
    'a peer in namespaces that are not',
    lintInput(from(pods('', 'team=sales')), world, labels),
    ['note shop/p ingress 1: a peer selects nothing: no workload in a namespace with team=sales is known'],
  ],
  ['a peer, where no workload at all is known', lintInput(from(pods('app=web'))), []],
  ['a peer that is a NetworkSet', lintInput(from(pods('role=partner')), world, labels), []],
  [
    'a NetworkSet of another namespace',
    lintInput(from(pods('role=partner', 'team=research')), world, labels),
    [
      'note shop/p ingress 1: a peer selects nothing: no workload with role=partner in a namespace with team=research is known',
    ],
  ],
  [
    'what runs in kube-system is seldom given',
    lintInput(from(pods('k8s-app=dns', 'kubernetes.io/metadata.name=kube-system')), world),
    [],
  ],
  [
    'unless it is',
    lintInput(from(pods('k8s-app=dsn', 'kubernetes.io/metadata.name=kube-system')), {
      workloads: [...workloads, workload('kube-system/dns', 'k8s-app=dns')],
    }),
    [
      'note shop/p ingress 1: a peer selects nothing: no workload with k8s-app=dsn in a namespace with kubernetes.io/metadata.name=kube-system is known',
    ],
  ],
  [
    'a peer on the host network',
    lintInput(from(pods('app=agent')), world),
    ['note shop/p ingress 1: a peer selects only shop/agent on the host network: selectors never match those'],
  ],
  ['a peer that has finished', lintInput(from(pods('job=import')), world), []],
  ['a block is no selector', lintInput(from(block('192.0.2.0/24')), world), []],
  ['nodes that are there', lintInput(from(nodes('role=edge'), nodes('')), world), []],
  [
    'nodes that are not',
    lintInput(from(nodes('role=core')), world),
    ['note shop/p ingress 1: a peer selects nothing: no node with role=core is known'],
  ],
  ['nodes, where none at all is known', lintInput(from(nodes('role=core')), { workloads }), []],
]

t.test('selects-nothing', async (t) => {
  for (const [name, input, expected] of cases) t.strictSame(found('selects-nothing', input), expected, name)
})
