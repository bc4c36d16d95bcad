import { PassThrough } from 'node:stream'
import t from 'tap'
import { HeldOutput, type HoldableStream } from '../../src/dashboard/held-output.ts'

function streamOf(): { stream: HoldableStream; written(): string } {
  const stream = new PassThrough()
  return { stream: stream as unknown as HoldableStream, written: () => stream.read()?.toString() ?? '' }
}

t.test('what is written meanwhile comes afterwards, in its order', async (t) => {
  const { stream, written } = streamOf()
  stream.write('before\n')
  t.equal(written(), 'before\n')
  const held = new HeldOutput(stream)
  t.equal(stream.write('one\n'), true)
  await new Promise<void>((resolve) => stream.write(Buffer.from('two\n'), () => resolve()))
  t.equal(written(), '')
  held.release()
  stream.write('after\n')
  t.equal(written(), 'one\ntwo\nafter\n')
  held.release()
  t.equal(written(), '', 'once')
})

t.test('of very much, the latest', async (t) => {
  const { stream, written } = streamOf()
  const held = new HeldOutput(stream)
  for (let i = 0; i < 1500; i++) stream.write(`${i}\n`)
  held.release()
  const lines = written().split('\n')
  t.equal(lines[0], '(500 earlier lines are left out)')
  t.equal(lines[1], '500')
  t.equal(lines.length, 1 + 1000 + 1)
})
