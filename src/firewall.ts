import { type MarkLayout, nextStamp } from './datapath/marks.ts'
import { readCounters } from './datapath/packet-loop.ts'
import { PacketThread } from './datapath/thread.ts'
import { type CompiledPolicy, compile, formatBlock, type Snapshot } from './engine/index.ts'
import { refName } from './engine/objects.ts'
import { policyKinds } from './engine/pipeline.ts'
import type { FirewallStatus } from './firewall-status.ts'
import { claimNamespace } from './native/claim.ts'
import { readQueueStatistics } from './native/queue-statistics.ts'
import { type Failsafe, formatFailsafe } from './ruleset/failsafe.ts'
import { Ruleset, removeRuleset, type Wanted } from './ruleset/ruleset.ts'
import type { OnFailure } from './ruleset/text.ts'
import { ObjectStore } from './sources/object-store.ts'
import type { Delta, Source } from './sources/source.ts'

export interface FirewallOptions {
  readonly sources: readonly Source[]
  /** Which node of the picture this machine is. */
  readonly nodeName: string
  readonly onFailure: OnFailure
  readonly failsafe: Failsafe
  readonly queueNumber: number
  /** How many packets may wait for a verdict. */
  readonly queueLength: number
  readonly marks: MarkLayout
  readonly observe: (event: FirewallEvent) => void
}

/** What happens to a running firewall, for whoever tells people. */
export type FirewallEvent =
  | { readonly type: 'applied'; readonly status: FirewallStatus }
  | { readonly type: 'problem'; readonly message: string }
  | { readonly type: 'repaired'; readonly message: string }

/** Bytes of each packet that are copied to userspace: all headers that can be, extension headers included. */
const COPY_BYTES = 512
const BATCH_PACKETS = 256
const RECEIVE_BUFFER_BYTES = 8 << 20
/** How often the kernel is asked whether our rules are still there. */
const CHECK_INTERVAL_MS = 1000
const FIRST_STAMP = 1

/** Joins sources, engine, packet thread and ruleset; see docs/architecture.md. */
export class Firewall {
  /** Rejects when enforcing has ended without being asked to. */
  readonly failure: Promise<never>
  readonly #options: FirewallOptions
  readonly #store: ObjectStore
  readonly #ruleset: Ruleset
  readonly #thread: PacketThread
  readonly #abort: AbortController
  readonly #giveBack: () => void
  readonly #check: NodeJS.Timeout
  readonly #startedAtMs = Date.now()
  #snapshot: Snapshot
  #compiled: CompiledPolicy
  #stamp = FIRST_STAMP
  #isStale = false
  #work: Promise<void> = Promise.resolve()
  #isWorking = false
  #isInForce = true
  #problem: string | undefined

  /**
   * Resolves when packets are decided. Throws KnpError: INVALID_MANIFEST, UNREADABLE_SOURCE, QUEUE_TAKEN, PERMISSION,
   * UNSUPPORTED_HOST, RULESET. Then nothing is left behind that was not there before.
   */
  static async start(options: FirewallOptions): Promise<Firewall> {
    const store = new ObjectStore(options.nodeName)
    const abort = new AbortController()
    const giveBack = await claimNamespace()
    let firewall: Firewall | undefined
    let thread: PacketThread | undefined
    let ruleset: Ruleset | undefined
    try {
      let hasChanged = false
      const onDelta = (delta: Delta) => {
        store.apply(delta)
        hasChanged = true
        firewall?.refresh()
      }
      await Promise.all(options.sources.map((source) => source.start(onDelta, abort.signal)))
      hasChanged = false
      const snapshot = store.snapshot()
      const compiled = compile(snapshot, policyKinds)
      thread = await PacketThread.start({
        queue: {
          number: options.queueNumber,
          maxLength: options.queueLength,
          copyBytes: COPY_BYTES,
          capacity: BATCH_PACKETS,
          receiveBufferBytes: RECEIVE_BUFFER_BYTES,
        },
        marks: options.marks,
        generation: compiled.generation,
        stamp: FIRST_STAMP,
      })
      const { marks, onFailure, failsafe, queueNumber } = options
      ruleset = new Ruleset({ marks, onFailure, failsafe, queue: queueNumber, queuesTotal: 1 })
      await ruleset.install(wantedBy(compiled, FIRST_STAMP))
      firewall = new Firewall({ options, store, abort, snapshot, compiled, thread, ruleset, giveBack })
      // A change that came while the rest was set up.
      if (hasChanged) firewall.refresh()
      return firewall
    } catch (error) {
      abort.abort()
      ruleset?.close()
      await thread?.stop()
      giveBack()
      throw error
    }
  }

