import type { DestinationStream, Logger } from 'pino'
import type { FlowEvent } from './flows/event.ts'
import type { FlowLogSink } from './flows/flow-log.ts'
import type { LogConfig, LogLevel } from './log-config.ts'
import { flowJson, formatFlow } from './output/flows.ts'
import { printable } from './output/printable.ts'

/** What `knp run` tells while it runs, beside its result. */
export interface RunLog extends FlowLogSink {
  event(event: string, message: string): void
  /** Everything is written. */
  close(): void
}

/** Events that are worse than information. */
const levels: ReadonlyMap<string, LogLevel> = new Map([
  ['problem', 'error'],
  ['source-broken', 'error'],
  ['warning', 'warn'],
])
/** What is held while whoever reads the log does not; more is left out. */
const MAX_HELD_BYTES = 1 << 20
const STDERR = 2

export interface RunLogOptions extends LogConfig {
  /** Whether `knp.run/v1` objects go to stdout, which others read, instead. */
  readonly isJson: boolean
}

/** Readable lines where a person reads along, one JSON object a line elsewhere. */
export async function openRunLog({ level, format, isJson }: RunLogOptions): Promise<RunLog> {
  const isTold = (event: string) => rank(levels.get(event) ?? 'info') <= rank(level)
  if (isJson) {
    process.stdout.on('error', () => {})
    return new EventLog(isTold)
  }
  const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY)
  // Who has gone does not read; that is no reason to end.
  process.stderr.on('error', () => {})
  return isText ? new TextLog(isTold) : JsonLog.open(level)
}

/** `knp.run/v1`. */
class EventLog implements RunLog {
  readonly #isTold: (event: string) => boolean

  constructor(isTold: (event: string) => boolean) {
    this.#isTold = isTold
  }

  event(event: string, message: string): void {
    if (this.#isTold(event)) this.#write({ event, message })
  }

  decided(event: FlowEvent): void {
    if (this.#isTold('decision')) this.#write({ event: 'decision', message: lineOf(event), flow: flowJson(event) })
  }

  leftOut(count: number): void {
    if (this.#isTold('decision')) this.#write({ event: 'left-out', message: leftOutText(count), count })
  }

  close(): void {}

  #write(fields: object): void {
    process.stdout.write(`${JSON.stringify({ schema: 'knp.run/v1', ...fields })}\n`)
  }
}

class TextLog implements RunLog {
  readonly #isTold: (event: string) => boolean

  constructor(isTold: (event: string) => boolean) {
    this.#isTold = isTold
  }

  event(event: string, message: string): void {
    if (this.#isTold(event)) this.#write(event === 'warning' || event === 'note' ? `${event}: ${message}` : message)
  }

  decided(event: FlowEvent): void {
    if (this.#isTold('decision')) this.#write(lineOf(event))
  }

  leftOut(count: number): void {
    if (this.#isTold('decision')) this.#write(leftOutText(count))
  }

  close(): void {}

  #write(text: string): void {
    process.stderr.write(`${printable(text)}\n`)
  }
}

/** Whoever does not read it keeps nobody waiting. */
class JsonLog implements RunLog {
  readonly #logger: Logger
  readonly #destination: DestinationStream & { flushSync(): void }

  static async open(level: LogLevel): Promise<JsonLog> {
    // Loaded by no other command.
    const { pino } = await import('pino')
    const destination = pino.destination({ dest: STDERR, sync: false, maxLength: MAX_HELD_BYTES })
    destination.on('error', () => {})
    const options = {
      level,
      base: null,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label: string) => ({ level: label }) },
    }
    return new JsonLog(pino(options, destination), destination)
  }

  private constructor(logger: Logger, destination: DestinationStream & { flushSync(): void }) {
    this.#logger = logger
    this.#destination = destination
  }

  event(event: string, message: string): void {
    this.#logger[levels.get(event) ?? 'info']({ event }, printable(message))
  }

  decided(event: FlowEvent): void {
    const { time, ...flow } = flowJson(event) as { time: string }
    this.#logger.info({ event: 'decision', decidedAt: time, ...flow }, lineOf(event))
  }

  leftOut(count: number): void {
    this.#logger.info({ event: 'left-out', count }, leftOutText(count))
  }

  close(): void {
    try {
      this.#destination.flushSync()
    } catch {
      // Nobody reads any more.
    }
  }
}

/** Without the time, which every log has of its own. */
function lineOf(event: FlowEvent): string {
  return formatFlow(event)
    .replace(/^\S+ +/, '')
    .trimEnd()
}

function leftOutText(count: number): string {
  return `${count} ${count === 1 ? 'decision was' : 'decisions were'} left out here (knp flows shows them)`
}

function rank(level: LogLevel): number {
  return ['error', 'warn', 'info', 'debug'].indexOf(level)
}
