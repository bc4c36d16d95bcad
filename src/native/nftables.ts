import { constants } from 'node:os'
import {
  type Attributes,
  AttributeWriter,
  hostU16s,
  hostU32,
  type Netlink,
  NetlinkError,
  type NetlinkMessage,
  NFNL_SUBSYS_NFTABLES,
  NLM_F_APPEND,
  NLM_F_CREATE,
} from './netlink.ts'

// Everything here is the wire format of linux/netfilter/nf_tables.h and nf_tables_compat.h.
const NFPROTO_INET = 1
const NFT_MSG_NEWTABLE = 0
const NFT_MSG_NEWCHAIN = 3
const NFT_MSG_DELCHAIN = 5
const NFT_MSG_NEWRULE = 6
const NFT_MSG_GETRULE = 7
const NFT_MSG_DELRULE = 8
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_GETSETELEM = 13
const NFT_MSG_DELSETELEM = 14
const NFT_MSG_GETGEN = 16
const NFT_MSG_GETOBJ = 19

const NFTA_TABLE_NAME = 1
const NFTA_CHAIN_TABLE = 1
const NFTA_CHAIN_NAME = 3

const NFTA_LIST_ELEM = 1
const NFTA_EXPR_NAME = 1
const NFTA_EXPR_DATA = 2
const NFTA_DATA_VALUE = 1
const NFTA_DATA_VERDICT = 2
const NFTA_VERDICT_CODE = 1
const NFTA_VERDICT_CHAIN = 2
const NFT_JUMP = -3
const NFTA_RULE_TABLE = 1
const NFTA_RULE_CHAIN = 2
const NFTA_RULE_EXPRESSIONS = 4
const NFTA_SET_ELEM_KEY = 1
const NFTA_SET_ELEM_DATA = 2
const NFTA_SET_ELEM_TIMEOUT = 4
const NFTA_SET_ELEM_LIST_TABLE = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_GEN_ID = 1
const NFTA_OBJ_TABLE = 1
const NFTA_OBJ_NAME = 2
const NFTA_OBJ_TYPE = 3
const NFTA_OBJ_DATA = 4
const NFT_OBJECT_COUNTER = 1
const NFTA_COUNTER_BYTES = 1
const NFTA_COUNTER_PACKETS = 2

const NFT_REG_1 = 1
const NFTA_META_DREG = 1
const NFTA_META_KEY = 2
const NFT_META_MARK = 3
const NFTA_BITWISE_SREG = 1
const NFTA_BITWISE_DREG = 2
const NFTA_BITWISE_LEN = 3
const NFTA_BITWISE_MASK = 4
const NFTA_BITWISE_XOR = 5
const NFTA_CMP_SREG = 1
const NFTA_CMP_OP = 2
const NFTA_CMP_DATA = 3
const NFT_CMP_EQ = 0
const NFTA_QUEUE_NUM = 1
const NFTA_QUEUE_TOTAL = 2
const NFTA_QUEUE_FLAGS = 3
const NFTA_TARGET_NAME = 1
const NFTA_TARGET_REV = 2
const NFTA_TARGET_INFO = 3
/** The same bit in nft's queue statement and in struct xt_NFQ_info_v3 (linux/netfilter/xt_NFQUEUE.h). */
const QUEUE_BYPASS = 1
const NFQUEUE_REVISION = 3
/** struct xt_NFQ_info_v3 is three u16, padded as xtables pads all of them. */
const NFQUEUE_INFO_BYTES = 8

/** What one list of elements may take; an attribute ends at 64 KiB. */
const LIST_BYTES = 60_000
const MAX_LISTINGS = 10

/** How a rule hands packets to a queue: nft's own statement, or the xtables target, for kernels without it. */
export type QueueMechanism = 'queue' | 'xt-target'

/** Which packets a divert rule takes, and to which queue. */
export interface Divert {
  /** The bits of the packet's mark that are looked at. */
  readonly mask: number
  /** What they must be. */
  readonly value: number
  /** The first queue's number. */
  readonly queue: number
  /** Packets are spread over this many queues, from `queue` on, those between two addresses all to the same. */
  readonly queuesTotal: number
  /** Whether packets go on when nobody has bound the queue; they are dropped otherwise. */
  readonly bypass: boolean
  readonly mechanism: QueueMechanism
}

/** One expression of a rule: its name, and its encoded attributes. */
export interface Expression {
  readonly name: string
  readonly attributes: Uint8Array
}

/** One named counter. */
export interface CounterReading {
  readonly name: string
  readonly packets: number
  readonly bytes: number
}

