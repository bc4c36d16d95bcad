import { KnpError } from '../errors.ts'
import { isSystemError, loadAddon, type NativePacketLogOptions } from './load.ts'

/**
 * What rules log to one group of netfilter's packet log, in rows as of a `PacketQueue` without marks. Nobody waits for the
 * answer to a packet. One thread uses it; only `wakeQueue` may be called from others.
 */
export interface PacketLog {
  readonly packets: Int32Array
  /** For each row whether its rule's prefix began with a `d`. */
  readonly denied: Uint8Array
  readonly bytes: Uint8Array
  /** As of a `PacketQueue`, but that nothing is answered. */
  readonly state: Float64Array
  /** What `wakeQueue` takes. Not to be closed. */
  readonly wakeFd: number
  /**
   * Blocks until packets come, for at most `timeoutMs` (below 0: for ever), and returns how many rows it filled: they are
   * valid until the next call. 0 means woken, timed out, or nothing but errors. @throws SystemError EBADF after `close`.
   */
  receive(timeoutMs: number): number
  /** How many packets were logged and could not be kept. */
  lost(): number
  close(): void
}

export type PacketLogOptions = NativePacketLogOptions

/**
 * Binds a group of this network namespace.
 *
 * @throws KnpError QUEUE_TAKEN when another socket has it, PERMISSION without CAP_NET_ADMIN, UNSUPPORTED_HOST when the kernel
 *   has no nfnetlink_log, NATIVE_MISSING. A SystemError for what is none of these.
 */
export function openPacketLog(options: PacketLogOptions): PacketLog {
  const addon = loadAddon()
  try {
    return new addon.PacketLog(options)
  } catch (error) {
    if (!isSystemError(error) || error.operation === 'options') throw error
    const subject = `log group ${options.group}`
    switch (error.code) {
      case 'EBUSY':
      case 'EEXIST':
        throw new KnpError('QUEUE_TAKEN', `${subject}: another program reads it`, { cause: error })
      case 'EPERM':
        throw new KnpError('PERMISSION', `${subject}: reading it is not permitted: ${error.code}`, {
          hint: 'run as root or grant CAP_NET_ADMIN',
          cause: error,
        })
      case 'EINVAL':
      case 'ENOENT':
      case 'EPROTONOSUPPORT':
      case 'EOPNOTSUPP':
        throw new KnpError('UNSUPPORTED_HOST', `${subject}: the kernel cannot log packets: ${error.code}`, {
          hint: 'load the kernel module: `modprobe nfnetlink_log`',
          cause: error,
        })
      default:
        throw error
    }
  }
}
