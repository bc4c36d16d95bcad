/**
 * Asks an API server for what knp asks, and throws away what it gets: `node discard.ts [json]`, how it is reached as JSON
 * on standard input. With `json` it asks for nothing but JSON. Prints how many bytes it has read.
 */
import { text } from 'node:stream/consumers'
import type { Access } from '../../src/sources/kubernetes/access.ts'
import { ApiClient, JSON_TYPE } from '../../src/sources/kubernetes/api-client.ts'
import { RecentTexts } from '../../src/sources/kubernetes/json-scanner.ts'
import { message, ProtobufReader } from '../../src/sources/kubernetes/protobuf.ts'
import { PROTOBUF } from '../../src/sources/kubernetes/protobuf-list-reader.ts'
import { builtInResources, discover, type Resource } from '../../src/sources/kubernetes/resources.ts'
import { usualTiming } from '../../src/sources/kubernetes/timing.ts'

const isJSONOnly = process.argv[2] === 'json'
/** What says how to go on stands before the items. */
const HEAD_BYTES = 2048

const { server, tls, headers } = JSON.parse(await text(process.stdin)) as Access
const api = new ApiClient(async () => ({ server, tls, headers }), usualTiming)
const { signal } = new AbortController()
let bytes = 0
const resources = [...builtInResources, ...(await discover(api, signal))]
await Promise.all(resources.map(readAll))
api.close()
process.stdout.write(`${bytes}\n`)

async function readAll({ path, wantedMessage }: Resource): Promise<void> {
  let next: string | undefined
  do {
    const query = new URLSearchParams({
      limit: `${usualTiming.pageSize}`,
      ...(next !== undefined && { continue: next }),
    })
    next = await readPage(`${path}?${query}`, wantedMessage && !isJSONOnly ? `${PROTOBUF}, ${JSON_TYPE}` : JSON_TYPE)
  } while (next !== undefined)
}

async function readPage(path: string, accept: string): Promise<string | undefined> {
  const answer = await api.open(path, signal, accept)
  let head = ''
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (head.length < HEAD_BYTES) head += chunk.toString('latin1', 0, HEAD_BYTES)
  })
  await new Promise((resolve, reject) => answer.once('end', resolve).once('error', reject))
  if (!answer.headers['content-type']?.startsWith(PROTOBUF)) return /"continue":"([^"]+)"/.exec(head)?.[1]
  return continuationOf(Buffer.from(head, 'latin1'))
}

/** `metadata.continue` of a list in the API server's own encoding: all before it is short. */
function continuationOf(head: Buffer): string | undefined {
  const reader = new ProtobufReader(head, 4, new RecentTexts())
  for (;;) {
    const tag = reader.varint(head.length)
    const isList = tag === ((2 << 3) | 2)
    if (isList) break
    reader.skip(tag, head.length)
  }
  reader.varint(head.length)
  reader.varint(head.length)
  const metadata = reader.read(message({ 3: { name: 'continue', type: 'text' } }), reader.lengthEnd(head.length))
  return metadata.continue as string | undefined
}