/** `meta mark & mask == value`, then the queue. */
export function divertRule(divert: Divert): readonly Expression[] {
  const load = new AttributeWriter().u32(NFTA_META_KEY, NFT_META_MARK).u32(NFTA_META_DREG, NFT_REG_1)
  const and = new AttributeWriter()
    .u32(NFTA_BITWISE_SREG, NFT_REG_1)
    .u32(NFTA_BITWISE_DREG, NFT_REG_1)
    .u32(NFTA_BITWISE_LEN, 4)
  putData(and, NFTA_BITWISE_MASK, hostU32(divert.mask))
  putData(and, NFTA_BITWISE_XOR, hostU32(0))
  const equal = new AttributeWriter().u32(NFTA_CMP_SREG, NFT_REG_1).u32(NFTA_CMP_OP, NFT_CMP_EQ)
  putData(equal, NFTA_CMP_DATA, hostU32(divert.value))
  return [
    { name: 'meta', attributes: load.finish() },
    { name: 'bitwise', attributes: and.finish() },
    { name: 'cmp', attributes: equal.finish() },
    divert.mechanism === 'queue' ? queueStatement(divert) : queueTarget(divert),
  ]
}

/**
 * Changes to one table of family inet, applied together by {@link commit}, in the order they were added. Building one
 * never fails; names that do not exist are the kernel's to find.
 */
export class Batch {
  readonly table: string
  readonly #messages: NetlinkMessage[] = []
  readonly #steps: string[] = []

  constructor(table: string) {
    this.table = table
  }

  /** What is sent. */
  get messages(): readonly NetlinkMessage[] {
    return this.#messages
  }

  /** What the message at this index was added for, for error messages. */
  stepAt(messageIndex: number): string | undefined {
    return this.#steps[messageIndex]
  }

  /** Makes the table, where it is not there yet. */
  addTable(): this {
    return this.#add(
      'add table',
      NFT_MSG_NEWTABLE,
      NLM_F_CREATE,
      new AttributeWriter().string(NFTA_TABLE_NAME, this.table),
    )
  }

  /** Makes an ordinary chain, where it is not there yet. */
  addChain(chain: string): this {
    const attributes = new AttributeWriter().string(NFTA_CHAIN_TABLE, this.table).string(NFTA_CHAIN_NAME, chain)
    return this.#add(`add chain ${chain}`, NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes)
  }

  /** Removes a chain without rules. ENOENT when there is no such chain, EBUSY when it has rules or a rule jumps to it. */
  deleteChain(chain: string): this {
    const attributes = new AttributeWriter().string(NFTA_CHAIN_TABLE, this.table).string(NFTA_CHAIN_NAME, chain)
    return this.#add(`delete chain ${chain}`, NFT_MSG_DELCHAIN, 0, attributes)
  }

  /** Removes all rules of a chain. ENOENT when there is no such chain. */
  flushChain(chain: string): this {
    const attributes = new AttributeWriter().string(NFTA_RULE_TABLE, this.table).string(NFTA_RULE_CHAIN, chain)
    return this.#add(`flush chain ${chain}`, NFT_MSG_DELRULE, 0, attributes)
  }

  /** Puts a rule at the end of a chain. ENOENT when there is no such chain, or the kernel lacks an expression. */
  addRule(chain: string, expressions: readonly Expression[]): this {
    const attributes = new AttributeWriter().string(NFTA_RULE_TABLE, this.table).string(NFTA_RULE_CHAIN, chain)
    const list = attributes.openNest(NFTA_RULE_EXPRESSIONS)
    for (const expression of expressions) {
      const element = attributes.openNest(NFTA_LIST_ELEM)
      attributes.string(NFTA_EXPR_NAME, expression.name)
      const data = attributes.openNest(NFTA_EXPR_DATA)
      attributes.append(expression.attributes).closeNest(data).closeNest(element)
    }
    attributes.closeNest(list)
    return this.#add(`add rule to ${chain}`, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes)
  }

  /**
   * Adds elements to a set without intervals; those already in it stay as they are. A key is the bytes as they are in
   * a packet; those of a concatenation are each padded to 4 bytes.
   */
  addElements(set: string, keys: Iterable<Uint8Array>): this {
    return this.#changeElements(`add elements to ${set}`, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, keys)
  }

  /** Adds elements, each named once, that go by themselves after a time; the time of those already in it begins anew. */
  addFleeting(set: string, keys: readonly Uint8Array[], timeoutMs: number): this {
    const step = `add elements to ${set}`
    const add = () => this.#changeElements(step, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, keys, timeoutMs)
    // Before kernel 6.13 adding leaves the time of one that is there; deleting one that is not there, or twice, is an error.
    add()
    this.deleteElements(set, keys)
    return add()
  }

  /** Adds an element to a map of verdicts: `key : jump chain`. EEXIST when it is there with another verdict. */
  addJump(map: string, key: Uint8Array, chain: string): this {
    const attributes = new AttributeWriter()
      .string(NFTA_SET_ELEM_LIST_TABLE, this.table)
      .string(NFTA_SET_ELEM_LIST_SET, map)
    const list = attributes.openNest(NFTA_SET_ELEM_LIST_ELEMENTS)
    const element = attributes.openNest(NFTA_LIST_ELEM)
    putData(attributes, NFTA_SET_ELEM_KEY, key)
    const data = attributes.openNest(NFTA_SET_ELEM_DATA)
    const verdict = attributes.openNest(NFTA_DATA_VERDICT)
    attributes.u32(NFTA_VERDICT_CODE, NFT_JUMP >>> 0).string(NFTA_VERDICT_CHAIN, chain)
    attributes.closeNest(verdict).closeNest(data).closeNest(element).closeNest(list)
    return this.#add(`add jump to ${chain} to ${map}`, NFT_MSG_NEWSETELEM, NLM_F_CREATE, attributes)
  }

  /** Removes elements. ENOENT when one is not in the set. */
  deleteElements(set: string, keys: Iterable<Uint8Array>): this {
    return this.#changeElements(`delete elements of ${set}`, NFT_MSG_DELSETELEM, 0, set, keys)
  }

  /** Removes all elements of a set. ENOENT when there is no such set. */
  flushSet(set: string): this {
    const attributes = new AttributeWriter()
      .string(NFTA_SET_ELEM_LIST_TABLE, this.table)
      .string(NFTA_SET_ELEM_LIST_SET, set)
    return this.#add(`flush set ${set}`, NFT_MSG_DELSETELEM, 0, attributes)
  }

  #changeElements(
    step: string,
    message: number,
    flags: number,
    set: string,
    keys: Iterable<Uint8Array>,
    timeoutMs?: number,
  ): this {
    let attributes: AttributeWriter | undefined
    let list = 0
    const finishMessage = () => {
      if (attributes !== undefined) this.#add(step, message, flags, attributes.closeNest(list))
      attributes = undefined
    }
    for (const key of keys) {
      if (attributes !== undefined && attributes.length - list > LIST_BYTES) finishMessage()
      if (attributes === undefined) {
        attributes = new AttributeWriter()
          .string(NFTA_SET_ELEM_LIST_TABLE, this.table)
          .string(NFTA_SET_ELEM_LIST_SET, set)
        list = attributes.openNest(NFTA_SET_ELEM_LIST_ELEMENTS)
      }
      const element = attributes.openNest(NFTA_LIST_ELEM)
      putData(attributes, NFTA_SET_ELEM_KEY, key)
      if (timeoutMs !== undefined) attributes.u64(NFTA_SET_ELEM_TIMEOUT, timeoutMs)
      attributes.closeNest(element)
    }
    finishMessage()
    return this
  }

  #add(step: string, message: number, flags: number, attributes: AttributeWriter): this {
    this.#messages.push(messageOf(message, flags, attributes))
    this.#steps.push(step)
    return this
  }
}

