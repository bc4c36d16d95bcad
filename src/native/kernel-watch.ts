import { closeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { Worker } from 'node:worker_threads'
import { clockMs } from '../clock.ts'
import type { Address } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import type { FromKernelWatch, KernelWatchData, TableChange, ToKernelWatch } from './kernel-watch-thread.ts'
import { loadAddon } from './load.ts'
import type { LocalAddress } from './local-addresses.ts'
import { openNetlink } from './netlink.ts'
import { readGeneration } from './nftables.ts'
import { NFNLGRP_NFTABLES } from './table-events.ts'

export interface KernelWatchOptions {
  /** The table of family inet that is ours. */
  readonly table: string
  /** Whether the routes to this machine's pods are followed too. */
  readonly followsPods?: boolean
  /** Room for events in each socket. */
  readonly receiveBufferBytes?: number
}

/** Who is told. The calls come on the thread that started the watch, one at a time. */
export interface KernelWatchObserver {
  /** Somebody else has changed the table, or may have: look at it. Never for other tables. */
  tableChanged(change: TableChange): void
  /** Local addresses came or went: all that there are now. */
  addressesChanged(addresses: readonly LocalAddress[]): void
  /** Pods got routes or lost them: the addresses of all that have one now. */
  podsChanged?(pods: readonly Address[]): void
  /** Nothing more will be reported. */
  failed(error: unknown): void
}

/** What the kernel is watched for in this network namespace, by a thread of its own. */
export interface KernelWatch {
  /** Local addresses when the watch began; changes since then have been or will be reported. */
  readonly addresses: readonly LocalAddress[]
  /** Likewise: to which pods there is a route of their own; none where these are not followed. */
  readonly pods: readonly Address[]
  /** As the system names the thread. */
  readonly threadId: number
  /**
   * Changes through this netlink port are our own, and not reported: to be called before any is made. Answers what ends
   * that; changes made until then are still known as ours.
   */
  own(portId: number): () => void
  /**
   * Makes a change of our own. The kernel would describe each of its elements (2 µs and a page of memory each, spent in our
   * own call, and as much again to read that), so it is not listened to meanwhile; what else was changed in that time is still
   * noticed.
   */
  unheard<T>(change: () => T): T
  /**
   * Answers how many changes by others were reported so far, when everything that the kernel acknowledged to anyone before
   * this call has been looked at.
   */
  settle(): Promise<number>
  stop(): Promise<void>
}

/** About 60,000 events; by the sockets' own account, a message of a few bytes takes some hundred. */
const RECEIVE_BUFFER_BYTES = 16 << 20

/**
 * Watches a table and the local addresses. What the kernel says is told within about 1 ms (addresses: 20 ms); when it had
 * to leave something out, that counts as a change.
 *
 * @throws KnpError PERMISSION without CAP_NET_ADMIN, UNSUPPORTED_HOST without nf_tables, NATIVE_MISSING.
 */
export async function watchKernel(options: KernelWatchOptions, observer: KernelWatchObserver): Promise<KernelWatch> {
  const { table, followsPods = false, receiveBufferBytes = RECEIVE_BUFFER_BYTES } = options
  // Node runs the source as it is in tests, the compiled file otherwise.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const worker = new Worker(new URL(`./kernel-watch-thread.${extension}`, import.meta.url), {
    name: 'kernel watch',
    workerData: { table, followsPods, receiveBufferBytes } satisfies KernelWatchData,
  })
  const started = await new Promise<Extract<FromKernelWatch, { type: 'started' }>>((resolve, reject) => {
    worker.once('error', reject)
    worker.once('message', (message: FromKernelWatch) => {
      if (message.type === 'started') resolve(message)
      else if (message.type === 'failed') reject(asError(message))
      worker.removeListener('error', reject)
    })
  })
  return new WatchThread(worker, started, observer)
}

