import type { Delta } from '../engine/snapshot.ts'

export interface SourceHealth {
  readonly name: string
  /** True while what the source last delivered is what it reads now. */
  readonly isCurrent: boolean
  /** Why not, in full: file, line, object and remedy. */
  readonly error?: string
  /** Since when it is not, in milliseconds since 1970. */
  readonly brokenSinceMs?: number
  /** When the picture in force was read, or was last known to be what there is, in milliseconds since 1970. */
  readonly syncedAtMs?: number
  /** Of a source that is told of changes: how long it has not been told that nothing was missed. */
  readonly lagMs?: number
  /** When something changed last, in milliseconds since 1970. */
  readonly lastEventAtMs?: number
  /** How often being told of changes broke off and was begun again. */
  readonly restarts?: number
  /** Things left out or doubtful, one line each. */
  readonly notes: readonly string[]
}

/** Where the picture of the world comes from. */
export interface Source {
  readonly name: string
  /**
   * Delivers the first full picture in one or more deltas, resolves, and goes on delivering changes until the signal
   * aborts. Rejects with KnpError where there is no first picture, and goes on trying all the same: the caller who cannot
   * do without one aborts. Later trouble shows in `health`.
   * @param ahead for who wants to prepare: told of objects that the first picture will have, unless the source changes its
   * mind, while others are being read. They are delivered with that all the same.
   */
  start(update: (delta: Delta) => void, signal: AbortSignal, ahead?: (part: Delta) => void): Promise<void>
  health(): SourceHealth
  /** Of a source that is a cluster, whose pods may run here before it tells of them. */
  readonly cluster?: Cluster
  /** For sources that can be written, see `PolicyFolder`. */
  readonly folder?: PolicyFolder
}

/** What a machine of a cluster must reach whatever policies say. */
export interface Cluster {
  /** To whom its API server's connections go: a host name or an address, and a TCP port. `undefined` before it is known. */
  apiServer(): { readonly host: string; readonly port: number } | undefined
  /** Ends all connections to it and makes others, to where it is now. No change is missed. */
  connectAnew(): void
}

/** A source's own files, where policies that were confirmed are kept. */
export interface PolicyFolder {
  /** Throws KnpError UNREADABLE_SOURCE where `replace` could not put a folder's manifests in the place of its own. */
  requireReplaceable(folder: string): Promise<void>
  /**
   * Makes the manifests of `folder` the source's own, keeps the former ones in `backup`, and answers the change. Throws
   * KnpError UNREADABLE_SOURCE, INVALID_MANIFEST.
   */
  replace(folder: string, backup: string): Promise<Delta>
}
