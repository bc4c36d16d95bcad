import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { clockMs } from '../clock.ts'
import { type Address, sameAddresses as sameInOrder } from '../engine/address.ts'
import { KnpError } from '../errors.ts'
import { isSystemError, loadAddon, type NativeDatagram, type NativeNetlinkMonitor } from './load.ts'
import {
  type AddressLister,
  type LocalAddress,
  NETLINK_ROUTE,
  openAddressLister,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  reportsAddresses,
  sameAddresses,
} from './local-addresses.ts'
import {
  openRouteLister,
  PodRoutes,
  type RouteLister,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
} from './pod-routes.ts'
import { threadId } from './scheduling.ts'
import { decodeTableEvents, NFNLGRP_NFTABLES } from './table-events.ts'

/** What the thread starts with. */
export interface KernelWatchData {
  readonly table: string
  /** Whether the routes to pods are followed too. */
  readonly followsPods: boolean
  /** Room in each socket; 0 leaves the system's default. */
  readonly receiveBufferBytes: number
}

/** A change of the table that is not our own, or several that came together. */
export interface TableChange {
  /** Who made the last of them, as the kernel names it; not printable as it is. `undefined` where it is not known. */
  readonly program: string | undefined
  /** Elements of a set may be among what was changed. */
  readonly touchesElements: boolean
  /** The kernel had to leave events out: what they were is not known. */
  readonly isLost: boolean
  /** When the first of them was noticed, in ms on the clock that all threads share (`timeOrigin + now()`). */
  readonly atMs: number
}

/** To the thread. */
export type ToKernelWatch =
  | { readonly type: 'own'; readonly portId: number }
  | { readonly type: 'disown'; readonly portId: number }
  | { readonly type: 'settle'; readonly id: number }
  | { readonly type: 'stop' }

/** From the thread. */
export type FromKernelWatch =
  | {
      readonly type: 'started'
      readonly wakeFd: number
      /** Of the socket that is told of the tables, to be closed by the receiver. */
      readonly tablesFd: number
      /** As the system names the thread. */
      readonly threadId: number
      readonly addresses: readonly LocalAddress[]
      readonly pods: readonly Address[]
    }
  | { readonly type: 'table'; readonly change: TableChange }
  | { readonly type: 'addresses'; readonly addresses: readonly LocalAddress[] }
  | { readonly type: 'pods'; readonly pods: readonly Address[] }
  | { readonly type: 'settled'; readonly id: number }
  | {
      readonly type: 'failed'
      readonly code: KnpError['code']
      readonly message: string
      readonly hint: string | undefined
    }

// linux/netlink.h
const NETLINK_NETFILTER = 12
const addressGroups = [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR]
const podGroups = [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE]
/** The place of a subscription. */
const TABLES = 0

/** A net under lost wake-ups; the thread is woken for every order. */
const IDLE_TIMEOUT_MS = 1000
/** Changes that come within this time are one. */
const TABLE_PAUSE_MS = 1
/** A transaction reports each rule and element, and its author last: so long a change waits for that end. */
const TRANSACTION_MS = 20
/** An address that comes brings routes and others with it, and IPv6 changes its state several times. */
const ADDRESS_PAUSE_MS = 20

/** `isWhole`: the end of the last one's transaction has come too. */
type PendingChange = TableChange & { readonly isWhole: boolean }

/** Reads what the kernel reports and says what matters. It blocks in the kernel: no event of this thread's loop runs. */
class Watcher {
  readonly #port: MessagePort
  readonly #data: KernelWatchData
  readonly #monitor: NativeNetlinkMonitor
  readonly #lister: AddressLister
  readonly #ownPorts = new Set<number>()
  readonly #routeLister: RouteLister | undefined
  readonly #routes = new PodRoutes()
  #pods: readonly Address[] = []
  /** Routes may have changed and nobody was told yet. */
  #arePodsStale = false
  /** The kernel may have removed some, or reported what was lost. */
  #areRoutesUnsure = false
  #addresses: readonly LocalAddress[]
  /** The table has changed and nobody was told yet. */
  #change: PendingChange | undefined
  #toldAtMs = 0
  #addressesChangedAtMs: number | undefined

