import {
  type Attributes,
  AttributeWriter,
  type Netlink,
  NetlinkError,
  type NetlinkMessage,
  type NetlinkReply,
  NFNL_SUBSYS_NFTABLES,
} from './netlink.ts'

// linux/netfilter/nf_tables.h
const NFPROTO_INET = 1
const NFT_MSG_GETTABLE = 1
const NFT_MSG_GETCHAIN = 4
const NFT_MSG_GETRULE = 7
const NFT_MSG_GETSET = 10
const NFT_MSG_GETSETELEM = 13
/** The table's name has this number in every kind of message. */
const NFTA_TABLE = 1
const NFTA_TABLE_FLAGS = 2
const NFTA_CHAIN_NAME = 3
/** Hook and priority, policy, type, flags: what else a chain has are numbers that change by themselves. */
const CHAIN_ATTRIBUTES = [4, 5, 7, 10]
const NFTA_RULE_CHAIN = 2
const NFTA_RULE_EXPRESSIONS = 4
const NFTA_LIST_ELEM = 1
const NFTA_EXPR_NAME = 1
const NFTA_EXPR_DATA = 2
const NFTA_SET_NAME = 2
const NFTA_SET_FLAGS = 3
/** Flags, key and data type and length, timeout. */
const SET_ATTRIBUTES = [NFTA_SET_FLAGS, 4, 5, 6, 7, 11]
const NFT_SET_ANONYMOUS = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3

/** Which attribute of an expression names a set. */
const setNames = new Map([
  ['lookup', 1],
  ['dynset', 1],
  ['objref', 4],
])
/** Expressions whose attributes change as packets pass. */
const stateful = new Set(['counter', 'quota', 'last'])

/**
 * What a table is, part by part (`table`, `chain NAME`, `set NAME`), each as a text that is the same as long as the part
 * is: a chain with its hook, priority, policy and rules in their order, a set with its types. Handles, counters and the
 * elements of named sets are not in it, so tables made from one text have one fingerprint.
 */
export type Fingerprint = ReadonlyMap<string, string>

/**
 * The fingerprint of a table of family inet; empty when there is no such table. If it is changed meanwhile, that of no
 * state it ever had.
 *
 * @throws NetlinkError EINTR when the tables of this network namespace did not come to rest.
 */
export function readFingerprint(netlink: Netlink, table: string): Fingerprint {
  const parts = new Map<string, string>()
  const flags = readTable(netlink, table)
  if (flags === undefined) return parts
  parts.set('table', flags)
  const anonymousSets = new Map<string, string>()
  for (const { attributes } of list(netlink, NFT_MSG_GETSET, table)) {
    const name = attributes.string(NFTA_SET_NAME) ?? ''
    const text = textOf(attributes, SET_ATTRIBUTES)
    // A set without a name belongs to one rule and never changes; the kernel numbers them as they come.
    if (((attributes.u32(NFTA_SET_FLAGS) ?? 0) & NFT_SET_ANONYMOUS) === 0) parts.set(`set ${name}`, text)
    else anonymousSets.set(name, text + readElements(netlink, table, name))
  }
  for (const { attributes } of list(netlink, NFT_MSG_GETCHAIN, table)) {
    parts.set(`chain ${attributes.string(NFTA_CHAIN_NAME)}`, textOf(attributes, CHAIN_ATTRIBUTES))
  }
  for (const { attributes } of list(netlink, NFT_MSG_GETRULE, table)) {
    const chain = `chain ${attributes.string(NFTA_RULE_CHAIN)}`
    parts.set(chain, `${parts.get(chain) ?? ''}\nrule ${ruleText(attributes, anonymousSets)}`)
  }
  return parts
}

/** The names of the parts that are missing, changed or added, in order. */
export function differences(expected: Fingerprint, actual: Fingerprint): readonly string[] {
  const names = new Set([...expected.keys(), ...actual.keys()])
  return [...names].filter((name) => expected.get(name) !== actual.get(name)).sort()
}

function readTable(netlink: Netlink, table: string): string | undefined {
  try {
    const reply = netlink.get(message(NFT_MSG_GETTABLE, table))
    return reply && textOf(reply.attributes, [NFTA_TABLE_FLAGS])
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return undefined
    throw error
  }
}

function ruleText(attributes: Attributes, anonymousSets: ReadonlyMap<string, string>): string {
  const expressions = attributes.nested(NFTA_RULE_EXPRESSIONS)?.all(NFTA_LIST_ELEM) ?? []
  return expressions.map((expression) => expressionText(expression, anonymousSets)).join(' ')
}

function expressionText(expression: Attributes, anonymousSets: ReadonlyMap<string, string>): string {
  const name = expression.string(NFTA_EXPR_NAME) ?? ''
  const data = expression.nested(NFTA_EXPR_DATA)
  if (data === undefined || stateful.has(name)) return name
  const nameType = setNames.get(name)
  const set = nameType === undefined ? undefined : data.string(nameType)
  const contents = set === undefined ? undefined : anonymousSets.get(set)
  if (contents === undefined) return `${name} ${latin1(data.bytes)}`
  const others = [...data].filter(({ type }) => type !== nameType)
  return `${name} ${others.map(({ type, value }) => `${type}:${latin1(value)}`).join(' ')} {${contents}}`
}

/** The elements of a set, with all that belongs to each, in an order of their own: the kernel lists them in any. */
function readElements(netlink: Netlink, table: string, set: string): string {
  const elements: string[] = []
  try {
    for (const { attributes } of list(netlink, NFT_MSG_GETSETELEM, table, set)) {
      const listed = attributes.nested(NFTA_SET_ELEM_LIST_ELEMENTS)?.all(NFTA_LIST_ELEM) ?? []
      for (const element of listed) elements.push(latin1(element.bytes))
    }
  } catch (error) {
    // Gone since it was listed, and its rule with it.
    if (!(error instanceof NetlinkError && error.code === 'ENOENT')) throw error
  }
  return elements.sort().join(',')
}

function* list(netlink: Netlink, type: number, table: string, set?: string): Generator<NetlinkReply> {
  // Kernels differ in what they leave out when they are asked for one table.
  for (const reply of netlink.dump(message(type, table, set))) {
    if (reply.family === NFPROTO_INET && reply.attributes.string(NFTA_TABLE) === table) yield reply
  }
}

function message(type: number, table: string, set?: string): NetlinkMessage {
  const attributes = new AttributeWriter().string(NFTA_TABLE, table)
  if (set !== undefined) attributes.string(NFTA_SET_ELEM_LIST_SET, set)
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | type,
    flags: 0,
    family: NFPROTO_INET,
    attributes: attributes.finish(),
  }
}

function textOf(attributes: Attributes, types: readonly number[]): string {
  const values = [...attributes].filter(({ type }) => types.includes(type))
  return values.map(({ type, value }) => `${type}:${latin1(value)}`).join(' ')
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
