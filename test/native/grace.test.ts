import { constants } from 'node:os'
import t from 'tap'
import { graceOver } from '../../src/native/grace.ts'
import { loadAddon } from '../../src/native/load.ts'

t.test('the kernel is waited for, off this thread', async (t) => {
  let isOver = false
  const over = graceOver().then(() => {
    isOver = true
  })
  await new Promise<void>((resolve) => queueMicrotask(resolve))
  t.equal(isOver, false)
  await over
  const errno = await loadAddon().awaitGracePeriod()
  t.comment(errno === 0 ? 'this kernel waits' : `this kernel refuses: errno ${errno}`)
  t.ok(errno >= 0)
})

t.test('where the kernel refuses, time passes instead', async (t) => {
  const refusing = performance.now()
  await graceOver(async () => constants.errno.EINVAL)
  const passedMs = performance.now() - refusing
  // A timer may come up to a millisecond early.
  t.ok(passedMs >= 19, `${passedMs} ms`)
})

t.test('it is not over before the kernel says so', async (t) => {
  let answer: (errno: number) => void = () => {}
  const answered = new Promise<number>((resolve) => {
    answer = resolve
  })
  let isOver = false
  const over = graceOver(() => answered).then(() => {
    isOver = true
  })
  await new Promise<void>((resolve) => setImmediate(resolve))
  t.equal(isOver, false)
  answer(0)
  await over
  t.equal(isOver, true)
})
