import { type ChildProcess, fork } from 'node:child_process'
import { KnpError } from '../../errors.ts'
import type { Access, ClusterChoice } from './access.ts'
import type { FromCredentialsProcess } from './credentials-process.ts'
import { readPlainAccess } from './plain-access.ts'

/** Plugins of a kubeconfig may ask a server; they have this long. */
const TIMEOUT_MS = 60_000
const LAST_WORDS = 2000

/**
 * Reads how the API server is reached, as it is said now: files are read, and plugins run, anew each time. Throws KnpError
 * UNREADABLE_SOURCE where it cannot be told.
 */
export async function readAccess(choice: ClusterChoice): Promise<Access> {
  return readPlainAccess(choice) ?? (await readAccessByClient(choice))
}

/**
 * Has the Kubernetes client read it, whatever it is. It happens in a process of its own: the client takes 90 MB and half a
 * second, and is needed for a moment at a time. Throws as `readAccess`.
 */
export async function readAccessByClient(choice: ClusterChoice): Promise<Access> {
  // Node runs the source as it is in tests, the compiled file otherwise.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const child = fork(new URL(`./credentials-process.${extension}`, import.meta.url), [JSON.stringify(choice)], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    timeout: TIMEOUT_MS,
    execArgv: [],
  })
  try {
    const answer = await answerOf(child)
    if ('access' in answer) return answer.access
    throw new KnpError('UNREADABLE_SOURCE', answer.problem, {
      hint: 'name a kubeconfig with --kubeconfig, and one of its contexts with --context',
    })
  } finally {
    child.kill()
  }
}

function answerOf(child: ChildProcess): Promise<FromCredentialsProcess> {
  return new Promise((resolve, reject) => {
    let words = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(-LAST_WORDS)
    })
    child.once('message', (message) => resolve(message as FromCredentialsProcess))
    child.once('error', reject)
    child.once('close', (code, signal) => {
      const end = signal === null ? `status ${code}` : signal
      reject(new KnpError('UNREADABLE_SOURCE', `the cluster's credentials cannot be read: ${words.trim() || end}`))
    })
  })
}
