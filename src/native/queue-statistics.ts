import { readFileSync } from 'node:fs'
import { AttributeWriter, type Netlink, NFNL_SUBSYS_QUEUE } from './netlink.ts'

const path = '/proc/net/netfilter/nfnetlink_queue'
// linux/netfilter/nfnetlink_queue.h
const NFQNL_MSG_CONFIG = 2
const NFQA_CFG_CMD = 1
const NFQNL_CFG_CMD_PF_UNBIND = 4
const COMMAND_BYTES = 4
const AF_UNSPEC = 0

const copyModes = ['none', 'meta', 'packet'] as const

/** One bound queue of this network namespace, as the kernel counts it. */
export interface QueueStatistics {
  readonly queue: number
  /** The netlink port of the socket that bound it, as an unsigned number: usually the process id of its owner. */
  readonly portId: number
  /** Packets that were queued and have no answer yet. */
  readonly waiting: number
  readonly copyMode: 'none' | 'meta' | 'packet' | 'unknown'
  /** How many bytes of each packet are copied, at most. */
  readonly copyRange: number
  /** Packets dropped because the queue was full. With fail-open, such packets pass and are counted nowhere. */
  readonly dropped: number
  /** Packets dropped because the listener's socket was full. */
  readonly userDropped: number
  /** The id of the last packet queued: how many there were since the queue was bound (u32, wraps). */
  readonly idSequence: number
}

/**
 * Reads the text of /proc/net/netfilter/nfnetlink_queue: a line a queue, nine columns (seq_show in the kernel's
 * net/netfilter/nfnetlink_queue.c). Lines of another shape are left out.
 */
export function parseQueueStatistics(text: string): readonly QueueStatistics[] {
  const queues: QueueStatistics[] = []
  for (const line of text.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (columns.length < 8 || !columns.every((column) => /^-?\d+$/.test(column))) continue
    const [queue, portId, waiting, copyMode, copyRange, dropped, userDropped, idSequence] = columns.map(Number)
    queues.push({
      queue: queue!,
      // Printed as a signed number by some kernels, as an unsigned one by others.
      portId: portId! >>> 0,
      waiting: waiting!,
      copyMode: copyModes[copyMode!] ?? 'unknown',
      copyRange: copyRange!,
      dropped: dropped!,
      userDropped: userDropped!,
      idSequence: idSequence!,
    })
  }
  return queues
}

/**
 * The queues bound in this network namespace; `undefined` when the kernel offers no such list (no nfnetlink_queue) or
 * does not let this process read it (it is root's).
 */
export function readQueueStatistics(): readonly QueueStatistics[] | undefined {
  try {
    return parseQueueStatistics(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/**
 * Has the kernel load its packet queues, which distributions build as a module: it does so when they are first spoken to.
 * The command does nothing else since kernel 3.8. Where there is no such module, nothing happens.
 */
export function loadQueues(netlink: Netlink): void {
  const command = new Uint8Array(COMMAND_BYTES)
  command[0] = NFQNL_CFG_CMD_PF_UNBIND
  const attributes = new AttributeWriter().data(NFQA_CFG_CMD, command).finish()
  netlink.submit([{ type: (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_CONFIG, flags: 0, family: AF_UNSPEC, attributes }])
}
