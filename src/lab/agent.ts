import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { KnpError } from '../errors.ts'
import type {
  Answer,
  Arrival,
  Commands,
  Download,
  EchoError,
  Exchange,
  Line,
  Listen,
  Open,
  Probe,
  Push,
  Serve,
  Subscribe,
} from './echo.ts'
import type { Network } from './network.ts'

/** The script beside this module, in whichever form this module runs itself. */
const script = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './echo.ts' : './echo.js', import.meta.url))

/** A server that is up. */
export interface Listener {
  readonly port: number
  close(): Promise<void>
}

/** An open TCP connection, or a UDP socket connected to one peer, that lasts until closed. */
export interface Connection {
  /** The local port. */
  readonly port: number
  /** Sends the nonce and waits for the echo. */
  exchange(nonce: string, timeoutMs?: number): Promise<Answer>
  close(): Promise<void>
}

/**
 * What a client receives, as it arrives: datagrams of a push, or one entry for each 50 ms of a download (those without
 * data have `bytes` 0).
 */
export class Stream {
  /** The local port of the client. */
  readonly port: number
  /** Everything so far, in order of arrival. */
  readonly arrivals: readonly Arrival[]
  /** Resolves when the stream has ended: `undefined` after its time or `close()`, else why it ended early. */
  readonly ended: Promise<EchoError | undefined>
  readonly #close: () => Promise<void>
  readonly #feed: StreamFeed

  constructor(port: number, feed: StreamFeed, close: () => Promise<void>) {
    this.port = port
    this.arrivals = feed.arrivals
    this.ended = feed.ended
    this.#feed = feed
    this.#close = close
  }

  /** Number of bytes so far. */
  get bytes(): number {
    return this.arrivals.reduce((sum, arrival) => sum + arrival.bytes, 0)
  }

  /** Waits until `count` more arrivals carried data. False if they did not come within `timeoutMs`, or the stream ended. */
  more(count: number, timeoutMs = 2000): Promise<boolean> {
    return this.#watch((received) => received >= count, timeoutMs)
  }

  /** Waits until nothing has carried data for `quietMs`. False if that did not happen within `timeoutMs`. */
  quiet(quietMs: number, timeoutMs = 5000): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (isQuiet: boolean) => {
        clearTimeout(quiet)
        clearTimeout(limit)
        this.#feed.listeners.delete(restart)
        resolve(isQuiet)
      }
      const restart = (arrival: Arrival | undefined) => {
        if (arrival !== undefined && arrival.bytes > 0) quiet.refresh()
      }
      const quiet = setTimeout(() => settle(true), quietMs)
      const limit = setTimeout(() => settle(false), timeoutMs)
      this.#feed.listeners.add(restart)
    })
  }

  /** Ends the client; the server goes on until its own time is over. */
  close(): Promise<void> {
    return this.#close()
  }

  #watch(isDone: (received: number) => boolean, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      let received = 0
      const settle = (done: boolean) => {
        clearTimeout(limit)
        this.#feed.listeners.delete(listener)
        resolve(done)
      }
      const listener = (arrival: Arrival | undefined) => {
        if (arrival === undefined) return settle(false)
        if (arrival.bytes > 0) received++
        if (isDone(received)) settle(true)
      }
      const limit = setTimeout(() => settle(false), timeoutMs)
      if (this.#feed.isOver) settle(false)
      else this.#feed.listeners.add(listener)
    })
  }
}

/** The growing side of a Stream. */
class StreamFeed {
  readonly arrivals: Arrival[] = []
  readonly listeners = new Set<(arrival: Arrival | undefined) => void>()
  readonly ended: Promise<EchoError | undefined>
  isOver = false
  #resolve: (error: EchoError | undefined) => void = () => {}

  constructor() {
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  add(arrival: Arrival): void {
    this.arrivals.push(arrival)
    for (const listener of [...this.listeners]) listener(arrival)
  }

  end(error: EchoError | undefined): void {
    this.isOver = true
    for (const listener of [...this.listeners]) listener(undefined)
    this.#resolve(error)
  }
}

/**
 * A process in a host of a network that opens servers and makes connections as it is told. One process does any number
 * of operations at once.
 */
export class Agent {
  readonly host: string
  readonly #child: ChildProcess
  readonly #pending = new Map<number, (answer: Answer) => void>()
  readonly #feeds = new Map<number, StreamFeed>()
  #commands = 0
  #nonces = 0
  #stderr = ''
  #hasEnded = false

  private constructor(host: string, child: ChildProcess) {
    this.host = host
    this.#child = child
  }

  /** Starts the process and waits until it takes commands. Throws INTERNAL with what it printed if it ends first. */
  static async start(network: Network, host: string): Promise<Agent> {
    const child = network.spawn(host, [process.execPath, script, host], { stdio: 'pipe' })
    const agent = new Agent(host, child)
    await agent.#attach()
    return agent
  }

  /** Opens an echo server. Throws INTERNAL if the address cannot be bound. */
  async listen(listen: Listen): Promise<Listener> {
    return this.#listener(await this.#must('listen', listen))
  }

