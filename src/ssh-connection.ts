import { readFileSync } from 'node:fs'
import type { KeptConnection } from './kept-connection.ts'

/**
 * The SSH connection that this process was started over; `undefined` where it was not. sudo takes the variable away, so
 * the processes that started this one are asked too.
 */
export function findSshConnection(): KeptConnection | undefined {
  let pid: string | undefined = 'self'
  for (let depth = 0; pid !== undefined && pid !== '0' && depth < 32; depth++) {
    const found = readText(`/proc/${pid}/environ`)
      .split('\0')
      .find((variable) => variable.startsWith('SSH_CONNECTION='))
    if (found) return parseSshConnection(found.slice('SSH_CONNECTION='.length))
    pid = /^PPid:\s*(\d+)/m.exec(readText(`/proc/${pid}/status`))?.[1]
  }
  return undefined
}

/** sshd's `client-address client-port server-address server-port`; link-local addresses come with their interface. */
export function parseSshConnection(text: string): KeptConnection | undefined {
  const [client, clientPort, server, port] = text.trim().split(' ')
  if (!client || !clientPort || !server || !port) return undefined
  return { client: withoutZone(client), server: withoutZone(server), port: Number(port) }
}

function withoutZone(address: string): string {
  return address.replace(/%.*$/, '')
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
