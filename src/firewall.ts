import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { type MarkLayout, nextStamp } from './datapath/marks.ts'
import { readCounters } from './datapath/packet-loop.ts'
import { PacketThread } from './datapath/thread.ts'
import { type CompiledPolicy, compile, formatBlock, type Snapshot } from './engine/index.ts'
import { refName } from './engine/objects.ts'
import { policyKinds } from './engine/pipeline.ts'
import { KnpError } from './errors.ts'
import type { FirewallStatus } from './firewall-status.ts'
import { claimNamespace } from './native/claim.ts'
import { type KernelWatch, watchKernel } from './native/kernel-watch.ts'
import type { TableChange } from './native/kernel-watch-thread.ts'
import { NetlinkError } from './native/netlink.ts'
import { readQueueStatistics } from './native/queue-statistics.ts'
import { type Failsafe, formatFailsafe } from './ruleset/failsafe.ts'
import { RepairPacer } from './ruleset/repair-pacer.ts'
import { Ruleset, type Wanted } from './ruleset/ruleset.ts'
import { type OnFailure, TABLE } from './ruleset/text.ts'
import { FilesSource } from './sources/files.ts'
import { LastGood } from './sources/last-good.ts'
import { ObjectStore } from './sources/object-store.ts'
import type { Delta, PolicyObject, Source } from './sources/source.ts'
import { type KeptConnection, requireKept } from './trial.ts'

export interface FirewallOptions {
  readonly sources: readonly Source[]
  /** Which node of the picture this machine is. */
  readonly nodeName: string
  /** Where the last good picture is kept. */
  readonly stateDir: string
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
  | {
      readonly type: 'repaired'
      readonly message: string
      /** How long the rules were not as they should be: from when the change was noticed, in ms. */
      readonly goneMs: number
    }

/** Policies on trial that are in force. */
export interface PendingTrial {
  readonly folder: string
  readonly endsAtMs: number
  readonly generation: number
}

/** Bytes of each packet that are copied to userspace: all headers that can be, extension headers included. */
const COPY_BYTES = 512
const BATCH_PACKETS = 256
const RECEIVE_BUFFER_BYTES = 8 << 20
/** How often the kernel is asked whether our rules are still there, also when it has reported no change. */
const CHECK_INTERVAL_MS = 1000
const FIRST_STAMP = 1
/** What is in force so long is saved for the next start. */
const SAVE_INTERVAL_MS = 500
/** How many changed parts of the table a message names. */
const NAMED_PARTS = 3

/** The table may not be as it should be. */
interface Suspicion {
  /** Whose doing it is, where that is known. */
  readonly program: string | undefined
  readonly depth: 'rules' | 'withSubjects'
  /** Since when, in ms on the clock of `performance`, counted from 1970. */
  readonly atMs: number
}

/** Policies on trial, as they were read. */
interface Trial {
  readonly folder: string
  readonly objects: readonly PolicyObject[]
  readonly endsAtMs: number
  readonly timer: NodeJS.Timeout
}

/** Joins sources, engine, packet thread and ruleset; see docs/architecture.md. */
export class Firewall {
  /** Rejects when enforcing has ended without being asked to. */
  readonly failure: Promise<never>
  readonly #options: FirewallOptions
  readonly #store: ObjectStore
  readonly #lastGood: LastGood
  /** When the picture of a source that could not be read at the start was saved. */
  readonly #restoredFromMs: number | undefined
  #saving: Promise<void> = Promise.resolve()
  #isSaveDue = false
  #saveProblem: string | undefined
  readonly #ruleset: Ruleset
  readonly #thread: PacketThread
  readonly #watch: KernelWatch
  readonly #pacer = new RepairPacer()
  readonly #abort: AbortController
  readonly #giveBack: () => void
  readonly #check: NodeJS.Timeout
  readonly #startedAtMs = Date.now()
  #snapshot: Snapshot
  #compiled: CompiledPolicy
  #stamp = FIRST_STAMP
  #isStale = false
  #trial: Trial | undefined
  #work: Promise<void> = Promise.resolve()
  /** Work was asked for that has not begun. */
  #isScheduled = false
  #isWorking = false
  #isInForce = true
  #suspicion: Suspicion | undefined
  #brokenSinceMs = 0
  #repairs = 0
  /** Who changed the table last, as far as the kernel told. */
  #meddler: string | undefined
  #problem: string | undefined
  #watchProblem: string | undefined

