/**
 * One process a host that listens, probes, pushes and downloads as it is told: a JSON object a line on standard input,
 * answers and events as JSON lines on standard output. Started as `node echo.ts NAME`; `Agent` is its typed other end.
 * It ends when its input ends. Only its types are for import: running is what the module does.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { clockMs } from '../clock.ts'

export type EchoProtocol = 'tcp' | 'udp'

/** Where a client comes from. Left out, the kernel chooses. */
export interface Origin {
  readonly sourceAddress?: string
  readonly sourcePort?: number
}

export interface Listen {
  readonly protocol: EchoProtocol
  readonly address: string
  /** 0 takes a free one. */
  readonly port: number
}

export interface Open extends Origin {
  readonly protocol: EchoProtocol
  readonly address: string
  readonly port: number
  /** For connecting; default 1000. */
  readonly timeoutMs?: number
}

export interface Exchange {
  /** What `open` answered. */
  readonly connection: number
  readonly nonce: string
  /** Default 1000. */
  readonly timeoutMs?: number
}

/** Connecting and the answer together take at most `timeoutMs`. */
export interface Probe extends Open {
  readonly nonce: string
}

export interface Push {
  readonly address: string
  readonly port: number
  /** Between two datagrams. */
  readonly intervalMs: number
  /** Counted from the client's one packet. */
  readonly durationMs: number
}

export interface Subscribe extends Origin {
  readonly address: string
  readonly port: number
  readonly durationMs: number
}

export interface Serve {
  readonly address: string
  readonly port: number
  /** Default 10 000 000 to each client. */
  readonly bytesPerSecond?: number
}

export interface Download extends Origin {
  readonly address: string
  readonly port: number
  readonly durationMs: number
}

export interface Close {
  /** The handle of a server, connection or stream; without it all of them. */
  readonly handle?: number
}

/** A command's parameters by its `op`. */
export interface Commands {
  listen: Listen
  open: Open
  exchange: Exchange
  probe: Probe
  push: Push
  subscribe: Subscribe
  serve: Serve
  download: Download
  close: Close
}

export type Command = {
  [Op in keyof Commands]: { readonly id: number; readonly op: Op } & Commands[Op]
}[keyof Commands]

/**
 * Why an operation failed: `timeout` no answer, `refused` a TCP reset or an ICMP port unreachable, `prohibited`
 * and `unreachable` other ICMP errors, `reset` an established connection was reset, `closed` it was ended without an
 * answer; anything else is the system's code, such as EADDRINUSE.
 */
export type EchoError = 'timeout' | 'refused' | 'prohibited' | 'unreachable' | 'reset' | 'closed' | (string & {})

export interface Answer {
  readonly id: number
  readonly ok: boolean
  readonly error?: EchoError
  /** From the command to this answer. */
  readonly ms: number
  /** What the server said: `<nonce> from <its name>`. */
  readonly answer?: string
  /** Names what was started, for `exchange` and `close`. */
  readonly handle?: number
  /** Local port of a server or a connection. */
  readonly port?: number
}

/** One datagram of a push, or 50 ms of a download. */
export interface Arrival {
  /** The number the server gave the datagram, from 0; or the number of the interval. */
  readonly sequence: number
  /** Bytes of payload. */
  readonly bytes: number
  /** Milliseconds since the epoch with fractions, comparable between processes of one machine. */
  readonly at: number
}

/** What the process prints: `ready` once, then answers; arrivals and the end of a stream name the stream's handle. */
export type Line =
  | { readonly event: 'ready' }
  | ({ readonly event: 'arrival'; readonly handle: number } & Arrival)
  | { readonly event: 'end'; readonly handle: number; readonly error?: EchoError }
  | ({ readonly event: 'answer' } & Answer)

/** Length of a download's intervals. */
const downloadIntervalMs = 50

type Result = Omit<Answer, 'id' | 'ok' | 'ms' | 'error'>

class Failure extends Error {
  readonly code: string
  constructor(code: string) {
    super(code)
    this.code = code
  }
}

/** An open TCP connection or connected UDP socket. */
interface Connection {
  readonly port: number
  exchange(nonce: string, timeoutMs: number): Promise<string>
  close(): void
}

const name = process.argv[2] ?? 'echo'
const closers = new Map<number, () => void>()
const connections = new Map<number, Connection>()
let handles = 0

function print(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

function errorName(error: unknown): EchoError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  switch (code) {
    case 'ECONNREFUSED':
      return 'refused'
    case 'ECONNRESET':
    case 'EPIPE':
      return 'reset'
    case 'ETIMEDOUT':
      return 'timeout'
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'unreachable'
    // ICMPv6 "administratively prohibited"; also what a local firewall's drop on output gives.
    case 'EACCES':
    case 'EPERM':
      return 'prohibited'
    default:
      return code
  }
}

