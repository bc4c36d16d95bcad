import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { KnpError } from '../errors.ts'

const NAME = 'knp-firewall'

/**
 * Claims this network namespace: there is one table, so there is one firewall. The claim is an abstract unix socket, whose
 * names belong to the network namespace and end with the process. Answers what gives the claim back.
 *
 * @throws KnpError QUEUE_TAKEN while another firewall has it.
 */
export async function claimNamespace(): Promise<() => void> {
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EADDRINUSE') return reject(cause)
      const hint = 'stop it first; `ss -xlp` shows the process behind @knp-firewall'
      reject(new KnpError('QUEUE_TAKEN', 'another knp decides in this network namespace', { cause, hint }))
    })
    server.listen(`\0${NAME}`, resolve)
  })
  server.unref()
  return () => server.close()
}

/** Whether a firewall has claimed this network namespace; false where that cannot be seen. */
export function isNamespaceClaimed(): boolean {
  try {
    return readFileSync('/proc/net/unix', 'utf8').includes(` @${NAME}\n`)
  } catch {
    return false
  }
}
