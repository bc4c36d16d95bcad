import t from 'tap'
import { configDefaults } from '../../src/config.ts'
import {
  DEFAULT_CONNECTION_MASK,
  DEFAULT_PACKET_MASK,
  LAST_STAMP,
  layoutMarks,
  PICKED_UP,
} from '../../src/datapath/marks.ts'
import { parseBlock } from '../../src/engine/index.ts'
import { defaultFailsafe, failsafeRules } from '../../src/ruleset/failsafe.ts'
import {
  chainNames,
  counters,
  type DenyWith,
  divertChains,
  type HostTraffic,
  objectsText,
  rulesText,
  sets,
} from '../../src/ruleset/text.ts'

const pickedUp = { match: 'ct mark & 0xf0000000 == 0xf0000000', stampChain: 'stamp_15' }
const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const { remember } = configDefaults
const defaults = { marks, onFailure: 'closed', denyWith: 'drop', failsafe: defaultFailsafe, remember } as const

/** The rules of a chain, line by line. */
function chain(name: string, onFailure: 'open' | 'closed' = 'closed', layout = marks): string[] {
  return chainOf(rulesText({ ...defaults, marks: layout, onFailure }), name)
}

function chainWith(denyWith: DenyWith, name: string): string[] {
  return chainOf(rulesText({ ...defaults, denyWith }), name)
}

function hostChain(name: string, host: Partial<HostTraffic>, failsafe = defaultFailsafe): string[] {
  const whole = { ingress: false, egress: false, forwards: [], ...host }
  return chainOf(rulesText({ ...defaults, failsafe, host: whole }), name)
}

function chainOf(text: string, name: string): string[] {
  const body = new RegExp(`^  chain ${name} \\{\n((?:    .*\n)*)  \\}$`, 'm').exec(text)?.[1]
  if (body === undefined) throw new Error(`no chain ${name}`)
  return body
    .trimEnd()
    .split('\n')
    .map((line) => line.trim())
}

t.test('objects are made, never unmade: loading them again changes nothing', async (t) => {
  const text = objectsText(remember)
  t.notMatch(text, /delete|flush|destroy/)
  t.match(text, /^table inet knp \{\n[\s\S]*\n\}\n$/)
  for (const name of [...counters, ...Object.values(sets), ...divertChains]) {
    t.match(text, new RegExp(`^  (counter|set|chain) ${name} \\{`, 'm'), name)
  }
})

t.test('a hook has three base chains, behind DNAT, and input three for replies, ahead of NAT', async (t) => {
  const chains = [
    ...objectsText(remember).matchAll(/chain (\w+) \{ type \w+ hook (\w+) priority (-?\d+); policy accept; \}/g),
  ]
  t.same(
    chains.map(([, name, hook, priority]) => [name, hook, Number(priority)]),
    [
      ['before_forward', 'forward', -160],
      ['divert_forward', 'forward', -150],
      ['after_forward', 'forward', -140],
      ['before_reply', 'input', 60],
      ['divert_reply', 'input', 70],
      ['after_reply', 'input', 80],
      ['before_input', 'input', 110],
      ['divert_input', 'input', 120],
      ['after_input', 'input', 130],
      ['before_output', 'output', -10],
      ['divert_output', 'output', 0],
      ['after_output', 'output', 10],
    ],
  )
})

