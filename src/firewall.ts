import { setTimeout as sleep } from 'node:timers/promises'
import type { ApiServerFailsafe } from './api-server-failsafe.ts'
import { bridgeRemedy, unheardBridges } from './bridges.ts'
import { clockMs } from './clock.ts'
import { nextStamp } from './datapath/marks.ts'
import { type PacketCounters, type PacketThreads, sumCounters } from './datapath/threads.ts'
import {
  type Address,
  type CompiledPolicy,
  Compiler,
  compile,
  type Decision,
  explain,
  formatBlock,
  type PolicyKind,
  type Question,
} from './engine/index.ts'
import { placedName } from './engine/objects.ts'
import { FigureKeeper, type FirewallFigures } from './firewall-figures.ts'
import { type FirewallOptions, followsPods, onFailureOf } from './firewall-options.ts'
import { EarlyEvents, FIRST_STAMP, type FirewallParts, setUpFirewall, withApiServers } from './firewall-start.ts'
import type { FirewallStatus } from './firewall-status.ts'
import { FlowFeed } from './flows/feed.ts'
import { FlowResolver } from './flows/resolver.ts'
import { stalledText } from './health.ts'
import { type KeptConnection, requireKept } from './kept-connection.ts'
import type { KernelWatch } from './native/kernel-watch.ts'
import type { TableChange } from './native/kernel-watch-thread.ts'
import { type LocalAddress, localAddressTest } from './native/local-addresses.ts'
import { trimMemory } from './native/memory.ts'
import { readQueueStatistics } from './native/queue-statistics.ts'
import { giveWay, urgently } from './native/scheduling.ts'
import type { PodAddresses, PodChange, UnknownPodOptions } from './pod-addresses.ts'
import { type PendingTrial, PolicyTrial } from './policy-trial.ts'
import { Revocation } from './revocation.ts'
import { type Failsafe, formatFailsafe } from './ruleset/failsafe.ts'
import { type Suspicion, TableGuard } from './ruleset/guard.ts'
import type { Change, Ruleset, Wanted } from './ruleset/ruleset.ts'
import { TABLE } from './ruleset/text.ts'
import type { LastGood } from './sources/last-good.ts'
import type { ObjectStore } from './sources/object-store.ts'
import { changeOf, isNoChange, wantedBy } from './wanted-rules.ts'

/** How often the kernel is asked whether our rules are still there, also when it has reported no change. */
const CHECK_INTERVAL_MS = 1000
/** The shortest time from one change to the next. The first one waits for nobody; of many that follow, fewer packets meet one. */
const APPLY_INTERVAL_MS = 50
/** Of the time that a change takes so much more is left to others. */
const PAUSE_PER_APPLY = 4
const ANNOUNCE_INTERVAL_MS = 1000

/** Joins sources, engine, packet threads and ruleset; see docs/architecture.md. */
export class Firewall {
  /** Rejects when enforcing has ended without being asked to. */
  readonly failure: Promise<never>
  /** What is decided, for whoever wants to know. */
  readonly flows: FlowFeed
  readonly #options: FirewallOptions
  /** In order of precedence. */
  readonly #kinds: readonly PolicyKind[]
  readonly #store: ObjectStore
  readonly #lastGood: LastGood
  /** When the picture of a source that could not be read at the start was saved. */
  readonly #restoredFromMs: number | undefined
  readonly #trial: PolicyTrial
  readonly #ruleset: Ruleset
  readonly #threads: PacketThreads
  readonly #watch: KernelWatch
  readonly #guard: TableGuard
  readonly #revocation: Revocation
  readonly #figures: FigureKeeper
  readonly #pods: PodAddresses
  readonly #apiServers: ApiServerFailsafe
  /** Pods got routes or lost them, or this machine addresses. */
  #arePodsStale = false
  /** Ends the wait for the next change. */
  #endPause: (() => void) | undefined
  #isLocalAddress: (address: Address) => boolean
  readonly #abort: AbortController
  readonly #giveBack: () => void
  readonly #check: NodeJS.Timeout
  readonly #startedAtMs = Date.now()
  /** `undefined` after it has failed: then everything is compiled again. */
  #compiler: Compiler | undefined
  #compiled: CompiledPolicy
  #stamp = FIRST_STAMP
  #isStale = false
  #nextApplyMs = 0
  #announcedMs = 0
  #announcement: NodeJS.Timeout | undefined
  /** What the kernel remembers of any flow may be wrong. */
  #mustForget = false
  #work: Promise<void> = Promise.resolve()
  /** The kernel has reported that the table was changed. */
  #isAlarmed = false
  /** Work was asked for that has not begun. */
  #isScheduled = false
  #isWorking = false
  #problem: string | undefined
  #watchProblem: string | undefined
  #revocationProblem: string | undefined

