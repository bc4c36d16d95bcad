import { type Address, isIPv4 } from './address.ts'
import type { Flow } from './flow.ts'
import type { IdentityTables } from './identity.ts'
import type { RuleMatcher } from './rule-matcher.ts'
import {
  ANY,
  BLOCK_HEADER,
  BLOCK_RULES,
  NO_NAME,
  PEER_BLOCK,
  PEER_HEADER,
  PEER_LENGTH,
  PEER_NODES,
  PEER_OUTSIDE_BLOCK,
  PEER_TYPE,
  PORT_WORDS,
  RULE_HEADER,
  RULE_LENGTH,
  RULE_PORTS,
} from './rule-words.ts'
import type { Words } from './twin-words.ts'

/**
 * Finds the first rule that matches among many without looking at all of them. Every peer of every rule is filed under
 * one thing that whoever it matches must have: a term, an address prefix, or nothing; together with the port where the
 * rule names a single one. A flow asks for each thing that it has. What is found is checked in full, so equal hashes of
 * different things do no harm.
 *
 *     index:      how many slots (a power of two), how many prefixes, whether nodes are filed, the prefixes, the slots
 *     slot:       hash (0: free), where its candidates start, counted from the index
 *     candidates: how many, (rule's place in the order, rule, peer or ANY) each, in that order
 */
const INDEX_SLOTS = 0
const INDEX_PREFIXES = 1
const INDEX_NODES = 2
const INDEX_HEADER = 3
const CANDIDATE_WORDS = 3

/** What a peer is filed under, apart from terms (1 and more). */
const EVERYBODY = -1
const EVERY_WORKLOAD = -2
const EVERY_NODE = -3
const NO_PORT = -1
/** A rule is filed under each of its single ports where these, times its peers, are no more. */
const MOST_ENTRIES = 16

/** How many peers and ports a block's rules have: what it costs to look at all of them. */
export function sizeOfBlock(block: ArrayLike<number>): number {
  let size = 0
  let rule = BLOCK_HEADER
  for (let left = block[BLOCK_RULES]!; left > 0; left--) {
    const ports = Math.max(0, block[rule + RULE_PORTS]!)
    const peers = block[peersOf(block, rule)]!
    size += 1 + ports + Math.max(0, peers)
    rule += block[rule + RULE_LENGTH]!
  }
  return size
}

/** @param blocks where blocks of rules start in `words`, the first to be asked first */
export function buildRuleIndex(words: { get(at: number): number }, blocks: readonly number[]): number[] {
  const entries = new Map<number, number[]>()
  const prefixes = new Set<number>()
  let hasNodes = false
  let order = 0
  const file = (thing: number, ports: readonly number[], rule: number, peer: number) => {
    for (const port of ports) {
      const hash = hashOf(thing, port)
      const candidates = entries.get(hash)
      if (candidates) candidates.push(order, rule, peer)
      else entries.set(hash, [order, rule, peer])
    }
  }
  for (const block of blocks) {
    let rule = block + BLOCK_HEADER
    for (let left = words.get(block + BLOCK_RULES); left > 0; left--, order++) {
      const portCount = words.get(rule + RULE_PORTS)
      const start = rule + RULE_HEADER + Math.max(0, portCount) * PORT_WORDS
      const peerCount = words.get(start)
      const ports = portsToFile(words, rule, Math.max(1, peerCount))
      if (peerCount === ANY) file(EVERYBODY, ports, rule, ANY)
      let peer = start + 1
      for (let i = 0; i < peerCount; i++) {
        const type = words.get(peer + PEER_TYPE)
        if (type === PEER_BLOCK || type === PEER_OUTSIDE_BLOCK) {
          prefixes.add(words.get(peer + PEER_HEADER))
          file(blockThing(words, peer + PEER_HEADER), ports, rule, peer)
        } else {
          if (type === PEER_NODES) hasNodes = true
          const terms = rarestTerms(words, peer + PEER_HEADER)
          for (const term of terms ?? [type === PEER_NODES ? EVERY_NODE : EVERY_WORKLOAD]) file(term, ports, rule, peer)
        }
        peer += words.get(peer + PEER_LENGTH)
      }
      rule += words.get(rule + RULE_LENGTH)
    }
  }
  return layOut(entries, [...prefixes], hasNodes)
}

function layOut(
  entries: ReadonlyMap<number, readonly number[]>,
  prefixes: readonly number[],
  hasNodes: boolean,
): number[] {
  let slots = 8
  while (slots < entries.size * 2) slots *= 2
  const table = new Array<number>(slots * 2).fill(0)
  const index = [slots, prefixes.length, hasNodes ? 1 : 0, ...prefixes]
  const candidatesStart = index.length + table.length
  const candidates: number[] = []
  for (const [hash, found] of entries) {
    let slot = hash & (slots - 1)
    while (table[slot * 2 + 1] !== 0) slot = (slot + 1) & (slots - 1)
    table[slot * 2] = hash
    table[slot * 2 + 1] = candidatesStart + candidates.length
    candidates.push(found.length / CANDIDATE_WORDS)
    for (const word of found) candidates.push(word)
  }
  return [...index, ...table, ...candidates]
}

