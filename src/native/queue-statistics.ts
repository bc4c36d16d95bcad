import { readFileSync } from 'node:fs'

const path = '/proc/net/netfilter/nfnetlink_queue'
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
