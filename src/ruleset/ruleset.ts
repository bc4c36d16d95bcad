import { endianness } from 'node:os'
import type { MarkLayout } from '../datapath/marks.ts'
import { NO_STAMP, nextStamp, PICKED_UP } from '../datapath/marks.ts'
import { isIPv4 } from '../engine/address.ts'
import { type Address, type Block, formatAddress, formatBlock, type SubjectChange } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import type { Mode } from '../mode.ts'
import { isPickedUp, sweepMarks } from '../native/conntrack.ts'
import { differences, type Fingerprint, readFingerprint } from '../native/fingerprint.ts'
import { hostU32, type Netlink, NetlinkError, openNetlink } from '../native/netlink.ts'
import {
  type Batch,
  batch,
  commit,
  divertRule,
  dumpRules,
  listElements,
  type QueueMechanism,
  readCounters,
} from '../native/nftables.ts'
import { type Failsafe, formatFailsafe } from './failsafe.ts'
import { runNft } from './nft.ts'
import { Rechecks } from './rechecks.ts'
import {
  chainNames,
  counters,
  type DenyWith,
  divertChains,
  type HostTraffic,
  learnt,
  type OnFailure,
  objectsText,
  type Remember,
  rulesText,
  sets,
  stampChain,
  TABLE,
} from './text.ts'

export interface RulesetConfig {
  readonly marks: MarkLayout
  /** Under audit nothing is dropped. */
  readonly mode?: Mode
  readonly onFailure: OnFailure
  readonly denyWith: DenyWith
  /** What of this machine's own traffic always passes, where what is wanted does not say. */
  readonly failsafe: Failsafe
  readonly remember: Remember
  /** The first NFQUEUE number, and how many there are. */
  readonly queue: number
  readonly queuesTotal: number
  /** The group of the packet log that is told what the kernel answers by itself; absent where nobody reads it. */
  readonly logGroup?: number
}

/** How it is known which changes are knp's own; see {@link ../native/kernel-watch.ts KernelWatch}. */
export interface ChangeTracker {
  /** Changes through this netlink port are our own, until the answer is called. */
  own(portId: number): () => void
  /** Makes one transaction of our own. */
  unheard<T>(change: () => T): T
  /** How many changes of the table by others there were, all that has happened until now considered. */
  settle(): Promise<number>
}

/** For whoever is alone: nobody else changes the table. */
const alone: ChangeTracker = { own: () => () => {}, unheard: (change) => change(), settle: async () => 0 }

/** Whether a change of our own is listened to. */
type Hearing = 'heard' | 'unheard'

/** How a fingerprint names a chain. */
const CHAIN_PART = 'chain '
/** How often an install is begun again because another program changed the table meanwhile. */
const MAX_INSTALLS = 5

/** What a generation wants of the kernel. */
export interface Wanted {
  /** Addresses whose traffic is queued: of workloads, and of pods here that nobody knows. */
  readonly subjects: readonly Address[]
  /** All subjects run on this machine: what it sends to them itself is never judged. */
  readonly areSubjectsOwn?: boolean
  /** In which this machine's pods have their addresses: traffic is queued of those that are not `known`. */
  readonly pods?: readonly Block[]
  readonly known?: readonly Address[]
  /** The stamp of the answers that the kernel may learn from. */
  readonly answerStamp: number
  /** This machine's own traffic, where it is judged. */
  readonly host: HostTraffic | undefined
  /** What of it always passes. */
  readonly failsafe?: Failsafe
}

/** How a generation differs from the one before. */
export interface Change {
  /** How its subjects do; found out by comparing all where it is left out. */
  readonly subjects?: SubjectChange
  /** How those that are known do; likewise. */
  readonly known?: SubjectChange
  /** The ends of all flows that may be decided otherwise. */
  readonly recheck: readonly Address[] | 'everything'
}

