import { type Address, isIPv4 } from './address.ts'
import { endOfTerms, firstTerm } from './facts.ts'
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
 * rule names single ones. A flow asks for each thing that it has. What is found is checked in full, so equal hashes of
 * different things do no harm.
 *
 *     index:      the header, the filter, the prefixes, the slots, the candidates
 *     filter:     a bit for each thing that is filed, by its last bits: of most other things it says that they are not
 *     slot:       hash, where its candidates start, counted from the index (0: free)
 *     candidates: how many, (rule's place in the order, rule, peer or ANY) each, in that order
 */
const SLOTS = 0
const PREFIXES = 1
const FILTER_WORDS = 2
/** A bit for each single port, by its last five bits. */
const PORT_FILTER = 3
/** 1 where rules are filed for any port. */
const HAS_ANY_PORT = 4
/** 1 where peers are nodes. */
const HAS_NODES = 5
const HEADER = 6
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

/** Words that can be read one by one. */
interface Readable {
  get(at: number): number
}

/** What is filed in an index, while it is made. */
class Filing {
  readonly things = new Set<number>()
  readonly ports = new Set<number>()
  readonly prefixes = new Set<number>()
  readonly candidates = new Map<number, number[]>()
  hasNodes = false

  add(thing: number, ports: readonly number[], candidate: readonly [order: number, rule: number, peer: number]): void {
    this.things.add(thing)
    for (const port of ports) {
      this.ports.add(port)
      const hash = hashOf(thing, port)
      const known = this.candidates.get(hash)
      if (known) known.push(...candidate)
      else this.candidates.set(hash, [...candidate])
    }
  }

  toWords(): number[] {
    let slots = 8
    while (slots < this.candidates.size * 2) slots *= 2
    let filterWords = 8
    while (filterWords * 8 < this.things.size) filterWords *= 2
    const filter = new Array<number>(filterWords).fill(0)
    for (const thing of this.things) filter[(thing >>> 5) & (filterWords - 1)]! |= 1 << (thing & 31)
    let portFilter = 0
    for (const port of this.ports) if (port !== NO_PORT) portFilter |= 1 << (port & 31)
    const hasAnyPort = this.ports.has(NO_PORT) ? 1 : 0
    const words = [slots, this.prefixes.size, filterWords, portFilter, hasAnyPort, this.hasNodes ? 1 : 0]
    words.push(...filter, ...this.prefixes)
    return this.#addSlots(words, slots)
  }

  #addSlots(words: number[], slots: number): number[] {
    const first = words.length
    for (let i = 0; i < slots * 2; i++) words.push(0)
    for (const [hash, found] of this.candidates) {
      let slot = hash & (slots - 1)
      while (words[first + slot * 2 + 1] !== 0) slot = (slot + 1) & (slots - 1)
      words[first + slot * 2] = hash
      words[first + slot * 2 + 1] = words.length
      words.push(found.length / CANDIDATE_WORDS)
      for (const word of found) words.push(word)
    }
    return words
  }
}

/** @param blocks where blocks of rules start in `words`, the first to be asked first */
export function buildRuleIndex(words: Readable, blocks: readonly number[]): number[] {
  const filing = new Filing()
  // Where an earlier rule has the same ports and the same peer, a later one is never the first to match.
  const known = new Set<string>()
  let order = 0
  for (const block of blocks) {
    let rule = block + BLOCK_HEADER
    for (let left = words.get(block + BLOCK_RULES); left > 0; left--, order++) {
      const start = rule + RULE_HEADER + Math.max(0, words.get(rule + RULE_PORTS)) * PORT_WORDS
      const peers = words.get(start)
      const portText = textOf(words, rule + RULE_PORTS, start)
      const ports = portsToFile(words, rule, Math.max(1, peers))
      const isNew = (peerText: string) => known.size !== known.add(`${portText} ${peerText}`).size
      if (peers === ANY && isNew('')) filing.add(EVERYBODY, ports, [order, rule, ANY])
      let peer = start + 1
      for (let i = 0; i < peers; i++) {
        const end = peer + words.get(peer + PEER_LENGTH)
        if (isNew(textOf(words, peer, end))) filePeer(filing, words, peer, ports, [order, rule, peer])
        peer = end
      }
      rule += words.get(rule + RULE_LENGTH)
    }
  }
  return filing.toWords()
}

