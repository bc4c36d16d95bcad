import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { startWatchdog } from '../src/watchdog.ts'

/** A watchdog of a quarter of 400 ms, and how many messages it has sent. */
function watch(t: Test, rounds: () => readonly number[]) {
  mock.timers.enable({ apis: ['setInterval'] })
  t.after(() => mock.timers.reset())
  let sent = 0
  const manager = { watchdogMs: 400, alive: () => void sent++ }
  const stop = startWatchdog(manager, rounds, (send) => send())
  const after = (ms: number) => {
    mock.timers.tick(ms)
    return sent
  }
  return { stop, after }
}

t.test('while every thread goes round, the manager hears of it four times in its time', async (t) => {
  let round = 0
  const { stop, after } = watch(t, () => [++round, ++round])
  t.equal(after(99), 0)
  t.equal(after(1), 1)
  t.equal(after(300), 4)
  stop()
  t.equal(after(1000), 4, 'and nothing after its end')
})

t.test('one thread that stands still is enough to say nothing, until it goes on', async (t) => {
  const rounds = [7, 7]
  const { after } = watch(t, () => [...rounds])
  t.equal(after(100), 1, 'nobody knows yet')
  rounds[0]!++
  t.equal(after(100), 1)
  rounds[0]!++
  t.equal(after(1000), 1, 'the other one moves all the time')
  rounds[1]!++
  t.equal(after(100), 2)
})

t.test('a manager that does not ask hears nothing', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.after(() => mock.timers.reset())
  let sent = 0
  startWatchdog(
    { watchdogMs: undefined, alive: () => void sent++ },
    () => [1],
    (send) => send(),
  )()
  mock.timers.tick(100_000)
  t.equal(sent, 0)
})

t.test('what cannot be sent is told, and tried again', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.after(() => mock.timers.reset())
  const told: unknown[] = []
  let round = 0
  const manager = {
    watchdogMs: 400,
    alive: () => {
      throw new Error('no room')
    },
  }
  const stop = startWatchdog(
    manager,
    () => [++round],
    (send) => {
      try {
        send()
      } catch (error) {
        told.push(error)
      }
    },
  )
  t.after(stop)
  mock.timers.tick(200)
  t.equal(told.length, 2)
})
