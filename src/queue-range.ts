/** Netfilter queues whose numbers follow each other. */
export interface QueueRange {
  readonly first: number
  /** 1 or more. */
  readonly count: number
}

/** Every number of the range, in order. */
export function queueNumbers({ first, count }: QueueRange): readonly number[] {
  return Array.from({ length: count }, (_, i) => first + i)
}

/** `100`, or `100-102`, as nft has it. */
export function formatQueues({ first, count }: QueueRange): string {
  return count === 1 ? `${first}` : `${first}-${first + count - 1}`
}

/** `queue 100`, `queues 100-102`. */
export function describeQueues(range: QueueRange): string {
  return `${range.count === 1 ? 'queue' : 'queues'} ${formatQueues(range)}`
}
