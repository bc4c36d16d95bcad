import { LAST_STAMP, type MarkLayout, PICKED_UP } from '../datapath/marks.ts'

/** knp's one table, family inet. */
export const TABLE = 'knp'

/** What happens to a packet that gets no verdict: `closed` drops it, `open` lets it pass. */
export type OnFailure = 'open' | 'closed'

/** What the rules depend on; the sets' elements do not stand in the text. */
export interface RulesetOptions {
  readonly marks: MarkLayout
  readonly onFailure: OnFailure
}

/** Names of the sets. */
export const sets = {
  /** Addresses of workloads that policies select: only their traffic is queued. */
  subjects4: 'subjects4',
  subjects6: 'subjects6',
  /** The connection mark (masked) that a valid connection carries now. */
  stamped: 'stamped',
  /** The stamps (in packet marks, masked) that an answer may give a connection now. */
  current: 'current',
} as const

/**
 * Hooks at which packets are decided. Priorities: behind Service DNAT (prerouting, -100 and earlier at this point; output,
 * -100); masquerade happens in postrouting, after all of them. IPVS takes packets to its services out of input (98, 99) and
 * sends them to a pod through output: they are decided there, so input is looked at behind it.
 */
const hooks = [
  { name: 'forward', priority: -160, afterType: 'filter' },
  { name: 'input', priority: 110, afterType: 'filter' },
  // A mark that changes here has the packet routed again: so it must be when the mark is what it was.
  { name: 'output', priority: -10, afterType: 'route' },
] as const

/** The chains that hold one divert rule each, put there over netlink: nft text cannot say it on every kernel. */
export const divertChains = hooks.map(({ name }) => `divert_${name}`)

/** Named counters, in the order of a packet's way. */
export const counters = ['queued', 'allowed', 'denied', 'unanswered'] as const

/**
 * The table with its chains and sets, without rules and elements. Loading it again changes nothing: base chains are made
 * once and stay, because the kernel drops every packet that waits in any queue when one goes (netfilter's nf_queue).
 */
export function objectsText(): string {
  const lines = [
    `table inet ${TABLE} {`,
    ...counters.map((name) => `  counter ${name} { }`),
    `  set ${sets.subjects4} { type ipv4_addr; }`,
    `  set ${sets.subjects6} { type ipv6_addr; }`,
    `  set ${sets.stamped} { type mark; }`,
    `  set ${sets.current} { type mark; }`,
    ...ordinaryChains.map((name) => `  chain ${name} { }`),
  ]
  for (const { name, priority, afterType } of hooks) {
    lines.push(
      `  chain before_${name} { type filter hook ${name} priority ${priority}; policy accept; }`,
      `  chain divert_${name} { type filter hook ${name} priority ${priority + 10}; policy accept; }`,
      `  chain after_${name} { type ${afterType} hook ${name} priority ${priority + 20}; policy accept; }`,
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

const stampChains = [...Array.from({ length: LAST_STAMP }, (_, i) => i + 1), PICKED_UP].map(
  (stamp) => [stamp, `stamp_${stamp}`] as const,
)

const ordinaryChains = [...stampChains.map(([, name]) => name), 'judge', 'before', 'unanswered', 'allowed', 'after']

function* chainRules({
  marks,
  onFailure,
}: RulesetOptions): Generator<readonly [chain: string, rules: readonly string[]]> {
  const {
    packetMask,
    queued,
    reply,
    either,
    related,
    forwarded,
    allowed,
    denied,
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
  const isNoBeginning = 'tcp flags & (fin | syn | rst | ack) != syn'

  // The stamp is a constant in each rule: nft cannot put one mark's bits into another's before kernel 6.13.
  for (const [stamp, name] of stampChains)
    yield [name, [`ct mark set ct mark & ${mask(~connectionMask)} | ${connectionStamp(stamp)}`]]

  yield [
    'before',
    [
      // A process may set marks itself, and others' rules may restore them: what is ours is set here only.
      `meta mark & ${mask(packetMask)} != 0 ${clear}`,
      // Never judged: path-MTU, MLD, neighbour discovery.
      'icmpv6 type { packet-too-big, 130-132, 143, 133-137 } accept',
      'icmp type destination-unreachable icmp code frag-needed accept',
      `ip saddr @${sets.subjects4} goto judge`,
      `ip daddr @${sets.subjects4} goto judge`,
      `ip6 saddr @${sets.subjects6} goto judge`,
      `ip6 daddr @${sets.subjects6} goto judge`,
    ],
  ]
  yield [
    'judge',
    [
      // Confirmed: a stamp on a connection that no packet has passed yet was put there by somebody else.
      `ct status confirmed ct state { new, established } ${hasStamp} accept`,
      `ct state related meta l4proto { icmp, ipv6-icmp } ${hasStamp} accept`,
      'counter name queued',
      ask(queued),
      `ct direction reply ${ask(reply)}`,
      `ct state related meta l4proto { icmp, ipv6-icmp } ${ask(related)} return`,
      // Nobody knows which end began these.
      `ct state { invalid, untracked } ${ask(either)} return`,
      `ct state new ${isNoBeginning} ${ask(either)} return`,
      `ct mark & ${mask(connectionMask)} == ${connectionStamp(PICKED_UP)} ${isNoBeginning} ${ask(either)}`,
    ],
  ]
  const isAnswer = `meta mark & ${mask(queued | allowed | denied)} ==`
  yield [
    'after',
    [
      `${isAnswer} ${mask(denied)} counter name denied ${clear} drop`,
      `${isAnswer} ${mask(allowed)} goto allowed`,
      'goto unanswered',
    ],
  ]
  yield [
    'allowed',
    [
      'counter name allowed',
      // Learns only what the generation in force decided: an answer that took long is not held for a new one's.
      `meta mark & ${mask(stampMask)} == @${sets.current} meta mark & ${mask(stampMask)} vmap { ${stampChains
        .map(([stamp, name]) => `${mask(stamp << stampShift)} : jump ${name}`)
        .join(', ')} }`,
      `${clear} accept`,
    ],
  ]
  yield ['unanswered', ['counter name unanswered', onFailure === 'closed' ? `${clear} drop` : `${clear} accept`]]
  yield ['before_forward', ['jump before']]
  yield ['before_input', ['jump before']]
  yield [
    'before_output',
    [
      `meta mark & ${mask(packetMask)} != 0 ${clear}`,
      // What this machine sends itself is not judged here.
      'fib saddr type local accept',
      'jump before',
      `meta mark & ${mask(queued)} != 0 ${ask(forwarded)}`,
    ],
  ]
  for (const { name } of hooks) {
    yield [`after_${name}`, [`meta mark & ${mask(packetMask)} != 0 goto after`]]
  }
}
