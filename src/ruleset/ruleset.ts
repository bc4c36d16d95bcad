import type { MarkLayout } from '../datapath/marks.ts'
import { NO_STAMP, PICKED_UP } from '../datapath/marks.ts'
import { isIPv4 } from '../engine/address.ts'
import { type Address, formatAddress, formatBlock } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { isPickedUp, sweepMarks } from '../native/conntrack.ts'
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
import type { Failsafe } from './failsafe.ts'
import { runNft } from './nft.ts'
import {
  counters,
  divertChains,
  type HostTraffic,
  type OnFailure,
  objectsText,
  rulesText,
  sets,
  TABLE,
} from './text.ts'

export interface RulesetConfig {
  readonly marks: MarkLayout
  readonly onFailure: OnFailure
  readonly failsafe: Failsafe
  /** The first NFQUEUE number, and how many there are. */
  readonly queue: number
  readonly queuesTotal: number
}

/** What a generation wants of the kernel. */
export interface Wanted {
  /** Addresses of the workloads whose traffic is queued. */
  readonly subjects: readonly Address[]
  /** The stamp that connections get and must carry. */
  readonly stamp: number
  /** This machine's own traffic, where it is judged. */
  readonly host: HostTraffic | undefined
}

/** Packets that passed each named counter since the table was made. */
export type RulesetCounters = Readonly<Record<(typeof counters)[number], number>>

/** knp's table in the kernel: what is queued, what is remembered, and what happens without a verdict. */
export class Ruleset {
  readonly #config: RulesetConfig
  readonly #netlink: Netlink
  /** Elements as the kernel has them; unknown before the first update. */
  #subjects = new Map<string, Address>()
  #stamp: number | undefined
  #host: HostTraffic | undefined
  #mechanism: QueueMechanism | undefined

  /** Throws KnpError NATIVE_MISSING. */
  constructor(config: RulesetConfig) {
    this.#config = config
    this.#netlink = openNetlink()
  }

  /** Which kind of divert rule is in force; `undefined` before `install`. */
  get mechanism(): QueueMechanism | undefined {
    return this.#mechanism
  }

  /**
   * Makes the table, or takes over the one that an earlier run left. Nothing is queued before the divert rules are there,
   * and rules that are in force stay so until new ones replace them. Throws KnpError RULESET, PERMISSION, UNSUPPORTED_HOST.
   */
  async install(wanted: Wanted): Promise<void> {
    const isNew = !this.#isPresent()
    try {
      await runNft(objectsText())
      this.#mechanism = this.#insertDivertRules()
      this.#commitElements(this.#takeOver(), wanted)
      await this.#loadRules(wanted.host)
      this.#markPickedUp()
    } catch (error) {
      if (isNew) await removeRuleset()
      throw error
    }
  }

  /**
   * Makes a generation the one in force: its subjects are queued, its stamp is given and honoured, in one transaction.
   * Connections of all other generations are judged again at their next packet.
   */
  async update(wanted: Wanted): Promise<void> {
    this.#commitElements(batch(TABLE), wanted)
    if (!isSameHost(this.#host, wanted.host)) await this.#loadRules(wanted.host)
  }

  /** Whether the table still holds the divert rules: false after another program has flushed or deleted it. */
  isInForce(): boolean {
    return divertMechanism(this.#netlink) !== undefined && dumpRules(this.#netlink, TABLE, 'judge').length > 0
  }

  counters(): RulesetCounters {
    const readings = new Map(readCounters(this.#netlink, TABLE).map(({ name, packets }) => [name, packets]))
    return Object.fromEntries(counters.map((name) => [name, readings.get(name) ?? 0])) as RulesetCounters
  }

  close(): void {
    this.#netlink.close()
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
    this.#subjects = new Map()
    this.#stamp = undefined
    const changes = batch(TABLE)
    for (const set of Object.values(sets)) changes.flushSet(set)
    return changes
  }

  async #loadRules(host: HostTraffic | undefined): Promise<void> {
    await runNft(rulesText({ ...this.#config, ...(host && { host }) }))
    this.#host = host
  }

  #commitElements(changes: Batch, { subjects, stamp }: Wanted): void {
    const { marks } = this.#config
    const wanted = new Map(subjects.map((address) => [formatAddress(address), address]))
    const added = [...wanted].filter(([text]) => !this.#subjects.has(text)).map(([, address]) => address)
    const removed = [...this.#subjects].filter(([text]) => !wanted.has(text)).map(([, address]) => address)
    changes
      .deleteElements(sets.subjects4, removed.filter(isIPv4).map(addressKey))
      .deleteElements(sets.subjects6, removed.filter(isIPv6).map(addressKey))
      .addElements(sets.subjects4, added.filter(isIPv4).map(addressKey))
      .addElements(sets.subjects6, added.filter(isIPv6).map(addressKey))
    if (stamp !== this.#stamp) {
      // A stamp is used again after 14 generations: no connection may still carry it from then.
      const value = stamp << marks.connectionShift
      sweepMarks(this.#netlink, { mask: marks.connectionMask, value, newValue: 0 }, 'both')
      changes
        .flushSet(sets.stamped)
        .flushSet(sets.current)
        .addElements(sets.stamped, [hostU32(value)])
        .addElements(sets.current, [hostU32(stamp << marks.stampShift), hostU32(PICKED_UP << marks.stampShift)])
    }
    commit(this.#netlink, changes)
    this.#subjects = wanted
    this.#stamp = stamp
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

  #insertDivertRules(): QueueMechanism {
    const failures: unknown[] = []
    for (const mechanism of ['queue', 'xt-target'] as const) {
      const { marks, queue, queuesTotal } = this.#config
      const rule = divertRule({ mask: marks.queued, value: marks.queued, queue, queuesTotal, bypass: true, mechanism })
      const changes = batch(TABLE)
      for (const chain of divertChains) changes.flushChain(chain).addRule(chain, rule)
      try {
        commit(this.#netlink, changes)
        return mechanism
      } catch (error) {
        if (!(error instanceof NetlinkError)) throw error
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

/** Takes knp's table down, with all it remembers. Nothing happens where there is none. */
export async function removeRuleset(): Promise<void> {
  // Declared first: deleting a table that is not there would be an error.
  await runNft(`table inet ${TABLE} { }\ndelete table inet ${TABLE}\n`)
}

function isSameHost(a: HostTraffic | undefined, b: HostTraffic | undefined): boolean {
  if (!a || !b) return a === b
  const text = ({ forwards }: HostTraffic) => forwards.map(formatBlock).join()
  return a.ingress === b.ingress && a.egress === b.egress && text(a) === text(b)
}

function isIPv6(address: Address): boolean {
  return !isIPv4(address)
}

/** An address as a set holds it: network byte order. */
function addressKey(address: Address): Uint8Array {
  const words = isIPv4(address) ? [address.w3] : [address.w0, address.w1, address.w2, address.w3]
  const key = new DataView(new ArrayBuffer(words.length * 4))
  for (const [i, word] of words.entries()) key.setInt32(i * 4, word)
  return new Uint8Array(key.buffer)
}
