import type { IncomingMessage } from 'node:http'
import type { ApiClient } from './api-client.ts'
import { JSON_TYPE } from './api-client.ts'
import { ApiFailure } from './api-failure.ts'
import { InvalidJson, RecentTexts } from './json-scanner.ts'
import { type ListPage, ListReader } from './list-reader.ts'
import { InvalidProtobuf } from './protobuf.ts'
import { PROTOBUF, ProtobufListReader } from './protobuf-list-reader.ts'
import type { Resource } from './resources.ts'

/** Who takes a list. */
export interface ListTaker {
  /** A list begins; what was taken of a former one that did not end is no longer true. */
  begin(): void
  take(item: unknown): void
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
  let next: string | undefined
  let limit: number | undefined = pageSize
  const texts = new RecentTexts()
  taker.begin()
  for (;;) {
    const query = new URLSearchParams()
    if (limit !== undefined) query.set('limit', String(limit))
    if (next !== undefined) query.set('continue', next)
    try {
      const page = await readPage(api, { resource, query }, { take: (item) => taker.take(item), texts }, signal)
      if (page.next === undefined) return page.resourceVersion
      next = page.next
    } catch (error) {
      // The pages come too slowly for the server's memory: all in one, then, which is slow for the server.
      if (!(error instanceof ApiFailure && error.isExpired && next !== undefined)) throw error
      next = undefined
      limit = undefined
      taker.begin()
    }
  }
}

async function readPage(
  api: ApiClient,
  { resource, query }: { readonly resource: Listed; readonly query: URLSearchParams },
  { take, texts }: { readonly take: (item: unknown) => void; readonly texts: RecentTexts },
  signal: AbortSignal,
): Promise<ListPage> {
  const { wanted, wantedMessage } = resource
  const path = `${resource.path}?${query}`
  const answer = await api.open(path, signal, wantedMessage ? `${PROTOBUF}, ${JSON_TYPE}` : JSON_TYPE)
  const isProtobuf = wantedMessage && answer.headers['content-type']?.startsWith(PROTOBUF)
  const reader = isProtobuf ? new ProtobufListReader(wantedMessage, take, texts) : new ListReader(wanted, take, texts)
  try {
    await readWhole(answer, (chunk) => reader.write(chunk))
    return reader.end()
  } catch (cause) {
    answer.destroy()
    if (cause instanceof ApiFailure || signal.aborted) throw cause
    if (cause instanceof InvalidJson || cause instanceof InvalidProtobuf) {
      throw new ApiFailure(`the API server's answer to ${path} cannot be read: ${cause.message}`, { cause })
    }
    throw new ApiFailure(`the API server's answer to ${path} breaks off: ${(cause as Error).message}`, { cause })
  }
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
