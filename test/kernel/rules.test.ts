import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { ping } from '../tools/raw.ts'
import { forgetful, namespace, networkPolicy, Product, pod, policies, skip } from './product.ts'

// Two machines stand for all pods: a client address and a server address each are a pod, or an outside address.
const clients = {
  web: ['10.77.1.2', 'fd77:1::2'],
  api: ['10.77.1.3', 'fd77:1::3'],
  'blue-web': ['10.77.1.4', 'fd77:1::4'],
  'blue-api': ['10.77.1.5', 'fd77:1::5'],
  outside: ['10.77.9.2', 'fd77:9::2'],
  except: ['10.77.9.130', 'fd77:9:0:1::2'],
} as const
const servers = {
  db: ['10.77.2.2', 'fd77:2::2'],
  cache: ['10.77.2.3', 'fd77:2::3'],
} as const

const objects = [
  namespace('blue', { team: 'blue' }),
  pod({ name: 'web', addresses: clients.web }),
  pod({ name: 'api', addresses: clients.api }),
  pod({ namespace: 'blue', name: 'web', addresses: clients['blue-web'] }),
  pod({ namespace: 'blue', name: 'api', addresses: clients['blue-api'] }),
  pod({ name: 'db', addresses: servers.db, ports: [{ name: 'sql', containerPort: 5432 }] }),
  pod({ name: 'cache', addresses: servers.cache, ports: [{ name: 'sql', containerPort: 5433 }] }),
]

type Protocol = 'tcp' | 'udp' | 'ping'

/** `from to:port/protocol`, or `from to/ping`. */
type FlowText = `${keyof typeof clients} ${keyof typeof servers}${`:${number}/${'tcp' | 'udp'}` | '/ping'}`

interface Flow {
  readonly from: keyof typeof clients
  readonly to: keyof typeof servers
  readonly port: number
  readonly protocol: Protocol
}

interface Case {
  readonly name: string
  readonly policies: readonly object[]
  readonly allowed: readonly FlowText[]
  readonly denied: readonly FlowText[]
  /** Allowed, and no business of the firewall's: no packet of them is queued. */
  readonly untouched?: readonly FlowText[]
}

const db = { podSelector: { matchLabels: { app: 'db' } } }
const isWeb = { podSelector: { matchLabels: { app: 'web' } } }
const isBlue = { namespaceSelector: { matchLabels: { team: 'blue' } } }
const ingress = (...rules: object[]) => networkPolicy('db', { ...db, ingress: rules })
const portCase = (...ports: object[]) => [ingress({ ports })]

