import { execFileSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { type Netlink, NetlinkError, openNetlink } from '../../../src/native/netlink.ts'
import {
  batch,
  check,
  commit,
  type Divert,
  divertRule,
  type QueueMechanism,
  readCounters,
} from '../../../src/native/nftables.ts'
import { type BoundQueue, openQueue } from '../../../src/native/queue.ts'
import { ANSWERS, type Datagram, DIVERTED, type QueueSize, type QueueUnderTest } from '../../conformance/queue.ts'

export const TABLE = 'knptest'
export const QUEUE = 87
/** UDP to this port on this host is diverted. */
export const PORT = 7000
/** Takes what has the mark DIVERTED. */
export const divert: Omit<Divert, 'mechanism'> = {
  mask: 0xff,
  value: DIVERTED,
  queue: QUEUE,
  queuesTotal: 1,
  bypass: true,
}
const RECEIVE_BUFFER_BYTES = 1 << 22

const counterNames = [DIVERTED, ...ANSWERS].map((mark) => ({ mark, name: `mark_${mark.toString(16)}` }))

/** Runs an nft script in the namespace of this process. */
export function nft(script: string): void {
  execFileSync('nft', ['-f', '-'], { input: script })
}

/** The table of a test: UDP to {@link PORT} gets the mark DIVERTED, may be queued, and is counted by its mark. */
export function installTable(): void {
  const counters = counterNames.map(({ name }) => `counter ${name} { }`)
  const counting = counterNames.map(({ mark, name }) => `udp dport ${PORT} meta mark ${mark} counter name ${name}`)
  nft(`
    table inet ${TABLE} { }
    delete table inet ${TABLE}
    table inet ${TABLE} {
      ${counters.join('\n')}
      set addresses { type ipv4_addr; }
      chain before { type filter hook output priority -10; policy accept; udp dport ${PORT} meta mark set ${DIVERTED}; }
      chain divert { type filter hook output priority 0; policy accept; }
      chain after { type filter hook output priority 10; policy accept; ${counting.join('; ')}; }
    }
  `)
}

/** What this kernel has: nft's own statement, or else the xtables target. */
export function mechanisms(netlink: Netlink): readonly QueueMechanism[] {
  const all = ['queue', 'xt-target'] as const
  return all.filter((mechanism) => {
    try {
      check(netlink, batch(TABLE).addRule('divert', divertRule({ ...divert, mechanism })))
      return true
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENOENT') return false
      throw error
    }
  })
}

/** Puts the divert rule into the table. */
export function installDivert(netlink: Netlink): void {
  const [mechanism] = mechanisms(netlink)
  if (mechanism === undefined) throw new Error('this kernel has no rule that queues packets')
  commit(
    netlink,
    batch(TABLE)
      .flushChain('divert')
      .addRule('divert', divertRule({ ...divert, mechanism })),
  )
}

/** Sends UDP from this host to itself. */
export interface Sender {
  send(datagrams: readonly Datagram[]): Promise<void>
  close(): void
}

/** Opens what sends to {@link PORT}, and what receives there. */
export async function openSender(): Promise<Sender> {
  const receivers = [createSocket('udp4'), createSocket({ type: 'udp6', ipv6Only: true })] as const
  const senders = [createSocket('udp4'), createSocket('udp6')] as const
  const addresses = ['127.0.0.1', '::1'] as const
  for (const [index, receiver] of receivers.entries()) {
    receiver.bind(PORT, addresses[index]!)
    await once(receiver, 'listening')
  }
  for (const [index, sender] of senders.entries()) {
    sender.connect(PORT, addresses[index]!)
    await once(sender, 'connect')
  }
  return {
    async send(datagrams) {
      for (const { family, payload } of datagrams) await sendOne(senders[family === 4 ? 0 : 1], payload)
    },
    close() {
      for (const socket of [...receivers, ...senders]) socket.close()
    },
  }
}

/** A bound queue with real packets, in the namespace of this process. */
export async function openDiverted(
  size: QueueSize,
  receiveBufferBytes = RECEIVE_BUFFER_BYTES,
): Promise<QueueUnderTest & { readonly queue: BoundQueue }> {
  installTable()
  const netlink = openNetlink()
  installDivert(netlink)
  const queue = openQueue({ number: QUEUE, receiveBufferBytes, ...size })
  const sender = await openSender()
  return {
    queue,
    send: sender.send,
    seen(mark) {
      const name = counterNames.find((counter) => counter.mark === mark)?.name
      return readCounters(netlink, TABLE).find((counter) => counter.name === name)?.packets ?? -1
    },
    close() {
      queue.close()
      sender.close()
      netlink.close()
    },
  }
}

function sendOne(socket: Socket, payload: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(payload, (error) => (error ? reject(error) : resolve()))
  })
}
