import t from 'tap'
import { type Block, parseBlock } from '../../src/engine/index.ts'
import { defaultFailsafe, type Failsafe, failsafeRules, formatFailsafe } from '../../src/ruleset/failsafe.ts'

const block = (text: string): Block => parseBlock(text)!
const nobody: Failsafe = { inbound: [], outbound: [] }

const pickedUp = { match: 'ct mark & 0xf0000000 == 0xf0000000', stampChain: 'stamp_15' }
const isMidway = (rule: string) => rule.includes('tcp flags')

/** Both hooks of one failsafe, without what is for connections that the kernel came to know midway. */
function rules(failsafe: Partial<Failsafe>): { input: string[]; output: string[] } {
  const whole = { ...nobody, ...failsafe }
  const [input, output] = (['input', 'output'] as const).map((hook) => failsafeRules(hook, whole, pickedUp))
  return { input: input!.filter((rule) => !isMidway(rule)), output: output!.filter((rule) => !isMidway(rule)) }
}

t.test('what passes, and its replies at the other hook', async (t) => {
  const cases: readonly [rule: string, failsafe: Partial<Failsafe>, input: string[], output: string[]][] = [
    ['an empty list is nothing', {}, [], []],
    [
      'inbound: asked by others, answered from that port',
      { inbound: [{ protocol: 'tcp', port: 22, peers: [] }] },
      ['tcp dport 22 accept'],
      ['ct direction reply tcp sport 22 accept'],
    ],
    [
      'outbound: asked by this machine, answered from that port; by its connection too, as DNAT may have changed both',
      { outbound: [{ protocol: 'udp', port: 53, peers: [] }] },
      ['ct direction reply udp sport 53 accept', 'ct direction reply meta l4proto udp ct original proto-dst 53 accept'],
      ['udp dport 53 accept', 'ct direction original meta l4proto udp ct original proto-dst 53 accept'],
    ],
    [
      'sctp too',
      { inbound: [{ protocol: 'sctp', port: 2905, peers: [] }] },
      ['sctp dport 2905 accept'],
      ['ct direction reply sctp sport 2905 accept'],
    ],
    [
      'inbound from some: the other end is the source, of a reply the destination',
      { inbound: [{ protocol: 'tcp', port: 22, peers: [block('10.0.0.0/8')] }] },
      ['ip saddr 10.0.0.0/8 tcp dport 22 accept'],
      ['ip daddr 10.0.0.0/8 ct direction reply tcp sport 22 accept'],
    ],
    [
      'outbound to some, each in its family',
      { outbound: [{ protocol: 'udp', port: 123, peers: [block('192.0.2.1/32'), block('2001:db8::/32')] }] },
      [
        'ip saddr 192.0.2.1/32 ct direction reply udp sport 123 accept',
        'ip6 saddr 2001:db8::/32 ct direction reply udp sport 123 accept',
        'ct original ip daddr 192.0.2.1/32 ct direction reply meta l4proto udp ct original proto-dst 123 accept',
        'ct original ip6 daddr 2001:db8::/32 ct direction reply meta l4proto udp ct original proto-dst 123 accept',
      ],
      [
        'ip daddr 192.0.2.1/32 udp dport 123 accept',
        'ip6 daddr 2001:db8::/32 udp dport 123 accept',
        'ct original ip daddr 192.0.2.1/32 ct direction original meta l4proto udp ct original proto-dst 123 accept',
        'ct original ip6 daddr 2001:db8::/32 ct direction original meta l4proto udp ct original proto-dst 123 accept',
      ],
    ],
    [
      'whole families',
      { inbound: [{ protocol: 'tcp', port: 22, peers: [block('0.0.0.0/0'), block('::/0')] }] },
      ['ip saddr 0.0.0.0/0 tcp dport 22 accept', 'ip6 saddr ::/0 tcp dport 22 accept'],
      [
        'ip daddr 0.0.0.0/0 ct direction reply tcp sport 22 accept',
        'ip6 daddr ::/0 ct direction reply tcp sport 22 accept',
      ],
    ],
  ]
  for (const [rule, failsafe, input, output] of cases) t.same(rules(failsafe), { input, output }, rule)
})

t.test('a connection from a failsafe port is no reply', async (t) => {
  for (const hook of ['input', 'output'] as const) {
    const bySource = failsafeRules(hook, defaultFailsafe, pickedUp).filter(
      (rule) => rule.includes('sport') && !isMidway(rule),
    )
    t.ok(bySource.length > 0)
    for (const rule of bySource) t.match(rule, /^ct direction reply /, rule)
  }
})

t.test('as people write it', async (t) => {
  t.equal(formatFailsafe({ protocol: 'tcp', port: 22, peers: [] }), 'tcp/22')
  t.equal(
    formatFailsafe({ protocol: 'udp', port: 53, peers: [block('10.0.0.53/32'), block('fd00::/8')] }),
    'udp/53@10.0.0.53/32,fd00::/8',
  )
})

t.test('unless said otherwise: SSH and DHCP in; DNS, DHCP and NTP out', async (t) => {
  t.same(defaultFailsafe.inbound.map(formatFailsafe), ['tcp/22', 'udp/68', 'udp/546'])
  t.same(defaultFailsafe.outbound.map(formatFailsafe), ['udp/53', 'tcp/53', 'udp/67', 'udp/547', 'udp/123'])
})

t.test(
  'sessions that are older than connection tracking go on: what begins nothing passes from inbound TCP ports',
  async (t) => {
    const midway = (['input', 'output'] as const).map((hook) =>
      failsafeRules(hook, defaultFailsafe, pickedUp).filter(isMidway),
    )
    t.same(midway, [
      [],
      [
        'tcp sport 22 tcp flags & (fin | syn | rst | ack) != syn ct state new goto stamp_15',
        'tcp sport 22 tcp flags & (fin | syn | rst | ack) != syn ct mark & 0xf0000000 == 0xf0000000 accept',
      ],
    ])
  },
)
