import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { formatAddress, formatBlock, type NearestChange, type NearestMiss, parseBlock } from '../../src/engine/index.ts'
import { largestBeside } from '../../src/engine/nearest-miss.ts'
import { applyNearest, type PlainFlow, type PlainObject } from '../fixtures/apply-nearest.ts'
import { seededRandom } from '../fixtures/random.ts'
import { randomFlow, randomWorld } from '../fixtures/random-world.ts'
import { shop } from '../fixtures/shop.ts'
import { ask, networkSetLine, policyLine, type World, worldOf } from '../fixtures/world.ts'
import { type OracleFlow, objectsOf } from './oracle/objects.ts'

interface Case {
  readonly rule: string
  /** Beside the shop, in YAML. */
  readonly world: string
  readonly from: string
  readonly to?: string
  /** TCP where it is left out. */
  readonly protocol?: string
  /** 1 where it is left out. */
  readonly port?: number
  readonly nearest: {
    readonly policy?: string
    readonly rule?: number | undefined
    readonly difference?: string
  } & Pick<NearestMiss, 'change'>
}

/** Rules for shop/db. */
const toDb = (...rules: readonly string[]) =>
  policyLine('shop/p', `podSelector: {matchLabels: {app: db}}, ingress: [${rules.join(', ')}]`)
/** Rules for what shop/web opens. */
const fromWeb = (...rules: readonly string[]) =>
  policyLine('shop/p', `podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [${rules.join(', ')}]`)
const pods = (selector: string) => `{podSelector: {${selector}}}`
const anywhere = (namespaceSelector: string, selector = '') =>
  `{namespaceSelector: {${namespaceSelector}}, podSelector: {${selector}}}`
const expression = (key: string, operator: string, values?: string) =>
  `{key: ${key}, operator: ${operator}${values ? `, values: [${values}]` : ''}}`
/** A ClusterNetworkPolicy about the namespace shop. */
const cluster = (name: string, priority: number, direction: string, rules: readonly string[], tier = 'Admin') =>
  `--- {apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: ${name}}, spec: {tier: ${tier}, priority: ${priority}, subject: {namespaces: {matchLabels: {team: sales}}}, ${direction}: [${rules.join(', ')}]}}\n`
const denyAll = '{name: nobody, action: Deny, from: [{namespaces: {}}]}'
const denyOut = '{name: nowhere, action: Deny, to: [{networks: [0.0.0.0/0]}]}'