  constructor(port: MessagePort, data: KernelWatchData) {
    this.#port = port
    this.#data = data
    this.#monitor = openMonitor(data)
    // After the subscription: what changes from now on is reported.
    this.#lister = openAddressLister()
    this.#addresses = this.#lister.list()
    if (data.followsPods) {
      this.#routeLister = openRouteLister()
      this.#routes.relist(this.#routeLister)
      this.#pods = this.#routes.addresses
    }
    const { wakeFd } = this.#monitor
    const tablesFd = this.#monitor.duplicate(TABLES)
    const known = { addresses: this.#addresses, pods: this.#pods }
    this.#post({ type: 'started', wakeFd, tablesFd, threadId: threadId(), ...known })
  }

  /** Returns when told to stop. */
  run(): void {
    for (;;) {
      let datagram = this.#monitor.receive(this.#pauseMs())
      // Orders come first: a port is announced as our own before anything is changed through it, so the announcement is
      // here when the change is reported. The datagram comes before orders that ask for what has happened so far.
      for (let note = receiveMessageOnPort(this.#port); note; note = receiveMessageOnPort(this.#port)) {
        const order = note.message as ToKernelWatch
        if (order.type === 'stop') return
        if (order.type === 'disown' || order.type === 'settle') {
          if (datagram) this.#take(datagram)
          datagram = undefined
          this.#catchUp()
        }
        this.#obey(order)
      }
      if (datagram) this.#take(datagram)
      this.#tell()
    }
  }

  close(): void {
    this.#monitor.close()
    this.#lister.close()
    this.#routeLister?.close()
  }

  #obey(order: ToKernelWatch): void {
    switch (order.type) {
      case 'own':
        this.#ownPorts.add(order.portId)
        break
      case 'disown':
        this.#ownPorts.delete(order.portId)
        break
      case 'settle':
        this.#tellChange()
        this.#post({ type: 'settled', id: order.id })
        break
      case 'stop':
        break
    }
  }

  /**
   * Takes all that the kernel has reported so far. It reports a transaction before it answers the one who made it, so that
   * is everything acknowledged before the order was given. Ends with the transaction of a change by others, which is the
   * answer already: one who changes the table without end does not hold us here.
   */
  #catchUp(): void {
    while (!this.#change?.isWhole) {
      const datagram = this.#monitor.receive(0)
      if (datagram === undefined) return
      this.#take(datagram)
    }
  }

  #take({ source, bytes }: NativeDatagram): void {
    const atMs = clockMs()
    if (source !== TABLES) {
      if (bytes === undefined || reportsAddresses(bytes)) this.#addressesChangedAtMs ??= atMs
      if (this.#data.followsPods) this.#takeRoutes(bytes)
      return
    }
    const events = bytes && decodeTableEvents(bytes, this.#data.table, (portId) => this.#ownPorts.has(portId))
    if (events === undefined) {
      this.#note({ program: undefined, touchesElements: true, isLost: true, isWhole: true, atMs })
      return
    }
    for (const event of events) {
      if (event.type === 'change') {
        const touchesElements = event.isElement
        this.#note({ program: undefined, touchesElements, isLost: false, isWhole: false, atMs })
      } else if (this.#change && !this.#change.isWhole) {
        // Transactions are reported one after another: this one ends the changes before it.
        this.#change = { ...this.#change, program: event.program, isWhole: true }
      }
    }
  }

  #takeRoutes(bytes: Uint8Array | undefined): void {
    this.#arePodsStale = true
    try {
      if (bytes === undefined || this.#routes.take(bytes)) this.#areRoutesUnsure = true
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      this.#areRoutesUnsure = true
    }
  }

  #note(change: PendingChange): void {
    const earlier = this.#change
    this.#change = earlier
      ? {
          program: earlier.program,
          touchesElements: earlier.touchesElements || change.touchesElements,
          isLost: earlier.isLost || change.isLost,
          isWhole: change.isWhole,
          atMs: earlier.atMs,
        }
      : change
  }

