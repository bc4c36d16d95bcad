import { once } from 'node:events'
import { request } from 'node:http'
import { createConnection, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type HttpOptions, HttpServer } from '../../src/control/http.ts'

const LOOPBACK = '127.0.0.1'
const RETRY_MS = 5

interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly body: string
}

async function serve(test: Test, options: Partial<HttpOptions> = {}): Promise<HttpServer & { port: number }> {
  const server = await HttpServer.start({
    address: { host: LOOPBACK, port: 0 },
    routes: {
      '/good': () => ({ status: 200, body: 'ok\n' }),
      '/bad': () => ({ status: 503, body: 'why\nwhy else\n' }),
    },
    onProblem: () => {},
    ...options,
  })
  test.teardown(() => server.close())
  return Object.assign(server, { port: server.address?.port ?? 0 })
}

async function ask(port: number, path: string, method = 'GET'): Promise<Reply> {
  const asked = request({ host: LOOPBACK, port, path, method, agent: false }).end()
  const [response] = await once(asked, 'response')
  let body = ''
  for await (const chunk of response) body += chunk
  return { status: response.statusCode, headers: response.headers, body }
}

/** What comes back for bytes that need not be HTTP, until the server ends it. */
async function send(port: number, text: string): Promise<string> {
  const socket = createConnection(port, LOOPBACK)
  socket.setEncoding('utf8').write(text)
  let answer = ''
  socket.on('data', (chunk: string) => {
    answer += chunk
  })
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('close', resolve))
  return answer
}

/** Another program that has a port. */
async function occupy(test: Test): Promise<{ port: number; leave(): Promise<void> }> {
  const other = createServer().listen(0, LOOPBACK)
  await once(other, 'listening')
  const leave = () => new Promise<void>((resolve) => void other.close(() => resolve()))
  test.teardown(leave)
  return { port: (other.address() as { port: number }).port, leave }
}

t.test('paths answer with their status and text', async (t) => {
  const { port, problem } = await serve(t)
  t.equal(problem, undefined)
  t.match(await ask(port, '/good'), {
    status: 200,
    body: 'ok\n',
    headers: { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' },
  })
  t.match(await ask(port, '/good?verbose'), { status: 200, body: 'ok\n' })
  t.match(await ask(port, '/bad'), { status: 503, body: 'why\nwhy else\n' })
  t.match(await ask(port, '/good', 'HEAD'), { status: 200, body: '', headers: { 'content-length': '3' } })
})

t.test('everything else is refused', async (t) => {
  const { port } = await serve(t)
  t.match(await ask(port, '/'), { status: 404, body: 'not found; there is /good, /bad\n' })
  t.match(await ask(port, '/toString'), { status: 404 })
  t.match(await ask(port, '/good/'), { status: 404 })
  t.match(await ask(port, '/good', 'POST'), { status: 405, headers: { allow: 'GET, HEAD' } })
  t.match(await ask(port, '/good', 'DELETE'), { status: 405 })
  t.equal(await send(port, 'no HTTP at all\r\n\r\n'), '')
  t.match(await send(port, `GET /good HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(9000)}\r\n\r\n`), '')
  t.match(await ask(port, '/good'), { status: 200 }, 'it goes on')
})

t.test("an answer that fails is the server's own affair", async (t) => {
  const { port } = await serve(t, {
    routes: {
      '/fails': () => Promise.reject(new Error('broken')),
      '/works': async () => ({ status: 200, type: 'text/html', body: 'ü' }),
    },
  })
  t.match(await ask(port, '/fails'), { status: 500, body: 'broken\n' })
  t.match(await ask(port, '/works'), { status: 200, body: 'ü', headers: { 'content-type': 'text/html' } })
})

t.test('a port that is taken is tried again', async (t) => {
  const other = await occupy(t)
  const said: (string | undefined)[] = []
  let listens: () => void
  const listening = new Promise<void>((resolve) => {
    listens = resolve
  })
  const server = await serve(t, {
    address: { host: LOOPBACK, port: other.port },
    retryMs: RETRY_MS,
    onProblem: (problem) => {
      said.push(problem)
      if (problem === undefined) listens()
    },
  })
  const problem = `metrics and probes: cannot listen at 127.0.0.1:${other.port}: another program listens there; trying again`
  t.equal(server.problem, problem)
  t.equal(server.address, undefined)
  await sleep(20 * RETRY_MS)
  await other.leave()
  await listening
  t.same(said, [problem, undefined], 'said once, however often it was tried')
  t.equal(server.problem, undefined)
  t.match(await ask(other.port, '/good'), { status: 200 })
})

t.test('an address that is none of ours', async (t) => {
  const { problem } = await serve(t, { address: { host: '192.0.2.1', port: 9080 } })
  t.match(problem, 'cannot listen at 192.0.2.1:9080: this machine has no such address')
})

t.test('closing ends open connections, and trying', async (t) => {
  const server = await serve(t)
  const socket = createConnection(server.port, LOOPBACK)
  await once(socket, 'connect')
  socket.write('GET /good HTTP/1.1\r\n')
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await server.close()
  await closed

  const other = await occupy(t)
  const waiting = await serve(t, { address: { host: LOOPBACK, port: other.port }, retryMs: RETRY_MS })
  await waiting.close()
  await other.leave()
  await t.rejects(ask(other.port, '/good'), { code: 'ECONNREFUSED' })
})

t.test('IPv6', async (t) => {
  const { address, problem } = await serve(t, { address: { host: '::1', port: 0 } })
  t.equal(problem, undefined)
  t.equal(address?.host, '::1')
})
