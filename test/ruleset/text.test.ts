import t from 'tap'
import { configDefaults } from '../../src/config.ts'
import {
  DEFAULT_CONNECTION_MASK,
  DEFAULT_PACKET_MASK,
  LAST_STAMP,
  layoutMarks,
  NO_STAMP,
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
  learnt,
  objectsText,
  type Remember,
  rulesText,
  sets,
  stampChain,
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
  for (const name of [...counters, ...Object.values(sets), ...Object.values(learnt), ...divertChains]) {
    t.match(text, new RegExp(`^  (counter|set|map|chain) ${name} \\{`, 'm'), name)
  }
})

t.test('what packets fill is bounded, and what is learnt of a tuple goes by itself', async (t) => {
  const text = objectsText({ ...remember, size: 77 })
  const key = (address: string) => `iface_index . ${address} . ${address} . inet_proto . inet_service`
  for (const [name, address] of [
    ['allowed4', 'ipv4_addr'],
    ['denied4', 'ipv4_addr'],
    ['allowed6', 'ipv6_addr'],
    ['denied6', 'ipv6_addr'],
  ] as const) {
    t.match(text, `  set ${name} { type ${key(address)}; flags dynamic, timeout; size 77; }\n`, name)
  }
  for (const name of [...Object.values(learnt), 'sources4', 'sources6'])
    t.match(new RegExp(`^  set ${name} .*$`, 'm').exec(text)?.[0], /dynamic.* size \d+;/, name)
  t.equal(text.match(/dynamic/g)?.length, 7, 'and no other set is filled by packets')
  for (const name of ['changed4', 'changed6'])
    t.match(text, new RegExp(`set ${name} \\{ type ipv[46]_addr; flags timeout; \\}`))
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

const clear = 'meta mark set meta mark & 0x80ffffff'
const hasStamp = 'ct mark & 0xf0000000 == @stamped'
const unstamp = 'ct mark set ct mark & 0x0fffffff'
const isCurrent = 'meta mark & 0x0f000000 == @current'
const tuple4 = 'iif . ip saddr . ip daddr . meta l4proto . th dport'
const tuple6 = 'iif . ip6 saddr . ip6 daddr . meta l4proto . th dport'
const unlessBeginning = [
  'ct state != new return',
  'meta l4proto != { tcp, udp, sctp } return',
  'meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return',
  'exthdr rt exists return',
]

t.test('our bits are cleared on the way in and on every way out', async (t) => {
  t.equal(chain('prepare')[0], `meta mark & 0x7f000000 != 0 ${clear}`)
  for (const name of ['allowed', 'unanswered'])
    t.match(chain(name).at(-1), new RegExp(`^${clear} (accept|drop)$`), name)
  for (const denyWith of ['drop', 'reject'] as const)
    t.equal(chainWith(denyWith, 'refuse')[0], clear, 'before anything is answered')
})

t.test('what is denied is dropped, or refused where that can be told from a forgery', async (t) => {
  const cut = [clear, `${hasStamp} ${unstamp}`]
  t.same(chain('after'), [
    'meta mark & 0x70000000 == 0x20000000 goto denied',
    'meta mark & 0x70000000 == 0x10000000 goto allowed',
    'meta mark & 0x70000000 == 0x30000000 goto undecided',
    'meta mark & 0x70000000 == 0x60000000 goto audited',
    'goto unanswered',
  ])
  for (const denyWith of ['drop', 'reject'] as const)
    t.same(chainWith(denyWith, 'undecided'), ['counter name denied', `${clear} drop`], 'who tries again is heard')
  t.same(chain('denied'), ['counter name denied', `${isCurrent} jump learn_denied`, 'goto refuse'])
  t.same(chainWith('drop', 'refuse'), [...cut, 'drop'])
  t.same(chainWith('reject', 'refuse'), [
    ...cut,
    'ct state { invalid, untracked } drop',
    'ip6 saddr fe80::/10 fib saddr type != local reject with icmpv6 type admin-prohibited',
    'meta l4proto tcp reject with tcp reset',
    'reject with icmpx type admin-prohibited',
  ])
  const rejecting = rulesText({ ...defaults, denyWith: 'reject' }).split('\n')
  t.equal(rejecting.filter((line) => line.includes('reject with')).length, 3, 'and nothing else')
  t.notMatch(rulesText(defaults), 'reject')
})

t.test('what is sent from here to pods that run here is stamped at its beginning', async (t) => {
  t.same(
    chainOf(rulesText({ ...defaults, areSubjectsOwn: false }), 'own'),
    [''],
    'not where subjects may run elsewhere',
  )
  const pods = ['10.244.1.0/24', 'fd00:1::/64'].map((text) => parseBlock(text)!)
  t.same(chainOf(rulesText({ ...defaults, areSubjectsOwn: true, pods }), 'own'), [
    'tcp flags & (fin | syn | rst | ack) != syn return',
    'exthdr rt exists return',
    'ip daddr @subjects4 goto exempt',
    'ip6 daddr @subjects6 goto exempt',
    'ip daddr { 10.244.1.0/24 } ip daddr != @known4 goto exempt',
    'ip6 daddr { fd00:1::/64 } ip6 daddr != @known6 goto exempt',
  ])
  t.same(chain('exempt'), ['jump keep', 'accept'])
})

t.test('pods that nobody knows are asked about, by where pods get their addresses', async (t) => {
  const subjects = chain('subjects')
  t.same(chainOf(rulesText({ ...defaults, pods: [] }), 'subjects'), subjects, 'not where that is not known')
  const pods = ['10.244.1.0/24', '10.244.1.128/25', 'fd00:1::/64'].map((text) => parseBlock(text)!)
  t.same(chainOf(rulesText({ ...defaults, pods }), 'subjects').slice(subjects.length), [
    'ip saddr { 10.244.1.0/24 } ip saddr != @known4 goto judge',
    'ip daddr { 10.244.1.0/24 } ip daddr != @known4 goto judge',
    'ip6 saddr { fd00:1::/64 } ip6 saddr != @known6 goto judge',
    'ip6 daddr { fd00:1::/64 } ip6 daddr != @known6 goto judge',
  ])
})

t.test('what is known passes without being asked about, in this order', async (t) => {
  t.equal(chain('judge')[0], 'jump remembered', 'ahead of everything')
  t.same(
    chain('remembered'),
    [
      'meta nfproto != @rechecking goto known',
      'ct id @fresh goto known',
      'ip saddr @recheck4 return',
      'ip daddr @recheck4 return',
      'ip6 saddr @recheck6 return',
      'ip6 daddr @recheck6 return',
      'goto known',
    ],
    'nothing of what is being rechecked, unless it was judged since',
  )
  t.same(chain('known'), [
    `ct status confirmed ct state { new, established } ${hasStamp} accept`,
    `ct state related meta l4proto { icmp, icmpv6 } ${hasStamp} accept`,
    'goto tuples',
  ])
  t.same(
    chain('tuples'),
    [
      ...unlessBeginning,
      'ip saddr @changed4 return',
      'ip daddr @changed4 return',
      'ip6 saddr @changed6 return',
      'ip6 daddr @changed6 return',
      `${tuple4} @allowed4 goto pass`,
      `${tuple6} @allowed6 goto pass`,
      `${tuple4} @denied4 counter name rememberedDenied goto refuse`,
      `${tuple6} @denied6 counter name rememberedDenied goto refuse`,
    ],
    'only what begins a connection is answered by a tuple, and of a changed address nothing',
  )
  t.same(
    chain('pass'),
    [
      'meta nfproto vmap @stamp',
      `${tuple4} @allowed4 counter name rememberedAllowed accept`,
      `${tuple6} @allowed6 counter name rememberedAllowed accept`,
      unstamp,
    ],
    'stamped first, looked up again, and without the stamp where the tuple is gone',
  )
})

t.test('only answers of the generation in force teach, and only of what begins', async (t) => {
  t.same(chain('learn_denied'), [
    ...unlessBeginning,
    `add @denied4 { ${tuple4} timeout 5000ms }`,
    `add @denied6 { ${tuple6} timeout 5000ms }`,
  ])
  t.same(chain('learn_allowed'), [
    'meta nfproto vmap @stamp',
    'meta nfproto @rechecking add @fresh { ct id }',
    ...unlessBeginning,
    `add @allowed4 { ${tuple4} timeout 30000ms }`,
    `add @allowed6 { ${tuple6} timeout 30000ms }`,
  ])
  const text = rulesText(defaults)
  const jumps = text.split('\n').filter((line) => line.includes('learn_') && !/chain (inet knp )?learn_/.test(line))
  t.same(
    jumps.map((line) => line.trim()),
    [`${isCurrent} jump learn_denied`, `${isCurrent} jump learn_allowed`],
  )
  const additions = text.split('\n').filter((line) => /add @/.test(line))
  t.equal(additions.length, 6, 'nothing is learnt elsewhere')
})

t.test('for no time, nothing is learnt of tuples', async (t) => {
  const learning = (times: Partial<Remember>, name: string) =>
    chainOf(rulesText({ ...defaults, remember: { ...remember, ...times } }), name)
  const stamps = ['meta nfproto vmap @stamp', 'meta nfproto @rechecking add @fresh { ct id }']
  t.same(learning({ allowedMs: 0 }, 'learn_allowed'), stamps, 'connections are stamped all the same')
  t.same(learning({ allowedMs: 0 }, 'learn_denied'), chain('learn_denied'))
  t.same(learning({ deniedMs: 0 }, 'learn_denied'), [''])
  t.same(learning({ deniedMs: 0 }, 'learn_allowed'), chain('learn_allowed'))
  t.match(learning({ allowedMs: 1500 }, 'learn_allowed').at(-1), / timeout 1500ms \}$/)
})

t.test('what is audited passes with its connection, and teaches nothing', async (t) => {
  t.same(chain('audited'), ['counter name audited', `${isCurrent} jump keep`, `${clear} accept`])
  t.same(chain('keep'), ['meta nfproto vmap @stamp', 'meta nfproto @rechecking add @fresh { ct id }'])
})

t.test('under audit nothing is dropped that no answer denies', async (t) => {
  const text = rulesText({ ...defaults, mode: 'audit' })
  t.same(chainOf(text, 'unanswered'), chain('unanswered', 'open'))
  t.match(chainOf(text, 'judge')[2], /counter name limited .* accept$/)
  const drops = [...text.matchAll(/^ {2}chain (\w+) \{\n(?: {4}.*\n)*? {4}.*\bdrop\n/gm)].map(([, name]) => name)
  t.same(drops, ['undecided', 'refuse'], 'which only a denial leads to')
})

t.test('what the kernel answers by itself is logged where somebody reads it', async (t) => {
  t.notMatch(rulesText(defaults), / log /)
  const lines = rulesText({ ...defaults, logGroup: 7 })
    .split('\n')
    .filter((line) => line.includes(' log '))
  t.equal(lines.length, 4)
  for (const line of lines)
    t.match(
      line,
      /counter name rememberedAllowed log prefix "allowed" group 7 accept$|counter name rememberedDenied log prefix "denied" group 7 goto refuse$/,
    )
  t.equal(
    rulesText({ ...defaults, logGroup: 7 }).replaceAll(/ log prefix "\w+" group 7/g, ''),
    rulesText(defaults),
    'and nothing else',
  )
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
  t.same(chain('unanswered', 'closed'), ['counter name unanswered', `${clear} drop`])
  t.same(
    chain('unanswered', 'open'),
    ['counter name unanswered', 'meta mark & 0x02000000 != 0 ct state new jump stamp_15', `${clear} accept`],
    'what nobody saw begin is not taken for a connection that was',
  )
  t.equal(chain('after').at(-1), 'goto unanswered', 'is whatever is neither denied nor allowed')
})

t.test('the modes differ in that alone', async (t) => {
  const names = [...rulesText(defaults).matchAll(/^ {2}chain (\w+) \{$/gm)].map(([, name]) => name!)
  t.same(
    names.filter((name) => chain(name, 'open').join() !== chain(name, 'closed').join()),
    ['unanswered'],
  )
})

t.test('nothing is accepted for being a reply, or related, alone', async (t) => {
  const names = ['judge', 'remembered', 'known', 'tuples', 'pass', 'ask', 'learn_allowed']
  const accepting = names.flatMap((name) => chain(name).filter((rule) => rule.endsWith(' accept')))
  t.equal(accepting.length, 4)
  for (const rule of accepting) t.ok(rule.includes(hasStamp) || /^iif \. .* @allowed[46] /.test(rule), rule)
})

t.test('never judged: path-MTU, MLD and neighbour discovery, and nothing else', async (t) => {
  const accepting = chain('prepare').filter((rule) => rule.endsWith('accept'))
  t.same(accepting, [
    'icmpv6 type { packet-too-big, 130-132, 143, 133-137 } accept',
    'icmp type destination-unreachable icmp code frag-needed accept',
  ])
})

t.test('each stamp has its chain; allowed ones give it, and one that is picked up says so itself', async (t) => {
  for (const stamp of [...Array.from({ length: LAST_STAMP }, (_, i) => i + 1), PICKED_UP]) {
    t.same(chain(stampChain(stamp)), [`ct mark set ct mark & 0x0fffffff | 0x${stamp.toString(16)}0000000`])
  }
  t.notOk(chainNames().includes(stampChain(NO_STAMP)))
  t.same(chain('allowed'), [
    'counter name allowed',
    'meta mark & 0x0f000000 == 0x0f000000 jump stamp_15',
    `${isCurrent} jump learn_allowed`,
    `${clear} accept`,
  ])
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
    'ct state new jump own',
  ]
  t.same(chain('before_output'), fromElsewhere)
  t.same(hostChain('before_output', both).slice(0, 5), fromElsewhere)
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
  t.same(
    rules,
    [
      'jump remembered',
      `ct status confirmed ${hasStamp} meta mark set meta mark | 0x10000000 goto ask`,
      ...limits,
      'goto ask',
    ],
    'what is judged anew is no flood',
  )
  t.equal(chain('ask')[0], 'counter name queued')
  t.match(objectsText(remember), /set sources4 \{ type ipv4_addr; flags dynamic; size \d+; timeout \d+s; \}/)
  t.match(objectsText(remember), /set sources6 \{ type ipv6_addr; flags dynamic; size \d+; timeout \d+s; \}/)
})

t.test(
  "protocols have the names that nft's grammar has: any other needs /etc/protocols, which images lack",
  async (t) => {
    const named = [...rulesText(defaults).matchAll(/l4proto (?:!= )?(?:\{ ([^}]*) \}|([a-z]\S*))/g)]
    const names = new Set(named.flatMap(([, list, one]) => (list ?? one ?? '').split(/, */)))
    t.strictSame([...names].map((name) => name.trim()).sort(), ['icmp', 'icmpv6', 'sctp', 'tcp', 'udp'])
  },
)

t.test('the text is the same every time', async (t) => {
  t.equal(objectsText(remember), objectsText(remember))
  t.equal(rulesText(defaults), rulesText(defaults))
})
