import type { DecidedBy } from '../engine/index.ts'

/** One end of a decided flow. */
export interface FlowEnd {
  /** `namespace/name` of a workload, or `node:NAME`. */
  readonly name?: string
  readonly address: string
  /** Absent for protocols without ports. */
  readonly port?: number
}

/** A decision, or several in a row that are alike but for the client's port. */
export interface FlowEvent {
  /** When the first of them was made, since 1970. */
  readonly timeMs: number
  /** How many there were. */
  readonly count: number
  readonly verdict: 'allow' | 'deny'
  /** What it would be if what is audited were enforced; only where that is another verdict. */
  readonly audit?: { readonly verdict: 'allow' | 'deny'; readonly decidedBy: DecidedBy }
  /** IP protocol number. */
  readonly protocol: number
  /** Absent, both of them, where the packet could not be read. */
  readonly source?: FlowEnd
  readonly destination?: FlowEnd
  readonly icmp?: { readonly type: number; readonly code: number }
  readonly hook: 'input' | 'forward' | 'output'
  /** What the packet was to its connection, where it was not the first: the flow is the connection's own. */
  readonly packet?: 'reply' | 'error' | 'midway'
  readonly decidedBy: DecidedBy
  /** Whether the kernel answered by itself, by what it remembers. */
  readonly isRemembered: boolean
  readonly generation: number
}
