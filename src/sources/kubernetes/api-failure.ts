import { KnpError } from '../../errors.ts'

/** Why the API server did not give what was asked for. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure'
  /** The answer's status, or the one that a watch reported; `undefined` where there was no answer. */
  readonly status: number | undefined
  /** What the server asks to wait. */
  readonly retryAfterMs: number

  constructor(message: string, options: { status?: number; retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.status = options.status
    this.retryAfterMs = options.retryAfterMs ?? 0
  }

  /** The version asked for is too old: what happened since can only be told by a new list. */
  get isExpired(): boolean {
    return this.status === 410
  }

  get isMissing(): boolean {
    return this.status === 404
  }

  /** It will not pass by itself: the server knows us and refuses, or does not know us. */
  get isRefusal(): boolean {
    return this.status === 401 || this.status === 403
  }
}

/** What the API server told could be read, and not be taken: no trouble of its or the network's. */
export class Defect extends Error {
  override readonly name = 'Defect'

  constructor(subject: string, cause: unknown) {
    super(`${subject} cannot be taken, which is a defect of knp: ${(cause as Error).message}`, { cause })
  }
}

/** As commands end with it. */
export function asKnpError(cause: unknown): KnpError {
  if (cause instanceof KnpError) return cause
  const { message } = cause as Error
  if (cause instanceof Defect) return new KnpError('INTERNAL', message, { cause })
  if (cause instanceof ApiFailure && cause.isRefusal) return new KnpError('API_REFUSED', message, { cause })
  return new KnpError('UNREACHABLE', message, {
    cause,
    hint: 'is the API server up, and reachable from here? `kubectl get --raw /readyz` with the same kubeconfig asks it',
  })
}
