import { execFile } from 'node:child_process'
import { isIPv4 } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Network } from '../../src/lab/network.ts'

const program = fileURLToPath(new URL('../../build/tools/raw', import.meta.url))
const sctpProgram = fileURLToPath(new URL('../../build/tools/sctp', import.meta.url))
const source = fileURLToPath(new URL('.', import.meta.url))

let built: Promise<string> | undefined

/** Path of the tool, compiled if it is missing or older than its source. */
export function rawTool(): Promise<string> {
  built ??= promisify(execFile)('make', ['-s', '-C', source]).then(() => program)
  return built
}

/** Path of the tool for SCTP associations, likewise. */
export async function sctpTool(): Promise<string> {
  await rawTool()
  return sctpProgram
}

export interface PingOptions {
  /** Default: the host's first address of the destination's family. */
  readonly source?: string
  /** For each request; default 1000. */
  readonly timeoutMs?: number
  /** Default 1. */
  readonly count?: number
}

/** What became of one echo request; `error` when the system refused to send it. */
export type PingOutcome = 'reply' | 'timeout' | 'unreachable' | 'error'

/** Sends ICMP or ICMPv6 echo requests, one after the other. */
export async function ping(
  network: Network,
  host: string,
  destination: string,
  options: PingOptions = {},
): Promise<readonly PingOutcome[]> {
  const { timeoutMs = 1000, count = 1 } = options
  const from = options.source ?? ownAddress(network, host, destination)
  const argv = ['ping', from, destination, '--timeout', `${timeoutMs}`, '--count', `${count}`]
  const { stdout } = await run(network, host, argv, '', timeoutMs * count + 5000)
  return lines(stdout).map((line) => line.split(' ')[0] as PingOutcome)
}

export interface SendOptions {
  /** Default `eth0`. */
  readonly interface?: string
  /**
   * Hardware address of the next hop. Default `auto`: the interface's known neighbour. `routed`: as the kernel routes what
   * a process of the host sends, past its output hook.
   */
  readonly to?: string
}

/** Sends packets that begin with their IP header, as they are. Returns how many were sent. */
export async function sendPackets(
  network: Network,
  host: string,
  packets: Iterable<Uint8Array>,
  options: SendOptions = {},
): Promise<number> {
  const input = Array.from(packets, (packet) => `${Buffer.from(packet).toString('hex')}\n`).join('')
  const argv = ['send', options.interface ?? 'eth0', options.to ?? 'auto']
  const { stdout } = await run(network, host, argv, input, 30_000)
  return sentIn(stdout)
}

export interface TcpPacket {
  readonly source?: string
  readonly destination: string
  readonly port: number
  readonly sourcePort?: number
  /** Of S, A, F, R, P and U. Default `S`. */
  readonly flags?: string
  readonly sequence?: number
  readonly acknowledgement?: number
  /** How many times it is sent; default 1. */
  readonly count?: number
  /** How long to wait for an answer; default 0, not at all. */
  readonly waitMs?: number
}

export interface TcpAnswer {
  readonly sent: number
  /** Flags of the first answer in the order S R F A, such as `SA` or `RA`; undefined if none came or none was awaited. */
  readonly answer: string | undefined
}

/** Sends a TCP packet without a connection. The host's own TCP resets what answers it. */
export async function sendTcp(network: Network, host: string, packet: TcpPacket): Promise<TcpAnswer> {
  const from = packet.source ?? ownAddress(network, host, packet.destination)
  const { waitMs = 0 } = packet
  const settings: readonly (readonly [string, string | number | undefined])[] = [
    ['--flags', packet.flags],
    ['--sport', packet.sourcePort],
    ['--seq', packet.sequence],
    ['--ack', packet.acknowledgement],
    ['--count', packet.count],
    ['--wait', waitMs],
  ]
  const flags = settings.flatMap(([flag, value]) => (value === undefined ? [] : [flag, `${value}`]))
  const argv = ['syn', from, packet.destination, `${packet.port}`, ...flags]
  const { stdout } = await run(network, host, argv, '', waitMs + 10_000)
  return { sent: sentIn(stdout), answer: /^answer (\w*)$/m.exec(stdout)?.[1] }
}

export interface SniffOptions {
  /** Default `eth0`; `any` for all. */
  readonly interface?: string
  /** It ends by itself after this long; default 30. */
  readonly seconds?: number
  /** What the interface sends, instead of what it receives. */
  readonly outgoing?: true
}