  private constructor(parts: {
    options: FirewallOptions
    store: ObjectStore
    abort: AbortController
    snapshot: Snapshot
    compiled: CompiledPolicy
    thread: PacketThread
    ruleset: Ruleset
    giveBack: () => void
  }) {
    this.#options = parts.options
    this.#store = parts.store
    this.#abort = parts.abort
    this.#snapshot = parts.snapshot
    this.#compiled = parts.compiled
    this.#thread = parts.thread
    this.#ruleset = parts.ruleset
    this.#giveBack = parts.giveBack
    this.failure = parts.thread.failure
    this.#check = setInterval(() => this.#checkRuleset(), CHECK_INTERVAL_MS)
  }

  /** The picture has changed: compiles it and brings it into force; changes that come meanwhile are taken together. */
  refresh(): void {
    this.#isStale = true
    this.#work = this.#work.then(() => this.#bringIntoForce())
  }

  /** Resolves when everything known so far is in force. */
  async settled(): Promise<void> {
    await this.#work
  }

  status(): FirewallStatus {
    const { options, compiled, snapshot } = {
      options: this.#options,
      compiled: this.#compiled,
      snapshot: this.#snapshot,
    }
    const sources = options.sources.map((source) => source.health())
    const statistics = readQueueStatistics()?.find(({ queue }) => queue === options.queueNumber)
    const problems = sources.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`]))
    if (this.#problem !== undefined) problems.push(this.#problem)
    return {
      mode: 'enforce',
      enforcing: this.#isInForce,
      generation: compiled.generation.number,
      nodeName: options.nodeName,
      isGateway: compiled.isGateway,
      policies: snapshot.networkPolicies.length,
      workloads: {
        known: snapshot.workloads.length,
        selected: compiled.selectedWorkloads,
        protected: compiled.protectedWorkloads,
      },
      subjects: compiled.subjects.length,
      ...(compiled.host && {
        host: {
          name: compiled.host.name,
          ingress: compiled.host.ingress,
          egress: compiled.host.egress,
          forwards: compiled.host.forwards.map(formatBlock),
        },
      }),
      failsafe: {
        inbound: options.failsafe.inbound.map(formatFailsafe),
        outbound: options.failsafe.outbound.map(formatFailsafe),
      },
      warnings: compiled.problems.map(
        ({ object, message }) => `${object.file}:${object.line}: ${object.kind} ${refName(object)}: ${message}`,
      ),
      onFailure: options.onFailure,
      divertRule: !this.#isInForce ? 'missing' : this.#ruleset.mechanism === 'queue' ? 'nft queue' : 'xt target',
      queue: { number: options.queueNumber, length: options.queueLength, ...(statistics && { statistics }) },
      counters: this.#ruleset.counters(),
      packetThread: readCounters(this.#thread.counters),
      sources,
      problems,
      startedAtMs: this.#startedAtMs,
    }
  }

  /**
   * Ends deciding. Under `closed` the table stays: what needs a verdict is dropped until the next start. Under `open` it
   * is taken down.
   */
  async stop(): Promise<void> {
    this.#abort.abort()
    clearInterval(this.#check)
    await this.#work
    if (this.#options.onFailure === 'open') await removeRuleset()
    await this.#thread.stop()
    this.#ruleset.close()
    this.#giveBack()
  }

  async #apply(): Promise<void> {
    const snapshot = this.#store.snapshot()
    const compiled = compile(snapshot, policyKinds)
    const stamp = nextStamp(this.#stamp)
    // The engine first: what it decides from now on is not remembered before the ruleset follows.
    await this.#thread.swap(compiled.generation, stamp)
    this.#snapshot = snapshot
    this.#compiled = compiled
    this.#stamp = stamp
    await this.#ruleset.update(wantedBy(compiled, stamp))
    this.#options.observe({ type: 'applied', status: this.status() })
  }

  /** Repairs what another program has removed, and tries again what has failed. */
  #checkRuleset(): void {
    if (this.#isWorking) return
    if (this.#isInForce && !this.#ruleset.isInForce()) {
      this.#isInForce = false
      this.#options.observe({ type: 'problem', message: 'another program has removed rules of table inet knp' })
    }
    if (!this.#isInForce || this.#isStale) this.#work = this.#work.then(() => this.#bringIntoForce())
  }

  /** One piece of work at a time. What fails leaves in force what was, and is tried again at the next check. */
  async #bringIntoForce(): Promise<void> {
    this.#isWorking = true
    try {
      if (!this.#isInForce) {
        await this.#ruleset.install(wantedBy(this.#compiled, this.#stamp))
        this.#isInForce = true
        this.#options.observe({ type: 'repaired', message: 'the rules of table inet knp are in force again' })
      }
      while (this.#isStale) {
        this.#isStale = false
        await this.#apply()
      }
      this.#problem = undefined
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      if (message !== this.#problem) this.#options.observe({ type: 'problem', message })
      this.#problem = message
      this.#isStale = true
      this.#isInForce = false
    } finally {
      this.#isWorking = false
    }
  }
}

function wantedBy({ subjects, host }: CompiledPolicy, stamp: number): Wanted {
  // A host that no policy selects is not judged.
  return { subjects, stamp, host: host && (host.ingress || host.egress) ? host : undefined }
}