const cases: readonly Case[] = [
  {
    name: 'an empty rule allows everything',
    policies: [ingress({})],
    allowed: ['web db:80/tcp', 'outside db:80/udp', 'blue-api db/ping'],
    denied: [],
    untouched: ['web cache:80/tcp', 'web cache:80/udp', 'web cache/ping'],
  },
  {
    name: 'no rule denies everything',
    policies: [ingress()],
    allowed: [],
    denied: ['web db:80/tcp', 'outside db:80/udp', 'blue-api db/ping'],
    untouched: ['web cache:80/tcp', 'web cache:80/udp', 'web cache/ping'],
  },
  {
    name: "podSelector: pods of the policy's own namespace",
    policies: [ingress({ from: [isWeb] })],
    allowed: ['web db:80/tcp', 'web db:80/udp', 'web db/ping'],
    denied: ['api db:80/tcp', 'api db:80/udp', 'api db/ping', 'blue-web db:80/tcp', 'outside db:80/tcp'],
  },
  {
    name: 'namespaceSelector: all pods of the namespaces',
    policies: [ingress({ from: [isBlue] })],
    allowed: ['blue-web db:80/tcp', 'blue-api db:80/udp', 'blue-web db/ping'],
    denied: ['web db:80/tcp', 'api db:80/udp', 'web db/ping', 'outside db:80/tcp'],
  },
  {
    name: 'podSelector and namespaceSelector in one peer: both must match',
    policies: [ingress({ from: [{ ...isWeb, ...isBlue }] })],
    allowed: ['blue-web db:80/tcp', 'blue-web db:80/udp', 'blue-web db/ping'],
    denied: ['web db:80/tcp', 'blue-api db:80/udp', 'blue-api db/ping'],
  },
  {
    name: 'two peers: one of them is enough',
    policies: [ingress({ from: [isWeb, isBlue] })],
    allowed: ['web db:80/tcp', 'blue-api db:80/udp'],
    denied: ['api db:80/tcp', 'outside db:80/udp'],
  },
  {
    name: 'ipBlock with except',
    policies: [
      ingress({
        from: [
          { ipBlock: { cidr: '10.77.9.0/24', except: ['10.77.9.128/25'] } },
          { ipBlock: { cidr: 'fd77:9::/32', except: ['fd77:9:0:1::/64'] } },
        ],
      }),
    ],
    allowed: ['outside db:80/tcp', 'outside db:80/udp', 'outside db/ping'],
    denied: ['except db:80/tcp', 'except db:80/udp', 'except db/ping', 'web db:80/tcp'],
  },
  {
    name: 'ipBlock matches addresses of pods too',
    policies: [ingress({ from: [{ ipBlock: { cidr: '10.77.1.2/31' } }, { ipBlock: { cidr: 'fd77:1::2/127' } }] })],
    allowed: ['web db:80/tcp', 'api db:80/udp'],
    denied: ['blue-web db:80/tcp', 'outside db:80/udp'],
  },
  {
    name: 'a number as port, of one protocol; ping has no port',
    policies: portCase({ port: 80 }, { protocol: 'UDP', port: 81 }),
    allowed: ['web db:80/tcp', 'web db:81/udp'],
    denied: ['web db:81/tcp', 'web db:80/udp', 'web db/ping'],
  },
  {
    name: 'endPort: the range with both ends',
    policies: portCase({ port: 8000, endPort: 8010 }, { protocol: 'UDP', port: 8010, endPort: 8011 }),
    allowed: ['web db:8000/tcp', 'web db:8010/tcp', 'web db:8010/udp', 'web db:8011/udp'],
    denied: ['web db:7999/tcp', 'web db:8011/tcp', 'web db:8000/udp'],
  },
  {
    name: 'a named port is that of the pod it goes to',
    policies: [networkPolicy('all', { ingress: [{ ports: [{ port: 'sql' }] }] })],
    allowed: ['web db:5432/tcp', 'web cache:5433/tcp'],
    denied: ['web db:5433/tcp', 'web cache:5432/tcp', 'web db:5432/udp', 'outside db:80/tcp'],
  },
  {
    name: 'egress: by pod and port',
    policies: [
      networkPolicy('web', {
        ...isWeb,
        policyTypes: ['Egress'],
        egress: [{ to: [db], ports: [{ port: 80 }] }, { ports: [{ protocol: 'UDP', port: 81 }] }],
      }),
    ],
    allowed: ['web db:80/tcp', 'web db:81/udp', 'web cache:81/udp'],
    denied: ['web db:81/tcp', 'web cache:80/tcp', 'web db:80/udp', 'web db/ping'],
    untouched: ['api db:81/tcp', 'blue-web db:81/tcp', 'api cache:80/udp', 'outside db/ping'],
  },
  {
    name: 'egress: a named port, an ipBlock',
    policies: [
      networkPolicy('web', { ...isWeb, policyTypes: ['Egress'], egress: [{ ports: [{ port: 'sql' }] }] }),
      networkPolicy('api', {
        podSelector: { matchLabels: { app: 'api' } },
        policyTypes: ['Egress'],
        egress: [{ to: [{ ipBlock: { cidr: '10.77.2.2/32' } }, { ipBlock: { cidr: 'fd77:2::2/128' } }] }],
      }),
    ],
    allowed: ['web db:5432/tcp', 'web cache:5433/tcp', 'api db:80/udp', 'api db/ping'],
    denied: ['web db:5433/tcp', 'web cache:5432/tcp', 'api cache:80/udp', 'api cache/ping'],
  },
  {
    name: 'ingress and egress together: a connection needs both',
    policies: [
      ingress({ from: [isWeb, { podSelector: { matchLabels: { app: 'api' } } }], ports: [{ port: 80 }] }),
      networkPolicy('web', {
        ...isWeb,
        policyTypes: ['Egress'],
        egress: [{ to: [db], ports: [{ port: 80 }, { port: 81 }] }],
      }),
    ],
    allowed: ['web db:80/tcp', 'api db:80/tcp', 'api cache:80/tcp'],
    denied: ['web db:81/tcp', 'web cache:80/tcp', 'api db:81/tcp', 'blue-web db:80/tcp', 'web db/ping'],
  },
  {
    name: 'policies add up',
    policies: [ingress({ from: [isWeb] }), networkPolicy('more', { ...db, ingress: [{ from: [isBlue] }] })],
    allowed: ['web db:80/tcp', 'blue-api db:80/udp'],
    denied: ['api db:80/tcp', 'outside db:80/udp'],
  },
]

