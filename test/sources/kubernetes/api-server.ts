import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Access } from '../../../src/sources/kubernetes/access.ts'
import { PROTOBUF } from '../../../src/sources/kubernetes/protobuf-list-reader.ts'
import { encodePodItem, encodePodListHead, podListEnd } from './protobuf-encoder.ts'

/** An object as the API has it. */
export interface ApiObject {
  readonly apiVersion?: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown }
  readonly [field: string]: unknown
}

/** A request that came. */
export interface Asked {
  readonly path: string
  readonly query: URLSearchParams
  readonly token: string | undefined
  /** The encodings that the client can read. */
  readonly accept: string
}

/** What goes wrong with requests that `matches`. */
interface Fault {
  readonly matches: (asked: Asked) => boolean
  readonly answer: (response: ServerResponse, asked: Asked) => void
  left: number
}

interface Event {
  readonly version: number
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: ApiObject
}

interface Collection {
  readonly kind: string
  readonly apiVersion: string
  readonly plural: string
  readonly objects: Map<string, ApiObject>
  events: Event[]
  /** What happened before is forgotten. */
  oldest: number
  readonly watches: Set<Watch>
}

interface Watch {
  readonly response: ServerResponse
  readonly takesBookmarks: boolean
}

const GROUP = 'policy.networking.k8s.io'
const folder = new URL('../../fixtures/tls/', import.meta.url)
/** Signed by itself, for 127.0.0.1. */
export const certificate = readFileSync(new URL('certificate.pem', folder))
const key = readFileSync(new URL('key.pem', folder))

/**
 * An API server that speaks list and watch as far as a reader of policies needs it, over HTTPS, with everything that goes
 * wrong in practice on demand.
 */
export class ApiServer {
  /** Bearer tokens that are known. */
  readonly tokens = new Set(['secret'])
  /** Resources that nobody may read: `pods`. */
  readonly forbidden = new Set<string>()
  readonly asked: Asked[] = []
  /** Lists of pods are sent in the API server's own encoding to those who can read it. */
  speaksProtobuf = false
  /** How answers are cut into chunks; whole where absent. */
  cut: ((text: Buffer) => Buffer[]) | undefined
  #server: Server
  readonly #host: string
  #port: number
  #version = 100
  readonly #collections = new Map<string, Collection>()
  readonly #sockets = new Set<Socket>()
  readonly #waiting: { readonly matches: (asked: Asked) => boolean; readonly resolve: (asked: Asked) => void }[] = []
  #faults: Fault[] = []
  /** What lists were of, by kind and version. */
  readonly #listed = new Map<string, readonly ApiObject[]>()

