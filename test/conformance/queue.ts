import type { Test } from 'tap'
import {
  FIELD_FAMILY,
  FIELD_HOOK,
  FIELD_ID,
  FIELD_LENGTH,
  FIELD_MARK,
  FIELD_OFFSET,
  FIELD_ORIGINAL_LENGTH,
  PACKET_FIELDS,
  type PacketQueue,
} from '../../src/native/queue.ts'

/** The mark packets have when they reach the queue, and when they go on without an answer. */
export const DIVERTED = 0x1
/** The marks the suite answers; the last one is negative as an int32. */
export const ANSWERS = [0xa1, 0xa2, 0x800000a3] as const

/** A UDP datagram, sent from this host to itself on the output hook. */
export interface Datagram {
  readonly family: 4 | 6
  readonly payload: Uint8Array
}

/** A queue, and a way to send packets into it and to see them leave. */
export interface QueueUnderTest {
  readonly queue: PacketQueue
  /** Resolves when the packets wait in the queue, in this order. */
  send(datagrams: readonly Datagram[]): Promise<void>
  /** How many packets have left with this mark, since the queue was opened. */
  seen(mark: number): number
  /** Closes the queue and what sends. */
  close(): void
}

/** What the suite asks for. */
export interface QueueSize {
  readonly copyBytes: number
  readonly capacity: number
  readonly maxLength: number
}

const HEADERS = { 4: 20 + 8, 6: 40 + 8 } as const
const OUTPUT_HOOK = 3

