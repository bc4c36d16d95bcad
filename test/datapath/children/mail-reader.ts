import { parentPort, workerData } from 'node:worker_threads'
import { Mailbox, type MailWords } from '../../../src/datapath/mailbox.ts'

export interface Given {
  readonly words: MailWords
  /** Two copies of one table. */
  readonly copies: readonly Int32Array<SharedArrayBuffer>[]
  /** How often the reader has used a table, and how often it found another one than it was given. */
  readonly counts: Int32Array<SharedArrayBuffer>
  /** What it waits at while it is away. */
  readonly door: Int32Array<SharedArrayBuffer>
}

/** The table with this number is in that copy from now on. */
export type Note = { readonly number: number; readonly copy: number } | { readonly id: number } | 'stop'

// Does what a packet thread does, with a table whose every word is its number.
const { words, copies, counts, door } = workerData as Given
const port = parentPort!
const mailbox = new Mailbox<Note>(words, port)
let number = 0
let copy = copies[0]!
let seed = 7
read: for (;;) {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
  mailbox.leave()
  // Comes back by itself, woken, or at once.
  Atomics.wait(door, 0, Atomics.load(door, 0), (seed >>> 16) % 3 === 0 ? 0.05 : 0)
  if (mailbox.back()) {
    for (const note of mailbox.take()) {
      if (note === 'stop') break read
      if ('id' in note) port.postMessage(note.id)
      else {
        number = note.number
        copy = copies[note.copy]!
      }
    }
  }
  counts[0]!++
  for (const word of copy) if (word !== number) counts[1]!++
}
port.close()
