import { readFile } from 'node:fs/promises'
import type { Agent, IncomingMessage } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import { KnpError } from '../../errors.ts'
import { Agent as PlainAgent, request as plainRequest } from '../../node-http.ts'
import type { Access } from './access.ts'
import { ApiFailure } from './api-failure.ts'
import { InvalidJson, readJson, type Wanted } from './json-scanner.ts'
import type { Timing } from './timing.ts'

interface Connection {
  readonly access: Access
  readonly agent: Agent
}

export const JSON_TYPE = 'application/json'

const KEEP_ALIVE_MS = 10_000
/** What an error says of itself is short. */
const MAX_ERROR_BYTES = 64 << 10

/** Asks one API server; follows its credentials as they change. */
export class ApiClient {
  readonly #readAccess: () => Promise<Access>
  readonly #timing: Pick<Timing, 'answerMs' | 'silenceMs' | 'freshMs'>
  #current: Connection | undefined
  #reading: Promise<Connection> | undefined
  #readAtMs = -Infinity
  readonly #movers = new Set<() => void>()

  constructor(readAccess: () => Promise<Access>, timing: Pick<Timing, 'answerMs' | 'silenceMs' | 'freshMs'>) {
    this.#readAccess = readAccess
    this.#timing = timing
  }

  /** Where its connections go: to the API server or, where there is one, to the proxy. */
  get endpoint(): { readonly host: string; readonly port: number } | undefined {
    if (!this.#current) return undefined
    const { server, proxy } = this.#current.access
    const { protocol, hostname, port } = new URL(proxy ?? server)
    const host = hostname.replace(/^\[(.*)\]$/, '$1')
    return { host, port: port === '' ? (protocol === 'http:' ? 80 : 443) : Number(port) }
  }

  /**
   * The answer to a GET, its body yet to come: it breaks with ApiFailure when it falls silent. Throws ApiFailure for every
   * status but 200, and KnpError UNREADABLE_SOURCE where the credentials cannot be read.
   * @param accept the encodings of the answer that can be read
   */
  async open(path: string, signal: AbortSignal, accept = JSON_TYPE): Promise<IncomingMessage> {
    const connection = await (this.#current ?? this.#readOnce())
    const token = await tokenOf(connection.access)
    try {
      return await this.#request(connection, token, { path, accept }, signal)
    } catch (error) {
      if (!mayBeStale(error)) throw error
      const latest = await this.#renew(connection, token)
      if (!latest) throw error
      return await this.#request(latest, await tokenOf(latest.access), { path, accept }, signal)
    }
  }

  /** A small answer, whole. Throws as `open`. */
  async read(path: string, wanted: Wanted, signal: AbortSignal): Promise<unknown> {
    const chunks: Buffer[] = []
    for await (const chunk of await this.open(path, signal)) chunks.push(chunk as Buffer)
    try {
      return readJson(Buffer.concat(chunks), wanted)
    } catch (cause) {
      if (!(cause instanceof InvalidJson)) throw cause
      throw new ApiFailure(`the API server's answer to ${path} is no JSON: ${cause.message}`, { cause })
    }
  }

  /**
   * How the API server is reached, for who connects to it by itself. Throws KnpError UNREADABLE_SOURCE where that cannot be told.
   * @param isRefused what was told last is not taken
   */
  async access(isRefused = false): Promise<Access> {
    const connection = await ((!isRefused && this.#current) || this.#readOnce())
    return connection.access
  }

  /** Tells whoever connects by itself when it is to connect anew; until the function is called that this answers. */
  onConnectAnew(tell: () => void): () => void {
    this.#movers.add(tell)
    return () => this.#movers.delete(tell)
  }

  /** Breaks off what is under way. Whoever asks from now on is connected to where the API server is now. */
  connectAnew(): void {
    this.#current?.agent.destroy()
    for (const tell of this.#movers) tell()
  }

  close(): void {
    this.#current?.agent.destroy()
    this.#current = undefined
  }

  /** What to try instead of credentials that were refused; `undefined` where there is nothing else. */
  async #renew(refused: Connection, token: string | undefined): Promise<Connection | undefined> {
    if (this.#current !== refused) return await (this.#current ?? this.#readOnce())
    if ((await tokenOf(refused.access)) !== token) return refused
    if (performance.now() - this.#readAtMs < this.#timing.freshMs) return undefined
    return await this.#readOnce()
  }

  /** However many ask, the credentials are read once; until that is done the former ones serve those who ask anew. */
  #readOnce(): Promise<Connection> {
    this.#reading ??= this.#readAccess()
      .then((access) => {
        // Whoever still reads by the former ones goes on: their sockets end with their answers.
        this.#current = { access, agent: agentFor(access) }
        this.#readAtMs = performance.now()
        return this.#current
      })
      .finally(() => {
        this.#reading = undefined
      })
    return this.#reading
  }

  async #request(
    connection: Connection,
    token: string | undefined,
    asked: { readonly path: string; readonly accept: string },
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { access, agent } = connection
    const authorization = token === undefined ? {} : { Authorization: `Bearer ${token}` }
    const headers = { Accept: asked.accept, 'User-Agent': 'knp', ...access.headers, ...authorization }
    const { answerMs, silenceMs } = this.#timing
    const request = access.server.startsWith('http:') ? plainRequest : tlsRequest
    return await new Promise((resolve, reject) => {
      const sent = request(`${access.server}${asked.path}`, { agent, headers, signal, timeout: answerMs })
      let answer: IncomingMessage | undefined
      sent.on('timeout', () => {
        const ms = answer ? silenceMs : answerMs
        const error = new ApiFailure(`API server ${access.server} has been silent for ${ms / 1000} s`)
        answer?.destroy(error)
        sent.destroy(error)
      })
      sent.on('error', (cause) => {
        if (cause instanceof ApiFailure || signal.aborted) reject(cause)
        // The server had closed the connection before it was used again.
        else if (sent.reusedSocket && !answer) resolve(this.#request(connection, token, asked, signal))
        else {
          const message = `API server ${access.server} cannot be reached: ${reasonOf(cause)}`
          reject(new ApiFailure(message, { cause }))
        }
      })
      sent.on('response', (response) => {
        answer = response
        sent.setTimeout(silenceMs)
        if (response.statusCode === 200) resolve(response)
        else refusalOf(response, access.server).then(reject, reject)
      })
      sent.end()
    })
  }
}

function agentFor({ server, tls, proxy }: Access): Agent {
  const options = {
    keepAlive: true,
    keepAliveMsecs: KEEP_ALIVE_MS,
    ...(proxy !== undefined && { proxyEnv: { HTTP_PROXY: proxy, HTTPS_PROXY: proxy } }),
  }
  return server.startsWith('http:') ? new PlainAgent(options) : new TlsAgent({ ...options, ...tls })
}

/** The token as its file says it now: a service account's is replaced long before it ends. */
async function tokenOf({ tokenFile }: Access): Promise<string | undefined> {
  if (tokenFile === undefined) return undefined
  try {
    return (await readFile(tokenFile, 'utf8')).trim()
  } catch (cause) {
    throw new KnpError('UNREADABLE_SOURCE', `the token of the API server cannot be read: ${(cause as Error).message}`, {
      cause,
    })
  }
}

/** The credentials may have been replaced: a token, a client's certificate, or the authority that signs the server's. */
function mayBeStale(error: unknown): boolean {
  if (!(error instanceof ApiFailure)) return false
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException
  return error.status === 401 || /CERT|SSL|TLS|SELF_SIGNED|UNABLE_TO/.test(code ?? '')
}

/** Happy eyeballs answer with one error for each address. */
function reasonOf(cause: Error): string {
  const { errors } = cause as AggregateError
  return cause.message || errors?.map((each: Error) => each.message).join('; ') || String(cause)
}

/** The failure that an answer other than 200 is. */
async function refusalOf(response: IncomingMessage, server: string): Promise<ApiFailure> {
  const status = response.statusCode ?? 0
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response) {
    bytes += (chunk as Buffer).length
    if (bytes <= MAX_ERROR_BYTES) chunks.push(chunk as Buffer)
  }
  const seconds = Number(response.headers['retry-after'])
  return new ApiFailure(`API server ${server} answers ${status}: ${messageOf(Buffer.concat(chunks), response)}`, {
    status,
    ...(seconds > 0 && { retryAfterMs: seconds * 1000 }),
  })
}

function messageOf(body: Buffer, response: IncomingMessage): string {
  try {
    const { message } = JSON.parse(body.toString()) as { message?: unknown }
    if (typeof message === 'string' && message !== '') return message
  } catch {
    // Not of the API server: a proxy's page, for example.
  }
  return response.statusMessage ?? ''
}