/** The kernel deletes an element in 1 to 2 µs, and lets nothing else run on its processor until the last one is. */
const ENDED_AT_A_TIME = 64
/** The kernel counts time in jiffies. */
const TIMEOUT_MARGIN_MS = 100
/** Above this many addresses all connections are judged again: finding out which of them are concerned would cost more. */
const MAX_RECHECKED = 1000
// linux/netfilter.h
const NFPROTO_IPV4 = 2
const NFPROTO_IPV6 = 10
const ipv4Key = Uint8Array.of(NFPROTO_IPV4)
const ipv6Key = Uint8Array.of(NFPROTO_IPV6)

/** Packets that passed each named counter since the table was made. */
export type RulesetCounters = Readonly<Record<(typeof counters)[number], number>>

/** knp's table in the kernel: what is queued, what is remembered, and what happens without a verdict. */
export class Ruleset {
  readonly #config: RulesetConfig
  readonly #tracker: ChangeTracker
  readonly #netlink: Netlink
  /** What the table is when it is right; `undefined` before it was installed. */
  #reference: Fingerprint | undefined
  /** Elements as the kernel has them; unknown before the first update. */
  readonly #subjects = new SetElements(sets.subjects4, sets.subjects6)
  readonly #known = new SetElements(sets.known4, sets.known6)
  #answerStamp: number | undefined
  /** What valid connections carry; `undefined` before the first install. */
  #connectionStamp: number | undefined
  readonly #rechecks = new Rechecks()
  #changes = 0
  /** What of the wanted is in the rules in the kernel, and not in sets. */
  #inRules: string | undefined
  #mechanism: QueueMechanism | undefined

