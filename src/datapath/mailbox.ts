import { type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads'

/**
 * Two int32 in shared memory: how many messages were posted, and whether the reader is away: waiting for packets, with
 * nothing in its hands.
 */
export type MailWords = Int32Array<SharedArrayBuffer>

const POSTED = 0
const AWAY = 1

export function createMail(): MailWords {
  return new Int32Array(new SharedArrayBuffer(8))
}

/** The end of the main thread. */
export class MailSender<Message> {
  readonly #words: MailWords
  readonly #worker: Worker

  constructor(words: MailWords, worker: Worker) {
    this.#words = words
    this.#worker = worker
  }

  /**
   * Answers whether that is all: a reader that was away reads the message before it does anything else, so whatever the
   * message tells it is so from now on, and nobody has to wake it. A reader that was not has perhaps just looked: it is to be
   * woken.
   */
  post(message: Message): boolean {
    this.#worker.postMessage(message)
    Atomics.add(this.#words, POSTED, 1)
    // The reader says that it is back and then looks how many there are, we the other way round: one of us sees the other.
    return Atomics.load(this.#words, AWAY) === 1
  }
}

/** The end of the thread that waits for packets. */
export class Mailbox<Message> {
  readonly #words: MailWords
  readonly #port: MessagePort
  #seen = 0

  constructor(words: MailWords, port: MessagePort) {
    this.#words = words
    this.#port = port
  }

  /** Nothing that others have given is used until the reader is {@link back}, and all that it was doing has been done. */
  leave(): void {
    Atomics.store(this.#words, AWAY, 1)
  }

  /** Answers whether there is mail. It is to be read before anything is done. */
  back(): boolean {
    Atomics.store(this.#words, AWAY, 0)
    return this.hasMail
  }

  /** A look into the port itself costs as much as a decision. */
  get hasMail(): boolean {
    return Atomics.load(this.#words, POSTED) !== this.#seen
  }

  /** What was posted since the last time, in its order. */
  take(): Message[] {
    this.#seen = Atomics.load(this.#words, POSTED)
    const messages: Message[] = []
    for (let note = receiveMessageOnPort(this.#port); note; note = receiveMessageOnPort(this.#port))
      messages.push(note.message as Message)
    return messages
  }
}
