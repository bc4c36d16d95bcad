import { spawnSync } from 'node:child_process'
import { slow } from '../slow.ts'
import { until } from '../until.ts'

/** Why a test that needs a terminal does not run here; in CI it runs, and fails. */
export const noTerminal: string | false =
  spawnSync('tmux', ['-V']).status === 0 || process.env.CI ? false : 'needs tmux (apt-get install tmux)'

const TIMEOUT_MS = 15_000 * slow

/** How many terminals this process has had. */
let terminals = 0

/** A terminal of a certain size with one program in it, and what stands on its screen. */
export class Terminal {
  readonly #server: string

  /** @param argv behind its end the screen shows `status N` */
  constructor(argv: readonly string[], [columns, rows]: readonly [number, number]) {
    this.#server = `knp-test-${process.pid}-${++terminals}`
    // Ctrl-C is for the program.
    const script = 'trap : INT; "$@"; echo "status $?"; exec sleep infinity'
    // -u: whatever the locale says.
    const size = ['-x', String(columns), '-y', String(rows)]
    this.#tmux('-u', '-f', '/dev/null', 'new-session', '-d', ...size, 'sh', '-c', script, 'sh', ...argv)
  }

  /** What stands there, without blanks at the ends of lines. */
  screen(): string {
    return this.#tmux('capture-pane', '-p')
  }

  /** The same with colours and whatever else the terminal was told. */
  styledScreen(): string {
    return this.#tmux('capture-pane', '-p', '-e')
  }

  /** Presses keys by the names that tmux gives them (`Enter`, `Escape`, `Down`), or types text. */
  press(...keys: readonly string[]): void {
    this.#tmux('send-keys', ...keys)
  }

  resize(columns: number, rows: number): void {
    this.#tmux('resize-window', '-x', String(columns), '-y', String(rows))
  }

  /** Waits until it stands there, and answers the screen. Throws an error with the screen if it does not come. */
  async shows(pattern: RegExp): Promise<string> {
    try {
      await until(async () => pattern.test(this.screen()), TIMEOUT_MS)
    } catch {
      throw new Error(`the screen never showed ${pattern}:\n${this.screen()}`)
    }
    return this.screen()
  }

  close(): void {
    spawnSync('tmux', ['-L', this.#server, 'kill-server'])
  }

  #tmux(...args: readonly string[]): string {
    const { status, stdout, stderr, error } = spawnSync('tmux', ['-L', this.#server, ...args], { encoding: 'utf8' })
    if (error || status !== 0) throw new Error(`tmux ${args[0]}: ${error?.message ?? stderr}`)
    return stdout
  }
}