/** Settles once: with what `start` resolves, or with a Failure `timeout`. */
function within<T>(
  timeoutMs: number,
  start: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Failure('timeout')), Math.max(1, timeoutMs))
    start(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

function datagramSocket(address: string): DatagramSocket {
  return isIPv6(address) ? createSocket({ type: 'udp6', ipv6Only: true }) : createSocket('udp4')
}

function hold(close: () => void): number {
  const handle = ++handles
  closers.set(handle, close)
  return handle
}

function release(handle: number): void {
  closers.get(handle)?.()
  closers.delete(handle)
  connections.delete(handle)
}

/** Starts a TCP server whose connections end with it. */
async function serveTcp(address: string, port: number, accept: (socket: Socket) => void): Promise<Result> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    accept(socket)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: address, port, backlog: 4096 }, resolve)
  })
  const bound = server.address()
  const handle = hold(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { handle, port: typeof bound === 'object' && bound ? bound.port : port }
}

async function serveUdp(
  address: string,
  port: number,
  receive: (socket: DatagramSocket, text: string, peer: { address: string; port: number }) => void,
): Promise<Result> {
  const socket = datagramSocket(address)
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind({ address, port, exclusive: true }, resolve)
  })
  // A client that has gone answers with ICMP, which is no failure of the server.
  socket.removeAllListeners('error').on('error', () => {})
  socket.on('message', (message, peer) => receive(socket, message.toString('utf8'), peer))
  return { handle: hold(() => socket.close()), port: socket.address().port }
}

function listen({ protocol, address, port }: Listen): Promise<Result> {
  if (protocol === 'udp') {
    return serveUdp(address, port, (socket, text, peer) => {
      socket.send(`${text.trimEnd()} from ${name}\n`, peer.port, peer.address, () => {})
    })
  }
  return serveTcp(address, port, (socket) => {
    socket.setNoDelay(true)
    createInterface({ input: socket })
      .on('line', (line) => socket.write(`${line} from ${name}\n`))
      .on('error', () => {})
  })
}

async function openTcp(target: Open): Promise<Connection> {
  const socket = connect({
    host: target.address,
    port: target.port,
    ...(target.sourceAddress === undefined ? {} : { localAddress: target.sourceAddress }),
    ...(target.sourcePort === undefined ? {} : { localPort: target.sourcePort }),
  })
  socket.setNoDelay(true)
  let fail: (error: unknown) => void = () => {}
  let receive: (line: string) => void = () => {}
  socket.on('error', (error) => fail(error))
  socket.on('close', () => fail(new Failure('closed')))
  try {
    await within<void>(target.timeoutMs ?? 1000, (resolve, reject) => {
      fail = reject
      socket.once('connect', () => resolve())
    })
  } catch (error) {
    socket.destroy()
    throw error
  }
  createInterface({ input: socket })
    .on('line', (line) => receive(line))
    .on('error', () => {})
  return {
    port: socket.localPort ?? 0,
    exchange: (nonce, timeoutMs) =>
      within<string>(timeoutMs, (resolve, reject) => {
        fail = reject
        receive = resolve
        if (socket.destroyed) reject(new Failure('closed'))
        else socket.write(`${nonce}\n`)
      }),
    // A reset leaves no TIME_WAIT behind, so the same source port can be used again at once.
    close: () => socket.resetAndDestroy(),
  }
}

async function connectUdp(target: { address: string; port: number } & Origin): Promise<DatagramSocket> {
  const socket = datagramSocket(target.address)
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(
      {
        ...(target.sourceAddress === undefined ? {} : { address: target.sourceAddress }),
        port: target.sourcePort ?? 0,
        exclusive: true,
      },
      () => {
        socket.once('connect', resolve)
        socket.connect(target.port, target.address)
      },
    )
  })
  socket.removeAllListeners('error')
  return socket
}

async function openUdp(target: Open): Promise<Connection> {
  const socket = await connectUdp(target)
  let fail: (error: unknown) => void = () => {}
  let receive: (line: string) => void = () => {}
  socket.on('error', (error) => fail(error))
  socket.on('message', (message) => receive(message.toString('utf8').trimEnd()))
  return {
    port: socket.address().port,
    exchange: (nonce, timeoutMs) =>
      within<string>(timeoutMs, (resolve, reject) => {
        fail = reject
        // A late answer to an earlier nonce is not the answer to this one.
        receive = (line) => line.startsWith(`${nonce} `) && resolve(line)
        socket.send(`${nonce}\n`, (error) => error && reject(error))
      }),
    close: () => socket.close(),
  }
}

function openConnection(target: Open): Promise<Connection> {
  return target.protocol === 'udp' ? openUdp(target) : openTcp(target)
}

async function open(target: Open): Promise<Result> {
  const connection = await openConnection(target)
  const handle = hold(() => connection.close())
  connections.set(handle, connection)
  return { handle, port: connection.port }
}

