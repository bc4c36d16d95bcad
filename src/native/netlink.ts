import { constants, endianness } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { isSystemError, loadAddon, type NativeNetlinkSocket } from './load.ts'

// linux/netlink.h
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NLMSGERR_ATTR_MSG = 1
/** struct nlmsghdr. */
export const HEADER_BYTES = 16
/** struct nlattr. */
export const ATTRIBUTE_HEADER_BYTES = 4
export const NLA_F_NESTED = 0x8000
export const NLA_TYPE_MASK = 0x3fff
/** The largest payload an attribute can have, its length being a u16. */
export const MAX_ATTRIBUTE_BYTES = 0xffff - ATTRIBUTE_HEADER_BYTES

// linux/netfilter/nfnetlink.h
export const NFNL_SUBSYS_CTNETLINK = 1
export const NFNL_SUBSYS_QUEUE = 3
export const NFNL_SUBSYS_NFTABLES = 10
const NFNL_MSG_BATCH_BEGIN = 0x10
const NFNL_MSG_BATCH_END = 0x11
/** struct nfgenmsg. */
export const GENERIC_HEADER_BYTES = 4

/** How many messages go in one {@link Netlink.submit}, so that the socket can hold an error for each of them. */
export const MAX_SUBMITTED = 1000

const TIMEOUT_MS = 10_000
/** How often a listing that is interrupted is made again. */
export const MAX_DUMP_ATTEMPTS = 10
/** The kernel makes its datagrams as large as what they were received into, from a page (8 KiB at most) up to 32 KiB. */
const LISTING_PART_BYTES = 1 << 15
const littleEndian = endianness() === 'LE'

/** One nfnetlink message to the kernel, without its sequence number. */
export interface NetlinkMessage {
  /** `subsystem << 8 | message`. */
  readonly type: number
  /** NLM_F_ flags besides NLM_F_REQUEST. */
  readonly flags: number
  /** The address family of its nfgenmsg header, NFPROTO_ (1 is inet). */
  readonly family: number
  /** The attributes that follow the nfgenmsg header. */
  readonly attributes: Uint8Array
}

/** One message from the kernel. */
export interface NetlinkReply {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly family: number
  readonly attributes: Attributes
}

/** A message that the kernel refused, `index` counting from 0 in what was sent; -1 when it names none. */
export interface NetlinkFailure {
  readonly index: number
  /** Positive, as in errno.h. */
  readonly errno: number
  /** The kernel's explanation, when it gave one. */
  readonly explanation: string | undefined
}

/** The kernel refused a request: the errno, and which message of it. */
export class NetlinkError extends Error {
  readonly errno: number
  /** The errno's name, `ENOENT`. */
  readonly code: string
  /** The first message refused, from 0 in the order they were given; -1 when the kernel refused the whole. */
  readonly messageIndex: number
  /** All that were refused, in order. */
  readonly failures: readonly NetlinkFailure[]

  constructor(operation: string, failures: readonly NetlinkFailure[]) {
    const first = failures[0]!
    const code = errnoName(first.errno)
    const where = first.index < 0 ? '' : ` at message ${first.index}`
    const why = first.explanation === undefined ? '' : `: ${first.explanation}`
    super(`${operation}: the kernel refused it${where}: ${code}${why}`)
    this.name = 'NetlinkError'
    this.errno = first.errno
    this.code = code
    this.messageIndex = first.index
    this.failures = failures
  }
}

