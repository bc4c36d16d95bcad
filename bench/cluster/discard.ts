/**
 * Asks an API server for what knp asks, and throws away what it gets: `node discard.ts`, how it is reached as JSON on
 * standard input. Prints how many bytes it has read.
 */
import { text } from 'node:stream/consumers'
import type { Access } from '../../src/sources/kubernetes/access.ts'
import { ApiClient } from '../../src/sources/kubernetes/api-client.ts'
import { builtInResources, discover } from '../../src/sources/kubernetes/resources.ts'
import { usualTiming } from '../../src/sources/kubernetes/timing.ts'

/** What says how to go on stands before the items. */
const HEAD_BYTES = 2048

const { server, tls, headers } = JSON.parse(await text(process.stdin)) as Access
const api = new ApiClient(async () => ({ server, tls, headers }), usualTiming)
const { signal } = new AbortController()
let bytes = 0
const resources = [...builtInResources, ...(await discover(api, signal))]
await Promise.all(resources.map(({ path }) => readAll(path)))
api.close()
process.stdout.write(`${bytes}\n`)

async function readAll(path: string): Promise<void> {
  let next: string | undefined
  do {
    const query = new URLSearchParams({
      limit: `${usualTiming.pageSize}`,
      ...(next !== undefined && { continue: next }),
    })
    next = await readPage(`${path}?${query}`)
  } while (next !== undefined)
}

async function readPage(path: string): Promise<string | undefined> {
  const answer = await api.open(path, signal)
  let head = ''
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (head.length < HEAD_BYTES) head += chunk.toString('latin1', 0, HEAD_BYTES)
  })
  await new Promise((resolve, reject) => answer.once('end', resolve).once('error', reject))
  return /"continue":"([^"]+)"/.exec(head)?.[1]
}
