import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv6 } from 'node:net'

/** What it is started with, as JSON. */
export interface Pace {
  readonly addresses: readonly string[]
  readonly allowedPort: number
  readonly deniedPort: number
  readonly intervalMs: number
  /** How long an answer is waited for. */
  readonly timeoutMs: number
}

/** `allowed` and `denied` are new connections in every round, `established` is one that lasts. */
export type PacedFlow = 'allowed' | 'denied' | 'established'

/**
 * What it prints, one JSON list a line: a round begins, the kernel has all of its packets, or an answer has come; times in
 * ms since 1970.
 */
export type PaceLine =
  | readonly ['begun', round: number, atMs: number]
  | readonly ['sent', round: number, atMs: number]
  | readonly ['answered', round: number, atMs: number, flow: PacedFlow, address: string]

// UDP to an echo server in a steady pace, from which no retransmission hides what is lost.

const { addresses, allowedPort, deniedPort, intervalMs, timeoutMs } = JSON.parse(process.argv[2]!) as Pace
const now = () => performance.timeOrigin + performance.now()
const print = (line: PaceLine) => process.stdout.write(`${JSON.stringify(line)}\n`)

/** In turn: a port chosen by the kernel may be that of an earlier connection, which it remembers. Below those it chooses. */
const firstPorts = { allowed: 10_000, denied: 20_000 }
const PORTS = 10_000

/** A socket with one peer; answers are told by the number that they begin with. */
async function connect(address: string, port: number, flow: PacedFlow, ownPort = 0): Promise<Socket> {
  const socket = isIPv6(address) ? createSocket({ type: 'udp6', ipv6Only: true }) : createSocket('udp4')
  socket.on('error', () => {})
  socket.on('message', (text) => print(['answered', Number.parseInt(text.toString(), 10), now(), flow, address]))
  socket.bind({ port: ownPort, exclusive: true })
  await once(socket, 'listening')
  socket.connect(port, address)
  await once(socket, 'connect')
  return socket
}

/** Resolves when the kernel has the packet, or does not take it. */
function send(socket: Socket, round: number): Promise<void> {
  return new Promise((resolve) => socket.send(`${round}\n`, () => resolve()))
}

async function probe(address: string, port: number, flow: 'allowed' | 'denied', round: number): Promise<void> {
  const socket = await connect(address, port, flow, firstPorts[flow] + (round % PORTS))
  setTimeout(() => socket.close(), timeoutMs)
  await send(socket, round)
}

async function sendAll(round: number): Promise<void> {
  print(['begun', round, now()])
  await Promise.all([
    ...established.map((socket) => send(socket, round)),
    ...addresses.flatMap((address) => [
      probe(address, allowedPort, 'allowed', round),
      probe(address, deniedPort, 'denied', round),
    ]),
  ])
  print(['sent', round, now()])
}

const established = await Promise.all(addresses.map((address) => connect(address, allowedPort, 'established')))
let round = 0
setInterval(() => void sendAll(++round), intervalMs)
process.stdin.resume().on('end', () => process.exit())
