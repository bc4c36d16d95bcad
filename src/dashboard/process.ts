import { type ChildProcess, spawn } from 'node:child_process'
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
      this.#child.once('error', ({ message }) => resolve({ problem: message }))
      this.#child.once('exit', (code, signal) =>
        resolve(code === 0 ? 'quit' : { problem: signal ? `ended by ${signal}` : `ended with status ${code}` }),
      )
    })
  }

  /** Ends it, and waits until the terminal is as it was. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    await this.ended
  }
}
