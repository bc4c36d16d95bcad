import { fileURLToPath } from 'node:url'
import type { Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'

const script = fileURLToPath(new URL('./children/make-connections.ts', import.meta.url))
const TIMEOUT_MS = 60_000 * slow

/** TCP and UDP connections between all pairs of one family, to one port, their own ports counted from 1. */
export interface MadeConnections {
  readonly count: number
  readonly clients: readonly string[]
  readonly servers: readonly string[]
  readonly port: number
}

/** Puts connections into the router's connection table, as if the firewall in force there had allowed them. */
export async function addConnections(network: Network, made: MadeConnections): Promise<void> {
  const argv = [process.execPath, '--no-warnings', script, JSON.stringify(made)]
  const { code, stderr } = await network.exec(network.router, argv, { timeoutMs: TIMEOUT_MS })
  if (code !== 0) throw new Error(`connections cannot be made: ${stderr}`)
}

/** How many connections the router's table holds. */
export async function countConnections(network: Network): Promise<number> {
  const { stdout } = await network.exec(network.router, ['cat', '/proc/sys/net/netfilter/nf_conntrack_count'])
  return Number(stdout)
}