class WatchThread implements KernelWatch {
  readonly addresses: readonly LocalAddress[]
  readonly pods: readonly Address[]
  readonly threadId: number
  readonly #worker: Worker
  readonly #wakeFd: number
  /** Of the thread's own socket; it stays that one when the thread closes its descriptor. */
  readonly #tablesFd: number
  readonly #observer: KernelWatchObserver
  readonly #netlink = openNetlink()
  readonly #settles = new Map<number, (changes: number) => void>()
  readonly #exited: Promise<void>
  #changes = 0
  #lastSettle = 0
  /** Told to stop, or ended by itself. */
  #hasEnded = false

  constructor(worker: Worker, started: Extract<FromKernelWatch, { type: 'started' }>, observer: KernelWatchObserver) {
    this.#worker = worker
    this.#wakeFd = started.wakeFd
    this.addresses = started.addresses
    this.pods = started.pods
    this.threadId = started.threadId
    this.#tablesFd = started.tablesFd
    this.#observer = observer
    worker.on('message', (message: FromKernelWatch) => this.#hear(message))
    worker.on('error', (error) => this.#fail(error))
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        this.#fail(new KnpError('INTERNAL', 'the thread that receives kernel notifications ended'))
        resolve()
      })
    })
    // The process cannot end while the thread is blocked in the kernel.
    process.once('exit', this.#onExit)
  }

  own(portId: number): () => void {
    this.#send({ type: 'own', portId })
    return () => this.#send({ type: 'disown', portId })
  }

  unheard<T>(change: () => T): T {
    if (this.#hasEnded) return change()
    const before = readGeneration(this.#netlink)
    let changed = false
    this.#listen(false)
    try {
      const result = change()
      changed = true
      return result
    } finally {
      this.#listen(true)
      // Every transaction, of whatever table, raises the generation by one. Ours was one: if it went up by that, there was
      // no other; and what comes from now on is reported.
      const expected = changed ? (before + 1) >>> 0 : before
      if (readGeneration(this.#netlink) !== expected) {
        const atMs = clockMs()
        this.#noteChange({ program: undefined, touchesElements: true, isLost: true, atMs })
      }
    }
  }

  settle(): Promise<number> {
    if (this.#hasEnded) return Promise.resolve(this.#changes)
    const id = ++this.#lastSettle
    const settled = new Promise<number>((resolve) => this.#settles.set(id, resolve))
    this.#send({ type: 'settle', id })
    return settled
  }

  async stop(): Promise<void> {
    if (!this.#hasEnded) {
      this.#end()
      this.#send({ type: 'stop' })
    }
    await this.#exited
  }

  readonly #onExit = () => {
    this.#end()
    this.#send({ type: 'stop' })
  }

  #hear(message: FromKernelWatch): void {
    if (message.type === 'settled') {
      this.#settles.get(message.id)?.(this.#changes)
      this.#settles.delete(message.id)
    } else if (message.type === 'failed') this.#fail(asError(message))
    else if (this.#hasEnded) return
    else if (message.type === 'table') this.#noteChange(message.change)
    else if (message.type === 'addresses') this.#observer.addressesChanged(message.addresses)
    else if (message.type === 'pods') this.#observer.podsChanged?.(message.pods)
  }

  #noteChange(change: TableChange): void {
    this.#changes++
    this.#observer.tableChanged(change)
  }

  #fail(error: unknown): void {
    if (this.#hasEnded) return
    this.#end()
    this.#observer.failed(error)
  }

  #end(): void {
    this.#hasEnded = true
    process.removeListener('exit', this.#onExit)
    this.#netlink.close()
    closeSync(this.#tablesFd)
    for (const settled of this.#settles.values()) settled(this.#changes)
    this.#settles.clear()
  }

  #listen(isMember: boolean): void {
    const error = loadAddon().setMembership(this.#tablesFd, NFNLGRP_NFTABLES, isMember)
    if (error !== 0) throw new Error(`kernel notifications: membership: ${getSystemErrorName(-error)}`)
  }

  #send(message: ToKernelWatch): void {
    this.#worker.postMessage(message)
    loadAddon().wake(this.#wakeFd)
  }
}

function asError({ code, message, hint }: Extract<FromKernelWatch, { type: 'failed' }>): KnpError {
  return new KnpError(code, message, hint === undefined ? {} : { hint })
}