const ports = [80, 81, 5432, 5433, 7999, 8000, 8010, 8011]
/** Shorter than the time until a SYN is sent again. */
/** Sooner than TCP tries again: each connection is one packet to the queue. */
const DENIED_AFTER_MS = 500

t.test('what rules say happens to real connections', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: Object.values(clients).flat() },
      { name: 'far', addresses: Object.values(servers).flat() },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('objects.yaml', objects)
  const near = await Agent.start(network, 'near')
  const far = await Agent.start(network, 'far')
  for (const address of Object.values(servers).flat()) {
    for (const port of ports) {
      for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port })
    }
  }
  const product = await Product.start(network, folder, { args: forgetful })

  async function passes({ from, to, port, protocol }: Flow, family: 4 | 6, isAllowed: boolean): Promise<string> {
    const timeoutMs = isAllowed ? DENIED_AFTER_MS * slow : DENIED_AFTER_MS
    const sourceAddress = clients[from][family === 4 ? 0 : 1]
    const address = servers[to][family === 4 ? 0 : 1]
    if (protocol === 'ping') {
      const [outcome] = await ping(network, 'near', address, { source: sourceAddress, timeoutMs })
      return outcome === 'reply' ? 'allowed' : outcome === 'timeout' ? 'denied' : `${outcome}`
    }
    const answer = await near.probe({ protocol, address, port, sourceAddress, timeoutMs })
    return answer.ok ? 'allowed' : answer.error === 'timeout' ? 'denied' : `${answer.error}`
  }

  const outcomes = async (flows: readonly FlowText[], allowed = flows) =>
    Object.fromEntries(
      await Promise.all(
        flows.flatMap((text) =>
          ([4, 6] as const).map(async (family) => [
            `IPv${family} ${text}`,
            await passes(parse(text), family, allowed.includes(text)),
          ]),
        ),
      ),
    ) as Record<string, string>
  const expected = (flows: readonly FlowText[], outcome: string) =>
    Object.fromEntries(flows.flatMap((text) => [4, 6].map((family) => [`IPv${family} ${text}`, outcome])))
  const counts = async () => {
    const { counters, queue, packetThread } = await product.status()
    return { ...counters, ids: queue.statistics!.idSequence, judged: packetThread.queued, failed: packetThread.failed }
  }

  for (const { name, policies, allowed, denied, untouched = [] } of cases) {
    t.test(name, async (t) => {
      await product.change(() => folder.write('policies.yaml', policies))
      const idle = await counts()
      t.same(await outcomes(untouched), expected(untouched, 'allowed'))
      t.same(await counts(), idle, 'traffic of workloads that no policy selects is not queued')
      t.same(await outcomes([...allowed, ...denied], allowed), {
        ...expected(allowed, 'allowed'),
        ...expected(denied, 'denied'),
      })
      // One packet for each connection; those that touch no subject are not among them.
      const queued = 2 * [...allowed, ...denied].filter((text) => isJudged(policies, parse(text))).length
      t.same(
        await counts(),
        {
          queued: idle.queued + queued,
          allowed: idle.allowed + queued - 2 * denied.length,
          denied: idle.denied + 2 * denied.length,
          audited: 0,
          unanswered: 0,
          limited: 0,
          rememberedAllowed: 0,
          rememberedDenied: 0,
          ids: idle.ids + queued,
          judged: idle.judged + queued,
          failed: 0,
        },
        `${queued} packets were queued and answered`,
      )
    })
  }
})

function parse(text: FlowText): Flow {
  const [, from, to, port = '0', protocol] = /^(\S+) ([a-z]+)(?::(\d+))?\/(\w+)$/.exec(text)!
  return { from, to, port: Number(port), protocol } as Flow & Record<'from' | 'to' | 'protocol', never>
}

/** Whether an end of the flow is a pod that one of the policies selects. */
function isJudged(policies: readonly object[], { from, to }: Flow): boolean {
  return policies.some((policy) => {
    const { podSelector } = (policy as { spec: { podSelector: { matchLabels?: { app: string } } } }).spec
    const app = podSelector.matchLabels?.app
    return [from, to].some((name) => (app === undefined ? !/blue|outside|except/.test(name) : name === app))
  })
}
