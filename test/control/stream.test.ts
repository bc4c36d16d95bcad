import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { ControlServer, type ControlStream, follow } from '../../src/control/socket.ts'
import { KnpError } from '../../src/errors.ts'
import { until } from '../until.ts'

async function serve(t: Test, stream: ControlStream): Promise<{ path: string; server: ControlServer }> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const path = join(folder, 'control.sock')
  const server = await ControlServer.listen(path, {}, undefined, { numbers: stream })
  t.teardown(() => server.close())
  return { path, server }
}

async function collect(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const all = []
  for await (const item of items) all.push(item)
  return all
}

/** Waits until it is so; what is looked at changes by itself. */
const comes = (isSo: () => boolean) => until(() => sleep(5).then(isSo))

t.test('a stream is read to its end, with what was asked', async (t) => {
  let stopped = 0
  const { path } = await serve(t, ({ count }, reader) => {
    for (let n = 0; n < (count as number); n++) t.equal(reader.send({ n }), true)
    reader.end()
    return () => stopped++
  })
  t.same(await collect(follow(path, 'numbers', { count: 3 })), [{ n: 0 }, { n: 1 }, { n: 2 }])
  t.same(await collect(follow(path, 'numbers', { count: 0 })), [])
  await comes(() => stopped === 2)
})

t.test('what comes later is sent when it comes, and a reader that goes away ends it', async (t) => {
  let timer: NodeJS.Timeout | undefined
  let isStopped = false
  const { path } = await serve(t, (_, reader) => {
    let n = 0
    timer = setInterval(() => reader.send({ n: n++ }), 5)
    return () => {
      clearInterval(timer)
      isStopped = true
    }
  })
  const items = follow(path, 'numbers')
  t.same((await items.next()).value, { n: 0 })
  t.same((await items.next()).value, { n: 1 })
  t.equal(isStopped, false)
  await items.return()
  await comes(() => isStopped)
})

t.test('errors are thrown as they are, and the end of the firewall is one', async (t) => {
  const refusing = await serve(t, () => {
    throw new KnpError('USAGE', 'no such number', { hint: 'count' })
  })
  await t.rejects(collect(follow(refusing.path, 'numbers')), {
    code: 'USAGE',
    message: 'no such number',
    hint: 'count',
  })
  await t.rejects(collect(follow(refusing.path, 'letters')), { code: 'USAGE', message: /knows no method "letters"/ })
  await t.rejects(collect(follow('/nowhere/control.sock', 'numbers')), { code: 'UNREACHABLE' })
  const silent = await serve(t, (_, reader) => {
    reader.send({ n: 0 })
    return () => {}
  })
  const items = follow(silent.path, 'numbers')
  t.same((await items.next()).value, { n: 0 })
  await silent.server.close()
  await t.rejects(items.next(), { code: 'UNREACHABLE', message: /the firewall has ended/ })
})

t.test('for a reader that reads nothing little is held, and it goes on when it reads again', async (t) => {
  const text = 'x'.repeat(1000)
  let sent = 0
  let refused = 0
  let isReady = false
  const { path } = await serve(t, (_, reader) => {
    reader.onReady(() => {
      isReady = true
      reader.send({ text: 'again' })
    })
    const timer = setInterval(() => {
      for (let i = 0; i < 1000; i++) {
        if (reader.send({ text })) sent++
        else refused++
      }
    }, 1)
    return () => clearInterval(timer)
  })
  const socket = createConnection(path)
  await once(socket, 'connect')
  socket.write('{"method":"numbers"}\n')
  await comes(() => refused > 10_000)
  t.ok(sent < 2000, `${sent} of 1 KB were taken`)
  const before = sent
  await sleep(50)
  t.equal(sent, before, 'and no more')
  socket.resume()
  await comes(() => isReady && sent > before)
  socket.destroy()
})

t.test('what a reader sends after it has asked is not kept', async (t) => {
  const { path } = await serve(t, (_, reader) => {
    reader.send({ n: 0 })
    return () => {}
  })
  const socket = createConnection(path)
  await once(socket, 'connect')
  socket.write('{"method":"numbers"}\n')
  await once(socket, 'data')
  const before = process.memoryUsage().rss
  const chunk = Buffer.alloc(1 << 20, 0x78)
  for (let i = 0; i < 300; i++) if (!socket.write(chunk)) await once(socket, 'drain')
  const grown = (process.memoryUsage().rss - before) >> 20
  t.ok(grown < 180, `memory grew by ${grown} MiB`)
  socket.destroy()
})
