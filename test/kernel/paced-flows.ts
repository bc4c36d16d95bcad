import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import type { Pace, PacedFlow, PaceLine } from './children/pace.ts'

const script = fileURLToPath(new URL('./children/pace.ts', import.meta.url))
/** What is answered later than this has waited for something. */
const PROMPT_MS = 250 * slow
/** So many rounds without a fault are no coincidence. */
const STEADY_ROUNDS = 25

interface Round {
  readonly begunAtMs: number
  /** When the kernel had all of its packets; Infinity until then. */
  sentAtMs: number
  /** When each answer came, by flow and address. */
  readonly answers: Map<string, number>
}

/** A time span, in ms since 1970. */
export interface Span {
  readonly fromMs: number
  readonly toMs: number
}

/** What became of one flow's packets, of all addresses together. */
export interface Outcome {
  readonly sent: number
  readonly prompt: number
  readonly late: number
  readonly lost: number
}

/** Milliseconds since 1970 with fractions, as the paced child has them. */
export function clockMs(): number {
  return performance.timeOrigin + performance.now()
}

/** New allowed, new denied and established connections from one host, so many a second until closed. */
export class PacedFlows {
  readonly #pace: Pace
  readonly #rounds = new Map<number, Round>()
  readonly #watchers = new Set<() => void>()
  readonly #end: () => Promise<void>

  /** Resolves when the first round was begun. */
  static async start(network: Network, host: string, pace: Pace): Promise<PacedFlows> {
    const argv = [process.execPath, '--no-warnings', script, JSON.stringify(pace)]
    const child = network.spawn(host, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
    const flows = new PacedFlows(pace, async () => {
      child.stdin!.end()
      await once(child, 'close')
    })
    createInterface({ input: child.stdout! }).on('line', (line) => flows.#receive(JSON.parse(line)))
    await flows.rounds(1)
    return flows
  }

  private constructor(pace: Pace, end: () => Promise<void>) {
    this.#pace = pace
    this.#end = end
  }

  /** Waits until so many more rounds were begun. */
  async rounds(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.#next()
  }

  /** Waits until the kernel has all packets of the rounds that were begun by a time. */
  async sentUntil(atMs: number): Promise<void> {
    await this.until(() => {
      const rounds = [...this.#rounds.values()]
      const isKnown = rounds.at(-1)!.begunAtMs > atMs
      return isKnown && rounds.every(({ begunAtMs, sentAtMs }) => begunAtMs > atMs || sentAtMs < Infinity)
    }, 'all is sent')
  }

  /** Waits until something is so, and looks once a round. Throws after `timeoutMs`. */
  async until(isSo: () => boolean | Promise<boolean>, what: string, timeoutMs = 10_000 * slow): Promise<void> {
    const endMs = clockMs() + timeoutMs
    while (!(await isSo())) {
      if (clockMs() > endMs) throw new Error(`${what}: not so within ${timeoutMs} ms`)
      await this.#next()
    }
  }

  /** Waits until allowed is answered and denied is not, for a while. Answers when the last round began that fared otherwise. */
  async steady(sinceMs: number): Promise<number> {
    await this.until(() => {
      const settled = this.#within({ fromMs: sinceMs, toMs: clockMs() - PROMPT_MS })
      return settled.length >= STEADY_ROUNDS && settled.slice(-STEADY_ROUNDS).every((round) => this.#isRight(round))
    }, 'allowed passes, denied is dropped')
    return this.wrong({ fromMs: sinceMs, toMs: clockMs() - PROMPT_MS })?.toMs ?? sinceMs
  }

  /** When the first and the last round began in which allowed was not answered at once, or denied was. */
  wrong(span: Span): Span | undefined {
    const wrong = this.#within(span).filter((round) => !this.#isRight(round))
    return wrong.length === 0 ? undefined : { fromMs: wrong[0]!.begunAtMs, toMs: wrong.at(-1)!.begunAtMs }
  }

  /** What became, until now, of the rounds that were begun in a span. */
  outcome(flow: PacedFlow, span: Span): Outcome {
    const waits = this.#within(span).flatMap((round) =>
      this.#pace.addresses.map((address) => (round.answers.get(`${flow} ${address}`) ?? Infinity) - round.begunAtMs),
    )
    const prompt = waits.filter((ms) => ms <= PROMPT_MS).length
    const lost = waits.filter((ms) => ms === Infinity).length
    return { sent: waits.length, prompt, lost, late: waits.length - prompt - lost }
  }

  /** How long the answers of a span's rounds took that came: when the first one came, and the longest wait, in ms. */
  waits(flow: PacedFlow, span: Span): { readonly firstAtMs: number; readonly longestMs: number } {
    const answered = this.#within(span).flatMap(({ begunAtMs, answers }) =>
      this.#pace.addresses.flatMap((address) => {
        const atMs = answers.get(`${flow} ${address}`)
        return atMs === undefined ? [] : [{ atMs, ms: atMs - begunAtMs }]
      }),
    )
    return {
      firstAtMs: Math.min(...answered.map(({ atMs }) => atMs)),
      longestMs: Math.max(0, ...answered.map(({ ms }) => ms)),
    }
  }

  /** When the rounds were sent, each from its beginning to its end, in which a denied packet was answered all the same. */
  leaks(): readonly Span[] {
    return [...this.#rounds.values()]
      .filter(({ answers }) => this.#pace.addresses.some((address) => answers.has(`denied ${address}`)))
      .map(({ begunAtMs, sentAtMs }) => ({ fromMs: begunAtMs, toMs: sentAtMs }))
  }

  /** How many rounds were begun. */
  get sent(): number {
    return this.#rounds.size
  }

  close(): Promise<void> {
    return this.#end()
  }

  #isRight({ begunAtMs, answers }: Round): boolean {
    const isPrompt = (flow: PacedFlow, address: string) =>
      (answers.get(`${flow} ${address}`) ?? Infinity) <= begunAtMs + PROMPT_MS
    return this.#pace.addresses.every(
      (address) =>
        isPrompt('allowed', address) && isPrompt('established', address) && !answers.has(`denied ${address}`),
    )
  }

  #within({ fromMs, toMs }: Span): Round[] {
    return [...this.#rounds.values()].filter(({ begunAtMs }) => begunAtMs >= fromMs && begunAtMs <= toMs)
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      const seen = () => {
        this.#watchers.delete(seen)
        resolve()
      }
      this.#watchers.add(seen)
    })
  }

  #receive([what, round, atMs, ...answer]: PaceLine): void {
    if (what === 'begun') {
      this.#rounds.set(round, { begunAtMs: atMs, sentAtMs: Infinity, answers: new Map() })
      for (const watcher of [...this.#watchers]) watcher()
    } else if (what === 'sent') this.#rounds.get(round)!.sentAtMs = atMs
    else this.#rounds.get(round)!.answers.set(answer.join(' '), atMs)
  }
}
