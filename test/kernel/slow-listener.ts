import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks, nextStamp } from '../../src/datapath/marks.ts'
import type { Network } from '../../src/lab/network.ts'
import type { RulesetCounters } from '../../src/ruleset/ruleset.ts'
import type { OnFailure, Remember } from '../../src/ruleset/text.ts'
import type { HeldPacket, ListenerCommand } from './children/slow-listener.ts'
import { addressBytes } from './packets.ts'

/** The marks that the listener's ruleset uses. */
export const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
/** A packet that should be queued is so at once; the others are waited for in vain this long. */
const TAKE_MS = 1000

/** The real ruleset in the router, and a listener that answers only when it is told to. */
export class SlowListener {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #subjects: readonly string[]
  #stamp = 1

  /** @param subjects the addresses whose traffic is queued */
  static async start(
    network: Network,
    subjects: readonly string[],
    remember: Remember,
    onFailure: OnFailure = 'closed',
  ): Promise<SlowListener> {
    const script = fileURLToPath(new URL('./children/slow-listener.ts', import.meta.url))
    const child = network.spawn(
      'router',
      [process.execPath, '--no-warnings', script, JSON.stringify(remember), onFailure],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    const listener = new SlowListener(child, subjects)
    await listener.#do({ op: 'install', subjects, stamp: 1 })
    return listener
  }

  private constructor(child: ChildProcess, subjects: readonly string[]) {
    this.#child = child
    this.#subjects = subjects
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  /** The stamp of the generation in force. */
  get stamp(): number {
    return this.#stamp
  }

  /** Moves to the next generation, as if policies had changed: those of flows with these ends, or of all. */
  async change(recheck?: readonly string[]): Promise<void> {
    this.#stamp = nextStamp(this.#stamp)
    await this.#do({ op: 'update', subjects: this.#subjects, stamp: this.#stamp, ...(recheck && { recheck }) })
  }

  /** As when all connections of the addresses of all changes have been looked through, and found to be allowed. */
  async endRecheck(): Promise<void> {
    await this.#do({ op: 'endRecheck' })
  }

  /** Takes what is queued and holds it. */
  async take(timeoutMs = TAKE_MS): Promise<readonly HeldPacket[]> {
    return (await this.#do({ op: 'take', timeoutMs })) as HeldPacket[]
  }

  /** Takes the one packet that is queued; the mark that allows it, with a stamp. */
  async takeOne(t: Test, bits: number, comment: string): Promise<(stamp: number) => Promise<void>> {
    const held = await this.take()
    t.equal(held.length, 1, `${comment}: queued`)
    const mark = held[0]?.mark ?? 0
    t.equal(mark & marks.packetMask, marks.queued | bits, `${comment}: ${bits === 0 ? 'original' : 'reply'} direction`)
    return async (stamp) => {
      await this.#do({ op: 'answer', marks: held.map(({ mark }) => allowed(mark, stamp)) })
    }
  }

  /** Answers all that it holds. */
  async answer(answers: readonly number[]): Promise<void> {
    await this.#do({ op: 'answer', marks: answers })
  }

  async counters(): Promise<RulesetCounters> {
    return (await this.#do({ op: 'counters' })) as RulesetCounters
  }

  /** As `kill -9` does to a firewall: the ruleset stays, and nobody answers. */
  async kill(): Promise<void> {
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }

  /** The connection mark of a connection, by the client's port. */
  async markOf(address: string, port: number): Promise<number | undefined> {
    const text = (await this.#do({ op: 'connections' })) as string
    const written = isIPv4(address)
      ? address
      : addressBytes(address)
          .toString('hex')
          .replace(/....(?=.)/g, '$&:')
    const line = text.split('\n').find((line) => line.includes(`src=${written} `) && line.includes(`sport=${port} `))
    return line === undefined ? undefined : Number(/ mark=(\d+)/.exec(line)?.[1])
  }

  async #do(command: ListenerCommand): Promise<unknown> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`)
    const { value } = await this.#lines.next()
    if (value === undefined) throw new Error(`the listener ended at ${command.op}`)
    return JSON.parse(value)
  }
}

/** The answer that lets a packet pass, by the generation with this stamp. */
export function allowed(mark: number, stamp: number): number {
  return (mark & ~marks.packetMask) | marks.allowed | (stamp << marks.stampShift)
}

/** The answer that does not. */
export function denied(mark: number, stamp: number): number {
  return (mark & ~marks.packetMask) | marks.denied | (stamp << marks.stampShift)
}

/** The connection mark with a stamp and nothing else. */
export function stamped(stamp: number): number {
  return (stamp << marks.connectionShift) >>> 0
}