  private constructor(host: string, port: number) {
    this.#host = host
    this.#port = port
    this.#server = this.#makeServer()
    this.#define('/api/v1/pods', 'Pod', 'v1', 'pods')
    this.#define('/api/v1/namespaces', 'Namespace', 'v1', 'namespaces')
    this.#define('/api/v1/nodes', 'Node', 'v1', 'nodes')
    this.#define(
      '/apis/networking.k8s.io/v1/networkpolicies',
      'NetworkPolicy',
      'networking.k8s.io/v1',
      'networkpolicies',
    )
  }

  /** @param port one that is free where it is 0 */
  static async start(host = '127.0.0.1', port = 0): Promise<ApiServer> {
    const server = new ApiServer(host, port)
    await server.up()
    return server
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`
  }

  /** How to reach it with a token. */
  access(token = 'secret'): Access {
    return { server: this.url, tls: { ca: certificate }, headers: { Authorization: `Bearer ${token}` } }
  }

  kubeconfig(user: object = { token: 'secret' }): object {
    const data = certificate.toString('base64')
    return {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.url, 'certificate-authority-data': data } }],
      users: [{ name: 'reader', user }],
      contexts: [{ name: 'prod', context: { cluster: 'test', user: 'reader' } }],
      'current-context': 'prod',
    }
  }

  /** Listens, on the port that it had before. */
  async up(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, this.#host, resolve))
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Ends at once, connections too. */
  async down(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.dropConnections()
    await closed
    this.#server = this.#makeServer()
  }

  /** Answers how many there were. */
  dropConnections(): number {
    const { size } = this.#sockets
    for (const socket of this.#sockets) socket.destroy()
    return size
  }

  /** Serves a kind of policies from now on, in these versions of its API, the preferred one first. */
  defineKind(kind: string, plural: string, ...versions: readonly string[]): void {
    const objects = this.#ofKind(kind)?.objects ?? new Map<string, ApiObject>()
    for (const version of versions) {
      this.#define(`/apis/${GROUP}/${version}/${plural}`, kind, `${GROUP}/${version}`, plural, objects)
    }
  }

  /** Its objects go, its watches end, and nobody knows it any more. */
  removeKind(kind: string, version?: string): void {
    for (const [path, { kind: its, apiVersion, watches }] of this.#collections) {
      if (its !== kind || (version !== undefined && apiVersion !== `${GROUP}/${version}`)) continue
      this.#collections.delete(path)
      end(watches)
    }
  }

  put(object: ApiObject): void {
    const placed = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } }
    this.#happen(placed, this.#ofKind(object.kind)!.objects.has(nameOf(object)) ? 'MODIFIED' : 'ADDED')
  }

  remove(kind: string, name: string): void {
    const object = this.#ofKind(kind)!.objects.get(name)!
    const { metadata } = object
    this.#happen({ ...object, metadata: { ...metadata, resourceVersion: String(++this.#version) } }, 'DELETED')
  }

  /** Tells watches of a kind that nothing else has happened until now. */
  bookmark(kind: string): void {
    this.#version++
    const { watches, apiVersion } = this.#ofKind(kind)!
    const object = { kind, apiVersion, metadata: { resourceVersion: String(this.#version), creationTimestamp: null } }
    for (const { response, takesBookmarks } of watches) if (takesBookmarks) this.#event(response, 'BOOKMARK', object)
  }

  /** Forgets what happened until now: watches that begin before, and pages of older lists, are refused. */
  compact(): void {
    for (const collection of this.#collections.values()) {
      collection.events = []
      collection.oldest = this.#version
    }
  }

  /** Ends the watches of a kind with an ERROR event. */
  failWatches(kind: string, code: number, message = 'trouble'): void {
    for (const { response } of this.#ofKind(kind)!.watches) {
      this.#event(response, 'ERROR', statusOf(code, message))
    }
    this.endWatches(kind)
  }

  /** Ends the watches of a kind as their time does. */
  endWatches(kind: string): void {
    end(this.#ofKind(kind)!.watches)
  }

  /** Writes what no API server writes into the watches of a kind. */
  writeToWatches(kind: string, text: string): void {
    for (const { response } of this.#ofKind(kind)!.watches) response.write(text)
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#sockets.size
  }

  watches(kind: string): number {
    return this.#ofKind(kind)?.watches.size ?? 0
  }

  /** The next requests that match are refused, `times` of them. */
  refuse(
    matches: (asked: Asked) => boolean,
    status: number,
    { times = 1, headers = {} }: { readonly times?: number; readonly headers?: Record<string, string> } = {},
  ): void {
    this.disturb(matches, (response) => refuse(response, status, 'so it was asked', headers), times)
  }

  /** Answers the next requests that match in another way. */
  disturb(matches: Fault['matches'], answer: Fault['answer'], times = 1): void {
    this.#faults.push({ matches, answer, left: times })
  }

  undisturb(): void {
    this.#faults = []
  }

  /** Resolves with the next request that matches. */
  nextAsked(matches: (asked: Asked) => boolean): Promise<Asked> {
    return new Promise((resolve) => this.#waiting.push({ matches, resolve }))
  }

  #makeServer(): Server {
    const server = createServer({ key, cert: certificate }, (request, response) => this.#answer(request, response))
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    return server
  }

  #define(
    path: string,
    kind: string,
    apiVersion: string,
    plural: string,
    objects: Map<string, ApiObject> = new Map(),
  ): void {
    const oldest = this.#version
    this.#collections.set(path, { kind, apiVersion, plural, objects, events: [], oldest, watches: new Set() })
  }

  #ofKind(kind: string): Collection | undefined {
    return [...this.#collections.values()].find((collection) => collection.kind === kind)
  }

  #happen(object: ApiObject, type: Event['type']): void {
    for (const collection of this.#collections.values()) {
      const { kind, apiVersion, objects, events, watches } = collection
      if (kind !== object.kind) continue
      if (type === 'DELETED') objects.delete(nameOf(object))
      else objects.set(nameOf(object), object)
      const written = { ...object, apiVersion }
      events.push({ version: this.#version, type, object: written })
      for (const { response } of watches) this.#event(response, type, written)
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname: path, searchParams: query } = new URL(request.url!, this.url)
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1]
    const asked = { path, query, token, accept: request.headers.accept ?? '' }
    this.asked.push(asked)
    for (const waiter of this.#waiting.filter(({ matches }) => matches(asked))) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
      waiter.resolve(asked)
    }
    const fault = this.#faults.find(({ matches, left }) => left > 0 && matches(asked))
    if (fault) {
      fault.left--
      fault.answer(response, asked)
    } else this.serve(response, asked)
  }

  /** Answers a request as it should be. */
  serve(response: ServerResponse, asked: Asked): void {
    const { path, query, token } = asked
    const collection = this.#collections.get(path)
    if (token === undefined || !this.tokens.has(token)) refuse(response, 401, 'Unauthorized')
    else if (!collection) this.#discovery(response, path)
    else if (this.forbidden.has(collection.plural)) {
      refuse(response, 403, `${collection.plural} is forbidden: User "reader" cannot list resource`)
    } else if (query.get('watch') === 'true') this.#watch(response, collection, query)
    else this.#list(response, collection, asked)
  }

  #discovery(response: ServerResponse, path: string): void {
    const served = [...this.#collections.values()].filter(({ apiVersion }) => apiVersion.startsWith(`${GROUP}/`))
    const versions = [...new Set(served.map(({ apiVersion }) => apiVersion))]
    const resources = served
      .filter(({ apiVersion }) => path === `/apis/${apiVersion}`)
      .flatMap(({ kind, plural }) => [
        { name: plural, kind, namespaced: false },
        { name: `${plural}/status`, kind, namespaced: false },
      ])
    if (path === `/apis/${GROUP}` && versions.length > 0) {
      const listed = versions.map((groupVersion) => ({ groupVersion, version: groupVersion.split('/')[1] }))
      this.#send(response, { kind: 'APIGroup', name: GROUP, versions: listed, preferredVersion: listed[0] })
    } else if (resources.length > 0) this.#send(response, { kind: 'APIResourceList', resources })
    else refuse(response, 404, 'the server could not find the requested resource')
  }

  #list(response: ServerResponse, collection: Collection, { query, accept }: Asked): void {
    const { kind, apiVersion, objects, oldest } = collection
    const limit = Number(query.get('limit') ?? Number.POSITIVE_INFINITY)
    const [version, start] = (query.get('continue') ?? `${this.#version}.0`).split('.').map(Number) as [number, number]
    if (query.has('continue') && version < oldest) {
      refuse(response, 410, 'The provided continue parameter is too old')
      return
    }
    // All pages are of one moment.
    const all = this.#listed.get(`${kind} ${version}`) ?? [...objects.values()]
    this.#listed.set(`${kind} ${version}`, all)
    const items = all.slice(start, start + limit).map((item) => {
      // Lists of built-in kinds leave out what all items have alike; those of others do not.
      const { kind: _, apiVersion: __, ...rest } = item
      return apiVersion.startsWith(GROUP) ? { ...item, apiVersion } : rest
    })
    const end = start + items.length
    const next = end < all.length ? { continue: `${version}.${end}`, remainingItemCount: all.length - end } : {}
    const metadata = { resourceVersion: String(version), ...next }
    if (this.speaksProtobuf && kind === 'Pod' && accept.includes(PROTOBUF)) {
      const encoded = Buffer.concat(items.map(encodePodItem))
      response.writeHead(200, { 'Content-Type': PROTOBUF })
      this.#write(response, Buffer.concat([encodePodListHead(metadata, encoded.length), encoded, podListEnd]))
      response.end()
    } else this.#send(response, { kind: `${kind}List`, apiVersion, metadata, items })
  }

  #watch(response: ServerResponse, { events, oldest, watches }: Collection, query: URLSearchParams): void {
    const since = Number(query.get('resourceVersion'))
    const seconds = Number(query.get('timeoutSeconds'))
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.flushHeaders()
    if (since < oldest) {
      this.#event(response, 'ERROR', statusOf(410, `too old resource version: ${since} (${oldest})`))
      response.end()
      return
    }
    for (const { version, type, object } of events) if (version > since) this.#event(response, type, object)
    const watch = { response, takesBookmarks: query.get('allowWatchBookmarks') === 'true' }
    watches.add(watch)
    const timer = setTimeout(() => {
      watches.delete(watch)
      response.end()
    }, seconds * 1000)
    response.on('close', () => {
      clearTimeout(timer)
      watches.delete(watch)
    })
  }

  #event(response: ServerResponse, type: string, object: object): void {
    this.#write(response, `${JSON.stringify({ type, object })}\n`)
  }

  #send(response: ServerResponse, value: object): void {
    response.writeHead(200, { 'Content-Type': 'application/json' })
    this.#write(response, JSON.stringify(value))
    response.end()
  }

  #write(response: ServerResponse, content: string | Buffer): void {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    for (const chunk of this.cut?.(bytes) ?? [bytes]) response.write(chunk)
  }
}

/** Matches lists of what has this plural name. */
export function listsOf(plural: string): (asked: Asked) => boolean {
  return ({ path, query }) => path.endsWith(`/${plural}`) && query.get('watch') !== 'true'
}

/** Matches watches of what has this plural name. */
export function watchesOf(plural: string): (asked: Asked) => boolean {
  return ({ path, query }) => path.endsWith(`/${plural}`) && query.get('watch') === 'true'
}

function end(watches: Set<Watch>): void {
  for (const { response } of watches) response.end()
  watches.clear()
}

function nameOf({ metadata: { namespace, name } }: ApiObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`
}

function refuse(response: ServerResponse, status: number, message: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers })
  response.end(JSON.stringify(statusOf(status, message)))
}

function statusOf(code: number, message: string): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, code }
}