function filePeer(
  filing: Filing,
  words: Readable,
  peer: number,
  ports: readonly number[],
  candidate: readonly [number, number, number],
): void {
  const type = words.get(peer + PEER_TYPE)
  const body = peer + PEER_HEADER
  if (type === PEER_BLOCK || type === PEER_OUTSIDE_BLOCK) {
    filing.prefixes.add(words.get(body))
    filing.add(blockThing(words, body), ports, candidate)
    return
  }
  if (type === PEER_NODES) filing.hasNodes = true
  const things = rarestTerms(words, body) ?? [type === PEER_NODES ? EVERY_NODE : EVERY_WORKLOAD]
  for (const thing of things) filing.add(thing, ports, candidate)
}

function textOf(words: Readable, from: number, to: number): string {
  let text = ''
  for (let at = from; at < to; at++) text += `${words.get(at)},`
  return text
}

/** The single ports under which a rule is filed; NO_PORT alone where it has others too. */
function portsToFile(words: Readable, rule: number, peers: number): number[] {
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
function rarestTerms(words: Readable, clauses: number): number[] | undefined {
  let fewest: number[] | undefined
  let at = clauses + 1
  for (let left = words.get(clauses); left > 0; left--) {
    const count = words.get(at + 1)
    // An earlier clause is about the workload itself, which says more than one about its namespace.
    if (words.get(at) === 1 && (fewest === undefined || count < fewest.length)) {
      fewest = Array.from({ length: count }, (_, i) => words.get(at + 2 + i))
    }
    at += 2 + count
  }
  return fewest
}

function blockThing(words: Readable, at: number): number {
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
  #filter = 0
  #filterMask = 0
  #slots = 0
  #slotMask = 0
  /** The flow's, or NO_PORT where no rule is filed under it. */
  #port = NO_PORT
  #hasAnyPort = false
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
    this.#filter = index + HEADER
    this.#filterMask = words[index + FILTER_WORDS]! - 1
    const prefixes = this.#filter + words[index + FILTER_WORDS]!
    const slots = prefixes + words[index + PREFIXES]!
    this.#slots = slots
    this.#slotMask = words[index + SLOTS]! - 1
    const port = portKey(packet.protocol, packet.destination.port)
    this.#port = (words[index + PORT_FILTER]! & (1 << (port & 31))) === 0 ? NO_PORT : port
    this.#hasAnyPort = words[index + HAS_ANY_PORT] === 1
    this.#order = 0x7fffffff
    this.#rule = 0
    this.#ask(EVERYBODY)
    const { facts } = this.#matcher
    if (facts !== 0) {
      this.#ask(EVERY_WORKLOAD)
      this.#askTerms(facts)
    }
    if (words[index + HAS_NODES] === 1) {
      this.#askNode(this.#matcher.hostNodeFacts())
      this.#askNode(this.#matcher.addressNodeFacts())
    }
    for (let at = prefixes; at < slots; at++) this.#askPrefix(words[at]!, this.#matcher.address)
    return this.#rule
  }

  #askNode(facts: number): void {
    if (facts === 0) return
    this.#ask(EVERY_NODE)
    this.#askTerms(facts)
  }

  #askTerms(facts: number): void {
    const lists = this.#lists
    const end = endOfTerms(lists, facts)
    for (let at = firstTerm(facts); at < end; at++) this.#ask(lists[at]!)
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
    const bits = this.#words[this.#filter + ((thing >>> 5) & this.#filterMask)]!
    if ((bits & (1 << (thing & 31))) === 0) return
    if (this.#port !== NO_PORT) this.#askFor(hashOf(thing, this.#port))
    if (this.#hasAnyPort) this.#askFor(hashOf(thing, NO_PORT))
  }

  #askFor(hash: number): void {
    const words = this.#words
    const mask = this.#slotMask
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const at = this.#slots + slot * 2
      const start = words[at + 1]!
      if (start === 0) return
      if (words[at] !== hash) continue
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
