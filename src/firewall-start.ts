import { ApiServerFailsafe } from './api-server-failsafe.ts'
import { LoadedThreads, PacketThreads } from './datapath/threads.ts'
import {
  type Address,
  type CompiledPolicy,
  Compiler,
  type Delta,
  type PolicyKind,
  policyKinds,
} from './engine/index.ts'
import { loadPipeline } from './evaluators.ts'
import { type FirewallOptions, followsPods, onFailureOf } from './firewall-options.ts'
import { claimNamespace } from './native/claim.ts'
import { type KernelWatch, type KernelWatchObserver, watchKernel } from './native/kernel-watch.ts'
import type { TableChange } from './native/kernel-watch-thread.ts'
import type { LocalAddress } from './native/local-addresses.ts'
import { PodAddresses } from './pod-addresses.ts'
import { queueNumbers } from './queue-range.ts'
import type { Failsafe } from './ruleset/failsafe.ts'
import { Ruleset } from './ruleset/ruleset.ts'
import { TABLE } from './ruleset/text.ts'
import { LastGood } from './sources/last-good.ts'
import { ObjectStore } from './sources/object-store.ts'
import { wantedBy } from './wanted-rules.ts'

/** What a running firewall is made of. */
export interface FirewallParts {
  readonly options: FirewallOptions
  readonly kinds: readonly PolicyKind[]
  readonly store: ObjectStore
  readonly lastGood: LastGood
  readonly restoredFromMs: number | undefined
  readonly abort: AbortController
  readonly compiler: Compiler
  readonly compiled: CompiledPolicy
  readonly threads: PacketThreads
  readonly watch: KernelWatch
  readonly pods: PodAddresses
  readonly apiServers: ApiServerFailsafe
  readonly localAddresses: readonly LocalAddress[]
  readonly ruleset: Ruleset
  readonly giveBack: () => void
}

/** Who is told what happens: to the kernel's tables and addresses, and to the picture of the world. */
export interface FirewallEvents extends Required<KernelWatchObserver> {
  pictureChanged(): void
}

/** Keeps in mind what happens before there is a firewall to be told. */
export class EarlyEvents implements FirewallEvents {
  #listener: FirewallEvents | undefined
  #addresses: readonly LocalAddress[] | undefined
  #pods: readonly Address[] | undefined
  #failure: { readonly error: unknown } | undefined
  #hasOtherPicture = false

  /** Local addresses as they were told last. */
  get addresses(): readonly LocalAddress[] | undefined {
    return this.#addresses
  }

  /** To which pods there are routes, likewise. */
  get pods(): readonly Address[] | undefined {
    return this.#pods
  }

  /** Until it is installed nobody needs to know: the install looks for itself whether it was disturbed. */
  tableChanged(change: TableChange): void {
    this.#listener?.tableChanged(change)
  }

  addressesChanged(addresses: readonly LocalAddress[]): void {
    this.#addresses = addresses
    this.#listener?.addressesChanged(addresses)
  }

  podsChanged(pods: readonly Address[]): void {
    this.#pods = pods
    this.#listener?.podsChanged(pods)
  }

  failed(error: unknown): void {
    this.#failure = { error }
    this.#listener?.failed(error)
  }

  pictureChanged(): void {
    this.#hasOtherPicture = true
    this.#listener?.pictureChanged()
  }

  /** The picture as it is now is compiled. */
  pictureTaken(): void {
    this.#hasOtherPicture = false
  }