/** Writes attributes into a buffer that grows. Numbers are in network order, except where a name says otherwise. */
export class AttributeWriter {
  #bytes: Uint8Array
  #view: DataView
  #length = 0

  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(capacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  /** How many bytes are written so far. */
  get length(): number {
    return this.#length
  }

  u8(type: number, value: number): this {
    const at = this.#begin(type, 1)
    this.#view.setUint8(at, value)
    return this
  }

  u16(type: number, value: number): this {
    const at = this.#begin(type, 2)
    this.#view.setUint16(at, value)
    return this
  }

  u32(type: number, value: number): this {
    const at = this.#begin(type, 4)
    this.#view.setUint32(at, value)
    return this
  }

  u64(type: number, value: number): this {
    const at = this.#begin(type, 8)
    this.#view.setBigUint64(at, BigInt(value))
    return this
  }

  /** A string with its terminating zero. */
  string(type: number, value: string): this {
    const text = new TextEncoder().encode(value)
    const at = this.#begin(type, text.length + 1)
    this.#bytes.set(text, at)
    return this
  }

  data(type: number, value: Uint8Array): this {
    const at = this.#begin(type, value.length)
    this.#bytes.set(value, at)
    return this
  }

  /** Already encoded attributes. */
  append(attributes: Uint8Array): this {
    const at = this.#reserve(attributes.length)
    this.#bytes.set(attributes, at)
    return this
  }

  /** Begins a nested attribute; what is written until {@link closeNest} is inside it. */
  openNest(type: number): number {
    const at = this.#length
    this.#begin(type | NLA_F_NESTED, 0)
    return at
  }

  /**
   * Ends the nested attribute that began at `start`, what {@link openNest} returned.
   *
   * @throws RangeError when it is longer than an attribute can be.
   */
  closeNest(start: number): this {
    const length = this.#length - start
    if (length > 0xffff) throw new RangeError(`attribute of ${length} bytes is above 65535`)
    this.#view.setUint16(start, length, littleEndian)
    return this
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  /** Writes a header, reserves the value and its padding, and returns where the value goes. */
  #begin(type: number, valueBytes: number): number {
    if (valueBytes > MAX_ATTRIBUTE_BYTES) throw new RangeError(`attribute of ${valueBytes} bytes is above 65531`)
    const at = this.#reserve(ATTRIBUTE_HEADER_BYTES + align(valueBytes))
    this.#view.setUint16(at, ATTRIBUTE_HEADER_BYTES + valueBytes, littleEndian)
    this.#view.setUint16(at + 2, type, littleEndian)
    return at + ATTRIBUTE_HEADER_BYTES
  }

  #reserve(bytes: number): number {
    const at = this.#length
    const end = at + bytes
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.#length = end
    return at
  }
}

/** One attribute of a message from the kernel. */
export interface Attribute {
  readonly type: number
  /** Without header and padding; a view, not a copy. */
  readonly value: Uint8Array
}

/** The attributes of a message, or those nested in one. Reads never leave the bytes it was made of. */
export class Attributes {
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  /**
   * In the order they were sent.
   *
   * @throws RangeError at an attribute that does not fit into its surroundings.
   */
  *[Symbol.iterator](): Generator<Attribute> {
    const view = viewOf(this.bytes)
    for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= this.bytes.length; ) {
      const length = view.getUint16(at, littleEndian)
      if (length < ATTRIBUTE_HEADER_BYTES || at + length > this.bytes.length) {
        throw new RangeError(`attribute at byte ${at} claims ${length} of ${this.bytes.length - at} bytes`)
      }
      yield {
        type: view.getUint16(at + 2, littleEndian) & NLA_TYPE_MASK,
        value: this.bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length),
      }
      at += align(length)
    }
  }

  /** The value of the first attribute of this type, `undefined` when there is none. */
  get(type: number): Uint8Array | undefined {
    for (const attribute of this) if (attribute.type === type) return attribute.value
    return undefined
  }

  /** What is nested in each attribute of this type, in order. */
  all(type: number): readonly Attributes[] {
    const found: Attributes[] = []
    for (const attribute of this) if (attribute.type === type) found.push(new Attributes(attribute.value))
    return found
  }

  /** The attributes inside the first one of this type. */
  nested(type: number): Attributes | undefined {
    const value = this.get(type)
    return value && new Attributes(value)
  }

  /** A zero-terminated string. */
  string(type: number): string | undefined {
    const value = this.get(type)
    if (value === undefined) return undefined
    const end = value.indexOf(0)
    return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end))
  }

  /** A u32 in network order; `undefined` also when the value is shorter. */
  u32(type: number): number | undefined {
    const value = this.get(type)
    return value === undefined || value.length < 4 ? undefined : viewOf(value).getUint32(0)
  }

  /** A u64 in network order, exact up to 2^53. */
  u64(type: number): number | undefined {
    const value = this.get(type)
    return value === undefined || value.length < 8 ? undefined : Number(viewOf(value).getBigUint64(0))
  }
}

