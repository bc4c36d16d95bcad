import t from 'tap'
import { ServiceManager } from '../src/systemd.ts'

const PID = 4711

t.test('descriptors come by name, from 3 on, and leave the environment', async (t) => {
  const env = {
    NOTIFY_SOCKET: '/run/systemd/notify',
    LISTEN_PID: `${PID}`,
    LISTEN_PIDFDID: '12',
    LISTEN_FDS: '3',
    LISTEN_FDNAMES: 'knp-queue-100:knp-queue-101:stored',
    PATH: '/bin',
  }
  const manager = ServiceManager.fromEnvironment(env, PID)
  t.same(manager.kept, [
    { name: 'knp-queue-100', fd: 3 },
    { name: 'knp-queue-101', fd: 4 },
    { name: 'stored', fd: 5 },
  ])
  t.equal(manager.isThere, true)
  t.same(env, { PATH: '/bin' })
})

t.test("another process's descriptors are not ours", async (t) => {
  const env = { LISTEN_PID: `${PID + 1}`, LISTEN_FDS: '1', LISTEN_FDNAMES: 'knp-queue-100' }
  t.same(ServiceManager.fromEnvironment(env, PID).kept, [])
  t.same(env, {}, "nor any child's")
})

t.test('the watchdog is asked for by its time, of this process', async (t) => {
  const watchdog = (env: NodeJS.ProcessEnv) => ServiceManager.fromEnvironment(env, PID).watchdogMs
  t.equal(watchdog({ WATCHDOG_USEC: '10000000', WATCHDOG_PID: `${PID}` }), 10_000)
  t.equal(watchdog({ WATCHDOG_USEC: '1500' }), 1.5)
  t.equal(watchdog({ WATCHDOG_USEC: '10000000', WATCHDOG_PID: `${PID + 1}` }), undefined, "another process's")
  for (const time of ['', '0', '-1', 'x', '1e999']) t.equal(watchdog({ WATCHDOG_USEC: time }), undefined, time)
  const env = { WATCHDOG_USEC: '1', WATCHDOG_PID: '1' }
  watchdog(env)
  t.same(env, {}, "nor any child's")
})

t.test('what makes no sense is nothing', async (t) => {
  const kept = (count: string) => ServiceManager.fromEnvironment({ LISTEN_PID: `${PID}`, LISTEN_FDS: count }, PID).kept
  for (const count of ['-1', 'x', '1.5', '1e99', '']) t.same(kept(count), [], count)
  t.same(kept('1'), [{ name: '', fd: 3 }], 'names may be missing')
})

t.test('without a manager nothing is told to anybody', async (t) => {
  for (const env of [{}, { NOTIFY_SOCKET: '' }]) {
    const manager = ServiceManager.fromEnvironment(env, PID)
    t.equal(manager.isThere, false)
    manager.ready()
    manager.stopping()
    manager.keep('x', 0)
    manager.forget('x')
  }
})

t.test('a manager that does not listen is an error', async (t) => {
  const tell = (NOTIFY_SOCKET: string) => ServiceManager.fromEnvironment({ NOTIFY_SOCKET }, PID).ready()
  t.throws(() => tell('/nowhere/notify'), { code: 'ENOENT', operation: 'send' })
  t.throws(() => tell(`@knp-${process.pid}-nobody`), { code: 'ECONNREFUSED', operation: 'send' })
  t.throws(() => tell(`/${'x'.repeat(200)}`), { code: 'EINVAL', operation: 'send' })
})