  /**
   * Resolves when packets are decided. Throws KnpError: INVALID_CONFIG (an evaluator), INVALID_MANIFEST, UNREADABLE_SOURCE, QUEUE_TAKEN, PERMISSION,
   * UNSUPPORTED_HOST, RULESET. Then nothing is left behind that was not there before.
   */
  static start(options: FirewallOptions): Promise<Firewall> {
    const early = new EarlyEvents()
    return setUpFirewall(options, early, (parts) => {
      const firewall = new Firewall(parts)
      early.passTo({
        tableChanged: (change) => firewall.#noticeChange(change),
        addressesChanged: (addresses) => firewall.#takeAddresses(addresses),
        podsChanged: (pods) => firewall.#takeRouted(pods),
        failed: (error) => firewall.#loseWatch(error),
        pictureChanged: () => firewall.refresh(),
      })
      return firewall
    })
  }

  private constructor(parts: FirewallParts) {
    this.#options = parts.options
    this.#kinds = parts.kinds
    this.#figures = new FigureKeeper(parts.kinds)
    this.#store = parts.store
    this.#lastGood = parts.lastGood
    const { sources, stateDir, observe, mode = 'enforce' } = parts.options
    this.#trial = new PolicyTrial({
      store: parts.store,
      sources,
      stateDir,
      bringIntoForce: () => {
        this.refresh()
        return this.settled()
      },
      onExpiry: (message) => observe({ type: 'problem', message }),
    })
    this.#restoredFromMs = parts.restoredFromMs
    this.#abort = parts.abort
    this.#compiler = parts.compiler
    this.#compiled = parts.compiled
    this.#threads = parts.threads
    this.#watch = parts.watch
    this.#pods = parts.pods
    this.#apiServers = parts.apiServers
    this.#ruleset = parts.ruleset
    this.#guard = new TableGuard(parts.ruleset, observe)
    this.#giveBack = parts.giveBack
    this.#isLocalAddress = localAddressTest(parts.localAddresses)
    this.#revocation = new Revocation({
      ruleset: parts.ruleset,
      own: (portId) => parts.watch.own(portId),
      connectionMask: parts.options.marks.connectionMask,
      connectionShift: parts.options.marks.connectionShift,
      isAllowed: (packet, hook) => mode === 'audit' || this.#compiled.engine.decide(packet, hook) === 'accept',
      isLocalAddress: (address) => this.#isLocalAddress(address),
      onProblem: (error) => this.#noteRevocation(error),
    })
    this.failure = parts.threads.failure
    if (parts.options.givesWay) giveWay([...parts.threads.threadIds(), parts.watch.threadId])
    this.flows = new FlowFeed(
      parts.threads.flows(),
      new FlowResolver(() => this.#compiled, mode),
      () => parts.threads.log.lost,
    )
    this.#check = setInterval(() => this.#checkAgain(), CHECK_INTERVAL_MS)
    this.#keepPicture()
    // Then what the start took is over.
    void this.#lastGood.settled().then(trimMemory)
    void this.#apiServers.follow(() => void this.#takeApiServers(), this.#abort.signal)
  }

  /** The picture has changed: compiles it and brings it into force; changes that come meanwhile are taken together. */
  refresh(): void {
    this.#isStale = true
    this.#schedule()
  }

  /** Resolves when everything known so far is in force. */
  async settled(): Promise<void> {
    await this.#work
  }

  /** Policies on trial: see `PolicyTrial`. Those that would cut `kept` are refused with KnpError LOCKED_OUT. */
  async apply(
    folder: string,
    confirmMs: number,
    kept: KeptConnection | undefined,
  ): Promise<PendingTrial & { readonly generation: number }> {
    const trial = await this.#trial.begin(folder, confirmMs, (picture) => {
      if (kept) requireKept(kept, compile(picture, this.#kinds), this.#failsafe)
    })
    return { ...trial, generation: this.#compiled.generation.number }
  }

  /** Keeps what is on trial. Throws KnpError NOTHING_PENDING. */
  confirm(): ReturnType<PolicyTrial['confirm']> {
    return this.#trial.confirm()
  }

  /** Goes back to the former policies. Throws KnpError NOTHING_PENDING. */
  rollback(): ReturnType<PolicyTrial['rollback']> {
    return this.#trial.rollback()
  }

  status(): FirewallStatus {
    const options = this.#options
    const compiled = this.#compiled
    const sources = options.sources.map((source) => source.health())
    const known = readQueueStatistics()
    const queues = this.#threads.counters().map(({ queue: number, counters }) => {
      const statistics = known?.find(({ queue }) => queue === number)
      return { number, ...(statistics && { statistics }), packetThread: counters }
    })
    const sum = sumCounters(queues.map(({ packetThread }) => packetThread))
    const statistics = queues[0]?.statistics
    const problems = sources.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`]))
    if (this.#problem !== undefined) problems.push(this.#problem)
    if (this.#lastGood.problem !== undefined) problems.push(this.#lastGood.problem)
    if (this.#watchProblem !== undefined) problems.push(this.#watchProblem)
    if (this.#revocationProblem !== undefined) problems.push(this.#revocationProblem)
    if (this.#guard.problem !== undefined) problems.push(this.#guard.problem)
    problems.push(...this.stalledQueues().map(stalledText))
    return {
      mode: options.mode ?? 'enforce',
      enforcing: this.#guard.isInForce,
      generation: compiled.generation.number,
      nodeName: options.nodeName,
      isGateway: compiled.isGateway,
      pipeline: this.#kinds.map(({ name }) => name),
      policies: compiled.known.policies,
      workloads: {
        known: compiled.known.workloads,
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
        inbound: this.#failsafe.inbound.map(formatFailsafe),
        outbound: this.#failsafe.outbound.map(formatFailsafe),
      },
      warnings: [
        ...compiled.problems.map(({ object, message }) => `${placedName(object)}: ${message}`),
        ...this.#gaps(),
      ],
      onFailure: onFailureOf(options),
      denyWith: options.denyWith,
      remember: options.remember,
      ...(options.unknownPods && followsPods(options) && { unknownPods: this.#unknownPods(options.unknownPods, sum) }),
      divertRule: !this.#guard.isInForce ? 'missing' : this.#ruleset.mechanism === 'queue' ? 'nft queue' : 'xt target',
      queue: {
        number: options.queueNumber,
        count: options.queueCount,
        length: options.queueLength,
        ...(statistics && { statistics }),
      },
      queues,
      counters: this.#ruleset.counters(),
      packetThread: sum,
      repairs: this.#guard.repairs,
      sources,
      problems,
      ...(this.#lastGood.savedAtMs !== undefined && { savedAtMs: this.#lastGood.savedAtMs }),
      ...(this.#trial.pending && { trial: this.#trial.pending }),
      ...(this.#restoredFromMs !== undefined && this.#store.hasRestored && { restoredFromMs: this.#restoredFromMs }),
      startedAtMs: this.#startedAtMs,
    }
  }

  /** What it has counted and timed. */
  figures(): FirewallFigures {
    return this.#figures.read(this.#threads, this.#compiled)
  }

  /** Queues whose packet threads stand still. */
  stalledQueues(): readonly number[] {
    return this.#threads.stalled()
  }

  /** Decides what a person asks by the policies in force. Throws QuestionError. */
  explain(question: Question): Decision {
    const compiler = this.#compiler
    if (!compiler) throw new Error('policies are being compiled again after a failure')
    return explain(question, compiler.snapshot(), this.#compiled)
  }

  #unknownPods(
    { unknownLocal, holdMs }: UnknownPodOptions,
    { holding, held, unknownAllowed, unknownDenied }: PacketCounters,
  ): NonNullable<FirewallStatus['unknownPods']> {
    const { unknown, places } = this.#pods.view
    return {
      unknownLocal,
      holdMs,
      addresses: unknown.length,
      blocks: places.blocks.map(formatBlock),
      holding,
      held,
      allowed: unknownAllowed,
      denied: unknownDenied,
    }
  }

  /** The queues' sockets, by queue. Whoever has duplicates of them keeps the queues bound when this firewall has ended. */
  queueSockets(): ReadonlyMap<number, number> {
    return this.#threads.sockets()
  }

  /** See {@link PacketThreads.rounds}. */
  rounds(): readonly number[] {
    return this.#threads.rounds()
  }

  /**
   * Ends deciding. Under `closed` the table stays: what needs a verdict is dropped until the next start. Under `open` it
   * is taken down, unless the queues are `kept`: then packets go on waiting in them for the next process.
   */
  async stop(queues: 'given back' | 'kept' = 'given back'): Promise<void> {
    this.#abort.abort()
    clearInterval(this.#check)
    clearTimeout(this.#announcement)
    this.#trial.stop()
    await this.#work
    await this.#lastGood.settled()
    await this.#revocation.stop()
    if (onFailureOf(this.#options) === 'open' && queues === 'given back') await this.#ruleset.remove()
    await this.#watch.stop()
    await this.#threads.stop()
    this.flows.close()
    this.#ruleset.close()
    this.#giveBack()
  }

  /** What of the workloads' traffic the kernel does not hand over. */
  #gaps(): readonly string[] {
    if (this.#compiled.protectedWorkloads === 0) return []
    const unheard = unheardBridges()
    return unheard === undefined ? [] : [`${unheard}: ${bridgeRemedy}`]
  }

  /** Brings the picture into force as it is now; what the kernel remembers of it goes as far as it must. */
  async #apply(): Promise<void> {
    const beginMs = clockMs()
    const { isStale, mustForget } = { isStale: this.#isStale, mustForget: this.#mustForget }
    this.#isStale = false
    this.#mustForget = false
    this.#arePodsStale = false
    try {
      const compiled = isStale ? this.#compile() : this.#compiled
      const { isEverything, addresses } = compiled.affected
      const pods = this.#pods.settle(compiled, mustForget || isEverything ? undefined : addresses)
      await this.#enforce(compiled, pods, mustForget ? { recheck: 'everything' } : changeOf(compiled, pods))
    } catch (error) {
      this.#isStale ||= isStale
      // What this change concerns is known to nobody any more.
      this.#mustForget = true
      throw error
    }
    const endMs = clockMs()
    this.#figures.applied(endMs - beginMs)
    this.#nextApplyMs = endMs + Math.max(APPLY_INTERVAL_MS, PAUSE_PER_APPLY * (endMs - beginMs))
    this.#announce()
    this.#keepPicture()
  }

  async #enforce(compiled: CompiledPolicy, pods: PodChange, change: Change): Promise<void> {
    const stamp = isNoChange(change) ? this.#stamp : nextStamp(this.#stamp)
    const isSure = change.recheck !== 'everything'
    // The engine first: what it decides from now on is not remembered before the ruleset follows.
    await this.#threads.swap(compiled.generation, stamp, pods.hasOtherPlaces || !isSure ? pods.view.places : undefined)
    this.#figures.swapped(this.#threads, this.#compiled, compiled)
    this.#compiled = compiled
    if (stamp !== this.#stamp || pods.hasOtherPlaces || pods.hasOtherOwn) {
      this.#stamp = stamp
      await this.#ruleset.update(this.#wanted, change)
      this.#revocation.schedule()
    }
  }

  /** Has packets of pods that got a route judged, those of them too that nobody knows. */
  async #applyPods(): Promise<void> {
    this.#arePodsStale = false
    try {
      const pods = this.#pods.settle(this.#compiled, [])
      const { unknown, known } = pods
      // What was remembered of who had the address before does not count.
      await this.#enforce(this.#compiled, pods, { subjects: unknown, known, recheck: unknown.added })
    } catch (error) {
      this.#mustForget = true
      throw error
    }
  }

  get #wanted(): Wanted {
    return wantedBy(this.#compiled, this.#stamp, this.#pods.view, this.#failsafe)
  }

  get #failsafe(): Failsafe {
    return withApiServers(this.#options.failsafe, this.#apiServers)
  }

  /** Says what is in force: at once, and once a second while it keeps changing. */
  #announce(): void {
    if (this.#announcement) return
    const announce = () => {
      this.#announcement = undefined
      this.#announcedMs = clockMs()
      this.#options.observe({ type: 'applied', status: this.status() })
    }
    const waitMs = this.#announcedMs + ANNOUNCE_INTERVAL_MS - clockMs()
    if (waitMs <= 0) announce()
    else this.#announcement = setTimeout(announce, waitMs)
  }

  /** What a former call may still be read of is no longer: all packet threads have the latest generation. */
  #compile(): CompiledPolicy {
    const beginMs = clockMs()
    const former = this.#compiler
    this.#compiler = undefined
    const compiler = former ?? new Compiler(this.#kinds, this.#options.nodeName)
    const compiled = compiler.update(former ? this.#store.takeDelta() : this.#store.takeAll())
    this.#compiler = compiler
    this.#figures.compiled(clockMs() - beginMs)
    return compiled
  }

  #keepPicture(): void {
    this.#lastGood.keep(this.#store, this.#abort.signal)
  }

  /** The net under what the kernel reports; tries again what has failed. */
  #checkAgain(): void {
    this.#threads.look()
    if (this.#lastGood.problem !== undefined) this.#keepPicture()
    if (this.#isWorking) return
    this.#suspect({ depth: 'rules', atMs: clockMs() })
  }

  /** What came to this machine may be forwarded now, and the other way round. */
  #takeAddresses(addresses: readonly LocalAddress[]): void {
    this.#isLocalAddress = localAddressTest(addresses)
    this.#pods.setOwn(addresses.map(({ address }) => address))
    this.#noteStalePods()
    if (!this.#compiled.host) return
    this.#mustForget = true
    this.#schedule()
  }

  /** The failsafe is in the rules. */
  async #takeApiServers(): Promise<void> {
    if (!this.#compiled.host) return
    this.#mustForget = true
    this.#schedule()
    await this.settled()
    // Policies may deny what leads to former addresses, and nobody would be told that it is over.
    for (const { cluster } of this.#options.sources) cluster?.connectAnew()
  }

  #takeRouted(pods: readonly Address[]): void {
    this.#pods.setRouted(pods)
    this.#noteStalePods()
  }

  #noteStalePods(): void {
    this.#arePodsStale = true
    this.#endPause?.()
    this.#schedule()
  }

  #noticeChange({ program, touchesElements, atMs }: TableChange): void {
    this.#isAlarmed = true
    this.#suspect({ program, depth: touchesElements ? 'withSubjects' : 'rules', atMs })
  }

  #suspect(suspicion: Suspicion): void {
    this.#guard.suspect(suspicion)
    this.#schedule()
  }

  #noteRevocation(error: unknown): void {
    const message =
      error === undefined
        ? undefined
        : `connections of changed addresses cannot be looked through, each packet of them is judged: ${messageOf(error)}`
    if (message !== undefined && message !== this.#revocationProblem)
      this.#options.observe({ type: 'problem', message })
    this.#revocationProblem = message
  }

  #loseWatch(error: unknown): void {
    const message = `changes of table inet ${TABLE} are noticed each second only: ${messageOf(error)}`
    this.#watchProblem = message
    this.#options.observe({ type: 'problem', message })
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#work = this.#work.then(() => this.#bringIntoForce())
  }

  /** One piece of work at a time. What fails leaves in force what was, and is tried again at the next check. */
  async #bringIntoForce(): Promise<void> {
    this.#isScheduled = false
    this.#isWorking = true
    try {
      await this.#keepTable()
      while ((this.#isStale || this.#mustForget || this.#arePodsStale) && this.#guard.isInForce) {
        // A pod's first packets come soon after its route: it does not wait for its turn.
        if (this.#arePodsStale && !this.#mustForget) await this.#applyPods()
        else if (await this.#pace()) await this.#apply()
      }
      this.#problem = undefined
    } catch (error) {
      const message = messageOf(error)
      if (message !== this.#problem) this.#options.observe({ type: 'problem', message })
      this.#problem = message
      this.#guard.breakSince(clockMs())
    } finally {
      this.#isWorking = false
    }
  }

  /** Until a table that others have changed is looked at and repaired, it may enforce nothing. */
  async #keepTable(): Promise<void> {
    const isUrgent = this.#options.givesWay && (this.#isAlarmed || !this.#guard.isInForce)
    this.#isAlarmed = false
    const keep = async () => {
      this.#guard.examine()
      if (!this.#guard.isInForce) await this.#guard.repair(() => this.#wanted, this.#abort.signal)
    }
    await (isUrgent ? urgently(keep) : keep())
  }

  /** Changes that come in quick succession are taken together. False where something else is to be done before. */
  async #pace(): Promise<boolean> {
    const waitMs = this.#nextApplyMs - clockMs()
    if (waitMs <= 0) return true
    const pause = new AbortController()
    this.#endPause = () => pause.abort()
    const signal = AbortSignal.any([this.#abort.signal, pause.signal])
    await sleep(waitMs, undefined, { signal }).catch(() => {})
    this.#endPause = undefined
    return !pause.signal.aborted
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