/** A u32 in this machine's byte order, as nf_tables holds marks in its registers. */
export function hostU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, littleEndian)
  return bytes
}

/** u16 values in this machine's byte order, as in a C struct, padded with zeroes to `sizeBytes`. */
export function hostU16s(values: readonly number[], sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  const view = viewOf(bytes)
  for (const [index, value] of values.entries()) view.setUint16(index * 2, value, littleEndian)
  return bytes
}

/** Puts messages one after another, numbering them from `firstSequence`. `acknowledgeLast` asks for an answer to it. */
export function encodeMessages(
  messages: readonly NetlinkMessage[],
  firstSequence: number,
  acknowledgeLast: boolean,
): Uint8Array {
  let total = 0
  for (const message of messages) total += messageBytes(message)
  const bytes = new Uint8Array(total)
  let at = 0
  for (const [index, message] of messages.entries()) {
    const acknowledge = acknowledgeLast && index === messages.length - 1
    const flags = NLM_F_REQUEST | message.flags | (acknowledge ? NLM_F_ACK : 0)
    at = putMessage(bytes, at, message, flags, firstSequence + index, 0)
  }
  return bytes
}

/**
 * Wraps messages for one subsystem into a transaction: BATCH_BEGIN has `firstSequence`, they have the numbers after it,
 * and the last one asks for an answer. Without `commit` there is no BATCH_END: the kernel validates, then forgets it.
 */
export function encodeBatch(
  subsystem: number,
  messages: readonly NetlinkMessage[],
  firstSequence: number,
  commit: boolean,
): Uint8Array {
  const mark = HEADER_BYTES + GENERIC_HEADER_BYTES
  let total = commit ? mark * 2 : mark
  for (const message of messages) total += messageBytes(message)
  const bytes = new Uint8Array(total)
  const bare = { flags: 0, family: 0, attributes: new Uint8Array(0) }
  let sequence = firstSequence
  let at = putMessage(bytes, 0, { ...bare, type: NFNL_MSG_BATCH_BEGIN }, NLM_F_REQUEST, sequence++, subsystem)
  for (const [index, message] of messages.entries()) {
    const flags = NLM_F_REQUEST | message.flags | (index === messages.length - 1 ? NLM_F_ACK : 0)
    at = putMessage(bytes, at, message, flags, sequence++, 0)
  }
  if (commit) putMessage(bytes, at, { ...bare, type: NFNL_MSG_BATCH_END }, NLM_F_REQUEST, sequence, subsystem)
  return bytes
}

/** What {@link decodeReplies} finds. */
export interface Replies {
  readonly messages: readonly NetlinkReply[]
  readonly failures: readonly NetlinkFailure[]
  /** A table changed while it was listed: the messages may be of two states. */
  readonly interrupted: boolean
}

/** One message as it stands, its body not looked at. */
export interface RawMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** Whose request it answers or reports. */
  readonly portId: number
  /** What follows the header; a view, not a copy. */
  readonly body: Uint8Array
}

/**
 * The messages in what the kernel sent, of whatever netlink family.
 *
 * @throws RangeError at a message that does not fit into the bytes.
 */
export function* messagesIn(bytes: Uint8Array): Generator<RawMessage> {
  const view = viewOf(bytes)
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, littleEndian)
    if (length < HEADER_BYTES || at + length > bytes.length) {
      throw new RangeError(`message at byte ${at} claims ${length} of ${bytes.length - at} bytes`)
    }
    yield {
      type: view.getUint16(at + 4, littleEndian),
      flags: view.getUint16(at + 6, littleEndian),
      sequence: view.getUint32(at + 8, littleEndian),
      portId: view.getUint32(at + 12, littleEndian),
      body: bytes.subarray(at + HEADER_BYTES, at + length),
    }
    at += align(length)
  }
}

/** The errno in the body of an error or of the end of a listing: 0 where there is none. */
export function errnoIn({ type, body }: RawMessage): number {
  if ((type !== NLMSG_ERROR && type !== NLMSG_DONE) || body.length < 4) return 0
  return Math.max(0, -viewOf(body).getInt32(0, littleEndian))
}