  /** When there is something to tell, in ms. */
  #pauseMs(): number {
    const nowMs = clockMs()
    const due = [nowMs + IDLE_TIMEOUT_MS]
    if (this.#change) due.push(this.#changeDueMs(this.#change))
    if (this.#addressesChangedAtMs !== undefined) due.push(this.#addressesChangedAtMs + ADDRESS_PAUSE_MS)
    return Math.max(0, Math.ceil(Math.min(...due) - nowMs))
  }

  #changeDueMs({ isWhole, atMs }: PendingChange): number {
    return Math.max(isWhole ? atMs : atMs + TRANSACTION_MS, this.#toldAtMs + TABLE_PAUSE_MS)
  }

  #tell(): void {
    const nowMs = clockMs()
    if (this.#arePodsStale) this.#tellPods()
    if (this.#change && this.#changeDueMs(this.#change) <= nowMs) this.#tellChange()
    if (this.#addressesChangedAtMs !== undefined && this.#addressesChangedAtMs + ADDRESS_PAUSE_MS <= nowMs) {
      this.#addressesChangedAtMs = undefined
      const addresses = this.#lister.list()
      if (sameAddresses(addresses, this.#addresses)) return
      this.#addresses = addresses
      this.#post({ type: 'addresses', addresses })
    }
  }

  /** At once: a pod's first packets come soon after its route. */
  #tellPods(): void {
    this.#arePodsStale = false
    if (this.#areRoutesUnsure && this.#routeLister) this.#routes.relist(this.#routeLister)
    this.#areRoutesUnsure = false
    const pods = this.#routes.addresses
    if (sameInOrder(pods, this.#pods)) return
    this.#pods = pods
    this.#post({ type: 'pods', pods })
  }

  #tellChange(): void {
    if (this.#change === undefined) return
    const { isWhole: _, ...change } = this.#change
    this.#change = undefined
    this.#toldAtMs = clockMs()
    this.#post({ type: 'table', change })
  }

  #post(message: FromKernelWatch): void {
    this.#port.postMessage(message)
  }
}

function openMonitor({ followsPods, receiveBufferBytes }: KernelWatchData): NativeNetlinkMonitor {
  const { NetlinkMonitor } = loadAddon()
  const subscriptions = [
    { protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES] },
    { protocol: NETLINK_ROUTE, groups: [...addressGroups, ...(followsPods ? podGroups : [])] },
  ]
  try {
    return new NetlinkMonitor(subscriptions, receiveBufferBytes)
  } catch (error) {
    if (!isSystemError(error)) throw error
    if (error.code === 'EPERM') {
      throw new KnpError('PERMISSION', 'kernel notifications: receiving them is not permitted: EPERM', {
        hint: 'run as root or grant CAP_NET_ADMIN',
        cause: error,
      })
    }
    throw new KnpError('UNSUPPORTED_HOST', `kernel notifications: the kernel has none: ${error.code}`, {
      hint: 'load the module: `modprobe nf_tables`',
      cause: error,
    })
  }
}

const port = parentPort!
let watcher: Watcher | undefined
try {
  watcher = new Watcher(port, workerData as KernelWatchData)
  watcher.run()
} catch (error) {
  const { code, message, hint } =
    error instanceof KnpError
      ? error
      : { code: 'INTERNAL' as const, message: `kernel notifications: ${String(error)}`, hint: undefined }
  port.postMessage({ type: 'failed', code, message, hint } satisfies FromKernelWatch)
} finally {
  watcher?.close()
}
port.close()
