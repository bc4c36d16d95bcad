import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/**
 * Connections at a steady pace. As a program, in the network that they are to come from or go to:
 *
 *   attempts.ts serve FIRST COUNT                            listens on so many TCP ports; prints `ready`
 *   attempts.ts call ADDRESS FIRST COUNT INTERVAL_MS TIMEOUT_MS   connects to one port after the other, a new connection
 *                                                            each interval, until its input ends; prints what became of them
 */

/** Of all connections, in the order of their beginning. */
export interface Attempts {
  readonly connected: number
  readonly failed: number
  /** Begin of the first and the last that connected, in milliseconds since 1970. */
  readonly connectedFromMs?: number
  readonly connectedToMs?: number
  /** Likewise of those that failed. */
  readonly failedFromMs?: number
  readonly failedToMs?: number
}

/** Connections that go on until they are stopped. */
export interface Calling {
  stop(): Promise<Attempts>
}

/** Starts `call` by a command line that leads into the network of a client. */
export function startCalls(
  within: (argv: readonly string[]) => readonly string[],
  to: { readonly address: string; readonly firstPort: number; readonly ports: number },
  { intervalMs, timeoutMs }: { readonly intervalMs: number; readonly timeoutMs: number },
): Calling {
  const numbers = [to.firstPort, to.ports, intervalMs, timeoutMs].map(String)
  const child = spawnProgram(within, ['call', to.address, ...numbers])
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  const ended = once(child, 'close')
  return {
    async stop() {
      child.stdin.end()
      await ended
      return JSON.parse(text)
    },
  }
}

/** Lets them call while something happens, and stops them whatever comes of it: the process would not end before they do. */
export async function during<Name extends string>(
  calls: Readonly<Record<Name, Calling>>,
  act: () => Promise<void>,
): Promise<Record<Name, Attempts>> {
  let fared: (readonly [string, Attempts])[]
  try {
    await act()
  } finally {
    const stops = Object.entries<Calling>(calls).map(async ([name, calling]) => [name, await calling.stop()] as const)
    fared = await Promise.all(stops)
  }
  return Object.fromEntries(fared) as Record<Name, Attempts>
}

/** Starts `serve` and waits until it listens. Answers what ends it. */
export async function startServer(
  within: (argv: readonly string[]) => readonly string[],
  firstPort: number,
  ports: number,
): Promise<() => Promise<void>> {
  const child = spawnProgram(within, ['serve', String(firstPort), String(ports)])
  const ended = once(child, 'close')
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') break
  }
  return async () => {
    child.stdin.end()
    await ended
  }
}

function spawnProgram(within: (argv: readonly string[]) => readonly string[], args: readonly string[]) {
  const self = fileURLToPath(import.meta.url)
  const [program = '', ...argv] = within([process.execPath, '--no-warnings', self, ...args])
  return spawn(program, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
}

async function serve(first: number, count: number): Promise<void> {
  for (let port = first; port < first + count; port++) {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.end()
    })
    server.listen({ port, host: '::' })
    await once(server, 'listening')
  }
  console.log('ready')
}

async function call(
  address: string,
  first: number,
  count: number,
  intervalMs: number,
  timeoutMs: number,
): Promise<void> {
  const results: { readonly startedMs: number; readonly isConnected: boolean }[] = []
  const pending = new Set<Promise<void>>()
  let isOver = false
  process.stdin.resume().once('end', () => {
    isOver = true
  })
  const began = performance.now()
  for (let number = 0; !isOver; number++) {
    const startedMs = Date.now()
    const attempt = reaches(address, first + (number % count), timeoutMs).then((isConnected) => {
      results.push({ startedMs, isConnected })
      pending.delete(attempt)
    })
    pending.add(attempt)
    await sleep(Math.max(0, began + (number + 1) * intervalMs - performance.now()))
  }
  await Promise.all(pending)
  const times = (wanted: boolean) =>
    results.filter(({ isConnected }) => isConnected === wanted).map(({ startedMs }) => startedMs)
  const [connected, failed] = [times(true), times(false)]
  const answer: Attempts = {
    connected: connected.length,
    failed: failed.length,
    ...(connected.length > 0 && { connectedFromMs: Math.min(...connected), connectedToMs: Math.max(...connected) }),
    ...(failed.length > 0 && { failedFromMs: Math.min(...failed), failedToMs: Math.max(...failed) }),
  }
  console.log(JSON.stringify(answer))
}

function reaches(host: string, port: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const end = (isConnected: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(isConnected)
    }
    const timer = setTimeout(end, timeoutMs, false)
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [command, ...args] = process.argv.slice(2)
  if (command === 'serve') {
    const [first, count] = args.map(Number)
    await serve(first!, count!)
    // Its end is that of its input.
    process.stdin.resume().once('end', () => process.exit(0))
  } else {
    const [address, ...numbers] = args
    const [first, count, intervalMs, timeoutMs] = numbers.map(Number)
    await call(address!, first!, count!, intervalMs!, timeoutMs!)
  }
}