/**
 * Splits the kernel's answers. `index` of a failure is its sequence number minus `firstSequence`.
 *
 * @throws RangeError at a message that does not fit into the bytes.
 */
export function decodeReplies(bytes: Uint8Array, firstSequence: number): Replies {
  const messages: NetlinkReply[] = []
  const failures: NetlinkFailure[] = []
  let interrupted = false
  for (const message of messagesIn(bytes)) {
    const { type, flags, sequence, body } = message
    interrupted ||= (flags & NLM_F_DUMP_INTR) !== 0
    if (type === NLMSG_ERROR || type === NLMSG_DONE) {
      const errno = errnoIn(message)
      if (errno > 0) {
        const explanation = type === NLMSG_ERROR ? explain(body, flags) : undefined
        failures.push({ index: (sequence - firstSequence) | 0, errno, explanation })
      }
    } else if (type > 0xff && body.length >= GENERIC_HEADER_BYTES) {
      const attributes = new Attributes(body.subarray(GENERIC_HEADER_BYTES))
      messages.push({ type, flags, sequence, family: body[0]!, attributes })
    }
  }
  return { messages, failures, interrupted }
}

/** A listing that is under way, taken part by part. It has a socket of its own: other requests may go on meanwhile. */
export interface Listing {
  /**
   * The next whole messages, of one datagram; `undefined` at the end. The kernel makes a part when it is asked for it, and
   * the bytes are overwritten by the next one.
   *
   * @throws NetlinkError, ENOENT for instance. The listing has then ended.
   */
  nextPart(): Uint8Array | undefined
  /** Whether what is listed changed meanwhile, as far as it was listed: the parts may be of two states. */
  readonly isInterrupted: boolean
  /** Ends it, wherever it stands. May be called again. */
  close(): void
}

/** A netfilter socket of this network namespace. All calls block until the kernel has answered. */
export interface Netlink {
  /** What the kernel writes into its reports of changes made here. */
  readonly portId: number
  /**
   * Applies messages for one subsystem as a transaction: all of them or none. Nothing to do is not sent.
   *
   * @throws NetlinkError for what the kernel refuses.
   */
  transact(subsystem: number, messages: readonly NetlinkMessage[]): void
  /** The same without applying it: throws what {@link transact} would, and changes nothing. */
  check(subsystem: number, messages: readonly NetlinkMessage[]): void
  /**
   * Sends independent messages, at most {@link MAX_SUBMITTED}, and returns those that failed.
   *
   * @throws RangeError for more of them.
   */
  submit(messages: readonly NetlinkMessage[]): readonly NetlinkFailure[]
  /**
   * Asks for one thing.
   *
   * @throws NetlinkError, ENOENT for instance.
   */
  get(message: NetlinkMessage): NetlinkReply | undefined
  /**
   * Lists what the message asks for, again when it changes meanwhile.
   *
   * @throws NetlinkError, ENOENT for instance; EINTR when it kept changing.
   */
  dump(message: NetlinkMessage): readonly NetlinkReply[]
  /**
   * Begins to list what the message asks for, part by part.
   *
   * @param partBytes room for a part, 32 KiB where it is left out; not less than the kernel's NLMSG_GOODSIZE
   * @throws NetlinkError when the kernel does not even read it; a SystemError when it gives no socket.
   */
  startDump(message: NetlinkMessage, partBytes?: number): Listing
  /** May be called again. */
  close(): void
}

/**
 * Opens a socket in the network namespace of this thread.
 *
 * @throws KnpError NATIVE_MISSING; a SystemError when the kernel gives no socket.
 */
