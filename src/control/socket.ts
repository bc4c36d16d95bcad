import { chmod, chown, lstat, mkdir, readFile, unlink } from 'node:fs/promises'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { type ErrorCode, KnpError } from '../errors.ts'

/** What a client may ask: functions of the parameters it sends, whose answer is sent as JSON. */
export type ControlMethods = Readonly<Record<string, (params: Readonly<Record<string, unknown>>) => unknown>>

/**
 * What a client may follow: sends items to a reader until it has no more, or the reader has gone, and answers what is called
 * then.
 */
export type ControlStream = (params: Readonly<Record<string, unknown>>, reader: StreamReader) => () => void

export type ControlStreams = Readonly<Record<string, ControlStream>>

/** Who follows a stream. */
export interface StreamReader {
  /** Whether it was sent; nothing is while the reader does not take what it was sent before. Never waits. */
  send(item: object): boolean
  /** Calls back each time the reader has taken what it was sent, after something was not. */
  onReady(callback: () => void): void
  /** There is no more. */
  end(): void
}

type Failure = { readonly error: { code: ErrorCode; message: string; hint?: string } }
type Answer = { readonly result: unknown } | Failure
/** A line of a stream; `ended` is the last one. */
type StreamLine = { readonly item: unknown } | { readonly ended: true } | Failure

const MAX_REQUEST_BYTES = 65536
/** What is held for a reader that does not take it; its socket holds as much again. */
const MAX_UNREAD_BYTES = 262_144
const ANSWER_TIMEOUT_MS = 5000

/** The running firewall's end of the control socket: one JSON line asks, one answers, or several where a stream is asked for. */
export class ControlServer {
  readonly #server: Server
  readonly #connections = new Set<Socket>()

  /**
   * Listens at `path`, mode 0660. Throws KnpError QUEUE_TAKEN where a firewall answers there already, USAGE where
   * something else is there, PERMISSION where it cannot listen or give the socket away.
   * @param groupId the group that may connect too; see `findGroup`
   */
  static async listen(
    path: string,
    methods: ControlMethods,
    groupId?: number,
    streams: ControlStreams = {},
  ): Promise<ControlServer> {
    const folder = dirname(path)
    const made = await mkdir(folder, { recursive: true }).catch((cause: Error) => {
      throw new KnpError('PERMISSION', `${path}: cannot make its folder: ${cause.message}`, { cause })
    })
    const hasMadeFolder = made !== undefined
    if (await isAnswering(path)) {
      throw new KnpError('QUEUE_TAKEN', `${path}: a firewall runs already and answers here`, {
        hint: 'stop it, or give this one a --control-socket, queue and table of its own in another network namespace',
      })
    }
    await removeStale(path)
    const control = new ControlServer(methods, streams)
    await new Promise<void>((resolve, reject) => {
      control.#server.once('error', (cause) =>
        reject(new KnpError('PERMISSION', `${path}: cannot listen: ${cause.message}`, { cause })),
      )
      control.#server.listen(path, resolve)
    })
    try {
      if (groupId !== undefined) {
        await chown(path, -1, groupId)
        // Whoever may connect must get there; a folder that was there already is its owner's affair.
        if (hasMadeFolder) {
          await chown(folder, -1, groupId)
          await chmod(folder, 0o750)
        }
      }
      await chmod(path, 0o660)
    } catch (cause) {
      await control.close()
      throw new KnpError('PERMISSION', `${path}: cannot give it to group ${groupId}: ${(cause as Error).message}`, {
        cause,
        hint: 'run as root, or as a member of the group',
      })
    }
    return control
  }

  private constructor(methods: ControlMethods, streams: ControlStreams) {
    this.#server = createServer((socket) => {
      this.#connections.add(socket)
      socket.once('close', () => this.#connections.delete(socket))
      socket.on('error', () => {}) // a client that goes away is its own affair
      socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy())
      receiveLine(socket, MAX_REQUEST_BYTES).then(
        (line) => serve(socket, line, methods, streams),
        () => socket.destroy(),
      )
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#connections) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** The number of a group of /etc/group. Throws KnpError INVALID_CONFIG where it has none of that name. */
export async function findGroup(name: string): Promise<number> {
  for (const line of (await readFile('/etc/group', 'utf8')).split('\n')) {
    const [group, , id] = line.split(':')
    if (group === name && /^\d+$/.test(id ?? '')) return Number(id)
  }
  throw new KnpError('INVALID_CONFIG', `control.group: /etc/group has no group "${name}"`, {
    hint: 'make it with `groupadd --system`, or leave control.group out',
  })
}

/** Asks the firewall that answers at `path`. Throws KnpError UNREACHABLE where none does. */
export async function ask(
  path: string,
  method: string,
  params: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const socket = createConnection(path)
  try {
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)))
    socket.write(`${JSON.stringify({ method, params })}\n`)
    const answered = JSON.parse(await receiveLine(socket)) as Answer
    if ('result' in answered) return answered.result
    throw new KnpError(answered.error.code, answered.error.message, hintOf(answered.error))
  } catch (cause) {
    throw unreachable(path, cause)
  } finally {
    socket.destroy()
  }
}