const near: readonly Case[] = [
  {
    rule: 'a label to add',
    world: toDb(`{from: [${pods('matchLabels: {role: client}')}]}`),
    from: 'shop/web',
    nearest: { rule: 0, change: { type: 'label', of: 'peer', key: 'role', value: 'client' } },
  },
  {
    rule: 'a label to change, to what no other requirement excludes',
    world: toDb(
      `{from: [${pods(`matchExpressions: [${expression('app', 'In', 'api, cron')}, ${expression('app', 'NotIn', 'api')}]`)}]}`,
    ),
    from: 'shop/web',
    nearest: { change: { type: 'label', of: 'peer', key: 'app', value: 'cron' } },
  },
  {
    rule: 'a label that has to be there, with any value but one',
    world: toDb(
      `{from: [${pods(`matchExpressions: [${expression('role', 'Exists')}, ${expression('role', 'NotIn', '""')}]`)}]}`,
    ),
    from: 'shop/web',
    nearest: { change: { type: 'label', of: 'peer', key: 'role', value: 'true' } },
  },
  {
    rule: 'a label to remove',
    world: toDb(`{from: [${pods(`matchExpressions: [${expression('tier', 'NotIn', 'back')}]`)}]}`),
    from: 'shop/api',
    nearest: {
      difference: 'rule 0 allows port 1/tcp, peer is excluded by tier!=back',
      change: { type: 'label', of: 'peer', key: 'tier' },
    },
  },
  {
    rule: 'in egress the destination has the label',
    world: fromWeb(`{to: [${pods('matchLabels: {role: store}')}]}`),
    from: 'shop/web',
    nearest: { change: { type: 'label', of: 'peer', key: 'role', value: 'store' } },
  },
  {
    rule: 'a label of the namespace',
    world: toDb(`{from: [${anywhere('matchLabels: {trusted: "yes"}')}]}`),
    from: 'lab/web',
    nearest: { change: { type: 'namespaceLabel', namespace: 'lab', key: 'trusted', value: 'yes' } },
  },
  {
    rule: 'the other port of two, the nearest in a range',
    world: toDb(
      `{from: [${pods('matchLabels: {app: web}')}], ports: [{port: 5, protocol: UDP}, {port: 8000, endPort: 8999}]}`,
    ),
    from: 'shop/web',
    port: 9100,
    nearest: {
      difference: 'rule 0 allows this peer on port 5/udp, port 8000-8999/tcp, not on port 9100/tcp',
      change: { type: 'port', protocol: 6, port: 8999 },
    },
  },
  {
    rule: 'a port by its name: the number that the destination gives it',
    world: toDb(`{from: [${pods('')}], ports: [{port: sql}]}`),
    from: 'shop/web',
    nearest: {
      difference: 'rule 0 allows this peer on port "sql"/tcp (5432), not on port 1/tcp',
      change: { type: 'port', protocol: 6, port: 5432 },
    },
  },
  {
    rule: 'a port by a name that two protocols have',
    world: toDb(`{from: [${pods('')}], ports: [{port: same}]}`),
    from: 'shop/web',
    port: 7000,
    nearest: {
      difference: 'rule 0 allows this peer on port "same"/tcp (7001), not on port 7000/tcp',
      change: { type: 'port', protocol: 6, port: 7001 },
    },
  },
  {
    rule: 'a port by a name that has another protocol there',
    world: toDb('{ports: [{port: dns, protocol: UDP}]}'),
    from: 'shop/web',
    port: 53,
    nearest: { change: { type: 'port', protocol: 17, port: 53 } },
  },
  {
    rule: 'a port in place of ICMP',
    world: toDb('{ports: [{port: 80}]}'),
    from: 'shop/web',
    protocol: 'ICMP',
    nearest: { change: { type: 'port', protocol: 6, port: 80 } },
  },
  {
    rule: 'every port of another protocol: the number stays',
    world: toDb('{ports: [{protocol: UDP}]}'),
    from: 'shop/web',
    port: 1234,
    nearest: { change: { type: 'port', protocol: 17, port: 1234 } },
  },
  {
    rule: 'an address from outside, in the block',
    world: toDb('{from: [{ipBlock: {cidr: "2001:db8::/32"}}, {ipBlock: {cidr: 198.51.100.0/24}}]}'),
    from: '203.0.113.9',
    nearest: { change: { type: 'address', block: '198.51.100.0/24' } },
  },
  {
    rule: 'an address beside all exceptions',
    world: toDb('{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/25, 203.0.113.192/26]}}]}'),
    from: '203.0.113.9',
    nearest: {
      difference: 'rule 0 allows port 1/tcp, peer 203.0.113.9 is excepted by 203.0.113.0/25 of 203.0.113.0/24',
      change: { type: 'address', block: '203.0.113.128/26' },
    },
  },
  {
    rule: 'an address in a NetworkSet',
    world:
      networkSetLine('shop/office', 'role: office', '"2001:db8::/64", 198.51.100.0/25') +
      toDb(`{from: [${pods('matchLabels: {role: office}')}]}`),
    from: '203.0.113.9',
    nearest: {
      difference: 'rule 0 allows port 1/tcp, peer 203.0.113.9 is outside NetworkSet shop/office',
      change: { type: 'address', block: '198.51.100.0/25' },
    },
  },
  {
    rule: 'a label of the NetworkSet that it is in, where none is meant',
    world:
      networkSetLine('shop/office', 'role: ofice', '203.0.113.0/24') +
      toDb(`{from: [${pods('matchLabels: {role: office}')}]}`),
    from: '203.0.113.9',
    nearest: {
      difference: "rule 0 allows port 1/tcp, peer's NetworkSet shop/office lacks role=office",
      change: {
        type: 'label',
        of: 'networkSet',
        networkSet: { namespace: 'shop', name: 'office' },
        key: 'role',
        value: 'office',
      },
    },
  },
  {
    rule: 'an address that a name resolves to',
    world:
      cluster('names', 1, 'egress', ['{action: Accept, to: [{domainNames: [api.example.com]}]}', denyOut]) +
      '--- {apiVersion: knp.dev/v1alpha1, kind: DomainName, metadata: {name: api.example.com}, spec: {addresses: ["2001:db8::7", 203.0.113.7]}}\n',
    from: 'shop/web',
    to: '203.0.113.9',
    nearest: { policy: 'names', rule: 0, change: { type: 'address', block: '203.0.113.7/32' } },
  },
  {
    rule: 'a Pass rule ahead of the one that denies',
    world: cluster('tenant', 1, 'ingress', [
      '{name: delegate, action: Pass, from: [{namespaces: {matchLabels: {team: sales}}}]}',
      denyAll,
    ]),
    from: 'lab/web',
    nearest: {
      policy: 'tenant',
      rule: 0,
      difference: 'rule 0 "delegate" passes port 1/tcp, peer\'s namespace lab lacks team=sales',
      change: { type: 'namespaceLabel', namespace: 'lab', key: 'team', value: 'sales' },
    },
  },
  {
    rule: 'an Accept rule of the Baseline tier',
    world: cluster(
      'base',
      1,
      'ingress',
      ['{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}', denyAll],
      'Baseline',
    ),
    from: 'lab/web',
    nearest: { policy: 'base', rule: 0, change: { type: 'port', protocol: 6, port: 80 } },
  },
]