  /** Throws KnpError NATIVE_MISSING. */
  constructor(config: RulesetConfig, tracker: ChangeTracker = alone) {
    this.#config = config
    this.#tracker = tracker
    this.#netlink = openNetlink()
    tracker.own(this.#netlink.portId)
  }

  /** Which kind of divert rule is in force; `undefined` before `install`. */
  get mechanism(): QueueMechanism | undefined {
    return this.#mechanism
  }

  /**
   * Makes the table, takes over the one that an earlier run left, or repairs this run's. Nothing is queued before the divert
   * rules are there, and rules that are in force stay so until new ones replace them. Connections that are stamped stay so.
   * Throws KnpError RULESET, PERMISSION, UNSUPPORTED_HOST.
   *
   * What an install results in is compared with what the first one resulted in, so a change that comes in its middle is
   * noticed. The first one itself counts only if no other program was seen to change the table during it.
   */
  async install(wanted: Wanted): Promise<void> {
    for (let attempt = 0; attempt < MAX_INSTALLS; attempt++) {
      // While nobody listens, changes of other tables cannot be told from changes of ours.
      const hearing = attempt === 0 ? 'unheard' : 'heard'
      const changesBefore = await this.#tracker.settle()
      if (this.#reference !== undefined) {
        if (await this.#repair(this.#reference, wanted, hearing)) return
      } else {
        await this.#write(wanted, hearing)
      }
      const fingerprint = readFingerprint(this.#netlink, TABLE)
      if (strangersIn(fingerprint).length === 0 && (await this.#tracker.settle()) === changesBefore) {
        this.#reference = fingerprint
        return
      }
    }
    throw new KnpError('RULESET', `table inet ${TABLE}: another program keeps changing it`, {
      hint: '`nft monitor` shows which one',
    })
  }

  /**
   * Makes a generation the one in force, in one transaction: its subjects are queued, its answers learnt from. What the
   * kernel remembers of the flows that it may decide otherwise does not count any more:
   * - connections and tuples with an end among the addresses to be rechecked are judged by it, until {@link endRecheck};
   * - or all connections are, each at its next packet.
   */
  async update(wanted: Wanted, change: Change = { recheck: 'everything' }): Promise<void> {
    this.#changes++
    const isSame = inRules(wanted) === this.#inRules
    if (isSame && change.recheck !== 'everything' && this.#recheckAlso(change.recheck)) {
      const changes = this.#forgetTuples(batch(TABLE).flushSet(learnt.fresh), change.recheck)
      return this.#commitElements(changes, wanted, change, 'unheard')
    }
    this.#invalidateConnections()
    if (isSame) return this.#commitElements(this.#forgetting(batch(TABLE)), wanted, change, 'unheard')
    // The table is to be another one from now on.
    this.#reference = undefined
    await this.install(wanted)
  }

  /** What is being rechecked since this change or an earlier one. Throws nothing. */
  get rechecks(): { readonly change: number; readonly addresses: readonly Address[] } {
    return { change: this.#changes, addresses: this.#rechecks.addresses }
  }

  /** The valid stamp, in connection marks. */
  get connectionStamp(): number {
    return this.#connectionStamp ?? NO_STAMP
  }

  /**
   * Ends the recheck of addresses that no change named after the one given: connections and tuples that are still remembered
   * of them are right. Of many only some at a time. Answers whether these were the last.
   */
  endRecheck(upToChange: number): boolean {
    const wereLast = this.#rechecks.end(upToChange, ENDED_AT_A_TIME)
    const changes = this.#putRechecks(batch(TABLE))
    if (changes.messages.length > 0) this.#tracker.unheard(() => commit(this.#netlink, changes))
    this.#rechecks.told()
    return wereLast
  }

  /**
   * What of the table is not as it was installed: the names of chains and sets; empty when it is in force as a whole. The
   * subjects' addresses are compared `withSubjects` only: listing them takes as long as there are many.
   *
   * Throws NetlinkError EINTR when the kernel's tables do not come to rest.
   */
  examine(depth: 'rules' | 'withSubjects'): readonly string[] {
    const actual = readFingerprint(this.#netlink, TABLE)
    if (actual.size === 0) return ['table']
    const wrong = differences(this.#reference ?? new Map(), actual)
    if (wrong.length > 0) return wrong
    const expected: [set: string, keys: readonly Uint8Array[]][] = [
      [sets.stamped, [this.#stampedKey()]],
      [sets.stamp, [ipv4Key, ipv6Key]],
      [sets.current, this.#currentKeys(this.#answerStamp ?? NO_STAMP)],
      [sets.rechecking, this.#recheckingKeys()],
      [sets.recheck4, this.rechecks.addresses.filter(isIPv4).map(addressKey)],
      [sets.recheck6, this.rechecks.addresses.filter(isIPv6).map(addressKey)],
    ]
    if (depth === 'withSubjects') {
      for (const elements of [this.#subjects, this.#known]) {
        expected.push([elements.set4, elements.addresses.filter(isIPv4).map(addressKey)])
        expected.push([elements.set6, elements.addresses.filter(isIPv6).map(addressKey)])
      }
    }
    return expected.filter(([set, keys]) => !this.#holds(set, keys)).map(([set]) => `elements of set ${set}`)
  }

  counters(): RulesetCounters {
    const readings = new Map(readCounters(this.#netlink, TABLE).map(({ name, packets }) => [name, packets]))
    return Object.fromEntries(counters.map((name) => [name, readings.get(name) ?? 0])) as RulesetCounters
  }

  close(): void {
    this.#netlink.close()
  }

  /** Takes the table down. */
  async remove(): Promise<void> {
    await removeRuleset((portId) => this.#tracker.own(portId))
  }

  async #write(wanted: Wanted, hearing: Hearing): Promise<void> {
    const isNew = !this.#isPresent()
    try {
      if (this.#connectionStamp === undefined) this.#takeStamp()
      await this.#nft(objectsText(this.#config.remember))
      this.#mechanism = this.#insertDivertRules()
      this.#commitElements(this.#takeOver(), wanted, {}, hearing)
      const { host, areSubjectsOwn = false, pods = [], failsafe = this.#config.failsafe } = wanted
      await this.#nft(rulesText({ ...this.#config, failsafe, areSubjectsOwn, pods, ...(host && { host }) }))
      this.#inRules = inRules(wanted)
      // Until now another version's rules may have asked, and otherwise than these do: what they had stamped is judged again.
      if (!isNew && this.#reference === undefined) this.#clearStamp(this.connectionStamp)
      this.#removeStrangers()
      this.#markPickedUp()
    } catch (error) {
      if (isNew) await this.remove()
      throw error
    }
  }

  /** Whether the table is again what it was. If not, it has been made from nothing: nft itself may be another one now. */
  async #repair(reference: Fingerprint, wanted: Wanted, hearing: Hearing): Promise<boolean> {
    try {
      await this.#write(wanted, hearing)
      if (differences(reference, readFingerprint(this.#netlink, TABLE)).length === 0) return true
    } catch (error) {
      if (!(error instanceof KnpError && error.code === 'RULESET') && !(error instanceof NetlinkError)) throw error
    }
    // There is something in it that an install does not replace: a chain at another hook, or a set too many. Packets that
    // wait for a verdict are lost.
    await this.remove()
    await this.#write(wanted, hearing)
    return false
  }

  /** Our rules jump to none of them any more. */
  #removeStrangers(): void {
    const strangers = strangersIn(readFingerprint(this.#netlink, TABLE))
    const changes = batch(TABLE)
    for (const chain of strangers) changes.flushChain(chain)
    for (const chain of strangers) changes.deleteChain(chain)
    commit(this.#netlink, changes)
  }

  async #nft(script: string): Promise<void> {
    await runNft(script, [], (portId) => this.#tracker.own(portId))
  }

  #holds(set: string, keys: readonly Uint8Array[]): boolean {
    try {
      const listed = listElements(this.#netlink, TABLE, set)
      if (listed.length !== keys.length) return false
      const present = new Set(listed.map(keyText))
      return keys.every((key) => present.has(keyText(key)))
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENOENT') return false
      throw error
    }
  }

  #isPresent(): boolean {
    try {
      listElements(this.#netlink, TABLE, sets.stamped)
      return true
    } catch (error) {
      if (error instanceof NetlinkError) return false
      throw error
    }
  }

  /**
   * Begins a change that replaces whatever elements there are: those of an earlier run, whose stamps were given by policies
   * that nobody knows any more. In the same transaction as the new ones: protection has no gap.
   */
  #takeOver(): Batch {
    this.#subjects.clear()
    this.#known.clear()
    this.#rechecks.flushed()
    this.#answerStamp = undefined
    const changes = batch(TABLE)
    for (const set of Object.values(sets)) changes.flushSet(set)
    return this.#forgetting(changes)
  }

  /** What an earlier run has stamped is not valid in this one. */
  #takeStamp(): void {
    const { connectionShift } = this.#config.marks
    const [key] = this.#isPresent() ? listElements(this.#netlink, TABLE, sets.stamped) : []
    this.#connectionStamp = key ? (readHostU32(key) >>> connectionShift) & 0x0f : NO_STAMP
    this.#invalidateConnections()
  }

  /** The stamp becomes another one. A number is used again after 14 changes: no connection may still carry it from then. */
  #invalidateConnections(): void {
    const stamp = nextStamp(this.connectionStamp)
    this.#clearStamp(stamp)
    this.#connectionStamp = stamp
    this.#rechecks.clear()
  }

  /**
   * They cannot be found and removed: packets that come meanwhile change the sets, and a listing would miss some. But they go
   * by themselves soon, so they do not count until then.
   */
  #forgetTuples(changes: Batch, addresses: readonly Address[]): Batch {
    const { allowedMs, deniedMs } = this.#config.remember
    const timeoutMs = Math.max(allowedMs, deniedMs)
    if (timeoutMs === 0) return changes
    // A change may name an address twice, and no element can be deleted twice.
    const once = [...new Map(addresses.map((address) => [formatAddress(address), address])).values()]
    return changes
      .addFleeting(sets.changed4, once.filter(isIPv4).map(addressKey), timeoutMs + TIMEOUT_MARGIN_MS)
      .addFleeting(sets.changed6, once.filter(isIPv6).map(addressKey), timeoutMs + TIMEOUT_MARGIN_MS)
  }

  /** Whether so many can be rechecked one by one. */
  #recheckAlso(addresses: readonly Address[]): boolean {
    this.#rechecks.add(addresses, this.#changes)
    return this.#rechecks.size <= MAX_RECHECKED
  }

  /** Forgets all that was learnt, connections included. */
  #forgetting(changes: Batch): Batch {
    for (const set of [...Object.values(learnt), sets.changed4, sets.changed6]) changes.flushSet(set)
    const chain = stampChain(this.connectionStamp)
    return changes
      .flushSet(sets.stamped)
      .addElements(sets.stamped, [this.#stampedKey()])
      .flushSet(sets.stamp)
      .addJump(sets.stamp, ipv4Key, chain)
      .addJump(sets.stamp, ipv6Key, chain)
  }

  #commitElements(changes: Batch, wanted: Wanted, change: Omit<Change, 'recheck'>, hearing: Hearing): void {
    const subjects = change.subjects ?? this.#subjects.compare(wanted.subjects)
    const known = change.known ?? this.#known.compare(wanted.known ?? [])
    this.#subjects.put(changes, subjects)
    this.#known.put(changes, known)
    if (wanted.answerStamp !== this.#answerStamp)
      changes.flushSet(sets.current).addElements(sets.current, this.#currentKeys(wanted.answerStamp))
    this.#putRechecks(changes)
    if (hearing === 'unheard') this.#tracker.unheard(() => commit(this.#netlink, changes))
    else commit(this.#netlink, changes)
    this.#subjects.take(subjects)
    this.#known.take(known)
    this.#answerStamp = wanted.answerStamp
    this.#rechecks.told()
  }

  #putRechecks(changes: Batch): Batch {
    const { added, removed, families } = this.#rechecks.change()
    changes
      .deleteElements(sets.recheck4, removed.filter(isIPv4).map(addressKey))
      .deleteElements(sets.recheck6, removed.filter(isIPv6).map(addressKey))
      .addElements(sets.recheck4, added.filter(isIPv4).map(addressKey))
      .addElements(sets.recheck6, added.filter(isIPv6).map(addressKey))
    return families ? changes.flushSet(sets.rechecking).addElements(sets.rechecking, this.#recheckingKeys()) : changes
  }

  #recheckingKeys(): readonly Uint8Array[] {
    const { v4, v6 } = this.#rechecks.families
    return [...(v4 ? [ipv4Key] : []), ...(v6 ? [ipv6Key] : [])]
  }

  /** Takes a stamp off all connections. */
  #clearStamp(stamp: number): void {
    const { connectionMask: mask, connectionShift } = this.#config.marks
    sweepMarks(this.#netlink, { mask, value: stamp << connectionShift, newValue: NO_STAMP }, 'both')
  }

  /**
   * The kernel tracks connections from when the first rule asks for it, which is a moment before the rules are in force:
   * those that are under way then may stand in its table the wrong way round.
   */
  #markPickedUp(): void {
    const { connectionMask: mask, connectionShift } = this.#config.marks
    const sweep = { mask, value: NO_STAMP, newValue: PICKED_UP << connectionShift, only: isPickedUp }
    sweepMarks(this.#netlink, sweep, 'both')
  }

  #stampedKey(): Uint8Array {
    return hostU32(this.connectionStamp << this.#config.marks.connectionShift)
  }

  /**
   * Answers of the next generation come a moment before it is in force here, and may be learnt too: what it decides otherwise
   * does not count from then on.
   */
  #currentKeys(stamp: number): readonly Uint8Array[] {
    return [stamp, nextStamp(stamp)].map((one) => hostU32(one << this.#config.marks.stampShift))
  }

  #insertDivertRules(): QueueMechanism {
    const failures: unknown[] = []
    const { marks, queue, queuesTotal } = this.#config
    for (const mechanism of this.#mechanism ? [this.#mechanism] : (['queue', 'xt-target'] as const)) {
      const rule = divertRule({ mask: marks.queued, value: marks.queued, queue, queuesTotal, bypass: true, mechanism })
      const changes = batch(TABLE)
      for (const chain of divertChains) changes.flushChain(chain).addRule(chain, rule)
      try {
        commit(this.#netlink, changes)
        return mechanism
      } catch (error) {
        if (!(error instanceof NetlinkError)) throw error
        if (error.code === 'ENOENT' && changes.stepAt(error.messageIndex)?.startsWith('flush chain')) {
          throw new KnpError('RULESET', `table inet ${TABLE}: another program removed it while it was installed`)
        }
        failures.push(error.message)
      }
    }
    throw new KnpError(
      'UNSUPPORTED_HOST',
      `the kernel can hand packets to userspace neither by nft's queue nor by the NFQUEUE target: ${failures.join('; ')}`,
      {
        hint: 'load a module: `modprobe nft_queue`, or `modprobe xt_NFQUEUE nft_compat`',
      },
    )
  }
}

/** Which kind of divert rule the kernel has for knp now, read from the rules themselves; `undefined` where one is missing. */
export function divertMechanism(netlink: Netlink): QueueMechanism | undefined {
  const last = divertChains.map((chain) => dumpRules(netlink, TABLE, chain).at(-1)?.at(-1))
  if (last.every((name) => name === 'queue')) return 'queue'
  return last.every((name) => name === 'target') ? 'xt-target' : undefined
}

/** Takes knp's table down, with all it remembers. Nothing happens where there is none. `announce` as for `runNft`. */
export async function removeRuleset(announce?: (portId: number) => () => void): Promise<void> {
  // Declared first: deleting a table that is not there would be an error.
  await runNft(`table inet ${TABLE} { }\ndelete table inet ${TABLE}\n`, [], announce)
}

/** The chains that are not ours: left by an older knp, or put there by another program. */
function strangersIn(fingerprint: Fingerprint): readonly string[] {
  const known = new Set(chainNames())
  const chains = [...fingerprint.keys()].filter((part) => part.startsWith(CHAIN_PART))
  return chains.map((part) => part.slice(CHAIN_PART.length)).filter((name) => !known.has(name))
}

/** The addresses that the kernel has in two sets, one for each family. */
class SetElements {
  readonly set4: string
  readonly set6: string
  readonly #addresses = new Map<string, Address>()

  constructor(set4: string, set6: string) {
    this.set4 = set4
    this.set6 = set6
  }

  get addresses(): readonly Address[] {
    return [...this.#addresses.values()]
  }

  clear(): void {
    this.#addresses.clear()
  }

  compare(addresses: readonly Address[]): SubjectChange {
    const wanted = new Map(addresses.map((address) => [formatAddress(address), address]))
    return {
      added: [...wanted].filter(([text]) => !this.#addresses.has(text)).map(([, address]) => address),
      removed: [...this.#addresses].filter(([text]) => !wanted.has(text)).map(([, address]) => address),
    }
  }

  put(changes: Batch, { added, removed }: SubjectChange): void {
    changes
      .deleteElements(this.set4, removed.filter(isIPv4).map(addressKey))
      .deleteElements(this.set6, removed.filter(isIPv6).map(addressKey))
      .addElements(this.set4, added.filter(isIPv4).map(addressKey))
      .addElements(this.set6, added.filter(isIPv6).map(addressKey))
  }

  /** The kernel has taken the change. */
  take({ added, removed }: SubjectChange): void {
    for (const address of removed) this.#addresses.delete(formatAddress(address))
    for (const address of added) this.#addresses.set(formatAddress(address), address)
  }
}

/** What of the wanted stands in rules. */
function inRules({ host, areSubjectsOwn = false, pods = [], failsafe }: Wanted): string {
  const blocks = (all: readonly Block[]) => all.map(formatBlock)
  // The failsafe is this machine's own: it is in no rule where that is not judged.
  const passing = host &&
    failsafe && [...failsafe.inbound.map(formatFailsafe), '', ...failsafe.outbound.map(formatFailsafe)]
  return JSON.stringify([
    host && [host.ingress, host.egress, blocks(host.forwards)],
    passing,
    areSubjectsOwn,
    blocks(pods),
  ])
}

function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')
}

function isIPv6(address: Address): boolean {
  return !isIPv4(address)
}

/** A mark as a set holds it. */
function readHostU32(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset).getUint32(0, endianness() === 'LE')
}

/** An address as a set holds it: network byte order. */
function addressKey(address: Address): Uint8Array {
  const words = isIPv4(address) ? [address.w3] : [address.w0, address.w1, address.w2, address.w3]
  const key = new DataView(new ArrayBuffer(words.length * 4))
  for (const [i, word] of words.entries()) key.setInt32(i * 4, word)
  return new Uint8Array(key.buffer)
}
