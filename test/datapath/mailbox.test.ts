import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { createMail, MailSender } from '../../src/datapath/mailbox.ts'
import type { Given, Note } from './children/mail-reader.ts'

const ROUNDS = 20_000
/** How often each of what may happen has to. */
const OFTEN = 100
/** A machine with other work lets it happen late. */
const LIMIT_MS = 60_000
const WORDS = 200

const words = (length: number) => new Int32Array(new SharedArrayBuffer(length * 4))

t.test('a table that was given away is used no more, whether its reader was away or was asked', async (t) => {
  const given: Given = { words: createMail(), copies: [words(WORDS), words(WORDS)], counts: words(2), door: words(1) }
  const worker = new Worker(new URL('./children/mail-reader.ts', import.meta.url), { workerData: given })
  await once(worker, 'online')
  const mail = new MailSender<Note>(given.words, worker)
  const wake = () => Atomics.notify(given.door, 0)
  let away = 0
  let asked = 0
  const hasHappened = () => Math.min(away, asked, given.counts[0]!) >= OFTEN
  const limitMs = performance.now() + LIMIT_MS
  for (let number = 1; number <= ROUNDS || (!hasHappened() && performance.now() < limitMs); number++) {
    const copy = number % 2
    // The reader has the other one.
    given.copies[copy]!.fill(number)
    if (mail.post({ number, copy })) {
      away++
      // Now and then it comes back meanwhile.
      for (const endMs = performance.now() + Math.random() / 50; performance.now() < endMs; );
    } else {
      asked++
      const answer = once(worker, 'message')
      mail.post({ id: number })
      wake()
      const [id] = await answer
      if (id !== number) throw new Error(`${id} was answered, not ${number}`)
    }
  }
  mail.post('stop')
  wake()
  await once(worker, 'exit')
  const [used, wrong] = given.counts
  t.comment(
    `${away} tables were given to a reader that was away, ${asked} to one that was not; they were used ${used} times`,
  )
  t.equal(wrong, 0)
  t.ok(hasHappened(), 'all of it has happened')
})
