import { closeSync } from 'node:fs'
import { KnpError } from '../errors.ts'
import { type Addon, isSystemError, loadAddon, type SystemError } from './load.ts'
import { findPortOwner, type PortOwner } from './port-owner.ts'
import { readQueueStatistics } from './queue-statistics.ts'

/** How many int32 values a row of {@link PacketQueue.packets} has; the FIELD_ constants are their places in it. */
export const PACKET_FIELDS = 9
/** 4 or 6 from the packet's protocol number, 0 for anything else. */
export const FIELD_FAMILY = 0
/** The netfilter hook: 1 input, 2 forward, 3 output (enum nf_inet_hooks in linux/netfilter.h). */
export const FIELD_HOOK = 1
/** The packet's mark, as a signed number: use `>>> 0` to print it. */
export const FIELD_MARK = 2
/** Where the packet begins in {@link PacketQueue.bytes}: its IP header. */
export const FIELD_OFFSET = 3
/** How many bytes of it are there. */
export const FIELD_LENGTH = 4
/** How many bytes it had: more than FIELD_LENGTH when it was cut to `copyBytes`. */
export const FIELD_ORIGINAL_LENGTH = 5
/** Interface indexes; 0 when the hook has none. */
export const FIELD_IN_INTERFACE = 6
export const FIELD_OUT_INTERFACE = 7
/** What names the packet in the queue, for {@link PacketQueue.answerLate}. */
export const FIELD_ID = 8

/** How many float64 values {@link PacketQueue.state} has; the STATE_ constants are their places in it. */
export const STATES = 3
/** When the last receive ended, or the queue was opened, in ms of a clock that only goes forward. */
export const STATE_RECEIVED_MS = 0
/** The same in ms since 1970. */
export const STATE_RECEIVED_EPOCH_MS = 1
/** When the last answer was sent, by the clock of STATE_RECEIVED_MS. */
export const STATE_ANSWERED_MS = 2

/** What went wrong since the queue was opened. */
export interface QueueCounters {
  /** How often the socket was full. With fail-open such packets went on without an answer, their number is unknown. */
  readonly overflows: number
  /** Answers that the kernel refused, for packets it no longer knew, or that could not be sent. */
  readonly answerErrors: number
  /** Messages larger than their place in {@link PacketQueue.bytes}; answered like all others. */
  readonly truncated: number
}

/**
 * A source of packets that wait for an answer. One thread uses it; only {@link wakeQueue} may be called from others.
 *
 * The arrays are the same ones for the queue's life. Rows, bytes and marks from a receive are valid until its answer.
 */
export interface PacketQueue {
  /** The most packets one receive returns. */
  readonly capacity: number
  /** `capacity` rows of {@link PACKET_FIELDS}. */
  readonly packets: Int32Array
  /** What the kernel copied; see {@link FIELD_OFFSET}. Only to be read. */
  readonly bytes: Uint8Array
  /** What the queue tells about its calls; see {@link STATE_RECEIVED_MS}. Clocks are read here: each reading costs more in JavaScript. */
  readonly state: Float64Array
  /** `capacity` marks: what the caller answers, row by row. */
  readonly marks: Int32Array
  /** `capacity` flags: a row whose flag is not 0 is not answered with the others. The answer clears them. */
  readonly held: Uint8Array
  /** What {@link wakeQueue} takes. Not to be closed. */
  readonly wakeFd: number
  /**
   * Blocks until packets come, for at most `timeoutMs` (below 0: for ever), and returns how many rows it filled. 0 means
   * woken, timed out, or nothing but errors. A receive that takes a wake may return packets as well: what the wake is for
   * must be told in another way too.
   *
   * @throws SystemError EBUSY when the packets of the last receive are not answered, EBADF after `close`.
   */
  receive(timeoutMs: number): number
  /**
   * Accepts each packet of the last receive with its mark from `marks`. `count` is what that receive returned: every
   * packet gets exactly one answer, those that are {@link held} by {@link answerLate}.
   *
   * @throws SystemError ERANGE for any other count, EBADF after `close`.
   */
  answer(count: number): void
  /**
   * Accepts packets that were held, by their ids: each with the mark at the same place.
   *
   * @throws SystemError ERANGE for more than `capacity` or than the arrays have, EBADF after `close`.
   */
  answerLate(ids: Int32Array, marks: Int32Array, count: number): void
  counters(): QueueCounters
  /**
   * Gives the queue back. Packets that wait in it are dropped by the kernel, unless another process has its socket too: then
   * they go on waiting. May be called again.
   */
  close(): void
}

