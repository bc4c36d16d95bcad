import { once } from 'node:events'
import type { Server, ServerResponse } from 'node:http'
import { formatListenAddress, type ListenAddress } from '../listen-address.ts'
import { createServer } from '../node-http.ts'

/** What a path answers. */
export interface HttpAnswer {
  readonly status: number
  /** Of the body; plain text where it is left out. */
  readonly type?: string
  readonly body: string
}

/** What is answered to GET, by path. */
export type HttpRoutes = Readonly<Record<string, () => HttpAnswer | Promise<HttpAnswer>>>

export interface HttpOptions {
  readonly address: ListenAddress
  readonly routes: HttpRoutes
  /** Called when it cannot listen, with why, and with `undefined` when it can after all. */
  readonly onProblem: (problem: string | undefined) => void
  /** How soon it tries again. */
  readonly retryMs?: number
}

const RETRY_MS = 5000
/** Of one request, from its first byte to its last. */
const REQUEST_TIMEOUT_MS = 5000
/** Probes and a monitoring system need a few; who opens more waits for nobody's memory. */
const MAX_CONNECTIONS = 64
const TEXT = 'text/plain; charset=utf-8'

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'not permitted',
}

/** Answers probes and a monitoring system. Where it cannot listen it says so and tries again: nothing else depends on it. */
export class HttpServer {
  readonly #options: HttpOptions
  readonly #server: Server
  #problem: string | undefined
  #retry: NodeJS.Timeout | undefined
  #isClosed = false

  /** Resolves when it listens, or has failed to for the first time. */
  static async start(options: HttpOptions): Promise<HttpServer> {
    const server = new HttpServer(options)
    await server.#listen()
    return server
  }

  private constructor(options: HttpOptions) {
    this.#options = options
    this.#server = createServer(
      {
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: REQUEST_TIMEOUT_MS,
        maxHeaderSize: 8192,
      },
      (request, response) => {
        // Nothing that is asked for here has a body.
        request.resume()
        void this.#answer(request.method ?? '', request.url ?? '', response)
      },
    )
    this.#server.maxConnections = MAX_CONNECTIONS
    this.#server.on('clientError', (_error, socket) => socket.destroy())
  }

  /** Why it does not listen; `undefined` while it does. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Where it listens; `undefined` while it does not. */
  get address(): ListenAddress | undefined {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? { host: address.address, port: address.port } : undefined
  }

  /** Ends listening and all connections. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#retry)
    if (!this.#server.listening) return
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async #listen(): Promise<void> {
    const { address, onProblem, retryMs = RETRY_MS } = this.#options
    this.#server.listen({ ...address, ipv6Only: address.host !== '::' })
    const error = await once(this.#server, 'listening').then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    )
    const problem =
      error && `metrics and probes: cannot listen at ${formatListenAddress(address)}: ${reasonOf(error)}; trying again`
    const hasChanged = problem !== this.#problem
    this.#problem = problem
    if (hasChanged) onProblem(problem)
    if (error && !this.#isClosed) this.#retry = setTimeout(() => void this.#listen(), retryMs)
  }

  async #answer(method: string, url: string, response: ServerResponse): Promise<void> {
    const { status, type = TEXT, body } = await this.#ask(method, url.replace(/[?#].*$/s, ''))
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(status === 405 && { allow: 'GET, HEAD' }),
    })
    response.end(method === 'HEAD' ? undefined : body)
  }

  async #ask(method: string, path: string): Promise<HttpAnswer> {
    const { routes } = this.#options
    if (method !== 'GET' && method !== 'HEAD') return { status: 405, body: 'GET and HEAD only\n' }
    if (!Object.hasOwn(routes, path)) {
      return { status: 404, body: `not found; there is ${Object.keys(routes).join(', ')}\n` }
    }
    try {
      return await routes[path]!()
    } catch (error) {
      return { status: 500, body: `${error instanceof Error ? error.message : String(error)}\n` }
    }
  }
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return reasons[code ?? ''] ?? message
}