const preferred: readonly Case[] = [
  {
    rule: 'one difference rather than two of less weight',
    world: toDb(
      `{from: [${pods('matchLabels: {role: client}')}], ports: [{port: 2}]}`,
      `{from: [${anywhere('matchLabels: {team: research}')}]}`,
    ),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'namespaceLabel', namespace: 'shop', key: 'team', value: 'research' } },
  },
  {
    rule: 'a label, though it has another value, rather than a port',
    world: toDb(
      `{from: [${pods('matchLabels: {app: web}')}], ports: [{port: 2}]}`,
      `{from: [${pods('matchLabels: {app: api}')}]}`,
    ),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'label', of: 'peer', key: 'app', value: 'api' } },
  },
  {
    rule: 'a label to add rather than one to change',
    world: toDb(`{from: [${pods('matchLabels: {app: api}')}]}`, `{from: [${pods('matchLabels: {role: client}')}]}`),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'label', of: 'peer', key: 'role', value: 'client' } },
  },
  {
    rule: 'a port of a rule for this peer rather than one that is open to everybody',
    world: toDb('{ports: [{port: 9187}]}', `{from: [${pods('matchLabels: {app: web}')}], ports: [{port: 2}]}`),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'port', protocol: 6, port: 2 } },
  },
  {
    rule: 'a port of the same protocol',
    world: toDb('{ports: [{port: 3, protocol: UDP}]}', '{ports: [{port: 2}]}'),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'port', protocol: 6, port: 2 } },
  },
  {
    rule: 'the first of equals',
    world: toDb('{ports: [{port: 4}]}', '{ports: [{port: 3}]}'),
    from: 'shop/web',
    nearest: { rule: 0, change: { type: 'port', protocol: 6, port: 4 } },
  },
  {
    rule: 'not a label with which a Deny rule further ahead matches',
    world: cluster('tenant', 1, 'ingress', [
      '{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: client}}}}]}',
      '{action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: client}}}}]}',
      '{action: Accept, from: [{namespaces: {matchLabels: {team: sales}}}]}',
      denyAll,
    ]),
    from: 'lab/batch',
    nearest: { rule: 2, change: { type: 'namespaceLabel', namespace: 'lab', key: 'team', value: 'sales' } },
  },
]

