import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { ask, type ControlMethods, ControlServer } from '../../src/control/socket.ts'

const methods: ControlMethods = {
  status: () => ({ generation: 7 }),
  fails: () => {
    throw new Error('no status yet')
  },
}

/** A folder whose path is short: that of a socket has at most 107 bytes. */
async function makeFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

async function listen(t: Test, given?: string, answers = methods): Promise<string> {
  const path = given ?? join(await makeFolder(t), 'control.sock')
  const server = await ControlServer.listen(path, answers)
  t.teardown(() => server.close())
  return path
}

/** Sends bytes as they are, answers all that comes back. */
async function send(path: string, bytes: string): Promise<string> {
  const socket = createConnection(path)
  await once(socket, 'connect')
  socket.write(bytes)
  return text(socket)
}

t.test('a request gets its answer, as often as it is asked', async (t) => {
  const path = await listen(t)
  t.same(await Promise.all([ask(path, 'status'), ask(path, 'status')]), [{ generation: 7 }, { generation: 7 }])
  t.equal(await send(path, '{"method":"status"}\n'), '{"result":{"generation":7}}\n', 'one line asks, one answers')
})

t.test('what cannot be answered is said, and the next is answered', async (t) => {
  const path = await listen(t)
  await t.rejects(ask(path, 'reload'), { code: 'USAGE', message: /knows no method "reload"/ })
  await t.rejects(ask(path, 'toString'), { message: /knows no method "toString"/ })
  await t.rejects(ask(path, 'fails'), { code: 'INTERNAL', message: /no status yet/ })
  const wrong: readonly [request: string, answer: RegExp][] = [
    ['not JSON\n', /^\{"error":\{"code":"INTERNAL","message":"SyntaxError: /],
    ['{}\n', /^\{"error":\{"code":"USAGE","message":"the running firewall knows no method undefined/],
    ['null\n', /^\{"error":\{"code":"INTERNAL","message":"TypeError: /],
    [
      '{"method":["status"]}\n',
      /^\{"error":\{"code":"USAGE","message":"the running firewall knows no method \[\\"status\\"\]/,
    ],
    ['x'.repeat(200_000), /^\{"error":\{"code":"INTERNAL","message":"SyntaxError: /],
  ]
  for (const [request, answer] of wrong) t.match(await send(path, request), answer)
  t.same(await ask(path, 'status'), { generation: 7 })
})

t.test('long answers come whole', async (t) => {
  const notes = Array.from({ length: 5000 }, (_, i) => `file.yaml:${i}: left out, as of «quotation»`)
  const path = await listen(t, undefined, { status: () => ({ notes }) })
  t.same(await ask(path, 'status'), { notes })
})

t.test('a client that goes away harms nobody', async (t) => {
  const path = await listen(t)
  for (let left = 20; left > 0; left--) {
    const socket = createConnection(path)
    await once(socket, 'connect')
    if (left % 2) socket.write('{"method":"sta')
    socket.destroy()
  }
  t.same(await ask(path, 'status'), { generation: 7 })
})

t.test('where no firewall runs', async (t) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'file'), '')
  const hint = 'start it with `knp run`, or name its socket with --control-socket'
  await t.rejects(ask(join(folder, 'missing'), 'status'), {
    code: 'UNREACHABLE',
    message: `${folder}/missing: no firewall runs here`,
    hint,
  })
  await t.rejects(ask(join(folder, 'file'), 'status'), { code: 'UNREACHABLE' })
})

t.test('the socket is for its owner and group, and goes with the server', async (t) => {
  const path = join(await makeFolder(t), 'deep', 'er', 'control.sock')
  const server = await ControlServer.listen(path, methods)
  t.equal((await stat(path)).mode & 0o777, 0o660, 'its folders are made')
  await server.close()
  await t.rejects(lstat(path), { code: 'ENOENT' })
  await t.rejects(ask(path, 'status'), { code: 'UNREACHABLE' })
})

t.test('closing ends connections that wait', async (t) => {
  const path = join(await makeFolder(t), 'control.sock')
  const server = await ControlServer.listen(path, methods)
  const socket = createConnection(path)
  await once(socket, 'connect')
  const closed = once(socket, 'close')
  await server.close()
  await closed
})

t.test('a socket that a killed firewall left behind is taken over', async (t) => {
  const path = join(await makeFolder(t), 'control.sock')
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  t.equal(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL')
  t.ok((await lstat(path)).isSocket(), 'it is there')
  await t.rejects(ask(path, 'status'), { code: 'UNREACHABLE', message: `${path}: no firewall runs here` })
  await listen(t, path)
  t.same(await ask(path, 'status'), { generation: 7 })
})

t.test('one at which a firewall answers is not', async (t) => {
  const path = await listen(t)
  await t.rejects(ControlServer.listen(path, methods), {
    code: 'QUEUE_TAKEN',
    message: `${path}: a firewall runs already and answers here`,
  })
  t.same(await ask(path, 'status'), { generation: 7 })
})

t.test('what is no socket is left alone', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'precious')
  await writeFile(path, 'data')
  await t.rejects(ControlServer.listen(path, methods), {
    code: 'USAGE',
    message: `${path}: is there already, and is no socket`,
  })
  t.equal(await readFile(path, 'utf8'), 'data')
  await mkdir(join(folder, 'folder'))
  await t.rejects(ControlServer.listen(join(folder, 'folder'), methods), { code: 'USAGE' })
  await t.rejects(
    ControlServer.listen(join(path, 'control.sock'), methods),
    { code: 'PERMISSION' },
    'its folder cannot be made',
  )
})