  /**
   * Resolves when packets are decided. Throws KnpError: INVALID_MANIFEST, UNREADABLE_SOURCE, QUEUE_TAKEN, PERMISSION,
   * UNSUPPORTED_HOST, RULESET. Then nothing is left behind that was not there before.
   */
  static async start(options: FirewallOptions): Promise<Firewall> {
    const store = new ObjectStore(options.nodeName)
    const lastGood = new LastGood(options.stateDir)
    const abort = new AbortController()
    const giveBack = await claimNamespace()
    let firewall: Firewall | undefined
    let thread: PacketThread | undefined
    let watch: KernelWatch | undefined
    let ruleset: Ruleset | undefined
    try {
      let hasChanged = false
      const onDelta = (source: string, delta: Delta) => {
        store.apply(source, delta)
        hasChanged = true
        firewall?.refresh()
      }
      const starts = options.sources.map((source) => source.start((delta) => onDelta(source.name, delta), abort.signal))
      const restoredFromMs = await restoreBroken(await Promise.allSettled(starts), options, lastGood, store)
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
      watch = await watchKernel(
        { table: TABLE },
        {
          // Until it is installed: the install looks for itself whether it was disturbed.
          tableChanged: (change) => {
            if (firewall) firewall.#noticeChange(change)
          },
          // No policy depends on them: a host is protected by hook.
          addressesChanged: () => {},
          failed: (error) => {
            if (firewall) firewall.#loseWatch(error)
          },
        },
      )
      ruleset = new Ruleset({ marks, onFailure, failsafe, queue: queueNumber, queuesTotal: 1 }, watch)
      await ruleset.install(wantedBy(compiled, FIRST_STAMP))
      firewall = new Firewall({
        options,
        store,
        lastGood,
        restoredFromMs,
        abort,
        snapshot,
        compiled,
        thread,
        watch,
        ruleset,
        giveBack,
      })
      // A change that came while the rest was set up.
      if (hasChanged) firewall.refresh()
      return firewall
    } catch (error) {
      abort.abort()
      ruleset?.close()
      await watch?.stop()
      await thread?.stop()
      giveBack()
      throw error
    }
  }

