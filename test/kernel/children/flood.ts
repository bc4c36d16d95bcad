import { createSocket } from 'node:dgram'
import { isIPv6 } from 'node:net'

/** What it is started with, as JSON: datagrams of new tuples, every one to another port, from each source address. */
export interface Flood {
  readonly sources: readonly string[]
  readonly target: { readonly v4: string; readonly v6: string }
  readonly payloadBytes: number
  /** Of each source. */
  readonly packetsPerSecond: number
  readonly durationMs: number
}

// Ends when all is sent, and prints how many.

const { sources, target, payloadBytes, packetsPerSecond, durationMs } = JSON.parse(process.argv[2]!) as Flood
const FIRST_PORT = 1024
const LAST_PORT = 65_535
const TICK_MS = 2
const payload = Buffer.alloc(payloadBytes)
const senders = sources.map((address) => {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  // What is refused, or finds the socket full, is part of a flood.
  socket.on('error', () => {})
  socket.bind({ address, port: 0 })
  return { socket, to: isIPv6(address) ? target.v6 : target.v4 }
})
await Promise.all(senders.map(({ socket }) => new Promise<void>((resolve) => socket.once('listening', resolve))))
const started = performance.now()
const total = Math.round((packetsPerSecond * durationMs) / 1000)
let sent = 0
const timer = setInterval(() => {
  const due = Math.min(total, Math.round(((performance.now() - started) / 1000) * packetsPerSecond))
  for (; sent < due; sent++) {
    const port = FIRST_PORT + (sent % (LAST_PORT - FIRST_PORT))
    for (const { socket, to } of senders) socket.send(payload, port, to, () => {})
  }
  if (sent < total) return
  clearInterval(timer)
  for (const { socket } of senders) socket.close()
  process.stdout.write(JSON.stringify({ sent: sent * senders.length }))
}, TICK_MS)
