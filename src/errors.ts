/**
 * Every code knp fails with, and the exit status a command ends with. Codes are stable: match on them, not on messages.
 * Documented in docs/errors.md.
 */
export const exitCodes = {
  /** A command line that cannot be understood. */
  USAGE: 2,
  /** A configuration that cannot be understood, or that others than root and the user could have written. */
  INVALID_CONFIG: 2,
  /** A manifest that is not what the Kubernetes API would take. */
  INVALID_MANIFEST: 2,
  /** A source path that does not exist or cannot be read. */
  UNREADABLE_SOURCE: 2,
  /** Nothing to test or to lint. */
  NO_CHECKS: 2,
  /** A name that no source knows. */
  UNKNOWN_NAME: 3,
  /** A policy would cut off the administrator who applies it. */
  LOCKED_OUT: 1,
  /** Nothing waits to be confirmed, or there is nothing to go back to. */
  NOTHING_PENDING: 2,
  /** No running firewall answers on the control socket, or no API server on the network. */
  UNREACHABLE: 4,
  /** The API server answers, and does not let us read what policies need. */
  API_REFUSED: 4,
  /** The kernel or the machine lacks something knp needs. */
  UNSUPPORTED_HOST: 5,
  /** Not root and no CAP_NET_ADMIN. */
  PERMISSION: 5,
  /** Another program has bound the queue. */
  QUEUE_TAKEN: 5,
  /** nft, or the kernel over netlink, refused the ruleset. */
  RULESET: 5,
  /** The addon is not built for this machine. */
  NATIVE_MISSING: 5,
  /** A defect of knp's. */
  INTERNAL: 70,
} as const

export type ErrorCode = keyof typeof exitCodes

/**
 * The one error knp throws on purpose. `message` is subject, what happened, value seen; `hint` is what to do about it.
 */
export class KnpError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.name = 'KnpError'
    this.code = code
    this.hint = options.hint
  }
}