  private constructor(parts: {
    options: FirewallOptions
    store: ObjectStore
    lastGood: LastGood
    restoredFromMs: number | undefined
    abort: AbortController
    snapshot: Snapshot
    compiled: CompiledPolicy
    thread: PacketThread
    watch: KernelWatch
    ruleset: Ruleset
    giveBack: () => void
  }) {
    this.#options = parts.options
    this.#store = parts.store
    this.#lastGood = parts.lastGood
    this.#restoredFromMs = parts.restoredFromMs
    this.#abort = parts.abort
    this.#snapshot = parts.snapshot
    this.#compiled = parts.compiled
    this.#thread = parts.thread
    this.#watch = parts.watch
    this.#ruleset = parts.ruleset
    this.#giveBack = parts.giveBack
    this.failure = parts.thread.failure
    this.#check = setInterval(() => this.#checkRuleset(), CHECK_INTERVAL_MS)
    this.#save()
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

  /**
   * Puts the manifests of a folder in the place of the first source that has files, until confirmed; after `confirmMs` they
   * go back by themselves. A restart goes back too: nothing is written before `confirm`. Resolves when they are in force.
   * Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE, USAGE, LOCKED_OUT.
   */
  async apply(folder: string, confirmMs: number, kept: KeptConnection | undefined): Promise<PendingTrial> {
    const source = this.#writableSource()
    await source.folder!.requireReplaceable(folder)
    const objects = await readTrial(folder)
    const takeBack = this.#store.beginTrial(source.name, objects)
    try {
      if (kept) requireKept(kept, compile(this.#store.snapshot(), policyKinds), this.#options.failsafe)
    } catch (error) {
      takeBack()
      throw error
    }
    clearTimeout(this.#trial?.timer)
    const timer = setTimeout(() => {
      this.#options.observe({
        type: 'problem',
        message: `${folder} was not confirmed in time: the former policies are in force again`,
      })
      this.#endTrial()
    }, confirmMs)
    const endsAtMs = Date.now() + confirmMs
    this.#trial = { folder, objects, endsAtMs, timer }
    this.refresh()
    await this.settled()
    return { folder, endsAtMs, generation: this.#compiled.generation.number }
  }

  /**
   * Keeps what is on trial: its files become the source's own. Throws KnpError NOTHING_PENDING; USAGE, INVALID_MANIFEST and
   * UNREADABLE_SOURCE where the folder is not what was applied any more: the trial goes on.
   */
  async confirm(): Promise<{ readonly folder: string }> {
    if (!this.#trial)
      throw new KnpError('NOTHING_PENDING', 'nothing waits to be confirmed', {
        hint: 'it may have gone back already; see `knp status`',
      })
    const { folder, objects } = this.#trial
    if (!isDeepStrictEqual(await readTrial(folder), objects)) {
      throw new KnpError('USAGE', `${folder}: has changed since it was applied`, {
        hint: 'try what it is now: `knp apply` it again',
      })
    }
    await this.#replaceFiles(folder)
    this.#endTrial()
    await this.settled()
    return { folder }
  }

  /** Ends a trial at once, or else goes back to what the last confirmation replaced. Throws KnpError NOTHING_PENDING. */
  async rollback(): Promise<{ readonly undone: 'trial' | 'confirmed' }> {
    const wasTrial = this.#trial !== undefined
    if (!wasTrial) {
      const former = this.#formerFolder()
      if (!existsSync(former))
        throw new KnpError('NOTHING_PENDING', 'there is nothing to go back to', {
          hint: 'only what `knp confirm` replaced can be brought back',
        })
      await this.#replaceFiles(former)
    }
    this.#endTrial()
    await this.settled()
    return { undone: wasTrial ? 'trial' : 'confirmed' }
  }

  #writableSource(): Source {
    const source = this.#options.sources.find(({ folder }) => folder !== undefined)
    if (!source) throw new KnpError('USAGE', 'no source of the running firewall has files')
    return source
  }

  #formerFolder(): string {
    return join(this.#options.stateDir, 'former-policies')
  }

  async #replaceFiles(folder: string): Promise<void> {
    const source = this.#writableSource()
    this.#store.apply(source.name, await source.folder!.replace(folder, this.#formerFolder()))
  }

  #endTrial(): void {
    clearTimeout(this.#trial?.timer)
    this.#trial = undefined
    this.#store.endTrial()
    this.refresh()
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
    if (this.#saveProblem !== undefined) problems.push(this.#saveProblem)
    if (this.#watchProblem !== undefined) problems.push(this.#watchProblem)
    const excess = this.#pacer.excess(clockMs())
    if (excess > 0) problems.push(this.#excessMessage(excess))
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
      repairs: this.#repairs,
      sources,
      problems,
      ...(this.#trial && { trial: { folder: this.#trial.folder, endsAtMs: this.#trial.endsAtMs } }),
      ...(this.#restoredFromMs !== undefined && { restoredFromMs: this.#restoredFromMs }),
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
    clearTimeout(this.#trial?.timer)
    await this.#work
    await this.#saving
    if (this.#options.onFailure === 'open') await this.#ruleset.remove()
    await this.#watch.stop()
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
    this.#save()
  }

  /** Keeps the picture in force for the next start, seldom enough to leave the disk alone; one that refuses stops nothing. */
  #save(): void {
    if (this.#isSaveDue) return
    this.#isSaveDue = true
    this.#saving = this.#saving.then(async () => {
      await sleep(SAVE_INTERVAL_MS, undefined, { signal: this.#abort.signal }).catch(() => {}) // at the end at once
      this.#isSaveDue = false
      try {
        await this.#lastGood.save(this.#store.picture())
        this.#saveProblem = undefined
      } catch (error) {
        const message = `${this.#options.stateDir}: the picture in force cannot be saved for the next start: ${(error as Error).message}`
        if (message !== this.#saveProblem) this.#options.observe({ type: 'problem', message })
        this.#saveProblem = message
      }
    })
  }

  /** The net under what the kernel reports; tries again what has failed. */
  #checkRuleset(): void {
    if (this.#isWorking) return
    this.#suspect({ program: undefined, depth: 'rules', atMs: clockMs() })
  }

  #noticeChange({ program, touchesElements, atMs }: TableChange): void {
    this.#suspect({ program, depth: touchesElements ? 'withSubjects' : 'rules', atMs })
  }

  #suspect(suspicion: Suspicion): void {
    const earlier = this.#suspicion
    this.#suspicion = {
      program: suspicion.program ?? earlier?.program,
      depth: earlier?.depth === 'withSubjects' ? earlier.depth : suspicion.depth,
      atMs: earlier?.atMs ?? suspicion.atMs,
    }
    this.#schedule()
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
      this.#examine()
      if (!this.#isInForce) await this.#repair()
      while (this.#isStale && this.#isInForce) {
        this.#isStale = false
        try {
          await this.#apply()
        } catch (error) {
          this.#isStale = true
          throw error
        }
      }
      this.#problem = undefined
    } catch (error) {
      const message = messageOf(error)
      if (message !== this.#problem) this.#options.observe({ type: 'problem', message })
      this.#problem = message
      this.#breakSince(clockMs())
    } finally {
      this.#isWorking = false
    }
  }

  /** Looks at the table when there is reason to. */
  #examine(): void {
    const suspicion = this.#suspicion
    this.#suspicion = undefined
    if (suspicion === undefined || !this.#isInForce) return
    let wrong: readonly string[]
    try {
      wrong = this.#ruleset.examine(suspicion.depth)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      // Tables changed all the while: what was read means nothing. The next check looks again.
      this.#suspicion = suspicion
      return
    }
    if (wrong.length === 0) return
    this.#meddler = suspicion.program
    this.#breakSince(suspicion.atMs)
    const more = wrong.length > NAMED_PARTS ? ` and ${wrong.length - NAMED_PARTS} more` : ''
    const message = `${this.#culprit()} has changed table inet ${TABLE} (${wrong.slice(0, NAMED_PARTS).join(', ')}${more})`
    this.#options.observe({ type: 'problem', message })
  }

  /** Installs the rules again; the packet thread, and what connections are stamped with, stay. */
  async #repair(): Promise<void> {
    const { signal } = this.#abort
    const delayMs = this.#pacer.delayMs(clockMs())
    if (delayMs > 0) {
      const message = this.#excessMessage(this.#pacer.excess(clockMs()))
      this.#options.observe({ type: 'problem', message: `${message}; the next one waits ${delayMs} ms` })
      await sleep(delayMs, undefined, { signal }).catch(() => {})
    }
    if (signal.aborted) return
    this.#pacer.note(clockMs())
    await this.#ruleset.install(wantedBy(this.#compiled, this.#stamp))
    this.#isInForce = true
    this.#repairs++
    const goneMs = Math.round(clockMs() - this.#brokenSinceMs)
    const message = `the rules of table inet ${TABLE} are in force again, ${goneMs} ms after the change was noticed`
    this.#options.observe({ type: 'repaired', message, goneMs })
  }

  #breakSince(atMs: number): void {
    if (this.#isInForce) this.#brokenSinceMs = atMs
    this.#isInForce = false
  }

  #culprit(): string {
    return `another program${this.#meddler === undefined ? '' : ` (${this.#meddler})`}`
  }

  #excessMessage(repairs: number): string {
    return `${this.#culprit()} keeps changing table inet ${TABLE}: ${repairs} repairs in 10 s`
  }
}

/** Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE. */
async function readTrial(folder: string): Promise<readonly PolicyObject[]> {
  const source = new FilesSource(folder, undefined, 'within')
  await source.read()
  return source.objects
}

/** Goes forward only, and is the same in all threads. */
function clockMs(): number {
  return performance.timeOrigin + performance.now()
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/**
 * Takes the last good picture for each source that could not be read, and answers when it was saved. Throws the source's
 * error where there is none.
 */
async function restoreBroken(
  starts: readonly PromiseSettledResult<void>[],
  { sources, observe }: FirewallOptions,
  lastGood: LastGood,
  store: ObjectStore,
): Promise<number | undefined> {
  const broken = sources.flatMap(({ name }, i) => {
    const start = starts[i]!
    return start.status === 'rejected' ? [{ name, error: start.reason as Error }] : []
  })
  if (broken.length === 0) return undefined
  const saved = await lastGood.load()
  for (const { name, error } of broken) {
    const objects = saved?.sources.get(name)
    if (!objects) throw error
    store.restore(name, objects)
    const savedAt = new Date(saved!.savedAtMs).toISOString()
    observe({
      type: 'problem',
      message: `${error.message}\nsource ${name}: the last good picture, saved ${savedAt}, is in force`,
    })
  }
  return saved?.savedAtMs
}

function wantedBy({ subjects, host }: CompiledPolicy, stamp: number): Wanted {
  // A host that no policy selects is not judged.
  return { subjects, stamp, host: host && (host.ingress || host.egress) ? host : undefined }
}
