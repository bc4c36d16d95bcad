import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { ask, ControlServer, findGroup } from '../../src/control/socket.ts'

const skip = process.geteuid?.() !== 0 && 'needs root: gives files away'
const methods = { status: () => 'well' }

async function socketPath(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'knp-control-'))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  return join(path, 'sub', 'control.sock')
}

t.test('groups are those of /etc/group', async (t) => {
  t.equal(await findGroup('root'), 0)
  t.equal(await findGroup('daemon'), 1)
  const unknown = { code: 'INVALID_CONFIG', message: 'control.group: /etc/group has no group "no-such"' }
  await t.rejects(findGroup('no-such'), unknown)
  await t.rejects(findGroup(''), { code: 'INVALID_CONFIG' })
})

t.test("without a group the socket is its user's", async (t) => {
  const path = await socketPath(t)
  const server = await ControlServer.listen(path, methods)
  t.equal((await stat(path)).mode & 0o777, 0o660)
  t.equal((await stat(path)).gid, process.getegid?.())
  t.equal(await ask(path, 'status'), 'well')
  await server.close()
})

t.test('a group gets the socket, and the folder made for it', { skip }, async (t) => {
  const path = await socketPath(t)
  const server = await ControlServer.listen(path, methods, 1)
  t.match(await stat(path), { uid: 0, gid: 1 })
  t.equal((await stat(path)).mode & 0o777, 0o660)
  t.match(await stat(dirname(path)), { uid: 0, gid: 1 })
  t.equal((await stat(dirname(path))).mode & 0o777, 0o750)
  t.equal(await ask(path, 'status'), 'well')
  await server.close()
})

t.test('a folder that was there stays as it is', { skip }, async (t) => {
  const path = await socketPath(t)
  await mkdir(dirname(path), { mode: 0o711 })
  const server = await ControlServer.listen(path, methods, 1)
  t.match(await stat(path), { gid: 1 })
  t.match(await stat(dirname(path)), { gid: 0 })
  t.equal((await stat(dirname(path))).mode & 0o777, 0o711)
  await server.close()
})