  /** Tells somebody from now on, and what happened until now. */
  passTo(listener: FirewallEvents): void {
    this.#listener = listener
    if (this.#addresses) listener.addressesChanged(this.#addresses)
    if (this.#pods) listener.podsChanged(this.#pods)
    if (this.#failure) listener.failed(this.#failure.error)
    if (this.#hasOtherPicture) listener.pictureChanged()
  }
}

/** Bytes of each packet that are copied to userspace: all headers that can be, extension headers included. */
const COPY_BYTES = 512
const BATCH_PACKETS = 256
const RECEIVE_BUFFER_BYTES = 8 << 20
export const FIRST_STAMP = 1

/**
 * Begins to decide packets, and answers what `begin` makes of the parts. Throws as `Firewall.start`, and what `begin` throws;
 * then everything is as it was.
 * @param early is told what happens until somebody else is
 */
export async function setUpFirewall<T>(
  options: FirewallOptions,
  early: EarlyEvents,
  begin: (parts: FirewallParts) => T,
): Promise<T> {
  const kinds = await loadPipeline(options.evaluators ?? [])
  const store = new ObjectStore(options.nodeName)
  const lastGood = new LastGood(options.stateDir, (message) => options.observe({ type: 'problem', message }))
  const abort = new AbortController()
  const giveBack = await claimNamespace()
  let threads: PacketThreads | undefined
  let ruleset: Ruleset | undefined
  // It takes a while to begin; meanwhile the sources are read.
  const watching = watchKernel({ table: TABLE, followsPods: followsPods(options) }, early)
  watching.catch(() => {})
  const isLogged = options.remember.isLogged && options.remember.allowedMs + options.remember.deniedMs > 0
  const queues = queueNumbers({ first: options.queueNumber, count: options.queueCount })
  const loaded = new LoadedThreads(queues, isLogged)
  try {
    const onDelta = (source: string, delta: Delta) => {
      store.apply(source, delta)
      early.pictureChanged()
    }
    // In their order, whichever is read first: where two have one object, the later one wins.
    for (const { name } of options.sources) store.apply(name, { upserts: [], deletes: [] })
    let compiler = new Compiler(kinds, options.nodeName)
    const ahead = (part: Delta) => {
      try {
        compiler.prepare(part)
      } catch {
        // What is wrong shows when it counts.
        compiler = new Compiler(kinds, options.nodeName)
      }
    }
    const starts = options.sources.map((source) =>
      source.start((delta) => onDelta(source.name, delta), abort.signal, ahead),
    )
    const restoredFromMs = await restoreBroken(await Promise.allSettled(starts), options, lastGood, store)
    early.pictureTaken()
    const compiled = compiler.begin(store.takeAll())
    const { marks, mode = 'enforce', failsafe, remember, queueNumber, queueCount } = options
    const pods = new PodAddresses(options.unknownPods?.podBlocks ?? [], needsUnknownPods(options, kinds))
    const threadsOptions = {
      queues: queues.map((number) => {
        const keptFd = options.keptSockets?.get(number)
        return {
          number,
          maxLength: options.queueLength,
          copyBytes: COPY_BYTES,
          capacity: BATCH_PACKETS,
          receiveBufferBytes: RECEIVE_BUFFER_BYTES,
          ...(keptFd !== undefined && { keptFd }),
        }
      }),
      ...(isLogged && { logGroup: queueNumber }),
      marks,
      mode,
      generation: compiled.generation,
      stamp: FIRST_STAMP,
      ...(options.unknownPods && { hold: options.unknownPods }),
      evaluators: options.evaluators ?? [],
    }
    threads = await PacketThreads.start(threadsOptions, loaded)
    const watch = await watching
    ruleset = new Ruleset(
      {
        marks,
        mode,
        onFailure: onFailureOf(options),
        denyWith: options.denyWith,
        failsafe,
        remember,
        queue: queueNumber,
        queuesTotal: queueCount,
        // Whoever else reads the group would be told of our packets.
        ...(threads.log.isRead && { logGroup: queueNumber }),
      },
      watch,
    )
    pods.setOwn((early.addresses ?? watch.addresses).map(({ address }) => address))
    pods.setRouted(early.pods ?? watch.pods)
    const { view } = pods.settle(compiled, undefined)
    // Before anything is queued: what is not known to be a pod's would pass.
    await threads.swap(compiled.generation, FIRST_STAMP, view.places)
    const clusters = options.sources.flatMap(({ cluster }) => cluster ?? [])
    const apiServers = new ApiServerFailsafe(options.reachesApiServers ? clusters : [])
    await apiServers.begin()
    await ruleset.install(wantedBy(compiled, FIRST_STAMP, view, withApiServers(failsafe, apiServers)))
    return begin({
      options,
      kinds,
      store,
      lastGood,
      restoredFromMs,
      abort,
      compiler,
      compiled,
      threads,
      watch,
      pods,
      apiServers,
      localAddresses: watch.addresses,
      ruleset,
      giveBack,
    })
  } catch (error) {
    abort.abort()
    ruleset?.close()
    await loaded.stop()
    await (await watching.catch(() => undefined))?.stop()
    await threads?.stop()
    giveBack()
    throw error
  }
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

/** The failsafe with the API servers as they are reached now. */
export function withApiServers({ inbound, outbound }: Failsafe, { rules }: ApiServerFailsafe): Failsafe {
  return { inbound, outbound: [...outbound, ...rules] }
}

/** Without a policy of any kind nothing can be about a pod, whoever it is; other evaluators may ask for anybody. */
function needsUnknownPods(
  options: FirewallOptions,
  kinds: readonly PolicyKind[],
): (compiled: CompiledPolicy) => boolean {
  const isFollowed = followsPods(options)
  const hasOthers = kinds.length > policyKinds.length
  return ({ known }) => isFollowed && (known.policies > 0 || hasOthers)
}