export function openNetlink(): Netlink {
  const { NetlinkSocket } = loadAddon()
  const socket: NativeNetlinkSocket = new NetlinkSocket()
  let nextSequence = 1
  let isClosed = false

  // Numbers are not used again for as long as a late reply could be about.
  function take(count: number): number {
    if (nextSequence + count > 0x7fff_ffff) nextSequence = 1
    const first = nextSequence
    nextSequence += count
    return first
  }

  function ask(operation: string, bytes: Uint8Array, lastSequence: number): Buffer {
    try {
      return socket.request(bytes, lastSequence, TIMEOUT_MS)
    } catch (error) {
      // The kernel refuses what it cannot even read with an error of the call itself.
      if (!isSystemError(error) || error.code === 'EBADF') throw error
      throw new NetlinkError(operation, [{ index: -1, errno: error.errno, explanation: error.message }])
    }
  }

  function batch(operation: string, subsystem: number, messages: readonly NetlinkMessage[], commit: boolean): void {
    if (messages.length === 0) return
    const first = take(messages.length + 2)
    const replies = ask(operation, encodeBatch(subsystem, messages, first, commit), first + messages.length)
    const { failures } = decodeReplies(replies, first + 1)
    if (failures.length > 0) throw new NetlinkError(operation, failures)
  }

  return {
    portId: socket.portId,
    transact: (subsystem, messages) => batch('transaction', subsystem, messages, true),
    check: (subsystem, messages) => batch('check', subsystem, messages, false),

    submit(messages) {
      if (messages.length > MAX_SUBMITTED)
        throw new RangeError(`${messages.length} messages are above ${MAX_SUBMITTED}`)
      if (messages.length === 0) return []
      const first = take(messages.length)
      const replies = ask('submit', encodeMessages(messages, first, true), first + messages.length - 1)
      return decodeReplies(replies, first).failures
    },

    get(message) {
      const first = take(1)
      const replies = decodeReplies(ask('get', encodeMessages([message], first, true), first), first)
      if (replies.failures.length > 0) throw new NetlinkError('get', replies.failures)
      return replies.messages[0]
    },

    dump(message) {
      for (let attempt = 0; attempt < MAX_DUMP_ATTEMPTS; attempt++) {
        const first = take(1)
        const listing = { ...message, flags: message.flags | NLM_F_DUMP }
        const replies = decodeReplies(ask('dump', encodeMessages([listing], first, false), first), first)
        if (replies.failures.length > 0) throw new NetlinkError('dump', replies.failures)
        if (!replies.interrupted) return replies.messages
      }
      throw neverAtRest()
    },

    startDump(message, partBytes = LISTING_PART_BYTES) {
      if (isClosed) throw wholeError(constants.errno.EBADF, 'the socket is closed')
      const first = take(1)
      const listing = { ...message, flags: message.flags | NLM_F_DUMP }
      return new KernelListing(new NetlinkSocket(), encodeMessages([listing], first, false), first, partBytes)
    },

    close() {
      isClosed = true
      socket.close()
    },
  }
}

/** The error of a listing whose every attempt was interrupted. */
export function neverAtRest(): NetlinkError {
  return wholeError(constants.errno.EINTR, 'it kept changing')
}

function wholeError(errno: number, explanation: string): NetlinkError {
  return new NetlinkError('dump', [{ index: -1, errno, explanation }])
}

class KernelListing implements Listing {
  isInterrupted = false
  readonly #socket: NativeNetlinkSocket
  readonly #sequence: number
  readonly #bytes: Uint8Array
  #hasEnded = false

  constructor(socket: NativeNetlinkSocket, request: Uint8Array, sequence: number, partBytes: number) {
    this.#socket = socket
    this.#sequence = sequence
    this.#bytes = new Uint8Array(partBytes)
    this.#orRefuse(() => socket.send(request))
  }

  nextPart(): Uint8Array | undefined {
    while (!this.#hasEnded) {
      const length = this.#orRefuse(() => this.#socket.receive(this.#bytes, TIMEOUT_MS))
      const end = this.#scan(length)
      if (end > 0) return this.#bytes.subarray(0, end)
    }
    return undefined
  }

  close(): void {
    this.#hasEnded = true
    this.#socket.close()
  }

  /** Looks for the end of the listing in a part, and answers how many bytes of messages come before it. */
  #scan(length: number): number {
    const part = scanListing(this.#bytes.subarray(0, length), this.#sequence)
    this.isInterrupted ||= part.isInterrupted
    if (part.failures.length > 0) {
      this.close()
      throw new NetlinkError('dump', part.failures)
    }
    if (part.isLast) this.close()
    return part.messageBytes
  }