/** A queue in the kernel. */
export interface BoundQueue extends PacketQueue {
  /** Its socket. Whoever has a duplicate of it keeps the queue bound. Not to be closed. */
  readonly socketFd: number
}

/** How {@link openQueue} binds a queue. */
export interface QueueOptions {
  /** The NFQUEUE number, 0 to 65535. */
  readonly number: number
  /** How many packets may wait in the kernel. Beyond it they go on unanswered (fail-open). */
  readonly maxLength: number
  /** How many bytes of each packet are copied, 1 to 65531. */
  readonly copyBytes: number
  /** The most packets one receive returns, 1 to 65536. */
  readonly capacity: number
  /** Room in the socket; 0 leaves the system's default. */
  readonly receiveBufferBytes: number
  /**
   * The socket by which a former process had bound the queue: the queue is taken over with all that waits in it. One that
   * has not bound this queue here is closed.
   */
  readonly keptFd?: number
}

/**
 * Binds a queue of this network namespace: packets are copied, kept whole (GSO), and go on unanswered when the queue or
 * the socket is full (fail-open). Or takes it over: then its socket is that of `keptFd`, and every packet that waits in the queue
 * is handed out, those too that the former process had received and not answered.
 *
 * @throws KnpError QUEUE_TAKEN when another socket has it, PERMISSION without CAP_NET_ADMIN, UNSUPPORTED_HOST when the
 *   kernel has no nfnetlink_queue, NATIVE_MISSING. A SystemError for what is none of these.
 */
export function openQueue({ keptFd, ...options }: QueueOptions): BoundQueue {
  const addon: Addon = loadAddon()
  const kept = keptFd === undefined ? undefined : findKept(addon, options.number, keptFd)
  try {
    return new addon.Queue({ ...options, ...kept })
  } catch (error) {
    if (!isSystemError(error) || error.operation === 'options') throw error
    throw explainOpenError(options.number, error)
  }
}

/**
 * Makes the receive that is blocked on this queue or log, or its next one, return. From any thread of this process.
 *
 * @returns Whether it was delivered; `false` when the queue is closed, and when its socket is full: then no receive blocks.
 */
export function wakeQueue(wakeFd: number): boolean {
  return loadAddon().wake(wakeFd)
}

/** Whether a socket has bound a queue is seen in the kernel's list only: by its port. */
function findKept(addon: Addon, number: number, fd: number): { keptFd: number; lastId: number } | undefined {
  const portId = addon.portId(fd)
  const queue = readQueueStatistics()?.find((entry) => entry.queue === number)
  if (portId !== 0 && queue?.portId === portId) return { keptFd: fd, lastId: queue.idSequence }
  closeSync(fd)
  return undefined
}

function explainOpenError(queue: number, error: SystemError): Error {
  switch (error.code) {
    case 'EPERM':
    case 'EBUSY':
      return explainRefusal(queue, error)
    case 'EINVAL':
    case 'ENOENT':
    case 'EPROTONOSUPPORT':
    case 'EAFNOSUPPORT':
    case 'EOPNOTSUPP':
      return new KnpError('UNSUPPORTED_HOST', `queue ${queue}: the kernel cannot queue packets: ${error.code}`, {
        hint: 'load the kernel module: `modprobe nfnetlink_queue`',
        cause: error,
      })
    default:
      return error
  }
}

// The kernel answers EPERM both for a queue that someone else has and for want of the capability.
function explainRefusal(queue: number, error: SystemError): KnpError {
  const holder = readQueueStatistics()?.find((entry) => entry.queue === queue)
  if (holder === undefined) {
    return new KnpError('PERMISSION', `queue ${queue}: binding it is not permitted: ${error.code}`, {
      hint: 'run as root or grant CAP_NET_ADMIN',
      cause: error,
    })
  }
  const owner = findPortOwner(holder.portId)
  const who = owner === undefined ? '' : `, ${owner.name} (pid ${owner.pid})`
  return new KnpError('QUEUE_TAKEN', `queue ${queue}: already bound by netlink port ${holder.portId}${who}`, {
    hint: refusalHint(owner),
    cause: error,
  })
}

function refusalHint(owner: PortOwner | undefined): string {
  if (owner === undefined) return 'choose another queue number'
  // It keeps sockets for services that are to start again.
  if (owner.name === 'systemd')
    return 'stop the service it keeps it for (`systemctl stop knp`), or choose another queue number'
  return `stop process ${owner.pid} or choose another queue number`
}
