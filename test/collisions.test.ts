import { readFileSync } from 'node:fs'
import t from 'tap'
import { findCollisions } from '../src/collisions.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../src/datapath/marks.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const QUEUES = { first: 100, count: 1 }

/** What `nft --json list ruleset` printed where rules like these were loaded. */
function listed(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`fixtures/nft/${name}.json`, import.meta.url), 'utf8'))
}

const rule = (chain: string, ...expr: object[]) => ({ rule: { family: 'inet', table: 'other', chain, expr } })
const rulesetOf = (...entries: object[]) => ({ nftables: [{ metainfo: { json_schema_version: 1 } }, ...entries] })
const chains = (...names: string[]) =>
  rulesetOf(...names.map((name) => ({ chain: { family: 'ip', table: 'filter', name } })))
const tables = (...names: string[]) => rulesetOf(...names.map((name) => ({ table: { family: 'inet', name } })))
const found = (ruleset: unknown, layout = marks, queues = QUEUES) =>
  findCollisions(ruleset, layout, queues).map(({ check, result, detail }) => `${result} ${check}: ${detail}`)

t.test('an empty ruleset, and none', async (t) => {
  t.same(found(rulesetOf()), [])
  t.same(found({}), [])
})

t.test('programs with rules of their own', async (t) => {
  t.same(found(listed('firewalld')), [
    'ok other firewall: firewalld is here (table inet firewalld): a reload flushes its own tables only',
    // A mark that is set whole.
    'warn marks: inet firewalld, chain mangle_PRE_public, writes packet mark bits 0x7f000000, which knp uses',
  ])
  t.match(found(listed('docker')), [
    /^warn other firewall: Docker is here \(chain DOCKER.*\): its published ports arrive by the forward hook$/,
  ])
  t.match(findCollisions(listed('docker'), marks, QUEUES), [{ remedy: /spec\.forwards/ }])
  t.same(
    found(listed('kube-proxy')),
    ['ok other firewall: kube-proxy is here (table ip kube-proxy)'],
    'its mark is not ours',
  )
  t.same(found(chains('ufw6-before-input', 'ts-input', 'INPUT')), [
    'ok other firewall: ufw is here (chain ufw6-before-input)',
    'ok other firewall: Tailscale is here (chain ts-input)',
  ])
  t.same(found(chains('KUBE-SERVICES', 'FLANNEL-FWD')), [
    'ok other firewall: kube-proxy is here (chain KUBE-SERVICES)',
    'ok other firewall: Flannel is here (chain FLANNEL-FWD): it enforces no policies',
  ])
  t.same(found(tables('kindnet-ipmasq')), [
    'ok other firewall: kindnet is here (table inet kindnet-ipmasq): no policies in these',
  ])
  t.same(found(tables('firewalld2', 'kindnetx')), [], 'a name that only begins like one is none')
})

t.test('programs that enforce policies themselves', async (t) => {
  const cases: readonly [agent: string, sign: string, ruleset: object, devices: readonly string[], remedy: RegExp][] = [
    [
      'kube-network-policies',
      'table inet kube-network-policies',
      tables('kube-network-policies'),
      [],
      /nft delete table inet kube-network-policies/,
    ],
    [
      'kindnet',
      'table inet kindnet-network-policies',
      tables('kindnet-network-policies'),
      [],
      /--network-policy=false.*nft delete table inet kindnet-network-policies/,
    ],
    ['Calico', 'chain cali-FORWARD', chains('cali-FORWARD'), [], /--marks-packet/],
    ['Calico', 'table ip calico', rulesetOf({ table: { family: 'ip', name: 'calico' } }), [], /--marks-packet/],
    ['Calico', 'device cali5d1d1e7c9a0', rulesetOf(), ['eth0', 'cali5d1d1e7c9a0'], /--marks-packet/],
    ['Cilium', 'chain CILIUM_INPUT', chains('CILIUM_INPUT'), [], /policyEnforcementMode=never/],
    ['Cilium', 'device cilium_host', rulesetOf(), ['lo', 'cilium_host', 'cilium_net'], /policyEnforcementMode=never/],
    ['kube-router', 'chain KUBE-ROUTER-INPUT', chains('KUBE-ROUTER-INPUT'), ['kube-bridge'], /--run-firewall=false/],
    ['kube-router', 'chain KUBE-NWPLCY-ABC', chains('KUBE-NWPLCY-ABC'), [], /--disable-network-policy/],
    ['Antrea', 'device antrea-gw0', rulesetOf(), ['antrea-gw0'], /another network/],
    ['Antrea', 'chain ANTREA-FORWARD', chains('ANTREA-FORWARD'), [], /another network/],
    ['OVN-Kubernetes', 'device ovn-k8s-mp0', rulesetOf(), ['ovn-k8s-mp0'], /another network/],
    ['Weave Net', 'chain WEAVE-NPC', chains('WEAVE-NPC'), ['weave'], /EXPECT_NPC=0/],
    ['Azure NPM', 'chain AZURE-NPM', chains('AZURE-NPM'), [], /azure-npm/],
  ]
  for (const [agent, sign, ruleset, devices, remedy] of cases) {
    const findings = findCollisions(ruleset, marks, QUEUES, devices)
    t.match(findings, [{ check: 'policy agent', result: 'warn', remedy }], sign)
    t.ok(
      findings[0]?.detail.startsWith(`${agent} is here (${sign}): both decide, and what either denies is denied`),
      findings[0]!.detail,
    )
  }
  const devices = ['lo', 'eth0', 'cni0', 'docker0', 'kube-bridge', 'kube-ipvs0', 'weave', 'calib', 'cilium', 'veth1']
  t.same(findCollisions(rulesetOf(), marks, QUEUES, devices), [], 'devices that say nothing of policies')
  t.same(
    findCollisions(rulesetOf(), marks, QUEUES, ['flannel.1']).map(({ result, detail }) => [result, detail]),
    [['ok', 'Flannel is here (device flannel.1): it enforces no policies']],
  )
})

