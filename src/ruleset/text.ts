import { LAST_STAMP, type MarkLayout, PICKED_UP } from '../datapath/marks.ts'
import { blockContains, isIPv4 } from '../engine/address.ts'
import { type Block, formatBlock } from '../engine/index.ts'
import type { Mode } from '../mode.ts'
import { type Failsafe, failsafeRules, isNoBeginning, type PickedUpRules } from './failsafe.ts'

/** knp's one table, family inet. */
export const TABLE = 'knp'

/** What happens to a packet that gets no verdict: `closed` drops it, `open` lets it pass. */
export type OnFailure = 'open' | 'closed'

/** What becomes of a packet that policies deny: `reject` tells its sender. */
export type DenyWith = 'drop' | 'reject'

/** How long the kernel answers by itself what was decided once, and how much of it. */
export interface Remember {
  /** For so long new connections pass like the one that was allowed; 0 for none. */
  readonly allowedMs: number
  /** For so long new connections are refused like the one that was denied; 0 for none. */
  readonly deniedMs: number
  /** How many tuples each set holds. A full set learns nothing more. */
  readonly size: number
}

/** What the rules depend on; the sets' elements do not stand in the text. */
export interface RulesetOptions {
  readonly marks: MarkLayout
  readonly onFailure: OnFailure
  readonly denyWith: DenyWith
  readonly failsafe: Failsafe
  readonly remember: Remember
  /** Under audit nothing is dropped. */
  readonly mode?: Mode
  /** This machine's own traffic, as far as policies judge it; absent where they do not. */
  readonly host?: HostTraffic
  /** The group of the packet log that is told what the kernel answers by what it remembers; absent where nobody reads it. */
  readonly logGroup?: number
  /** All subjects run on this machine: what it sends to them itself is never judged. */
  readonly areSubjectsOwn?: boolean
  /** In which this machine's pods get their addresses: those of them that nobody knows are asked about. */
  readonly pods?: readonly Block[]
}

/** What of this machine's own traffic is judged, by hook: addresses come and go. */
export interface HostTraffic {
  /** What comes in, and what is forwarded to `forwards`. */
  readonly ingress: boolean
  readonly egress: boolean
  readonly forwards: readonly Block[]
}

/** Names of the sets and maps whose elements are set from outside. */
export const sets = {
  /** Addresses of workloads that policies select: only their traffic is queued. */
  subjects4: 'subjects4',
  subjects6: 'subjects6',
  /** Addresses in the blocks of this machine's pods that somebody has. */
  known4: 'known4',
  known6: 'known6',
  /** The connection mark (masked) that a valid connection carries now. */
  stamped: 'stamped',
  /** Jumps to the chain that gives a connection that stamp; a map, by address family. */
  stamp: 'stamp',
  /** The stamps (in packet marks, masked) of answers that the kernel may learn from now. */
  current: 'current',
  /** Address families (NFPROTO_) with something in the sets below: the common way is one look at this set. */
  rechecking: 'rechecking',
  /** Addresses whose connections do not count: which of them are still allowed is being found out. */
  recheck4: 'recheck4',
  recheck6: 'recheck6',
  /** Addresses whose remembered tuples do not count, until all that were learnt before the change have timed out. */
  changed4: 'changed4',
  changed6: 'changed6',
} as const

/** Names of the sets that packets fill. */
export const learnt = {
  /** What the generation in force has decided about new connections. */
  allowed4: 'allowed4',
  allowed6: 'allowed6',
  denied4: 'denied4',
  denied6: 'denied6',
  /** Connections (their ids) that were judged since the last change, while some are being rechecked. */
  fresh: 'fresh',
} as const

/**
 * What is remembered of a decision: everything that it depends on, besides how it was decided. The interface tells what this
 * machine sends (0) from what it forwards, whatever address that carries.
 */
const tuple = (ip: 'ip' | 'ip6') => `iif . ${ip} saddr . ${ip} daddr . meta l4proto . th dport`

/** Where it goes in the end is not what its header says: never allowed, and only who reads it knows. */
const hasOtherEnd = 'exthdr rt exists return'