const notNear: readonly Case[] = [
  {
    rule: 'a label and a port',
    world: toDb(`{from: [${pods('matchLabels: {role: client}')}], ports: [{port: 2}]}`),
    from: 'shop/web',
    nearest: {
      rule: 0,
      difference: 'rule 0 allows port 2/tcp, not port 1/tcp, and peer lacks role=client',
      change: { type: 'allow' },
    },
  },
  {
    rule: 'two labels',
    world: toDb(`{from: [${pods('matchLabels: {role: client, zone: a}')}]}`),
    from: 'shop/web',
    nearest: { difference: 'rule 0 allows port 1/tcp, peer lacks role=client, zone=a', change: { type: 'allow' } },
  },
  {
    rule: 'labels that exclude each other',
    world: toDb(
      `{from: [${pods(`matchExpressions: [${expression('a', 'Exists')}, ${expression('a', 'DoesNotExist')}]`)}]}`,
    ),
    from: 'shop/web',
    nearest: { rule: 0, change: { type: 'allow' } },
  },
  {
    rule: 'another namespace',
    world: toDb(`{from: [${pods('')}]}`),
    from: 'lab/web',
    nearest: {
      difference: 'rule 0 allows port 1/tcp, peer is in namespace lab, the rule means shop',
      change: { type: 'allow' },
    },
  },
  {
    rule: 'another namespace, by its name',
    world: toDb(`{from: [${anywhere('matchLabels: {kubernetes.io/metadata.name: shop}')}]}`),
    from: 'lab/web',
    nearest: {
      difference: 'rule 0 allows port 1/tcp, peer is in namespace lab, the rule means shop',
      change: { type: 'allow' },
    },
  },
  {
    rule: 'an outside address where no rule is about addresses',
    world: toDb(`{from: [${pods('')}]}`),
    from: '203.0.113.9',
    nearest: { difference: 'rule 0 allows port 1/tcp, peer 203.0.113.9 is no pod', change: { type: 'allow' } },
  },
  {
    rule: 'an address rule, and a workload that has its address',
    world: toDb('{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}'),
    from: 'shop/web',
    nearest: { rule: 0, change: { type: 'allow' } },
  },
  {
    rule: 'a block of the other family',
    world: toDb('{from: [{ipBlock: {cidr: "2001:db8::/32"}}]}'),
    from: '203.0.113.9',
    nearest: { rule: 0, change: { type: 'allow' } },
  },
  {
    rule: 'a block of which exceptions leave nothing',
    world: toDb('{from: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.0/25, 198.51.100.128/25]}}]}'),
    from: '203.0.113.9',
    nearest: { rule: 0, change: { type: 'allow' } },
  },
  {
    rule: 'a name that no port of the destination has',
    world: toDb('{ports: [{port: http}]}'),
    from: 'shop/web',
    nearest: {
      difference: 'rule 0 allows this peer on port "http"/tcp (no port of the destination), not on port 1/tcp',
      change: { type: 'allow' },
    },
  },
  {
    rule: 'the closest of rules that are all far',
    world: toDb(
      `{from: [${pods('matchLabels: {role: client, zone: a, rank: high}')}], ports: [{port: 2}]}`,
      `{from: [${pods('matchLabels: {role: client, zone: a}')}]}`,
    ),
    from: 'shop/web',
    nearest: { rule: 1, change: { type: 'allow' } },
  },
  {
    rule: 'no rule',
    world: toDb(),
    from: 'shop/web',
    nearest: { policy: 'p', rule: undefined, change: { type: 'allow' } },
  },
  {
    rule: 'a Deny rule without any ahead of it',
    world: cluster('closed', 1, 'ingress', [denyAll, '{action: Accept, from: [{namespaces: {}}]}']),
    from: 'lab/web',
    nearest: {
      policy: 'closed',
      rule: 0,
      difference: 'rule 0 "nobody" would have to go: no rule ahead of it allows anything',
      change: { type: 'rule' },
    },
  },
  {
    rule: 'a Deny rule, and one ahead that is two changes away',
    world: cluster('closed', 1, 'ingress', [
      '{action: Accept, from: [{namespaces: {matchLabels: {team: sales}}}], protocols: [{udp: {destinationPort: {number: 1}}}]}',
      denyAll,
    ]),
    from: 'lab/web',
    nearest: {
      rule: 1,
      difference: 'rule 1 "nobody" would have to go: no rule ahead of it is near',
      change: { type: 'rule' },
    },
  },
  {
    rule: 'a Deny rule, and one ahead that opens only what another denies',
    world: cluster('closed', 1, 'ingress', [
      '{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 2, end: 9}}}}]}',
      '{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 5}}}]}',
      denyAll,
    ]),
    from: 'lab/web',
    nearest: { rule: 2, change: { type: 'rule' } },
  },
  {
    rule: 'a Deny rule that nobody understands',
    world: cluster('newer', 1, 'ingress', ['{name: odd, action: Deny, from: [{serviceAccounts: {}}]}']),
    from: 'lab/web',
    nearest: { rule: 0, difference: 'rule 0 "odd" would have to be understood', change: { type: 'rule' } },
  },
  {
    rule: 'an Accept rule that nobody understands, ahead of a Deny rule',
    world:
      cluster('newer', 1, 'ingress', ['{name: odd, action: Accept, from: [{serviceAccounts: {}}]}']) +
      cluster('closed', 2, 'ingress', [denyAll]),
    from: 'lab/web',
    nearest: {
      policy: 'closed',
      difference:
        'rule 0 "nobody" would have to go: no rule ahead of it is near; rule 0 "odd" of ClusterNetworkPolicy newer matches nothing: spec.ingress[0].from[0] has the unknown field "serviceAccounts"',
      change: { type: 'rule' },
    },
  },
  {
    rule: 'a port name that the addresses of a cluster-wide rule never have',
    world: cluster('closed', 1, 'egress', [
      '{action: Accept, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: sql}]}',
      '{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{tcp: {destinationPort: {number: 5433}}}]}',
    ]),
    from: 'shop/web',
    port: 5433,
    nearest: { rule: 1, change: { type: 'rule' } },
  },
]

