import { type SpawnOptions, spawn } from 'node:child_process'

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Written to standard input, which is then closed. Default empty. */
  readonly input?: string
  /** The process is killed after this long. Default 10 minutes. */
  readonly timeoutMs?: number
}

export interface CommandResult {
  /** Exit status; undefined when a signal ended the process. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end; a failure is a result. Throws where there is no such program. */
export function attempt(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { cwd, env, input = '', timeoutMs = 600_000 } = options
  const [program = '', ...args] = argv
  const spawned: SpawnOptions = { stdio: 'pipe', env: { ...process.env, ...env } }
  if (cwd !== undefined) spawned.cwd = cwd
  const child = spawn(program, args, spawned)
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text
    })
  }
  child.stdin?.on('error', () => {}) // one that ends early says so by its exit status
  child.stdin?.end(input)
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      clearTimeout(timer)
      resolve({ code: code ?? undefined, ...output })
    })
  })
}

/** Runs a program that must succeed and answers its standard output. Throws with its last words otherwise. */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await attempt(argv, options)
  if (code === 0) return stdout
  const said = (stderr.trim() || stdout.trim()).split('\n').slice(-20).join('\n')
  throw new Error(`${argv.slice(0, 6).join(' ')}: ended with ${code ?? 'a signal'}: ${said}`)
}