/**
 * Only what begins a connection with ports is remembered, and answered by what is. (`th dport` of ICMP would be its id; a TCP
 * packet in the midst may go either way.)
 */
const unlessBeginning = [
  'ct state != new return',
  'meta l4proto != { tcp, udp, sctp } return',
  'meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return',
  hasOtherEnd,
]

/**
 * Hooks at which packets are decided. Priorities: behind Service DNAT (prerouting, -100 and earlier at this point; output,
 * -100); masquerade happens in postrouting, after all of them. IPVS takes packets to its services out of input (98, 99) and
 * sends them to a pod through output: they are decided there, so input is looked at behind it. But replies to what this
 * machine sent to a service get the service's address back there (IPVS at 98, DNAT at 100): they are looked at ahead of it.
 */
const hooks = [
  { name: 'forward', hook: 'forward', priority: -160, afterType: 'filter' },
  { name: 'reply', hook: 'input', priority: 60, afterType: 'filter' },
  { name: 'input', hook: 'input', priority: 110, afterType: 'filter' },
  // Behind OUTPUT DNAT (-100). An answer's mark makes the kernel route again; `route`, at the end, does so with our bits
  // cleared, so that the packet leaves as it would without us.
  { name: 'output', hook: 'output', priority: -10, afterType: 'route' },
] as const

/** The chains that hold one divert rule each, put there over netlink: nft text cannot say it on every kernel. */
export const divertChains = hooks.map(({ name }) => `divert_${name}`)

/**
 * What one source may put into the queue: a flood of it must leave room for the others' packets. Well below what the packet
 * thread answers (docs/architecture.md), and half of the queue's length at once. The rest is dropped, under `open` too:
 * otherwise flooding would be a way past the policies.
 */
const SOURCE_LIMIT = 'limit rate over 10000/second burst 4096 packets'

/** Every chain of the table. */
export function chainNames(): readonly string[] {
  return [...ordinaryChains, ...hooks.flatMap(({ name }) => [`before_${name}`, `divert_${name}`, `after_${name}`])]
}

/** Named counters, in the order of a packet's way. */
export const counters = [
  'rememberedAllowed',
  'rememberedDenied',
  'limited',
  'queued',
  'allowed',
  'denied',
  'audited',
  'unanswered',
] as const

/**
 * The table with its chains and sets, without rules and elements. Loading it again changes nothing: base chains are made
 * once and stay, because the kernel drops every packet that waits in any queue when one goes (netfilter's nf_queue).
 */
export function objectsText({ size }: Remember): string {
  const tuples = (address: string) =>
    `type iface_index . ${address} . ${address} . inet_proto . inet_service; flags dynamic, timeout; size ${size};`
  const lines = [
    `table inet ${TABLE} {`,
    ...counters.map((name) => `  counter ${name} { }`),
    `  set ${sets.subjects4} { type ipv4_addr; }`,
    `  set ${sets.subjects6} { type ipv6_addr; }`,
    `  set ${sets.known4} { type ipv4_addr; }`,
    `  set ${sets.known6} { type ipv6_addr; }`,
    `  set ${sets.stamped} { type mark; }`,
    `  set ${sets.current} { type mark; }`,
    `  set ${sets.rechecking} { type nf_proto; }`,
    `  set ${sets.recheck4} { type ipv4_addr; }`,
    `  set ${sets.recheck6} { type ipv6_addr; }`,
    `  set ${sets.changed4} { type ipv4_addr; flags timeout; }`,
    `  set ${sets.changed6} { type ipv6_addr; flags timeout; }`,
    `  set ${learnt.allowed4} { ${tuples('ipv4_addr')} }`,
    `  set ${learnt.allowed6} { ${tuples('ipv6_addr')} }`,
    `  set ${learnt.denied4} { ${tuples('ipv4_addr')} }`,
    `  set ${learnt.denied6} { ${tuples('ipv6_addr')} }`,
    // Emptied at each change, so not larger than is quickly done.
    `  set ${learnt.fresh} { typeof ct id; flags dynamic; size 16384; timeout 60s; }`,
    // Forgotten when quiet; when the set is full, sources that are not in it are not limited.
    '  set sources4 { type ipv4_addr; flags dynamic; size 65536; timeout 10s; }',
    '  set sources6 { type ipv6_addr; flags dynamic; size 65536; timeout 10s; }',
    ...ordinaryChains.map((name) => `  chain ${name} { }`),
    `  map ${sets.stamp} { type nf_proto : verdict; }`,
  ]
  for (const { name, hook, priority, afterType } of hooks) {
    lines.push(
      `  chain before_${name} { type filter hook ${hook} priority ${priority}; policy accept; }`,
      `  chain divert_${name} { type filter hook ${hook} priority ${priority + 10}; policy accept; }`,
      `  chain after_${name} { type ${afterType} hook ${hook} priority ${priority + 20}; policy accept; }`,
    )
  }
  return `${[...lines, '}'].join('\n')}\n`
}

