import type { IncomingMessage } from 'node:http'
import type { ApiClient } from './api-client.ts'
import { JSON_TYPE } from './api-client.ts'
import { ApiFailure, Defect } from './api-failure.ts'
import { InvalidJson, RecentTexts } from './json-scanner.ts'
import { type ListPage, ListReader } from './list-reader.ts'
import { InvalidProtobuf, type ProtobufReader, type WantedMessage } from './protobuf.ts'
import { PROTOBUF, ProtobufListReader } from './protobuf-list-reader.ts'
import type { Resource } from './resources.ts'

/** Who takes a list. */
export interface ListTaker {
  /** A list begins; what was taken of a former one that did not end is no longer true. */
  begin(): void
  take(item: unknown): void
  /** Takes an item in the API server's own encoding, where that can be read as it is; false where it is to be read first. */
  takeMessage?(item: ProtobufReader, end: number): boolean
}

/** What is listed: the path of a collection, and what is wanted of each item. */
export type Listed = Pick<Resource, 'path' | 'wanted' | 'wantedMessage'>

/** Lists all of a resource, page by page, and answers the version of the list. Throws ApiFailure. */
export async function list(
  api: ApiClient,
  { resource, pageSize }: { readonly resource: Listed; readonly pageSize: number },
  taker: ListTaker,
  signal: AbortSignal,
): Promise<string> {
  const texts = new RecentTexts()
  const ask = (query: Record<string, string>) => new AskedPage(api, resource, new URLSearchParams(query), signal)
  const askNext = (next: string) => ask({ limit: `${pageSize}`, continue: next })
  let page = ask({ limit: `${pageSize}` })
  let isFirst = true
  taker.begin()
  for (;;) {
    // The server makes it ready while this one is read.
    let following: AskedPage | undefined
    const onNext = (next: string) => {
      following ??= askNext(next)
    }
    try {
      const { next, resourceVersion } = await page.read({ taker, texts, onNext })
      if (next === undefined) return resourceVersion
      page = following ?? askNext(next)
      isFirst = false
    } catch (error) {
      following?.drop()
      // The pages come too slowly for the server's memory: all in one, then, which is slow for the server.
      if (!(error instanceof ApiFailure && error.isExpired && !isFirst)) throw error
      page = ask({})
      isFirst = true
      taker.begin()
    }
  }
}

/** Who takes a page. */
interface PageTaker {
  readonly taker: ListTaker
  readonly texts: RecentTexts
  /** Told how to ask for the next page as soon as that is known. */
  readonly onNext: (next: string) => void
}

/** A page of a list that was asked for; it comes no further than into buffers before it is read. */
class AskedPage {
  readonly #resource: Listed
  readonly #path: string
  readonly #answer: Promise<IncomingMessage>
  readonly #signal: AbortSignal

  constructor(api: ApiClient, resource: Listed, query: URLSearchParams, signal: AbortSignal) {
    this.#resource = resource
    this.#path = `${resource.path}?${query}`
    this.#signal = signal
    this.#answer = api.open(this.#path, signal, resource.wantedMessage ? `${PROTOBUF}, ${JSON_TYPE}` : JSON_TYPE)
    // Told to whoever reads it.
    this.#answer.catch(() => {})
  }

  /** Throws ApiFailure. */
  async read({ taker, texts, onNext }: PageTaker): Promise<ListPage> {
    const { wanted, wantedMessage } = this.#resource
    const subject = `the API server's answer to ${this.#path}`
    const answer = await this.#answer
    const isProtobuf = wantedMessage && answer.headers['content-type']?.startsWith(PROTOBUF)
    const reader = isProtobuf
      ? new ProtobufListReader((item, end) => takeMessage(taker, item, end, wantedMessage), texts)
      : new ListReader(wanted, (item) => taker.take(item), texts)
    try {
      await readWhole(answer, (chunk) => {
        // Those that come from a socket are of another form than all others: what reads both would be compiled twice.
        try {
          reader.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length))
        } catch (cause) {
          throw isUnreadable(cause) ? cause : new Defect(subject, cause)
        }
        if (reader.next !== undefined) onNext(reader.next)
      })
      return reader.end()
    } catch (cause) {
      answer.destroy()
      if (cause instanceof ApiFailure || cause instanceof Defect || this.#signal.aborted) throw cause
      if (isUnreadable(cause)) throw new ApiFailure(`${subject} cannot be read: ${cause.message}`, { cause })
      throw new ApiFailure(`${subject} breaks off: ${(cause as Error).message}`, { cause })
    }
  }

  /** Nobody will read it. */
  drop(): void {
    this.#answer.then(
      (answer) => answer.destroy(),
      () => {},
    )
  }
}

function isUnreadable(cause: unknown): cause is Error {
  return cause instanceof InvalidJson || cause instanceof InvalidProtobuf
}

/** Has an item in the API server's own encoding taken. Throws InvalidProtobuf. */
export function takeMessage(taker: ListTaker, item: ProtobufReader, end: number, wanted: WantedMessage): void {
  const start = item.at
  if (taker.takeMessage?.(item, end)) return
  item.at = start
  taker.take(item.read(wanted, end))
}

/** As `for await` would, without a promise for each of the many small chunks. */
function readWhole(answer: IncomingMessage, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    answer.on('data', (chunk: Buffer) => {
      try {
        take(chunk)
      } catch (error) {
        answer.destroy(error as Error)
      }
    })
    answer.on('end', resolve)
    answer.on('error', reject)
    answer.on('close', () => reject(new Error('the connection was closed')))
  })
}