const writing = (chain: string, kind: 'packet' | 'connection', bits: string) =>
  `warn marks: inet other, chain ${chain}, writes ${kind} mark bits ${bits}, which knp uses`

t.test('marks that others write', async (t) => {
  const { nftables } = listed('marks') as { nftables: { rule?: { chain: string } }[] }
  const cases: readonly [rule: string, chain: string, expected: string[]][] = [
    ['a part that is not ours', 'masked', []],
    ['a bit exchanged, not ours', 'xmark', []],
    ['a whole mark', 'plain', [writing('plain', 'packet', '0x7f000000')]],
    ['one of our bits', 'ours', [writing('ours', 'packet', '0x2000000')]],
    ['all of a connection’s mark', 'restore', [writing('restore', 'packet', '0x7f000000')]],
    ['a part of it, the rest cleared', 'restore_masked', [writing('restore_masked', 'packet', '0x7f000000')]],
    ['all of a packet’s mark', 'save', [writing('save', 'connection', '0xf0000000')]],
    ['our part of it', 'save_ours', [writing('save_ours', 'connection', '0xf0000000')]],
    ['our bits of a connection', 'ct_ours', [writing('ct_ours', 'connection', '0xf0000000')]],
    ['others of a connection', 'ct_free', []],
    ['from a map', 'mapped', [writing('mapped', 'packet', '0x7f000000')]],
  ]
  for (const [name, chain, expected] of cases) {
    t.same(found({ nftables: nftables.filter((entry) => entry.rule?.chain === chain) }), expected, name)
  }
  t.same(
    [...new Set(nftables.flatMap((entry) => entry.rule?.chain ?? []))].sort(),
    cases.map(([, chain]) => chain).sort(),
    'all of them',
  )
  t.equal(found({ nftables }).length, 2, 'each kind of mark once for a table')
})

t.test('other masks, other collisions', async (t) => {
  const low = layoutMarks(0xfe00, 0xf0)!
  t.same(found(listed('kube-proxy'), low), [
    'ok other firewall: kube-proxy is here (table ip kube-proxy)',
    'warn marks: ip kube-proxy, chain masquerading, writes packet mark bits 0x4000, which knp uses',
  ])
})

// As libnftables-json(5) has it; kernels without these features cannot load such rules.
t.test('queues', async (t) => {
  const queue = (num: unknown) => rulesetOf(rule('c', { match: {} }, { queue: { num, flags: ['bypass'] } }))
  const taken = ['warn queue number: inet other, chain c, sends packets to queue 100 too']
  const cases: readonly [rule: string, num: unknown, expected: string[]][] = [
    ['the same', 100, taken],
    ['another', 99, []],
    ['a range that begins with it', { range: [100, 107] }, taken],
    ['a range that ends with it', { range: [93, 100] }, taken],
    ['a range around it', { range: [0, 65535] }, taken],
    ['a range below', { range: [90, 99] }, []],
    ['a range above', { range: [101, 107] }, []],
  ]
  for (const [name, num, expected] of cases) t.same(found(queue(num)), expected, name)
  const several = (num: unknown) => found(queue(num), marks, { first: 100, count: 4 })
  const shared = (queues: string) => [`warn queue number: inet other, chain c, sends packets to ${queues} too`]
  const ranges: readonly [rule: string, num: unknown, expected: string[]][] = [
    ['the last of several', 103, shared('queue 103')],
    ['the one behind them', 104, []],
    ['a range that begins among them', { range: [102, 110] }, shared('queues 102-103')],
    ['a range that ends among them', { range: [90, 101] }, shared('queues 100-101')],
    ['a range around them', { range: [0, 65535] }, shared('queues 100-103')],
    ['a range within them', { range: [101, 102] }, shared('queues 101-102')],
    ['a range behind them', { range: [104, 110] }, []],
  ]
  for (const [name, num, expected] of ranges) t.same(several(num), expected, name)
  t.same(found(rulesetOf(rule('c', { queue: null }))), [], 'none named')
  t.same(
    found(
      rulesetOf(
        rule('c', { match: { op: '==', left: { meta: { key: 'iifname' } }, right: 'queue' } }, { queue: { num: 100 } }),
      ),
    ),
    taken,
    'an interface of that name',
  )
})

t.test('flowtables', async (t) => {
  t.same(found(rulesetOf({ flowtable: { family: 'inet', table: 'fast', name: 'f', hook: 'ingress', dev: 'eth0' } })), [
    'warn flowtable: inet fast f: connections in it do not pass the forward hook, a changed policy does not cut them',
  ])
})

t.test('what is ours is no collision', async (t) => {
  const ours = (entry: Record<string, object>) =>
    Object.fromEntries(Object.entries(entry).map(([kind, value]) => [kind, { ...value, table: 'knp' }]))
  t.same(
    found(
      rulesetOf(
        { table: { family: 'inet', name: 'knp' } },
        ours({ chain: { family: 'inet', name: 'DOCKER' } }),
        ours(rule('c', { mangle: { key: { meta: { key: 'mark' } }, value: 1 } }, { queue: { num: 100 } })),
        ours({ flowtable: { family: 'inet', name: 'f' } }),
      ),
    ),
    [],
  )
})