/**
 * Follows what the firewall that answers at `path` sends, until it has no more. Throws KnpError UNREACHABLE where none
 * answers, or it ends before that, or the signal aborts.
 */
export async function* follow(
  path: string,
  method: string,
  params: Readonly<Record<string, unknown>> = {},
  signal?: AbortSignal,
): AsyncGenerator<unknown, void, undefined> {
  const socket = createConnection({ path, ...(signal && { signal }) })
  try {
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    socket.write(`${JSON.stringify({ method, params })}\n`)
    for await (const text of createInterface({ input: socket })) {
      const line = JSON.parse(text) as StreamLine
      if ('ended' in line) return
      if ('error' in line) throw new KnpError(line.error.code, line.error.message, hintOf(line.error))
      yield line.item
    }
  } catch (cause) {
    throw unreachable(path, cause)
  } finally {
    socket.destroy()
  }
  throw new KnpError('UNREACHABLE', `${path}: the firewall has ended`)
}

async function serve(socket: Socket, line: string, methods: ControlMethods, streams: ControlStreams): Promise<void> {
  try {
    const { method, params = {} } = JSON.parse(line) as { method?: unknown; params?: Record<string, unknown> }
    if (typeof method === 'string' && Object.hasOwn(streams, method)) serveStream(socket, streams[method]!, params)
    else if (typeof method === 'string' && Object.hasOwn(methods, method)) {
      socket.end(lineOf({ result: await methods[method]!(params) }))
    } else {
      throw new KnpError('USAGE', `the running firewall knows no method ${JSON.stringify(method)}`, {
        hint: 'it may be of another version',
      })
    }
  } catch (error) {
    socket.end(lineOf(failureOf(error)))
  }
}

function serveStream(socket: Socket, stream: ControlStream, params: Readonly<Record<string, unknown>>): void {
  socket.setTimeout(0)
  let onReady = () => {}
  let isBlocked = false
  socket.on('drain', () => {
    isBlocked = false
    onReady()
  })
  const reader: StreamReader = {
    send(item) {
      isBlocked ||= socket.writableLength > MAX_UNREAD_BYTES
      if (isBlocked || !socket.writable) return false
      socket.write(lineOf({ item }))
      return true
    },
    onReady(callback) {
      onReady = callback
    },
    end: () => socket.end(lineOf({ ended: true })),
  }
  const stop = stream(params, reader)
  if (socket.destroyed) stop()
  else socket.once('close', stop)
}

function lineOf(line: Answer | StreamLine): string {
  return `${JSON.stringify(line)}\n`
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof KnpError)) return { error: { code: 'INTERNAL', message: String(error) } }
  const { code, message } = error
  return { error: { code, message, ...hintOf(error) } }
}

function hintOf({ hint }: { readonly hint?: string | undefined }): { hint?: string } {
  return hint === undefined ? {} : { hint }
}

function unreachable(path: string, cause: unknown): KnpError {
  if (cause instanceof KnpError) return cause
  const { code, message } = cause as NodeJS.ErrnoException
  const reason = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'no firewall runs here' : message
  return new KnpError('UNREACHABLE', `${path}: ${reason}`, {
    cause,
    hint: 'start it with `knp run`, or name its socket with --control-socket',
  })
}

/** The first line; what there is of it when the other side ends or says more than `maxBytes`. What follows is not kept. */
function receiveLine(socket: Socket, maxBytes = Number.POSITIVE_INFINITY): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.setEncoding('utf8')
    const take = (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end < 0 && text.length <= maxBytes) return
      resolve(end < 0 ? text : text.slice(0, end))
      socket.removeListener('data', take)
      socket.resume()
    }
    socket.on('data', take)
    socket.once('end', () => resolve(text))
    socket.once('close', () => reject(new Error('the other side went away')))
    socket.once('error', reject)
  })
}

/** Removes the socket that a firewall left behind when it was killed; anything else at its path is not ours to remove. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (!found) return
  if (!found.isSocket()) {
    throw new KnpError('USAGE', `${path}: is there already, and is no socket`, {
      hint: 'give --control-socket a path of its own',
    })
  }
  await unlink(path)
}

async function isAnswering(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