/** What every {@link PacketQueue} promises. */
export function testQueue(t: Test, open: (size: QueueSize) => Promise<QueueUnderTest>): void {
  async function withQueue(t: Test, size: Partial<QueueSize>, run: (subject: QueueUnderTest) => Promise<void>) {
    const subject = await open({ copyBytes: 256, capacity: 8, maxLength: 64, ...size })
    t.teardown(() => subject.close())
    await run(subject)
  }

  t.test('arrays have room for `capacity` packets', async (t) => {
    await withQueue(t, { capacity: 5 }, async ({ queue }) => {
      t.equal(queue.capacity, 5)
      t.equal(queue.packets.length, 5 * PACKET_FIELDS)
      t.equal(queue.marks.length, 5)
      t.ok(queue.bytes.length >= 5 * 256)
    })
  })

  t.test('nothing waiting: receive returns 0, and an answer to nothing is fine', async (t) => {
    await withQueue(t, {}, async ({ queue }) => {
      t.equal(queue.receive(1), 0)
      queue.answer(0)
      t.same(queue.counters(), { overflows: 0, answerErrors: 0, truncated: 0 })
    })
  })

  for (const family of [4, 6] as const) {
    t.test(`an IPv${family} packet is described and copied from its IP header on`, async (t) => {
      await withQueue(t, {}, async ({ queue, send, seen }) => {
        const payload = new TextEncoder().encode(`hello over IPv${family}`)
        await send([{ family, payload }])
        t.equal(queue.receive(1000), 1)
        t.equal(queue.packets[FIELD_FAMILY], family)
        t.equal(queue.packets[FIELD_HOOK], OUTPUT_HOOK)
        t.equal(queue.packets[FIELD_MARK], DIVERTED)
        t.equal(queue.packets[FIELD_LENGTH], HEADERS[family] + payload.length)
        t.equal(queue.packets[FIELD_ORIGINAL_LENGTH], HEADERS[family] + payload.length)
        const packet = packetAt(queue, 0)
        t.equal(packet[0]! >> 4, family)
        t.same(packet.subarray(HEADERS[family]), payload)
        queue.marks[0] = ANSWERS[0]
        queue.answer(1)
        t.equal(seen(ANSWERS[0]), 1)
        t.equal(seen(DIVERTED), 0)
      })
    })
  }

  t.test('a batch comes in order, and each packet gets its own answer', async (t) => {
    await withQueue(t, {}, async ({ queue, send, seen }) => {
      await send(numbered(6))
      t.equal(queue.receive(1000), 6)
      t.same(lastBytes(queue, 6), [0, 1, 2, 3, 4, 5])
      queue.marks.set([ANSWERS[0], ANSWERS[1], ANSWERS[2], ANSWERS[0], ANSWERS[2], ANSWERS[2]])
      queue.answer(6)
      t.same(ANSWERS.map(seen), [2, 1, 3])
      t.equal(seen(DIVERTED), 0)
    })
  })

  t.test('more than `capacity` come with the next receive', async (t) => {
    await withQueue(t, { capacity: 4 }, async ({ queue, send, seen }) => {
      await send(numbered(10))
      const order: number[] = []
      for (const expected of [4, 4, 2]) {
        t.equal(queue.receive(1000), expected)
        order.push(...lastBytes(queue, expected))
        queue.marks.fill(ANSWERS[1])
        queue.answer(expected)
      }
      t.same(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      t.equal(seen(ANSWERS[1]), 10)
      t.equal(queue.receive(1), 0)
    })
  })

  t.test('a long packet is cut to `copyBytes`, and says so', async (t) => {
    await withQueue(t, { copyBytes: 64 }, async ({ queue, send, seen }) => {
      await send([{ family: 4, payload: new Uint8Array(1000).fill(7) }])
      t.equal(queue.receive(1000), 1)
      t.equal(queue.packets[FIELD_LENGTH], 64)
      t.equal(queue.packets[FIELD_ORIGINAL_LENGTH], 1028)
      t.same(packetAt(queue, 0).subarray(28), new Uint8Array(36).fill(7))
      queue.marks[0] = ANSWERS[2]
      queue.answer(1)
      t.equal(seen(ANSWERS[2]), 1)
    })
  })

  t.test('packets are answered once: not skipped, not twice', async (t) => {
    await withQueue(t, {}, async ({ queue, send, seen }) => {
      await send(numbered(2))
      t.equal(queue.receive(1000), 2)
      t.throws(() => queue.receive(1), { code: 'EBUSY' })
      t.throws(() => queue.answer(1), { code: 'ERANGE' })
      t.throws(() => queue.answer(3), { code: 'ERANGE' })
      queue.marks.fill(ANSWERS[0])
      queue.answer(2)
      t.throws(() => queue.answer(2), { code: 'ERANGE' })
      t.equal(seen(ANSWERS[0]), 2)
    })
  })

  t.test('packets that are held are answered later, in any order', async (t) => {
    await withQueue(t, { capacity: 4 }, async ({ queue, send, seen }) => {
      await send(numbered(6))
      t.equal(queue.receive(1000), 4)
      const ids = [0, 1, 2].map((row) => queue.packets[row * PACKET_FIELDS + FIELD_ID]!)
      queue.marks.set([0, 0, 0, ANSWERS[0]])
      queue.held.set([1, 1, 1, 0])
      queue.answer(4)
      t.same(ANSWERS.map(seen), [1, 0, 0], 'the last one goes its way')
      t.same(queue.held, new Uint8Array(4), 'the next ones are held only when that is said of them')
      t.equal(queue.receive(1000), 2)
      queue.marks.fill(ANSWERS[0])
      queue.answerLate(Int32Array.of(ids[2]!, ids[0]!), Int32Array.of(ANSWERS[1], ANSWERS[2]), 2)
      t.same(ANSWERS.map(seen), [1, 1, 1], 'also between a receive and its answer')
      queue.answer(2)
      t.same(ANSWERS.map(seen), [3, 1, 1])
      queue.answerLate(Int32Array.of(ids[1]!, 0), Int32Array.of(ANSWERS[1], 0), 1)
      t.same(ANSWERS.map(seen), [3, 2, 1], 'no more than were to be answered')
      t.equal(seen(DIVERTED), 0)
      queue.answerLate(new Int32Array(4), new Int32Array(4), 0)
      t.throws(() => queue.answerLate(new Int32Array(5), new Int32Array(5), 5), { code: 'ERANGE' })
      t.throws(() => queue.answerLate(new Int32Array(2), new Int32Array(1), 2), { code: 'ERANGE' })
    })
  })

  t.test('packets that are held count for `maxLength`', async (t) => {
    await withQueue(t, { maxLength: 2 }, async ({ queue, send, seen }) => {
      await send(numbered(2))
      t.equal(queue.receive(1000), 2)
      queue.held.fill(1)
      queue.answer(2)
      await send(numbered(1))
      t.equal(seen(DIVERTED), 1)
    })
  })

  t.test('packets beyond `maxLength` go on unanswered', async (t) => {
    await withQueue(t, { maxLength: 4 }, async ({ queue, send, seen }) => {
      await send(numbered(6))
      t.equal(seen(DIVERTED), 2)
      t.equal(queue.receive(1000), 4)
      queue.marks.fill(ANSWERS[0])
      queue.answer(4)
      t.equal(seen(ANSWERS[0]), 4)
      t.equal(seen(DIVERTED), 2)
    })
  })

  t.test('a closed queue does nothing but close', async (t) => {
    await withQueue(t, {}, async ({ queue, send }) => {
      await send(numbered(1))
      t.equal(queue.receive(1000), 1)
      queue.close()
      queue.close()
      t.throws(() => queue.receive(1), { code: 'EBADF' })
      t.throws(() => queue.answer(1), { code: 'EBADF' })
      t.throws(() => queue.answerLate(new Int32Array(1), new Int32Array(1), 1), { code: 'EBADF' })
      t.equal(queue.marks.length, queue.capacity)
    })
  })
}

/** The bytes of a received packet. */
export function packetAt(queue: PacketQueue, row: number): Uint8Array {
  const offset = queue.packets[row * PACKET_FIELDS + FIELD_OFFSET]!
  return queue.bytes.subarray(offset, offset + queue.packets[row * PACKET_FIELDS + FIELD_LENGTH]!)
}

/** IPv4 datagrams, each with its number as payload. */
export function numbered(count: number): readonly Datagram[] {
  return Array.from({ length: count }, (_, index) => ({ family: 4, payload: Uint8Array.of(index & 0xff) }))
}

function lastBytes(queue: PacketQueue, count: number): readonly number[] {
  return Array.from({ length: count }, (_, row) => packetAt(queue, row).at(-1)!)
}