/** An empty batch for a table of family inet. */
export function batch(table: string): Batch {
  return new Batch(table)
}

/**
 * Applies a batch: all of it or nothing.
 *
 * @throws NetlinkError that names the first step refused.
 */
export function commit(netlink: Netlink, changes: Batch): void {
  namingSteps(changes, () => netlink.transact(NFNL_SUBSYS_NFTABLES, changes.messages))
}

/**
 * Lets the kernel validate a batch and forget it: nothing changes.
 *
 * @throws NetlinkError where {@link commit} would.
 */
export function check(netlink: Netlink, changes: Batch): void {
  namingSteps(changes, () => netlink.check(NFNL_SUBSYS_NFTABLES, changes.messages))
}

/**
 * The rules of a chain, each as the names of its expressions: a divert rule ends in `queue` or `target`.
 *
 * @throws NetlinkError
 */
export function dumpRules(netlink: Netlink, table: string, chain: string): readonly (readonly string[])[] {
  const request = new AttributeWriter().string(NFTA_RULE_TABLE, table).string(NFTA_RULE_CHAIN, chain)
  const rules: (readonly string[])[] = []
  for (const { attributes } of netlink.dump(messageOf(NFT_MSG_GETRULE, 0, request))) {
    if (attributes.string(NFTA_RULE_TABLE) !== table || attributes.string(NFTA_RULE_CHAIN) !== chain) continue
    rules.push(elementsOf(attributes, NFTA_RULE_EXPRESSIONS).map((element) => element.string(NFTA_EXPR_NAME) ?? '?'))
  }
  return rules
}

/**
 * The keys of a set, in no order, each once. A set that packets change meanwhile is listed as it was at no one instant.
 *
 * @throws NetlinkError ENOENT when there is no such set, EINTR when it did not come to rest.
 */
