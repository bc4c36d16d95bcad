import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { KnpError } from '../errors.ts'

/** What a queue is opened with; see {@link ../native/queue.ts openQueue}. */
export interface NativeQueueOptions {
  readonly number: number
  readonly maxLength: number
  readonly copyBytes: number
  readonly capacity: number
  readonly receiveBufferBytes: number
  /** A socket that has bound the queue already; the addon closes it from now on. With `lastId`. */
  readonly keptFd?: number
  /** The id of the last packet that was queued. */
  readonly lastId?: number
}

/** The addon's `Queue` (queue.h). */
export interface NativeQueue {
  readonly capacity: number
  readonly packets: Int32Array
  readonly bytes: Uint8Array
  readonly state: Float64Array
  readonly marks: Int32Array
  readonly held: Uint8Array
  readonly wakeFd: number
  readonly socketFd: number
  receive(timeoutMs: number): number
  answer(count: number): void
  answerLate(ids: Int32Array, marks: Int32Array, count: number): void
  counters(): { readonly overflows: number; readonly answerErrors: number; readonly truncated: number }
  close(): void
}

/** What a packet log is opened with; see {@link ../native/packet-log.ts openPacketLog}. */
export interface NativePacketLogOptions {
  readonly group: number
  readonly copyBytes: number
  readonly receiveBufferBytes: number
}

/** The addon's `PacketLog` (packet-log.h). */
export interface NativePacketLog {
  readonly packets: Int32Array
  readonly denied: Uint8Array
  readonly bytes: Uint8Array
  readonly state: Float64Array
  readonly wakeFd: number
  receive(timeoutMs: number): number
  lost(): number
  close(): void
}

/** The addon's `NetlinkSocket` (netlink.h). */
export interface NativeNetlinkSocket {
  /** The kernel writes it into what it reports of this socket's changes. */
  readonly portId: number
  /** Sends a request and blocks until its last reply has come: all of them. What has come before is thrown away. */
  request(message: Uint8Array, lastSequence: number, timeoutMs: number): Buffer
  /** Sends a request whose replies are taken by {@link receive}. Not on a socket that also does {@link request}. */
  send(message: Uint8Array): void
  /** Blocks until a datagram comes, writes it to the front of `into`, and answers its length. ETIMEDOUT, EMSGSIZE. */
  receive(into: Uint8Array, timeoutMs: number): number
  close(): void
}

/** Multicast groups of one netlink protocol. */
export interface NativeSubscription {
  /** NETLINK_ of linux/netlink.h. */
  readonly protocol: number
  readonly groups: readonly number[]
}

/** What a monitor receives: from which subscription, and the bytes; none when the kernel had to leave events out. */
export interface NativeDatagram {
  readonly source: number
  readonly bytes: Uint8Array | undefined
}

/** The addon's `NetlinkMonitor` (netlink-monitor.h). */
export interface NativeNetlinkMonitor {
  /** What {@link Addon.wake} takes, from any thread. */
  readonly wakeFd: number
  /** Blocks until something comes, for at most `timeoutMs` (below 0: for ever); `undefined` when woken or timed out. */
  receive(timeoutMs: number): NativeDatagram | undefined
  /** A descriptor of the socket of the subscription at this index, to be closed apart. */
  duplicate(source: number): number
  close(): void
}

/** What the addon exports. Its errors are {@link SystemError}s. */
export interface Addon {
  readonly Queue: new (options: NativeQueueOptions) => NativeQueue
  readonly PacketLog: new (options: NativePacketLogOptions) => NativePacketLog
  /** `protocol` is NETLINK_NETFILTER where it is not given. */
  readonly NetlinkSocket: new (
    protocol?: number,
  ) => NativeNetlinkSocket
  /** `receiveBufferBytes` is the room in each socket; 0 leaves the system's default. */
  readonly NetlinkMonitor: new (
    subscriptions: readonly NativeSubscription[],
    receiveBufferBytes: number,
  ) => NativeNetlinkMonitor
  wake(fd: number): boolean
  /** Waits for an RCU grace period off this thread: membarrier(2) MEMBARRIER_CMD_GLOBAL. Answers its errno, 0 for done. */
  awaitGracePeriod(): Promise<number>
  /** The netlink port of a descriptor; 0 when it is no netfilter socket of this network namespace. */
  portId(fd: number): number
  /** To a unix socket; a path that begins with `@` is an abstract name. */
  sendDatagram(path: string, text: string, descriptors: readonly number[]): void
  /** Gives memory that the C library has set aside back to the system; takes some milliseconds. */
  trimMemory(): void
  /** See scheduling.h; `sliceMs` is 0 (the system's) to 100. Answers an errno, 0 for done. */
  giveWay(threadId: number, nice: number, sliceMs: number): number
  /** The calling thread, as /proc/self/task names it. */
  threadId(): number
  /** Whether a netlink socket receives what the kernel tells a multicast group. Answers an errno, 0 for done. */
  setMembership(fd: number, group: number, isMember: boolean): number
  /** Of the machine's memory. */
  readonly pageBytes: number
}

/** An error of the addon: a positive errno, its name, and what was being done. */
export interface SystemError extends Error {
  readonly errno: number
  readonly code: string
  readonly operation: string
}

/** Whether something thrown is an error of the addon's. */
export function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'errno' in error && 'operation' in error
}

let addon: Addon | undefined

/**
 * Loads the addon built for this machine, once a thread: asking Node for it again is no cheap look-up.
 *
 * @throws KnpError NATIVE_MISSING when there is none, or it cannot be loaded here.
 */
export function loadAddon(): Addon {
  addon ??= load()
  return addon
}

function load(): Addon {
  const path = fileURLToPath(new URL(`../../prebuilds/${process.platform}-${process.arch}/knp.node`, import.meta.url))
  try {
    return createRequire(import.meta.url)(path) as Addon
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw new KnpError('NATIVE_MISSING', `${path}: the addon cannot be loaded: ${reason}`, {
      hint: 'run `npm run build:native` (needs g++ and make)',
      cause,
    })
  }
}