  /** An error of a call ends the listing. */
  #orRefuse<T>(call: () => T): T {
    try {
      return call()
    } catch (error) {
      this.close()
      if (!isSystemError(error) || error.code === 'EBADF') throw error
      throw wholeError(error.errno, error.message)
    }
  }
}

/** What one datagram of a listing is. */
export interface ListingPart {
  /** How many of its bytes are messages, from the first on. */
  readonly messageBytes: number
  readonly isLast: boolean
  readonly isInterrupted: boolean
  readonly failures: readonly NetlinkFailure[]
}

/**
 * Reads what a datagram of a listing says about the listing.
 *
 * @param sequence of the request
 * @throws RangeError at a message that does not fit into the bytes.
 */
export function scanListing(bytes: Uint8Array, sequence: number): ListingPart {
  let isInterrupted = false
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = messageLengthAt(bytes, at)
    const type = readHostU16(bytes, at + 4)
    // Of another request.
    if (readHostU32(bytes, at + 8) !== sequence) return { messageBytes: at, isLast: false, isInterrupted, failures: [] }
    isInterrupted ||= (readHostU16(bytes, at + 6) & NLM_F_DUMP_INTR) !== 0
    if (type === NLMSG_DONE || type === NLMSG_ERROR) {
      const { failures } = decodeReplies(bytes.subarray(at, at + length), sequence)
      return { messageBytes: at, isLast: true, isInterrupted, failures }
    }
    at += align(length)
  }
  return { messageBytes: bytes.length, isLast: false, isInterrupted, failures: [] }
}

/**
 * How long the message at this byte is, its header included.
 *
 * @throws RangeError when it does not fit into the bytes.
 */
export function messageLengthAt(bytes: Uint8Array, at: number): number {
  const length = at + HEADER_BYTES <= bytes.length ? readHostU32(bytes, at) : 0
  if (length < HEADER_BYTES || at + length > bytes.length) {
    throw new RangeError(`message at byte ${at} claims ${length} of ${bytes.length - at} bytes`)
  }
  return length
}

function messageBytes(message: NetlinkMessage): number {
  return align(HEADER_BYTES + GENERIC_HEADER_BYTES + message.attributes.length)
}

function putMessage(
  bytes: Uint8Array,
  at: number,
  message: NetlinkMessage,
  flags: number,
  sequence: number,
  resourceId: number,
): number {
  const view = viewOf(bytes)
  view.setUint32(at, HEADER_BYTES + GENERIC_HEADER_BYTES + message.attributes.length, littleEndian)
  view.setUint16(at + 4, message.type, littleEndian)
  view.setUint16(at + 6, flags, littleEndian)
  view.setUint32(at + 8, sequence, littleEndian)
  view.setUint8(at + HEADER_BYTES, message.family)
  view.setUint16(at + HEADER_BYTES + 2, resourceId)
  bytes.set(message.attributes, at + HEADER_BYTES + GENERIC_HEADER_BYTES)
  return at + messageBytes(message)
}

/** The text in the attributes after an error, which follow the refused message or, when that is left out, its header. */
function explain(body: Uint8Array, flags: number): string | undefined {
  const refusedBytes = 4 + HEADER_BYTES
  if ((flags & NLM_F_ACK_TLVS) === 0 || body.length < refusedBytes) return undefined
  const refused = (flags & NLM_F_CAPPED) === 0 ? align(viewOf(body).getUint32(4, littleEndian)) : HEADER_BYTES
  return new Attributes(body.subarray(4 + refused)).string(NLMSGERR_ATTR_MSG)
}

function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`
}

/** A u16 in this machine's byte order. */
export function readHostU16(bytes: Uint8Array, at: number): number {
  return littleEndian ? bytes[at]! | (bytes[at + 1]! << 8) : (bytes[at]! << 8) | bytes[at + 1]!
}

/** A u32 in this machine's byte order. */
export function readHostU32(bytes: Uint8Array, at: number): number {
  const first = readHostU16(bytes, at)
  const second = readHostU16(bytes, at + 2)
  return (littleEndian ? (second << 16) | first : (first << 16) | second) >>> 0
}

/** Where what follows something of this length begins. */
export function align(length: number): number {
  return (length + 3) & ~3
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