  /** Connects, sends a nonce and waits for its echo. A failure is an answer with `ok: false`, not an error. */
  probe(probe: Omit<Probe, 'nonce'> & { readonly nonce?: string }): Promise<Answer> {
    return this.#send('probe', { nonce: this.#nonce(), ...probe })
  }

  /** Connects and stays connected. For UDP nothing is sent yet. A failure is an answer without `connection`. */
  async open(open: Open): Promise<Answer & { readonly connection?: Connection }> {
    const answer = await this.#send('open', open)
    const handle = answer.handle
    if (!answer.ok || handle === undefined) return answer
    const connection: Connection = {
      port: answer.port ?? 0,
      exchange: (nonce, timeoutMs) => this.#send('exchange', exchangeOf(handle, nonce, timeoutMs)),
      close: () => this.#close(handle),
    }
    return { ...answer, connection }
  }

  /** Opens a UDP server that sends numbered datagrams to a client for a while after one packet from it. */
  async push(push: Push): Promise<Listener> {
    return this.#listener(await this.#must('push', push))
  }

  /** Sends one packet to a push server and receives from then on. */
  async subscribe(subscribe: Subscribe): Promise<Stream> {
    return this.#stream(await this.#must('subscribe', subscribe))
  }

  /** Opens a TCP server that sends to every client continuously. */
  async serve(serve: Serve): Promise<Listener> {
    return this.#listener(await this.#must('serve', serve))
  }

  /** Connects to such a server and reads. Throws INTERNAL if the connection does not come about. */
  async download(download: Download): Promise<Stream> {
    return this.#stream(await this.#must('download', download))
  }

  /** Ends the process, and with it all its servers and connections. May be called again. */
  async close(): Promise<void> {
    if (this.#hasEnded) return
    await new Promise<void>((resolve) => {
      this.#child.once('close', () => resolve())
      this.#child.stdin?.end()
    })
  }

  async #attach(): Promise<void> {
    const child = this.#child
    if (!child.stdout || !child.stderr) throw new KnpError('INTERNAL', `agent ${this.host}: started without pipes`)
    child.stdin?.on('error', () => {})
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
    })
    const lines = createInterface({ input: child.stdout })
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', () => {
        this.#end()
        reject(new KnpError('INTERNAL', `agent ${this.host}: ended at its start: ${this.#stderr.trim()}`))
      })
      lines.on('line', (text) => {
        const line: Line = JSON.parse(text)
        if (line.event === 'ready') resolve()
        else this.#receive(line)
      })
    })
  }

  #receive(line: Exclude<Line, { event: 'ready' }>): void {
    if (line.event === 'answer') {
      // Made here and not in the caller, which runs later than the arrivals that follow in the same chunk.
      if (line.handle !== undefined) this.#feeds.set(line.handle, new StreamFeed())
      const { event, ...answer } = line
      this.#pending.get(line.id)?.(answer)
      this.#pending.delete(line.id)
    } else if (line.event === 'arrival') {
      this.#feeds.get(line.handle)?.add({ sequence: line.sequence, bytes: line.bytes, at: line.at })
    } else {
      this.#feeds.get(line.handle)?.end(line.error)
      this.#feeds.delete(line.handle)
    }
  }

  #end(): void {
    this.#hasEnded = true
    for (const [id, settle] of this.#pending) settle({ id, ok: false, error: 'closed', ms: 0 })
    this.#pending.clear()
    for (const feed of this.#feeds.values()) feed.end('closed')
    this.#feeds.clear()
  }

  #send<Op extends keyof Commands>(op: Op, command: Commands[Op]): Promise<Answer> {
    const id = ++this.#commands
    if (this.#hasEnded) return Promise.resolve({ id, ok: false, error: 'closed', ms: 0 })
    return new Promise((resolve) => {
      this.#pending.set(id, resolve)
      this.#child.stdin?.write(`${JSON.stringify({ ...command, id, op })}\n`)
    })
  }

  async #must<Op extends keyof Commands>(op: Op, command: Commands[Op]): Promise<Answer & { handle: number }> {
    const answer = await this.#send(op, command)
    if (!answer.ok || answer.handle === undefined) {
      throw new KnpError('INTERNAL', `agent ${this.host}: ${op} ${JSON.stringify(command)}: ${answer.error}`)
    }
    return { ...answer, handle: answer.handle }
  }

  #listener(answer: Answer & { handle: number }): Listener {
    this.#feeds.delete(answer.handle)
    return { port: answer.port ?? 0, close: () => this.#close(answer.handle) }
  }

  #stream(answer: Answer & { handle: number }): Stream {
    const feed = this.#feeds.get(answer.handle) ?? new StreamFeed()
    return new Stream(answer.port ?? 0, feed, () => this.#close(answer.handle))
  }

  async #close(handle: number): Promise<void> {
    await this.#send('close', { handle })
  }

  #nonce(): string {
    return `${this.host}-${process.pid}-${++this.#nonces}`
  }
}

function exchangeOf(connection: number, nonce: string, timeoutMs: number | undefined): Exchange {
  return timeoutMs === undefined ? { connection, nonce } : { connection, nonce, timeoutMs }
}
