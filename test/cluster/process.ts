import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { attempt } from './command.ts'

/**
 * Starts a program that outlives this process, in a session of its own, and answers its process id. It starts with an
 * empty input; what it prints is appended to `log`.
 */
export function startDaemon(argv: readonly string[], log: string, env: Readonly<Record<string, string>> = {}): number {
  const [program = '', ...args] = argv
  const output = openSync(log, 'a')
  try {
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', output, output],
      env: { ...process.env, ...env },
    })
    child.on('error', () => {}) // what it was to do will be missed, and its log looked at
    child.unref()
    if (child.pid === undefined) throw new Error(`${program}: cannot be started`)
    return child.pid
  } finally {
    closeSync(output)
  }
}

/**
 * Whether a process is there and has not ended: one that nobody has waited for yet has. Of one that is killed the first
 * thread may end before others do, which hold its sockets until then: the fields are those of proc(5), from `state` on.
 */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return !/^[ZX]/.test(fields[0] ?? '') || Number(fields[17]) > 1
  } catch {
    return false
  }
}

/** Ends a process and waits until it has gone; after `timeoutMs` it is killed. One that is not there is no error. */
export async function endProcess(pid: number, signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  signalProcess(pid, signal)
  while (await isRunning(pid)) {
    if (performance.now() > deadline) signalProcess(pid, 'SIGKILL')
    await sleep(20)
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Asks again and again until the answer is true; throws that `what` did not come about. A failed question is a no. */
export async function until(what: string, isSo: () => Promise<boolean>, timeoutMs = 120_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  let reason = ''
  for (;;) {
    try {
      if (await isSo()) return
      reason = ''
    } catch (error) {
      reason = `: ${error instanceof Error ? error.message : error}`
    }
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s${reason}`)
    await sleep(100)
  }
}

/** Whether a program ends well. */
export async function succeeds(argv: readonly string[]): Promise<boolean> {
  return (await attempt(argv, { timeoutMs: 30_000 })).code === 0
}
