import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

/** How a dashboard ended: its reader had enough, or why it broke off. */
export type DashboardEnd = 'quit' | { readonly problem: string }

/**
 * `knp dashboard` on this process's terminal, in a process of its own: what it takes of time and memory, and whatever goes
 * wrong there, is not the firewall's.
 */
export class DashboardProcess {
  readonly ended: Promise<DashboardEnd>
  readonly #child: ChildProcess

  /** @param socket where the firewall answers */
  constructor(socket: string) {
    this.#child = spawn(process.execPath, [program, 'dashboard', '--owner', '--control-socket', socket], {
      stdio: 'inherit',
    })
    this.ended = new Promise((resolve) => {
      this.#child.once('error', ({ message }) => resolve({ problem: `cannot be started: ${message}` }))
      this.#child.once('exit', (code, signal) => {
        if (code !== 0) restoreTerminal()
        resolve(code === 0 ? 'quit' : { problem: signal ? `was ended by ${signal}` : `ended with status ${code}` })
      })
    })
  }

  /** Ends it, and waits until the terminal is as it was. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    await this.ended
  }
}

/** Gives back the first screen, the cursor and the keys that end programs, where whoever took them had no time to. */
function restoreTerminal(): void {
  process.stdout.write('\u001b[?1049l\u001b[?25h')
  spawnSync('stty', ['sane'], { stdio: 'inherit' })
}