async function exchange({ connection, nonce, timeoutMs = 1000 }: Exchange): Promise<Result> {
  const found = connections.get(connection)
  if (!found) throw new Failure('closed')
  return { answer: await found.exchange(nonce, timeoutMs) }
}

async function probe(target: Probe): Promise<Result> {
  const timeoutMs = target.timeoutMs ?? 1000
  const deadline = performance.now() + timeoutMs
  const connection = await openConnection({ ...target, timeoutMs })
  try {
    return { answer: await connection.exchange(target.nonce, deadline - performance.now()), port: connection.port }
  } finally {
    connection.close()
  }
}

function push({ address, port, intervalMs, durationMs }: Push): Promise<Result> {
  const timers = new Set<NodeJS.Timeout>()
  return serveUdp(address, port, (socket, _text, peer) => {
    let sequence = 0
    const timer = setInterval(() => socket.send(`${sequence++}\n`, peer.port, peer.address, () => {}), intervalMs)
    timers.add(timer)
    const end = () => {
      clearInterval(timer)
      timers.delete(timer)
    }
    setTimeout(end, durationMs).unref()
    socket.once('close', end)
  })
}

async function subscribe(target: Subscribe): Promise<Result> {
  const socket = await connectUdp(target)
  const port = socket.address().port
  const { handle, end } = startStream(target.durationMs, () => socket.close())
  socket.on('message', (message) => {
    print({ event: 'arrival', handle, sequence: Number(message.toString()), bytes: message.length, at: clockMs() })
  })
  socket.on('error', (error) => end(errorName(error)))
  socket.send('start\n', () => {})
  return { handle, port }
}

/** A client's stream ends by itself after `durationMs`, or earlier by `close` or an error; the end is an event. */
function startStream(durationMs: number, close: () => void): { handle: number; end: (error?: EchoError) => void } {
  const end = (error?: EchoError) => {
    if (!closers.delete(handle)) return
    clearTimeout(timer)
    close()
    print({ event: 'end', handle, ...(error === undefined ? {} : { error }) })
  }
  const handle = hold(() => end())
  const timer = setTimeout(() => end(), durationMs)
  return { handle, end }
}

function serve({ address, port, bytesPerSecond = 10_000_000 }: Serve): Promise<Result> {
  const tickMs = 5
  const chunk = Buffer.alloc(Math.max(1, Math.round((bytesPerSecond * tickMs) / 1000)), 'knp ')
  return serveTcp(address, port, (socket) => {
    const timer = setInterval(() => socket.writableNeedDrain || socket.write(chunk), tickMs)
    socket.once('close', () => clearInterval(timer))
  })
}

async function download(target: Download): Promise<Result> {
  const socket = connect({
    host: target.address,
    port: target.port,
    ...(target.sourceAddress === undefined ? {} : { localAddress: target.sourceAddress }),
    ...(target.sourcePort === undefined ? {} : { localPort: target.sourcePort }),
  })
  await within<void>(Math.min(target.durationMs, 1000), (resolve, reject) => {
    socket.once('connect', () => resolve())
    socket.once('error', reject)
  }).catch((error: unknown) => {
    socket.destroy()
    throw error
  })
  let bytes = 0
  let sequence = 0
  const report = () => {
    print({ event: 'arrival', handle, sequence: sequence++, bytes, at: clockMs() })
    bytes = 0
  }
  const timer = setInterval(report, downloadIntervalMs)
  const { handle, end } = startStream(target.durationMs, () => {
    clearInterval(timer)
    socket.resetAndDestroy()
  })
  socket.on('data', (data) => {
    bytes += data.length
  })
  socket.on('error', (error) => end(errorName(error)))
  socket.on('close', () => end('closed'))
  return { handle, port: socket.localPort ?? 0 }
}

async function close({ handle }: Close): Promise<Result> {
  for (const open of handle === undefined ? [...closers.keys()] : [handle]) release(open)
  return {}
}

function run(command: Command): Promise<Result> {
  switch (command.op) {
    case 'listen':
      return listen(command)
    case 'open':
      return open(command)
    case 'exchange':
      return exchange(command)
    case 'probe':
      return probe(command)
    case 'push':
      return push(command)
    case 'subscribe':
      return subscribe(command)
    case 'serve':
      return serve(command)
    case 'download':
      return download(command)
    case 'close':
      return close(command)
  }
}

async function answer(command: Command): Promise<void> {
  const started = performance.now()
  const took = () => Math.round((performance.now() - started) * 1000) / 1000
  try {
    const result = await run(command)
    print({ event: 'answer', id: command.id, ok: true, ms: took(), ...result })
  } catch (error) {
    print({ event: 'answer', id: command.id, ok: false, ms: took(), error: errorName(error) })
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => void answer(JSON.parse(line)))
  .on('close', () => process.exit(0))
print({ event: 'ready' })
