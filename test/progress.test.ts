import t from 'tap'
import { Progress } from '../src/progress.ts'

function stream(isTTY: boolean) {
  const written: string[] = []
  return { isTTY, written, write: (text: string) => written.push(text) }
}

t.test('a terminal is told from a second on, ten times a second at most', async (t) => {
  const terminal = stream(true)
  let now = 0
  const progress = new Progress(terminal, () => now)
  for (; now < 1300; now += 20) progress.show(`at ${now}`)
  t.same(
    terminal.written,
    ['at 1000', 'at 1100', 'at 1200'].map((text) => `\r\u001b[K${text}`),
  )
  progress.clear()
  progress.clear()
  t.same(terminal.written.slice(3), ['\r\u001b[K'], 'and the line goes away once')
})

t.test('work that takes no second, and a pipe, see nothing', async (t) => {
  const terminal = stream(true)
  const quick = new Progress(terminal, () => 0)
  quick.show('at once')
  quick.clear()
  const pipe = stream(false)
  let now = 0
  const slow = new Progress(pipe, () => now)
  now = 5000
  slow.show('late')
  slow.clear()
  t.same([...terminal.written, ...pipe.written], [])
})
