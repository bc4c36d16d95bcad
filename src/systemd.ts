import { loadAddon } from './native/load.ts'

/** A descriptor that the service manager kept for this process. */
export interface KeptDescriptor {
  readonly name: string
  readonly fd: number
}

/** SD_LISTEN_FDS_START of sd_listen_fds(3). */
const FIRST_DESCRIPTOR = 3

/** The service manager that started this process (sd_notify(3), sd_listen_fds(3)); or none, and nothing is told to anybody. */
export class ServiceManager {
  /** What an earlier process of this service had kept, in the order it comes in. Whoever takes one closes it. */
  readonly kept: readonly KeptDescriptor[]
  /** How often it wants to hear that this process is {@link alive}, in ms; `undefined` where it does not ask. */
  readonly watchdogMs: number | undefined
  readonly #socket: string | undefined

  /** Takes what is meant for this process out of its environment, so that no child believes it is meant. */
  static fromEnvironment(env: NodeJS.ProcessEnv = process.env, pid = process.pid): ServiceManager {
    const { NOTIFY_SOCKET: socket, LISTEN_PID: listener, LISTEN_FDS: count, LISTEN_FDNAMES: names } = env
    const watchdogMs = watchdogOf(env, pid)
    for (const name of variables) delete env[name]
    const kept = Number(listener) === pid ? keptDescriptors(Number(count), names) : []
    return new ServiceManager(socket, kept, watchdogMs)
  }

  private constructor(socket: string | undefined, kept: readonly KeptDescriptor[], watchdogMs: number | undefined) {
    this.kept = kept
    this.watchdogMs = watchdogMs
    this.#socket = socket === '' ? undefined : socket
  }

  /** Whether there is one. */
  get isThere(): boolean {
    return this.#socket !== undefined
  }

  /** The service does what it is for. Throws a SystemError, as the others do, when it cannot be told. */
  ready(): void {
    this.#tell(['READY=1'])
  }

  /** Still does what it is for: within `watchdogMs` from `ready`, and again and again, or the manager ends the process. */
  alive(): void {
    this.#tell(['WATCHDOG=1'])
  }

  stopping(): void {
    this.#tell(['STOPPING=1'])
  }

  /** Has a duplicate of a descriptor kept for the next process of this service, under a name of letters, digits and dashes. */
  keep(name: string, fd: number): void {
    // A netlink socket reports an overflow as an error, for which the manager would drop it: it is not to be watched.
    this.#tell(['FDSTORE=1', `FDNAME=${name}`, 'FDPOLL=0'], [fd])
  }

  /** Has all descriptors of this name closed. */
  forget(name: string): void {
    this.#tell(['FDSTOREREMOVE=1', `FDNAME=${name}`])
  }

  #tell(lines: readonly string[], descriptors: readonly number[] = []): void {
    if (this.#socket !== undefined) loadAddon().sendDatagram(this.#socket, lines.join('\n'), descriptors)
  }
}

const variables = [
  'NOTIFY_SOCKET',
  'LISTEN_PID',
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'LISTEN_PIDFDID',
  'WATCHDOG_PID',
  'WATCHDOG_USEC',
]

/** sd_watchdog_enabled(3): without a process id it is meant for whoever reads it. */
function watchdogOf(
  { WATCHDOG_PID: watched, WATCHDOG_USEC: time }: NodeJS.ProcessEnv,
  pid: number,
): number | undefined {
  if (watched !== undefined && Number(watched) !== pid) return undefined
  const ms = Number(time) / 1000
  return Number.isFinite(ms) && ms > 0 ? ms : undefined
}

function keptDescriptors(count: number, names = ''): readonly KeptDescriptor[] {
  if (!Number.isSafeInteger(count) || count < 0) return []
  const given = names.split(':')
  return Array.from({ length: count }, (_, i) => ({ name: given[i] ?? '', fd: FIRST_DESCRIPTOR + i }))
}
