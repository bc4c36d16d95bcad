import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { plausibleHooks, sweepConnections } from './datapath/sweep.ts'
import { addressSet } from './engine/address.ts'
import type { Address, Packet } from './engine/index.ts'
import { graceOver } from './native/grace.ts'
import { openNetlink } from './native/netlink.ts'
import type { Ruleset } from './ruleset/ruleset.ts'

/** What a revocation needs of the firewall that it works for. */
export interface RevocationSite {
  readonly ruleset: Ruleset
  /** Our changes through this netlink port are no stranger's. */
  readonly own: (portId: number) => () => void
  /** The bits of connection marks that hold the stamp. */
  readonly connectionMask: number
  readonly connectionShift: number
  /** Whether a packet is let through at a hook by the policies in force. */
  readonly isAllowed: (packet: Packet, hook: number) => boolean
  readonly isLocalAddress: (address: Address) => boolean
  /** Told what went wrong, and `undefined` when it is well again. What was to be rechecked is until it goes well. */
  readonly onProblem: (error: unknown) => void
}

/** The shortest and the longest time from one sweep to the next. */
const SWEEP_INTERVAL_MS = { least: 200, most: 2_000 }
/**
 * Of a sweep's time so many more are left to others: while the kernel looks through its table (10 ms where that has room for
 * 260,000 connections) it takes no packets in on that processor. What waits meanwhile costs little: packets of what changed
 * are judged.
 */
const PAUSE_PER_SWEEP = 99

/**
 * Follows changes: the connections of the addresses that a change concerns are looked through, those no longer allowed lose
 * their stamp, and the rest pass by theirs again. Meanwhile the ruleset has every packet of these addresses judged, so nothing
 * depends on how soon this is done.
 */
export class Revocation {
  readonly #site: RevocationSite
  readonly #netlink = openNetlink()
  readonly #disown: () => void
  readonly #abort = new AbortController()
  #isAsked = false
  #work: Promise<void> | undefined
  #hasProblem = false

  constructor(site: RevocationSite) {
    this.#site = site
    this.#disown = site.own(this.#netlink.portId)
  }

  /** There may be something to be rechecked. */
  schedule(): void {
    this.#isAsked = true
    this.#work ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#work
    this.#disown()
    this.#netlink.close()
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (this.#isAsked && !signal.aborted) {
      this.#isAsked = false
      const begunMs = performance.now()
      try {
        await this.#sweep()
        if (this.#hasProblem) this.#site.onProblem(undefined)
        this.#hasProblem = false
      } catch (error) {
        this.#isAsked = true
        this.#hasProblem = true
        this.#site.onProblem(error)
      }
      const { least, most } = SWEEP_INTERVAL_MS
      const pauseMs = Math.min(most, Math.max(least, (performance.now() - begunMs) * PAUSE_PER_SWEEP))
      await sleep(pauseMs, undefined, { signal }).catch(() => {})
    }
    this.#work = undefined
  }

  /** What is named by changes that come meanwhile is left to the next one. */
  async #sweep(): Promise<void> {
    const { ruleset, isLocalAddress, connectionMask, connectionShift } = this.#site
    const { change, addresses } = ruleset.rechecks
    if (addresses.length === 0) return
    const isTouched = addressSet(addresses)
    // A packet that was under way by the former rules may still stamp its connection.
    await graceOver()
    const isAllowed = (packet: Packet) =>
      plausibleHooks(packet, isLocalAddress).every((hook) => this.#site.isAllowed(packet, hook))
    const stamp = { mask: connectionMask, value: ruleset.connectionStamp << connectionShift }
    await sweepConnections({ netlink: this.#netlink, stamp, isTouched, isAllowed })
    while (!this.#abort.signal.aborted && !ruleset.endRecheck(change)) await setImmediate()
  }
}