function target({ to = 'shop/db', protocol = 'TCP', port = protocol === 'ICMP' ? undefined : 1 }: Partial<Case>) {
  return `${to}${port === undefined ? '' : `:${port}`}/${protocol.toLowerCase()}`
}

for (const [name, cases] of Object.entries({ near, preferred, 'not near': notNear })) {
  t.test(name, async (t) => {
    for (const each of cases) {
      const { rule, world, from, to = 'shop/db', protocol = 'TCP', nearest } = each
      const port = each.port ?? (protocol === 'ICMP' ? undefined : 1)
      const objects = parseAllDocuments(shop + world).flatMap((document) => (document.toJS() ?? []) as PlainObject)
      const { verdict, nearest: found, decidedBy } = ask(worldOf(shop + world), from, target(each))
      t.equal(verdict, 'deny', rule)
      const { change, ...said } = nearest
      t.same(found?.change, change, `${rule}: the change`)
      if (said.policy !== undefined) t.equal(found?.policy.name, said.policy, `${rule}: the policy`)
      if ('rule' in said) t.equal(found?.rule, said.rule, `${rule}: the rule`)
      if (said.difference !== undefined) t.equal(found?.difference, said.difference, `${rule}: the words`)
      const flow = { from, to, protocol, ...(port !== undefined && { port }) }
      const changed = applyNearest({ objects, flow }, found!, decidedBy.direction!)
      const after = ask(worldOf(textOf(changed.objects)), changed.flow.from, target(changed.flow))
      t.equal(after.verdict, 'allow', `${rule}: with the change it is allowed`)
    }
  })
}