/** The single ports under which a rule is filed; NO_PORT alone where it has others too. */
function portsToFile(words: { get(at: number): number }, rule: number, peers: number): number[] {
  const count = words.get(rule + RULE_PORTS)
  if (count === ANY || count * peers > MOST_ENTRIES) return [NO_PORT]
  const ports = new Set<number>()
  for (let i = 0; i < count; i++) {
    const at = rule + RULE_HEADER + i * PORT_WORDS
    const [protocol, first, last] = [words.get(at), words.get(at + 1), words.get(at + 2)]
    if (words.get(at + 3) !== NO_NAME || first !== last) return [NO_PORT]
    ports.add(portKey(protocol, first))
  }
  return [...ports]
}

/** The terms of a clause of which one must hold; the clause with the fewest of them. */
function rarestTerms(words: { get(at: number): number }, clauses: number): number[] | undefined {
  let fewest: number[] | undefined
  let at = clauses + 1
  for (let left = words.get(clauses); left > 0; left--) {
    const count = words.get(at + 1)
    // A later clause is about the workload itself, which says more than one about its namespace.
    if (words.get(at) === 1 && (fewest === undefined || count <= fewest.length)) {
      fewest = Array.from({ length: count }, (_, i) => words.get(at + 2 + i))
    }
    at += 2 + count
  }
  return fewest
}

function blockThing(words: { get(at: number): number }, at: number): number {
  return addressThing(words.get(at), words.get(at + 1), words.get(at + 2), words.get(at + 3), words.get(at + 4))
}

/** A number for an address whose bits behind the prefix are 0. */
function addressThing(prefix: number, w0: number, w1: number, w2: number, w3: number): number {
  return mix(mix(mix(mix(mix(prefix + 0x5bd1, w0), w1), w2), w3), 0)
}

function portKey(protocol: number, port: number): number {
  return (protocol << 16) | port
}

function hashOf(thing: number, port: number): number {
  return mix(mix(0x27d4eb2f, thing), port)
}

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1)
  return mixed ^ (mixed >>> 15)
}

function maskWord(bits: number): number {
  if (bits <= 0) return 0
  return bits >= 32 ? -1 : -1 << (32 - bits)
}

function peersOf(block: ArrayLike<number>, rule: number): number {
  return rule + RULE_HEADER + Math.max(0, block[rule + RULE_PORTS]!) * PORT_WORDS
}

/** Looks flows up in such indices; nothing is allocated. */
export class RuleFinder {
  readonly #words: Words
  readonly #lists: Words
  readonly #matcher: RuleMatcher
  #index = 0
  #port = NO_PORT
  /** The best so far: its place in the order, and where it starts (0: none). */
  #order = 0
  #rule = 0

  constructor(words: Words, { lists }: IdentityTables, matcher: RuleMatcher) {
    this.#words = words
    this.#lists = lists
    this.#matcher = matcher
  }

  /** Where the first rule starts that matches the flow which the matcher has taken; 0 where none does. */
  find(index: number, { packet }: Flow): number {
    const words = this.#words
    this.#index = index
    this.#port = portKey(packet.protocol, packet.destination.port)
    this.#order = 0x7fffffff
    this.#rule = 0
    this.#ask(EVERYBODY)
    const { facts } = this.#matcher
    if (facts !== 0) {
      this.#ask(EVERY_WORKLOAD)
      this.#askTerms(facts)
    }
    if (words[index + INDEX_NODES] === 1) {
      this.#askNode(this.#matcher.hostNodeFacts())
      this.#askNode(this.#matcher.addressNodeFacts())
    }
    const prefixes = index + INDEX_HEADER
    const end = prefixes + words[index + INDEX_PREFIXES]!
    for (let at = prefixes; at < end; at++) this.#askPrefix(words[at]!, this.#matcher.address)
    return this.#rule
  }

  #askNode(facts: number): void {
    if (facts === 0) return
    this.#ask(EVERY_NODE)
    this.#askTerms(facts)
  }

  #askTerms(facts: number): void {
    const lists = this.#lists
    const end = facts + lists[facts]!
    for (let at = facts + 1; at <= end; at++) this.#ask(lists[at]!)
  }

  #askPrefix(prefix: number, address: Address): void {
    if (prefix < 96 && isIPv4(address)) return
    const { w0, w1, w2, w3 } = address
    this.#ask(
      addressThing(
        prefix,
        w0 & maskWord(prefix),
        w1 & maskWord(prefix - 32),
        w2 & maskWord(prefix - 64),
        w3 & maskWord(prefix - 96),
      ),
    )
  }

  #ask(thing: number): void {
    this.#askFor(hashOf(thing, this.#port))
    this.#askFor(hashOf(thing, NO_PORT))
  }

  #askFor(hash: number): void {
    const words = this.#words
    const mask = words[this.#index + INDEX_SLOTS]! - 1
    const slots = this.#index + INDEX_HEADER + words[this.#index + INDEX_PREFIXES]!
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const start = words[slots + slot * 2 + 1]!
      if (start === 0) return
      if (words[slots + slot * 2] !== hash) continue
      this.#check(this.#index + start)
      return
    }
  }

  #check(candidates: number): void {
    const words = this.#words
    const end = candidates + 1 + words[candidates]! * CANDIDATE_WORDS
    for (let at = candidates + 1; at < end; at += CANDIDATE_WORDS) {
      const order = words[at]!
      if (order >= this.#order) return
      const rule = words[at + 1]!
      const peer = words[at + 2]!
      if ((peer === ANY || this.#matcher.matchesPeer(peer)) && this.#matcher.matchesPorts(rule)) {
        this.#order = order
        this.#rule = rule
        return
      }
    }
  }
}