export function listElements(netlink: Netlink, table: string, set: string): readonly Uint8Array[] {
  const request = new AttributeWriter().string(NFTA_SET_ELEM_LIST_TABLE, table).string(NFTA_SET_ELEM_LIST_SET, set)
  const listing = messageOf(NFT_MSG_GETSETELEM, 0, request)
  for (let attempt = 0; attempt < MAX_LISTINGS; attempt++) {
    const keys: Uint8Array[] = []
    for (const { attributes } of netlink.dump(listing)) {
      for (const element of elementsOf(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)) {
        const key = element.nested(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)
        if (key !== undefined) keys.push(key)
      }
    }
    // A hash table that is still growing in the background is listed with some keys twice, in place of others.
    if (
      new Set(keys.map((key) => Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1'))).size ===
      keys.length
    )
      return keys
  }
  const explanation = 'it did not come to rest'
  throw new NetlinkError(`list set ${set}`, [{ index: -1, errno: constants.errno.EINTR, explanation }])
}

/**
 * The named counters of a table; none when there is no such table.
 *
 * @throws NetlinkError
 */
export function readCounters(netlink: Netlink, table: string): readonly CounterReading[] {
  const request = new AttributeWriter().string(NFTA_OBJ_TABLE, table).u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER)
  const counters: CounterReading[] = []
  for (const { attributes } of netlink.dump(messageOf(NFT_MSG_GETOBJ, 0, request))) {
    const name = attributes.string(NFTA_OBJ_NAME)
    const data = attributes.nested(NFTA_OBJ_DATA)
    const isCounter = attributes.u32(NFTA_OBJ_TYPE) === NFT_OBJECT_COUNTER
    if (attributes.string(NFTA_OBJ_TABLE) !== table || !isCounter || name === undefined || data === undefined) continue
    counters.push({ name, packets: data.u64(NFTA_COUNTER_PACKETS) ?? 0, bytes: data.u64(NFTA_COUNTER_BYTES) ?? 0 })
  }
  return counters
}

/**
 * The number of the ruleset of this network namespace: each transaction of any program that changes any table raises it by
 * one, from 2^32 - 1 back to 1.
 *
 * @throws NetlinkError
 */
export function readGeneration(netlink: Netlink): number {
  return netlink.get(messageOf(NFT_MSG_GETGEN, 0, new AttributeWriter()))?.attributes.u32(NFTA_GEN_ID) ?? 0
}

function queueStatement(divert: Divert): Expression {
  const attributes = new AttributeWriter()
    .u16(NFTA_QUEUE_NUM, divert.queue)
    .u16(NFTA_QUEUE_TOTAL, divert.queuesTotal)
    .u16(NFTA_QUEUE_FLAGS, queueFlags(divert))
  return { name: 'queue', attributes: attributes.finish() }
}

/**
 * Without CPU fanout: the kernel then chooses the queue by a hash of both addresses and the protocol, which is the same for
 * either direction. So the packets of a flow stay in their order, and those of one that is not confirmed yet are not
 * accepted by two threads at once: conntrack would drop all but one. By processor a flow changes its queue when its sender
 * is moved to another one. The price: what goes between two addresses is one thread's work.
 */
function queueFlags({ bypass }: Divert): number {
  return bypass ? QUEUE_BYPASS : 0
}

function queueTarget(divert: Divert): Expression {
  const info = hostU16s([divert.queue, divert.queuesTotal, queueFlags(divert)], NFQUEUE_INFO_BYTES)
  const attributes = new AttributeWriter()
    .string(NFTA_TARGET_NAME, 'NFQUEUE')
    .u32(NFTA_TARGET_REV, NFQUEUE_REVISION)
    .data(NFTA_TARGET_INFO, info)
  return { name: 'target', attributes: attributes.finish() }
}

function putData(writer: AttributeWriter, type: number, value: Uint8Array): void {
  const nest = writer.openNest(type)
  writer.data(NFTA_DATA_VALUE, value).closeNest(nest)
}

function messageOf(message: number, flags: number, attributes: AttributeWriter): NetlinkMessage {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | message,
    flags,
    family: NFPROTO_INET,
    attributes: attributes.finish(),
  }
}

function elementsOf(attributes: Attributes, list: number): readonly Attributes[] {
  const elements = attributes.nested(list)
  return elements === undefined ? [] : elements.all(NFTA_LIST_ELEM)
}

function namingSteps(changes: Batch, run: () => void): void {
  try {
    run()
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    const step = changes.stepAt(error.messageIndex) ?? 'transaction'
    throw new NetlinkError(`table inet ${changes.table}: ${step}`, error.failures)
  }
}
