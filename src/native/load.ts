import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { KnpError } from '../errors.ts'

/** What a queue is opened with; see {@link ../native/queue.ts openQueue}. */
export interface NativeQueueOptions {
  readonly number: number
  readonly maxLength: number
  readonly copyBytes: number
  readonly capacity: number
  readonly receiveBufferBytes: number
}

/** The addon's `Queue` (queue.h). */
export interface NativeQueue {
  readonly capacity: number
  readonly packets: Int32Array
  readonly bytes: Uint8Array
  readonly marks: Int32Array
  readonly wakeFd: number
  receive(timeoutMs: number): number
  answer(count: number): void
  counters(): { readonly overflows: number; readonly answerErrors: number; readonly truncated: number }
  close(): void
}

/** The addon's `NetlinkSocket` (netlink.h). */
export interface NativeNetlinkSocket {
  request(message: Uint8Array, lastSequence: number, timeoutMs: number): Buffer
  close(): void
}

/** What the addon exports. Its errors are {@link SystemError}s. */
export interface Addon {
  readonly Queue: new (options: NativeQueueOptions) => NativeQueue
  readonly NetlinkSocket: new () => NativeNetlinkSocket
  wake(fd: number): boolean
}

/** An error of the addon: a positive errno, its name, and what was being done. */
export interface SystemError extends Error {
  readonly errno: number
  readonly code: string
  readonly operation: string
}

/** Whether something thrown is an error of the addon's. */
export function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'errno' in error && 'operation' in error
}

/**
 * Loads the addon built for this machine. Node keeps it after the first call, one instance a thread.
 *
 * @throws KnpError NATIVE_MISSING when there is none, or it cannot be loaded here.
 */
export function loadAddon(): Addon {
  const path = fileURLToPath(new URL(`../../prebuilds/${process.platform}-${process.arch}/knp.node`, import.meta.url))
  try {
    return createRequire(import.meta.url)(path) as Addon
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw new KnpError('NATIVE_MISSING', `${path}: the addon cannot be loaded: ${reason}`, {
      hint: 'run `npm run build:native` (needs g++ and make)',
      cause,
    })
  }
}