/** IPv4 and IPv6 packets seen on an interface, beginning with their IP header. */
export interface Sniffer {
  /** Everything so far. */
  readonly packets: readonly Buffer[]
  /** Waits for one that matches, also among those already there. Undefined if none came in time. */
  find(matches: (packet: Buffer) => boolean, timeoutMs?: number): Promise<Buffer | undefined>
  stop(): Promise<void>
}

/** Starts to watch an interface: every packet that arrives after the promise has resolved is seen. */
export async function sniff(network: Network, host: string, options: SniffOptions = {}): Promise<Sniffer> {
  const argv = ['sniff', options.interface ?? 'eth0', `${options.seconds ?? 30}`]
  if (options.outgoing) argv.push('--outgoing')
  const child = network.spawn(host, [await rawTool(), ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
  const packets: Buffer[] = []
  const waiting = new Set<(packet: Buffer) => void>()
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const packet = Buffer.from(line, 'hex')
      packets.push(packet)
      for (const receive of [...waiting]) receive(packet)
    })
  }
  await new Promise<void>((resolve, reject) => {
    let text = ''
    child.stderr?.setEncoding('utf8').on('data', (data: string) => {
      text += data
      if (text.includes('ready')) resolve()
    })
    child.once('close', () => reject(new Error(`raw sniff: ${text.trim()}`)))
  })
  return {
    packets,
    find(matches, timeoutMs = 2000) {
      const found = packets.find(matches)
      if (found) return Promise.resolve(found)
      return new Promise((resolve) => {
        const settle = (packet: Buffer | undefined) => {
          clearTimeout(timer)
          waiting.delete(receive)
          resolve(packet)
        }
        const receive = (packet: Buffer) => matches(packet) && settle(packet)
        const timer = setTimeout(() => settle(undefined), timeoutMs)
        waiting.add(receive)
      })
    },
    async stop() {
      child.kill()
      await ended
    },
  }
}

export interface UdpPacket {
  readonly source: string
  readonly destination: string
  readonly sourcePort: number
  readonly destinationPort: number
  /** Default empty. */
  readonly payload?: string
}

/** A complete UDP packet with valid checksums, for `sendPackets`. */
export function udpPacket(packet: UdpPacket): Buffer {
  const payload = Buffer.from(packet.payload ?? '')
  const udp = Buffer.alloc(8 + payload.length)
  udp.writeUInt16BE(packet.sourcePort, 0)
  udp.writeUInt16BE(packet.destinationPort, 2)
  udp.writeUInt16BE(udp.length, 4)
  payload.copy(udp, 8)
  const from = addressBytes(packet.source)
  const to = addressBytes(packet.destination)
  const pseudo = Buffer.alloc(4)
  pseudo.writeUInt16BE(17, 0)
  pseudo.writeUInt16BE(udp.length, 2)
  udp.writeUInt16BE(checksum(Buffer.concat([from, to, pseudo, udp])) || 0xffff, 6)
  const header = from.length === 4 ? Buffer.alloc(20) : Buffer.alloc(40)
  if (from.length === 4) {
    header[0] = 0x45
    header.writeUInt16BE(20 + udp.length, 2)
    header[8] = 64
    header[9] = 17
    from.copy(header, 12)
    to.copy(header, 16)
    header.writeUInt16BE(checksum(header), 10)
  } else {
    header[0] = 0x60
    header.writeUInt16BE(udp.length, 4)
    header[6] = 17
    header[7] = 64
    from.copy(header, 8)
    to.copy(header, 24)
  }
  return Buffer.concat([header, udp])
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const left = groups(head)
  const right = groups(tail ?? '')
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0')
  return Buffer.from([...left, ...zeros, ...right].map((group) => group.padStart(4, '0')).join(''), 'hex')
}

function ownAddress(network: Network, host: string, destination: string): string {
  const own = network.addressesOf(host).find((address) => isIPv4(address) === isIPv4(destination))
  if (own === undefined) throw new Error(`${host} has no address of ${destination}'s family`)
  return own
}

async function run(network: Network, host: string, argv: readonly string[], input: string, timeoutMs: number) {
  const result = await network.exec(host, [await rawTool(), ...argv], { input, timeoutMs })
  if (result.timedOut || result.code === undefined || result.code > 1) {
    throw new Error(`raw ${argv.join(' ')}: ${result.timedOut ? 'timed out' : result.stderr.trim()}`)
  }
  return result
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}

function sentIn(stdout: string): number {
  return Number(/^sent (\d+)$/m.exec(stdout)?.[1] ?? 0)
}