/** Replaces all rules but the divert rules, in one transaction. Needs the objects. */
export function rulesText(options: RulesetOptions): string {
  const chains = [...chainRules(options)]
  const flushes = chains.map(([chain]) => `flush chain inet ${TABLE} ${chain}`)
  const bodies = chains.map(
    ([chain, rules]) => `  chain ${chain} {\n${rules.map((rule) => `    ${rule}\n`).join('')}  }`,
  )
  return `${[...flushes, `table inet ${TABLE} {`, ...bodies, '}'].join('\n')}\n`
}

/** The chain that gives a connection a stamp. */
export function stampChain(stamp: number): string {
  return `stamp_${stamp}`
}

const stamps = [...Array.from({ length: LAST_STAMP }, (_, i) => i + 1), PICKED_UP]

const ordinaryChains = [
  ...stamps.map(stampChain),
  'judge',
  'remembered',
  'known',
  'tuples',
  'pass',
  'refuse',
  'ask',
  'learn_allowed',
  'learn_denied',
  'audited',
  'keep',
  'own',
  'exempt',
  'prepare',
  'subjects',
  'unanswered',
  'allowed',
  'denied',
  'undecided',
  'after',
  'kernel_answers',
  'incoming',
]

function* chainRules({
  marks,
  mode = 'enforce',
  onFailure,
  denyWith,
  failsafe,
  remember,
  host,
  logGroup,
  areSubjectsOwn = false,
  pods = [],
}: RulesetOptions): Generator<readonly [chain: string, rules: readonly string[]]> {
  const {
    packetMask,
    queued,
    reply,
    either,
    related,
    forwarded,
    stamped,
    allowed,
    denied,
    dropped,
    audited,
    stampMask,
    stampShift,
    connectionMask,
    connectionShift,
  } = marks
  const mask = (value: number) => `0x${(value >>> 0).toString(16).padStart(8, '0')}`
  const connectionStamp = (stamp: number) => mask(stamp << connectionShift)
  const clear = `meta mark set meta mark & ${mask(~packetMask)}`
  const ask = (bits: number) => `meta mark set meta mark | ${mask(bits)}`
  const hasStamp = `ct mark & ${mask(connectionMask)} == @${sets.stamped}`
  const giveStamp = `meta nfproto vmap @${sets.stamp}`
  const pickedUp = {
    match: `ct mark & ${mask(connectionMask)} == ${connectionStamp(PICKED_UP)}`,
    stampChain: stampChain(PICKED_UP),
  }

  // The stamp is a constant in each rule: nft cannot put one mark's bits into another's before kernel 6.13.
  for (const stamp of stamps) {
    const rule = `ct mark set ct mark & ${mask(~connectionMask)} | ${connectionStamp(stamp)}`
    yield [stampChain(stamp), [rule]]
  }

  yield [
    'prepare',
    [
      // A process may set marks itself, and others' rules may restore them: what is ours is set here only.
      `meta mark & ${mask(packetMask)} != 0 ${clear}`,
      // Never judged: path-MTU, MLD, neighbour discovery.
      'icmpv6 type { packet-too-big, 130-132, 143, 133-137 } accept',
      'icmp type destination-unreachable icmp code frag-needed accept',
    ],
  ]
  yield [
    'subjects',
    [
      `ip saddr @${sets.subjects4} goto judge`,
      `ip daddr @${sets.subjects4} goto judge`,
      `ip6 saddr @${sets.subjects6} goto judge`,
      `ip6 daddr @${sets.subjects6} goto judge`,
      ...unknownPodRules(pods, ['saddr', 'daddr'], 'judge'),
    ],
  ]
  const beyond = mode === 'audit' ? 'accept' : 'drop'
  yield [
    'judge',
    [
      'jump remembered',
      // A connection that is judged anew is no flood of new ones.
      `ct status confirmed ${hasStamp} ${ask(stamped)} goto ask`,
      `update @sources4 { ip saddr ${SOURCE_LIMIT} } counter name limited ${clear} ${beyond}`,
      `update @sources6 { ip6 saddr ${SOURCE_LIMIT} } counter name limited ${clear} ${beyond}`,
      'goto ask',
    ],
  ]
  yield [
    'remembered',
    [
      `meta nfproto != @${sets.rechecking} goto known`,
      `ct id @${learnt.fresh} goto known`,
      `ip saddr @${sets.recheck4} return`,
      `ip daddr @${sets.recheck4} return`,
      `ip6 saddr @${sets.recheck6} return`,
      `ip6 daddr @${sets.recheck6} return`,
      'goto known',
    ],
  ]
  yield [
    'known',
    [
      // Confirmed: a stamp on a connection that no packet has passed yet was put there by somebody else.
      `ct status confirmed ct state { new, established } ${hasStamp} accept`,
      `ct state related meta l4proto { icmp, icmpv6 } ${hasStamp} accept`,
      'goto tuples',
    ],
  ]
  // The log's reader tells them apart by the first letter.
  const log = (verdict: 'allowed' | 'denied') =>
    logGroup === undefined ? '' : ` log prefix "${verdict}" group ${logGroup}`
  const inFamilies = (sets4: string, sets6: string, rule: (tuple: string, set: string) => string) => [
    rule(tuple('ip'), sets4),
    rule(tuple('ip6'), sets6),
  ]
  yield [
    'tuples',
    [
      ...unlessBeginning,
      `ip saddr @${sets.changed4} return`,
      `ip daddr @${sets.changed4} return`,
      `ip6 saddr @${sets.changed6} return`,
      `ip6 daddr @${sets.changed6} return`,
      ...inFamilies(learnt.allowed4, learnt.allowed6, (tuple, set) => `${tuple} @${set} goto pass`),
      ...inFamilies(
        learnt.denied4,
        learnt.denied6,
        (tuple, set) => `${tuple} @${set} counter name rememberedDenied${log('denied')} goto refuse`,
      ),
    ],
  ]
  const unstamp = `ct mark set ct mark & ${mask(~connectionMask)}`
  yield [
    'pass',
    [
      giveStamp,
      // Looked up once more: a change may have come before the stamp was read and after the tuple was found.
      ...inFamilies(
        learnt.allowed4,
        learnt.allowed6,
        (tuple, set) => `${tuple} @${set} counter name rememberedAllowed${log('allowed')} accept`,
      ),
      unstamp,
    ],
  ]
  yield [
    'ask',
    [
      'counter name queued',
      ask(queued),
      `ct direction reply ${ask(reply)}`,
      `ct state related meta l4proto { icmp, icmpv6 } ${ask(related)} return`,
      // Nobody knows which end began these. Invalid packets of other protocols are malformed: judged as they stand, so
      // that a wrong checksum does not make an answer of them.
      `ct state untracked ${ask(either)} return`,
      `ct state { invalid, new } ${isNoBeginning} ${ask(either)} return`,
      `${pickedUp.match} ${isNoBeginning} ${ask(either)}`,
    ],
  ]
  const isAnswer = `meta mark & ${mask(queued | allowed | denied)} ==`
  yield [
    'after',
    [
      `${isAnswer} ${mask(denied)} goto denied`,
      `${isAnswer} ${mask(allowed)} goto allowed`,
      `${isAnswer} ${mask(dropped)} goto undecided`,
      `${isAnswer} ${mask(audited)} goto audited`,
      'goto unanswered',
    ],
  ]
  // Whoever tries again is heard: no reset tells him to give up, and nothing is remembered.
  yield ['undecided', ['counter name denied', `${clear} drop`]]
  const isCurrent = `meta mark & ${mask(stampMask)} == @${sets.current}`
  const remembering = (sets4: string, sets6: string, timeoutMs: number) =>
    timeoutMs === 0
      ? []
      : [
          ...unlessBeginning,
          ...inFamilies(sets4, sets6, (tuple, set) => `add @${set} { ${tuple} timeout ${timeoutMs}ms }`),
        ]
  yield ['denied', ['counter name denied', `${isCurrent} jump learn_denied`, 'goto refuse']]
  yield ['learn_denied', remembering(learnt.denied4, learnt.denied6, remember.deniedMs)]
  yield [
    'refuse',
    [
      clear,
      // Cut: what comes after it is nobody's established connection.
      `${hasStamp} ${unstamp}`,
      ...(denyWith === 'drop'
        ? ['drop']
        : [
            // Malformed, or of no connection: an answer could not be told from a forged one on its way out.
            'ct state { invalid, untracked } drop',
            // The kernel looks for a reset's way without the interface, and so for any link-local one.
            'ip6 saddr fe80::/10 fib saddr type != local reject with icmpv6 type admin-prohibited',
            'meta l4proto tcp reject with tcp reset',
            'reject with icmpx type admin-prohibited',
          ]),
    ],
  ]
  yield ['kernel_answers', denyWith === 'drop' ? [] : kernelAnswers]
  yield [
    'allowed',
    [
      'counter name allowed',
      `meta mark & ${mask(stampMask)} == ${mask(PICKED_UP << stampShift)} jump ${stampChain(PICKED_UP)}`,
      // Learns only what the generation in force decided: an answer that took long is not held for a new one's.
      `${isCurrent} jump learn_allowed`,
      `${clear} accept`,
    ],
  ]
  const keep = [giveStamp, `meta nfproto @${sets.rechecking} add @${learnt.fresh} { ct id }`]
  yield [
    'audited',
    // What would have been denied passes, and its connection with it. Nothing is learnt for others: each is asked about.
    ['counter name audited', `${isCurrent} jump keep`, `${clear} accept`],
  ]
  yield ['keep', keep]
  // Nobody is asked about what this machine begins with its own pods: kubelet's probes pass while nobody answers, too. What has
  // no beginning may be the pod's reply to what is no connection of this machine's any more.
  yield [
    'own',
    areSubjectsOwn
      ? [
          `${isNoBeginning} return`,
          hasOtherEnd,
          `ip daddr @${sets.subjects4} goto exempt`,
          `ip6 daddr @${sets.subjects6} goto exempt`,
          ...unknownPodRules(pods, ['daddr'], 'exempt'),
        ]
      : [],
  ]
  yield ['exempt', ['jump keep', 'accept']]
  yield ['learn_allowed', [...keep, ...remembering(learnt.allowed4, learnt.allowed6, remember.allowedMs)]]
  yield [
    'unanswered',
    [
      'counter name unanswered',
      ...(onFailure === 'closed' && mode === 'enforce'
        ? [`${clear} drop`]
        : [
            // Nobody knows which end began it; asked about later, it must not pass for a connection that we saw begin.
            `meta mark & ${mask(either)} != 0 ct state new jump ${stampChain(PICKED_UP)}`,
            `${clear} accept`,
          ]),
    ],
  ]
  const isHostJudged = host?.ingress || host?.egress
  const isQueued = `meta mark & ${mask(queued)} != 0`
  yield [
    'before_forward',
    ['jump prepare', 'jump subjects', `${isQueued} accept`, ...forwardRules(host?.forwards ?? [])],
  ]
  yield ['incoming', isHostJudged ? hostRules('input', failsafe, pickedUp) : ['jump subjects']]
  yield ['before_reply', ['jump prepare', 'ct direction reply goto incoming']]
  yield ['before_input', ['jump prepare', 'ct direction reply accept', 'goto incoming']]
  yield [
    'before_output',
    [
      'jump prepare',
      ...(denyWith === 'drop' ? [] : ['ct state related jump kernel_answers']),
      // What comes from elsewhere is IPVS's to a pod. What this machine sends itself is judged as the host's only.
      'fib saddr type != local jump subjects',
      `${isQueued} ${ask(forwarded)} accept`,
      'fib saddr type != local accept',
      'ct state new jump own',
      ...(isHostJudged ? hostRules('output', failsafe, pickedUp) : []),
    ],
  ]
  for (const { name } of hooks) yield [`after_${name}`, [`meta mark & ${mask(packetMask)} != 0 goto after`]]
}

/** (uid_t) -1: nobody's. To be compared with it, a packet must have been sent by a process. */
const NO_USER = 0xffffffff

/**
 * What `reject` sends passes output like everything else that is sent from here, a reset with the address of who was to be
 * reached: judged, it would be denied as the packet was that it answers. The kernel puts it into the connection of that
 * packet, as RELATED. What a process has sent is never taken for one: a reset of its own, or ICMP of a raw socket.
 */
const kernelAnswers: readonly string[] = [
  `meta skuid != ${NO_USER} return`,
  'tcp flags & (fin | syn | rst | psh) == rst accept',
  'fib saddr type != local return',
  'icmp type destination-unreachable icmp code admin-prohibited accept',
  'icmpv6 type destination-unreachable icmpv6 code admin-prohibited accept',
]

/**
 * What this machine sends itself. At output the interface is the one that the packet had before DNAT: what was sent to a port
 * of its own address (a NodePort) may go to a pod, and what was sent to a service may stay here.
 */
const sentToItself: readonly string[] = [
  'oif lo ct status & dnat == 0 accept',
  // These have no status, and no translation.
  'oif lo ct state { invalid, untracked } accept',
  'ct status & dnat != 0 fib daddr type local accept',
]

/** Everything that is this machine's own, but what it sends itself, and the failsafe. */
function hostRules(hook: 'input' | 'output', failsafe: Failsafe, pickedUp: PickedUpRules): string[] {
  return [
    ...(hook === 'input' ? ['iif lo accept'] : sentToItself),
    ...failsafeRules(hook, failsafe, pickedUp),
    'goto judge',
  ]
}

/** What comes from or goes to a pod of this machine that nobody knows. */
function unknownPodRules(pods: readonly Block[], ends: readonly string[], chain: string): string[] {
  return [true, false].flatMap((v4) => {
    const blocks = pods.filter(({ address }) => isIPv4(address) === v4)
    if (blocks.length === 0) return []
    const ip = v4 ? 'ip' : 'ip6'
    const set = `{ ${withoutInner(blocks).map(formatBlock).join(', ')} }`
    const known = v4 ? sets.known4 : sets.known6
    return ends.map((end) => `${ip} ${end} ${set} ${ip} ${end} != @${known} goto ${chain}`)
  })
}

/** What is forwarded to addresses behind this machine, and the replies to it; not what they begin themselves. */
function forwardRules(forwards: readonly Block[]): string[] {
  return [true, false].flatMap((v4) => {
    const blocks = forwards.filter(({ address }) => isIPv4(address) === v4)
    if (blocks.length === 0) return []
    const ip = v4 ? 'ip' : 'ip6'
    const set = `{ ${withoutInner(blocks).map(formatBlock).join(', ')} }`
    return [
      `${ip} daddr ${set} ct direction original goto judge`,
      `${ip} saddr ${set} ct direction reply goto judge`,
      `ct state { invalid, untracked } ${ip} daddr ${set} goto judge`,
      `ct state { invalid, untracked } ${ip} saddr ${set} goto judge`,
    ]
  })
}

/** nft refuses intervals that overlap. */
function withoutInner(blocks: readonly Block[]): Block[] {
  return blocks.filter((block, i) => {
    return !blocks.some((other, j) => {
      const isWider = other.prefix < block.prefix || (other.prefix === block.prefix && j < i)
      return isWider && blockContains(other, block.address)
    })
  })
}
