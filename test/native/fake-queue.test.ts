import t from 'tap'
import { FakeQueue } from '../../src/native/fake-queue.ts'
import { type Datagram, DIVERTED, type QueueSize, type QueueUnderTest, testQueue } from '../conformance/queue.ts'

t.test('conformance', async (t) => {
  testQueue(t, openFake)
})

async function openFake(size: QueueSize): Promise<QueueUnderTest> {
  const queue = new FakeQueue(size)
  return {
    queue,
    async send(datagrams) {
      for (const datagram of datagrams) {
        queue.push({ family: datagram.family, bytes: packetOf(datagram), hook: 3, mark: DIVERTED })
      }
    },
    seen(mark) {
      const answered = queue.answers.filter((answer) => answer.mark === mark).length
      return mark === DIVERTED ? answered + queue.passed : answered
    },
    close: () => queue.close(),
  }
}

/** Only the version is filled in: the queue does not look. */
function packetOf({ family, payload }: Datagram): Uint8Array {
  const bytes = new Uint8Array((family === 4 ? 28 : 48) + payload.length)
  bytes[0] = family << 4
  bytes.set(payload, bytes.length - payload.length)
  return bytes
}
