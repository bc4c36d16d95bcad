import { chmod, chown, mkdir, readFile, unlink } from 'node:fs/promises'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { KnpError } from '../errors.ts'

/** What a client may ask; each is a function without arguments whose answer is sent as JSON. */
export type ControlMethods = Readonly<Record<string, () => unknown>>

const MAX_REQUEST_BYTES = 65536
const ANSWER_TIMEOUT_MS = 5000

/** The running firewall's end of the control socket: one JSON line asks, one answers. */
export class ControlServer {
  readonly #server: Server
  readonly #connections = new Set<Socket>()

  /**
   * Listens at `path`, mode 0660. Throws KnpError QUEUE_TAKEN where a firewall answers there already, PERMISSION where
   * this user cannot listen there or give the socket away.
   * @param groupId the group that may connect too; see `findGroup`
   */
  static async listen(path: string, methods: ControlMethods, groupId?: number): Promise<ControlServer> {
    const folder = dirname(path)
    const hasMadeFolder = (await mkdir(folder, { recursive: true })) !== undefined
    if (await isAnswering(path)) {
      throw new KnpError('QUEUE_TAKEN', `${path}: a firewall runs already and answers here`, {
        hint: 'stop it, or give this one a --control-socket, queue and table of its own in another network namespace',
      })
    }
    await unlink(path).catch(() => {}) // left behind by a firewall that was killed
    const control = new ControlServer(methods)
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

  private constructor(methods: ControlMethods) {
    this.#server = createServer((socket) => {
      this.#connections.add(socket)
      socket.once('close', () => this.#connections.delete(socket))
      socket.on('error', () => {}) // a client that goes away is its own affair
      socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy())
      receiveLine(socket, MAX_REQUEST_BYTES).then(
        (line) => socket.end(`${JSON.stringify(answer(methods, line))}\n`),
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
export async function ask(path: string, method: string): Promise<unknown> {
  const socket = createConnection(path)
  try {
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)))
    socket.write(`${JSON.stringify({ method })}\n`)
    const { result, error } = JSON.parse(await receiveLine(socket)) as { result?: unknown; error?: string }
    if (error !== undefined) throw new Error(error)
    return result
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'ENOENT' || code === 'ECONNREFUSED' ? 'no firewall runs here' : message
    throw new KnpError('UNREACHABLE', `${path}: ${reason}`, {
      cause,
      hint: 'start it with `knp run`, or name its socket with --control-socket',
    })
  } finally {
    socket.destroy()
  }
}

function answer(methods: ControlMethods, line: string): { result: unknown } | { error: string } {
  try {
    const { method } = JSON.parse(line) as { method?: unknown }
    if (typeof method !== 'string' || !Object.hasOwn(methods, method))
      return { error: `unknown method ${JSON.stringify(method)}` }
    return { result: methods[method]!() }
  } catch (error) {
    return { error: String(error) }
  }
}

/** The first line; what there is of it when the other side ends or says more than `maxBytes`. */
function receiveLine(socket: Socket, maxBytes = Number.POSITIVE_INFINITY): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end >= 0) resolve(text.slice(0, end))
      else if (text.length > maxBytes) resolve(text)
    })
    socket.once('end', () => resolve(text))
    socket.once('close', () => reject(new Error('the other side went away')))
    socket.once('error', reject)
  })
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
