import { spawnSync } from 'node:child_process'
import t from 'tap'
import type { Finding } from '../../src/finding.ts'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { knp, networkPolicy, Product, pod, policies, skip } from './product.ts'

/** Longer than a connection takes, shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 900
const timeoutMs = 20_000 * slow

const web = ['10.77.1.2', 'fd77:1::2'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const

async function run(network: Network, argv: readonly string[], input = ''): Promise<void> {
  const { code, stderr } = await network.exec(network.router, argv, { input })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
}

interface Report {
  readonly canEnforce: boolean
  readonly findings: readonly Finding[]
}

async function findings(network: Network): Promise<Report> {
  const { stdout } = await network.exec(network.router, knp(['doctor', '--json']), { timeoutMs })
  return JSON.parse(stdout) as Report
}

/** What doctor says of policies that others enforce. */
async function doctor(network: Network): Promise<{ readonly canEnforce: boolean; readonly agents: readonly string[] }> {
  const { canEnforce, findings: all } = await findings(network)
  const agents = all
    .filter(({ check }) => check === 'policy agent')
    .map(({ result, detail, remedy }) => `${result} ${detail.split(':')[0]}${remedy ? '' : ', and no remedy'}`)
  return { canEnforce, agents }
}

t.test('doctor finds the agents whose rules and devices are in the kernel', { skip }, async (t) => {
  const network = await createNetwork({ prefix: 'knpa', hosts: [{ name: 'web', addresses: web }] })
  t.after(() => network.destroy())
  t.same(await doctor(network), { canEnforce: true, agents: [] })
  const nothing = ['nft', 'flush', 'ruleset']
  const chain = (...names: string[]) => `table ip filter { ${names.map((name) => `chain ${name} { }`).join('; ')}; }`
  const cases: readonly [found: string, rules: string][] = [
    [
      'kube-network-policies is here (table inet kube-network-policies)',
      'table inet kube-network-policies { chain postrouting { type filter hook postrouting priority 95; }; }',
    ],
    [
      'kindnet is here (table inet kindnet-network-policies)',
      'table inet kindnet-network-policies { set podips-v4 { type ipv4_addr; }; }',
    ],
    ['Calico is here (chain cali-FORWARD)', chain('cali-FORWARD', 'cali-INPUT', 'KUBE-SERVICES')],
    ['Cilium is here (chain CILIUM_INPUT)', chain('CILIUM_INPUT')],
    ['kube-router is here (chain KUBE-ROUTER-FORWARD)', chain('KUBE-ROUTER-FORWARD', 'FLANNEL-FWD')],
    ['Antrea is here (chain ANTREA-FORWARD)', chain('ANTREA-FORWARD')],
    ['Weave Net is here (chain WEAVE-NPC)', chain('WEAVE-NPC')],
    ['OVN-Kubernetes is here (table inet ovn-kubernetes)', 'table inet ovn-kubernetes { }'],
  ]
  for (const [found, rules] of cases) {
    await run(network, ['nft', '-f', '-'], rules)
    t.same(await doctor(network), { canEnforce: true, agents: [`warn ${found}`] }, found)
    await run(network, nothing)
  }
  t.same(await doctor(network), { canEnforce: true, agents: [] }, 'and when they are gone it finds none')

  const pairs = [
    ['cilium_host', 'cilium_net'],
    ['antrea-gw0', 'flannel.1'],
    ['cali0123456789a', 'kube-bridge'],
  ] as const
  for (const [one, other] of pairs) await run(network, ['ip', 'link', 'add', one, 'type', 'veth', 'peer', other])
  const { agents } = await doctor(network)
  t.same(agents, [
    'warn Calico is here (device cali0123456789a)',
    'warn Cilium is here (device cilium_host)',
    'warn Antrea is here (device antrea-gw0)',
  ])
})

const legacy = spawnSync('iptables-legacy', ['--version']).status === 0

t.test(
  'rules that nft does not list are named',
  { skip: skip || (legacy || process.env.CI ? false : 'iptables-legacy is not there') },
  async (t) => {
    const network = await createNetwork({ prefix: 'knpa', hosts: [{ name: 'web', addresses: web }] })
    t.after(() => network.destroy())
    const named = async () => (await findings(network)).findings.filter(({ check }) => check === 'other firewall')
    t.same(await named(), [])
    await run(network, ['iptables-legacy', '-N', 'KUBE-ROUTER-INPUT'])
    t.same(await named(), [
      { check: 'other firewall', result: 'ok', detail: 'rules of iptables-legacy cannot be looked at (ip filter)' },
    ])
  },
)

t.test('two that decide: what either denies is denied', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpa',
    hosts: [
      { name: 'web', addresses: web },
      { name: 'db', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', [
    pod({ name: 'web', addresses: web }),
    pod({ name: 'db', addresses: db }),
    networkPolicy('db', {
      podSelector: { matchLabels: { app: 'db' } },
      ingress: [{ ports: [80, 81].map((port) => ({ port })) }],
    }),
  ])
  // At the hooks where agents of this kind stand; port 82 is allowed by them alone, port 81 by knp alone.
  const other = (table: string, hook: string, priority: number) =>
    `table inet ${table} { chain decide { type filter hook ${hook} priority ${priority}; tcp dport 81 drop; tcp dport { 80, 82 } accept; }; }`
  const [near, far] = await Promise.all([Agent.start(network, 'web'), Agent.start(network, 'db')])
  for (const address of db) for (const port of [80, 81, 82]) await far.listen({ protocol: 'tcp', address, port })
  await Product.start(network, folder)
  const reach = () =>
    Promise.all(
      db.flatMap((address) =>
        [80, 81, 82].map(async (port) => {
          const { ok } = await near.probe({ protocol: 'tcp', address, port, timeoutMs: DENIED_AFTER_MS * slow })
          return `${port} ${ok ? 'passes' : 'dropped'}`
        }),
      ),
    )
  const each = (...words: string[]) => [...words, ...words]
  t.same(await reach(), each('80 passes', '81 passes', '82 dropped'), 'knp alone')
  const places = [
    ['kube-network-policies', 'postrouting', 95],
    ['kindnet-network-policies', 'prerouting', -95],
    ['before', 'forward', -300],
    ['after', 'forward', 0],
  ] as const
  for (const [table, hook, priority] of places) {
    await run(network, ['nft', '-f', '-'], other(table, hook, priority))
    t.same(await reach(), each('80 passes', '81 dropped', '82 dropped'), `${table}, ${hook} ${priority}`)
    await run(network, ['nft', 'delete', 'table', 'inet', table])
  }
  t.same(await reach(), each('80 passes', '81 passes', '82 dropped'), 'when the other one is gone')
})