t.test('every chain with rules is flushed first, and exists; divert chains are left alone', async (t) => {
  const text = rulesText(defaults)
  const flushed = [...text.matchAll(/^flush chain inet knp (\w+)$/gm)].map(([, name]) => name!)
  const filled = [...text.matchAll(/^ {2}chain (\w+) \{$/gm)].map(([, name]) => name!)
  t.same(flushed, filled)
  t.equal(new Set(filled).size, filled.length)
  for (const name of filled) t.match(objectsText(remember), new RegExp(`^  chain ${name} \\{`, 'm'), name)
  t.same(
    filled.filter((name) => divertChains.includes(name)),
    [],
  )
  const targets = [...text.matchAll(/(?:goto|jump) (\w+)/g)].map(([, name]) => name!)
  t.same(
    targets.filter((name) => !filled.includes(name)),
    [],
    'and every target is one of them',
  )
})

t.test('our bits are cleared on the way in and on every way out', async (t) => {
  const clear = 'meta mark set meta mark & 0x80ffffff'
  t.equal(chain('prepare')[0], `meta mark & 0x7f000000 != 0 ${clear}`)
  const lastWords = [...chain('denied'), ...chain('allowed'), ...chain('unanswered')].filter((rule) =>
    /(accept|drop)$/.test(rule),
  )
  t.equal(lastWords.length, 3)
  for (const rule of lastWords) t.match(rule, clear)
  t.equal(chainWith('reject', 'denied')[0], `counter name denied ${clear}`, 'before anything is answered')
})

t.test('what is denied is dropped, or refused where that can be told from a forgery', async (t) => {
  t.match(chain('after')[0], /== 0x20000000 goto denied$/)
  t.equal(chainWith('drop', 'denied').length, 1)
  t.same(chainWith('reject', 'denied').slice(1), [
    'ct state { invalid, untracked } drop',
    'ip6 saddr fe80::/10 fib saddr type != local reject with icmpv6 type admin-prohibited',
    'meta l4proto tcp reject with tcp reset',
    'reject with icmpx type admin-prohibited',
  ])
  const rejecting = rulesText({ ...defaults, denyWith: 'reject' }).split('\n')
  t.equal(rejecting.filter((line) => line.includes('reject with')).length, 3, 'and nothing else')
  t.notMatch(rulesText(defaults), 'reject')
})

t.test('answers pass output, unless a process sent them', async (t) => {
  t.equal(chainWith('drop', 'before_output')[1], 'fib saddr type != local jump subjects')
  t.equal(chainWith('reject', 'before_output')[1], 'ct state related jump kernel_answers')
  t.same(chainWith('drop', 'kernel_answers'), [''])
  const [first, ...rest] = chainWith('reject', 'kernel_answers')
  t.equal(first, 'meta skuid != 4294967295 return')
  const local = rest.indexOf('fib saddr type != local return')
  for (const rule of rest.filter((rule) => rule.startsWith('icmp'))) t.ok(rest.indexOf(rule) > local, rule)
  t.same(
    rest.filter((rule) => !rule.startsWith('icmp')),
    ['tcp flags & (fin | syn | rst | psh) == rst accept', 'fib saddr type != local return'],
  )
})

t.test('what gets no verdict', async (t) => {
  t.match(chain('unanswered', 'closed').at(-1), / drop$/)
  t.match(chain('unanswered', 'open').at(-1), / accept$/)
  t.equal(chain('unanswered')[0], 'counter name unanswered')
  t.equal(chain('after').at(-1), 'goto unanswered', 'is whatever is neither denied nor allowed')
})

t.test('the modes differ in that alone', async (t) => {
  const lines = (['open', 'closed'] as const).map((onFailure) => rulesText({ ...defaults, onFailure }).split('\n'))
  t.equal(lines[0]!.filter((line, i) => line !== lines[1]![i]).length, 1)
})

t.test('nothing is accepted for being a reply, or related, alone', async (t) => {
  const accepting = chain('judge').filter((rule) => rule.endsWith(' accept') && !rule.includes('meta mark set'))
  t.ok(accepting.length > 0)
  for (const rule of accepting) t.match(rule, 'ct mark & 0xf0000000 == @stamped', rule)
})

t.test('never judged: path-MTU, MLD and neighbour discovery, and nothing else', async (t) => {
  const accepting = chain('prepare').filter((rule) => rule.endsWith('accept'))
  t.same(accepting, [
    'icmpv6 type { packet-too-big, 130-132, 143, 133-137 } accept',
    'icmp type destination-unreachable icmp code frag-needed accept',
  ])
})

t.test('each stamp has its chain, and only those of now are learnt', async (t) => {
  const [, learn] = chain('allowed')
  t.match(learn, 'meta mark & 0x0f000000 == @current meta mark & 0x0f000000 vmap {')
  for (const stamp of [...Array.from({ length: LAST_STAMP }, (_, i) => i + 1), PICKED_UP]) {
    t.match(learn, `0x0${stamp.toString(16)}000000 : jump stamp_${stamp}`)
    t.same(chain(`stamp_${stamp}`), [`ct mark set ct mark & 0x0fffffff | 0x${stamp.toString(16)}0000000`])
  }
  t.notMatch(learn, 'stamp_0')
})

t.test('other masks move every bit, and touch no other', async (t) => {
  const moved = layoutMarks(0xfe00, 0xf0)!
  const text = rulesText({ ...defaults, marks: moved })
  t.equal(chain('prepare', 'closed', moved)[0], 'meta mark & 0x0000fe00 != 0 meta mark set meta mark & 0xffff01ff')
  const used = [...text.matchAll(/meta mark (?:& |== |\| )(0x[0-9a-f]{8})/g)].map(([, value]) => Number(value))
  t.ok(used.length > 5)
  t.same(
    used.filter((value) => (value & ~0xfe00) >>> 0 !== 0 && value !== 0xffff01ff),
    [],
  )
  const connection = [...text.matchAll(/ct mark & (0x[0-9a-f]{8})/g)].map(([, value]) => Number(value))
  t.same([...new Set(connection)].sort(), [0xf0, 0xffffff0f])
})

t.test('every chain has a name that is known', async (t) => {
  const made = [...objectsText(remember).matchAll(/^ {2}chain (\w+) \{/gm)].map(([, name]) => name!)
  t.same([...chainNames()].sort(), made.sort())
})

const both = { ingress: true, egress: true }

t.test("this machine's own traffic is judged where a policy selects it in either direction", async (t) => {
  for (const host of [{ ingress: true }, { egress: true }, both]) {
    t.equal(hostChain('incoming', host).at(-1), 'goto judge')
    t.equal(hostChain('before_output', host).at(-1), 'goto judge')
  }
  t.same(hostChain('incoming', {}), chain('incoming'), 'and not where none does')
  t.same(hostChain('before_output', {}), chain('before_output'))
  t.same(chain('incoming'), ['jump subjects'])
})

t.test('at input, each packet is judged in one place: replies in the first, all others in the second', async (t) => {
  for (const chainOfInput of [chain, (name: string) => hostChain(name, both)]) {
    t.same(chainOfInput('before_reply'), ['jump prepare', 'ct direction reply goto incoming'])
    t.same(chainOfInput('before_input'), ['jump prepare', 'ct direction reply accept', 'goto incoming'])
  }
})

t.test('ahead of it stand loopback and the failsafe, in both directions', async (t) => {
  t.same(hostChain('incoming', both), [
    'iif lo accept',
    ...failsafeRules('input', defaultFailsafe, pickedUp),
    'goto judge',
  ])
  const output = hostChain('before_output', both)
  t.same(output.slice(-4 - failsafeRules('output', defaultFailsafe, pickedUp).length), [
    'oif lo ct status & dnat == 0 accept',
    'oif lo ct state { invalid, untracked } accept',
    'ct status & dnat != 0 fib daddr type local accept',
    ...failsafeRules('output', defaultFailsafe, pickedUp),
    'goto judge',
  ])
  const none = { inbound: [], outbound: [] }
  t.same(hostChain('incoming', both, none), ['iif lo accept', 'goto judge'])
})

t.test('at output, what comes from elsewhere is told first, and never taken for its own', async (t) => {
  const fromElsewhere = [
    'jump prepare',
    'fib saddr type != local jump subjects',
    `meta mark & 0x40000000 != 0 meta mark set meta mark | 0x08000000 accept`,
    'fib saddr type != local accept',
  ]
  t.same(chain('before_output'), fromElsewhere)
  t.same(hostChain('before_output', both).slice(0, 4), fromElsewhere)
})

t.test('what is forwarded to those behind this machine', async (t) => {
  const forwards = (...blocks: string[]) =>
    hostChain('before_forward', { ingress: true, forwards: blocks.map((text) => parseBlock(text)!) }).slice(3)
  const family = (ip: string, set: string) => [
    `${ip} daddr { ${set} } ct direction original goto judge`,
    `${ip} saddr { ${set} } ct direction reply goto judge`,
    `ct state { invalid, untracked } ${ip} daddr { ${set} } goto judge`,
    `ct state { invalid, untracked } ${ip} saddr { ${set} } goto judge`,
  ]
  const cases: readonly [rule: string, blocks: string[], expected: string[]][] = [
    ['nothing', [], []],
    ['a block', ['172.17.0.0/16'], family('ip', '172.17.0.0/16')],
    ['of IPv6', ['fd00:17::/64'], family('ip6', 'fd00:17::/64')],
    [
      'both families, each in its own rules',
      ['fd00:17::/64', '172.17.0.0/16'],
      [...family('ip', '172.17.0.0/16'), ...family('ip6', 'fd00:17::/64')],
    ],
    ['several', ['172.17.0.0/16', '172.18.0.0/16'], family('ip', '172.17.0.0/16, 172.18.0.0/16')],
    ['a block in another is left out', ['172.17.0.0/24', '172.16.0.0/12'], family('ip', '172.16.0.0/12')],
    ['whatever comes first', ['172.16.0.0/12', '172.17.0.0/24'], family('ip', '172.16.0.0/12')],
    ['one that is there twice stays once', ['172.17.0.0/16', '172.17.0.0/16'], family('ip', '172.17.0.0/16')],
    [
      'three in each other, and one beside',
      ['10.1.1.0/24', '10.0.0.0/8', '10.1.0.0/16', '192.0.2.0/24'],
      family('ip', '10.0.0.0/8, 192.0.2.0/24'),
    ],
    [
      'all of IPv6 holds no block of IPv4',
      ['::/0', '172.17.0.0/16'],
      [...family('ip', '172.17.0.0/16'), ...family('ip6', '::/0')],
    ],
  ]
  for (const [rule, blocks, expected] of cases) t.same(forwards(...blocks), expected, rule)
  t.same(
    hostChain('before_forward', { ingress: true, forwards: [parseBlock('10.0.0.0/8')!] }).slice(0, 3),
    ['jump prepare', 'jump subjects', 'meta mark & 0x40000000 != 0 accept'],
    'behind the pods: what was asked for them is not asked again',
  )
})

t.test('a flood of one source is cut off before it is queued, and after what is known', async (t) => {
  const rules = chain('judge')
  const limits = rules.filter((rule) => rule.includes('limit rate'))
  t.same(
    limits.map((rule) => /^update @(sources[46]) \{ (ip6? saddr) limit rate over 10000\/second /.exec(rule)?.slice(1)),
    [
      ['sources4', 'ip saddr'],
      ['sources6', 'ip6 saddr'],
    ],
    'each source by itself',
  )
  for (const rule of limits) t.match(rule, / counter name limited meta mark set meta mark & 0x80ffffff drop$/)
  const places = limits.map((rule) => rules.indexOf(rule))
  t.ok(Math.min(...places) > rules.findLastIndex((rule) => rule.endsWith(' accept')))
  t.ok(Math.max(...places) < rules.indexOf('counter name queued'))
  t.match(objectsText(remember), /set sources4 \{ type ipv4_addr; flags dynamic; size \d+; timeout \d+s; \}/)
  t.match(objectsText(remember), /set sources6 \{ type ipv6_addr; flags dynamic; size \d+; timeout \d+s; \}/)
})

t.test('the text is the same every time', async (t) => {
  t.equal(objectsText(remember), objectsText(remember))
  t.equal(rulesText(defaults), rulesText(defaults))
})