t.test('what exceptions leave of a block', async (t) => {
  const cases: readonly [whole: string, except: readonly string[], largest: string | undefined][] = [
    ['10.0.0.0/8', [], '10.0.0.0/8'],
    ['10.0.0.0/8', ['10.0.0.0/9'], '10.128.0.0/9'],
    ['0.0.0.0/0', ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'], '64.0.0.0/2'],
    ['10.0.0.0/30', ['10.0.0.0/31', '10.0.0.3/32'], '10.0.0.2/32'],
    ['10.0.0.0/31', ['10.0.0.0/32', '10.0.0.1/32'], undefined],
    ['2001:db8::/32', ['2001:db8::/48'], '2001:db8:8000::/33'],
  ]
  for (const [whole, except, largest] of cases) {
    const found = largestBeside(
      parseBlock(whole)!,
      except.map((block) => parseBlock(block)!),
    )
    t.equal(found && formatBlock(found), largest, `${whole} without ${except.join(', ')}`)
  }
})

const WORLDS = 70
const FLOWS = 100
/** What a change of the flow or its ends is; a rule that is added or gone is what it is. */
const tried = ['label', 'namespaceLabel', 'port', 'address'] as const
/** Of each: a change takes a compilation to try. */
const MOST_TRIALS = 50

t.test('in random worlds, the change brings the flow through the tier that denied it', async (t) => {
  const random = seededRandom(20260401)
  const counts = new Map<string, number>()
  for (let number = 0; number < WORLDS; number++) {
    const made = randomWorld(random)
    const objects = objectsOf(made) as unknown as readonly PlainObject[]
    const world = worldOf(textOf(objects))
    for (let i = 0; i < FLOWS; i++) {
      const flow = randomFlow(random, made)
      const outcome = tryChange(world, objects, flow, (type) => (counts.get(type) ?? 0) < MOST_TRIALS)
      if (!outcome) continue
      counts.set(outcome.type, (counts.get(outcome.type) ?? 0) + 1)
      if (outcome.isStillDenied) return t.fail('still denied', { ...outcome, flow, objects })
    }
  }
  t.comment([...counts].map(([type, count]) => `${type} ${count}`).join(', '))
  for (const type of tried) t.ok((counts.get(type) ?? 0) >= 15, `${type} often enough`)
})

/** `undefined` where nothing is denied, or where the question cannot be asked by addresses. */
function tryChange(
  world: World,
  objects: readonly PlainObject[],
  { source, destination, protocol, port }: OracleFlow,
  isWanted: (type: NearestChange['type']) => boolean,
) {
  if (protocol === 'ESP' || [source, destination].some((address) => ownersOf(address, world) > 1)) return undefined
  const flow: PlainFlow = { from: source, to: destination, protocol, ...(port !== 0 && { port }) }
  const { nearest, decidedBy } = ask(world, flow.from, questionOf(flow))
  if (!nearest || !decidedBy.direction) return undefined
  const { direction, tier } = decidedBy
  const { change } = nearest
  if (!tried.some((type) => type === change.type) || !isWanted(change.type)) return undefined
  // The subject's namespace too: then other policies select it.
  if (
    change.type === 'namespaceLabel' &&
    namespaceOf(direction === 'egress' ? source : destination, world) === change.namespace
  ) {
    return undefined
  }
  const changed = applyNearest({ objects, flow }, nearest, direction)
  const after = ask(worldOf(textOf(changed.objects)), changed.flow.from, questionOf(changed.flow))
  const step = after.stages.find((stage) => stage.direction === direction)?.tiers.find((each) => each.tier === tier)
  const isStillDenied = step?.verdict === 'deny'
  return { type: change.type, isStillDenied, nearest, decidedBy, after: after.decidedBy, changed: changed.flow }
}

function ownersOf(address: string, { snapshot }: World): number {
  return snapshot.workloads.filter(({ addresses }) => addresses.some((each) => formatAddress(each) === address)).length
}

function namespaceOf(address: string, { snapshot }: World): string | undefined {
  return snapshot.workloads.find(({ addresses }) => addresses.some((each) => formatAddress(each) === address))
    ?.namespace
}

function questionOf({ to, protocol, port }: PlainFlow): string {
  const end = to.includes(':') ? `[${to}]` : to
  return `${end}${port === undefined ? '' : `:${port}`}/${protocol!.toLowerCase()}`
}

function textOf(objects: readonly PlainObject[]): string {
  return objects.map((object) => JSON.stringify(object)).join('\n---\n')
}
