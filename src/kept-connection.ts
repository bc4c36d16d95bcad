import { blockContains, isIPv4 } from './engine/address.ts'
import { type Address, type CompiledPolicy, HOOK_INPUT, type Packet, parseAddress } from './engine/index.ts'
import { TCP } from './engine/packet.ts'
import { KnpError } from './errors.ts'
import type { Failsafe } from './ruleset/failsafe.ts'

/** A connection to this machine that a change of policy must not cut: the administrator's own. */
export interface KeptConnection {
  readonly client: string
  readonly server: string
  /** TCP port of this machine. */
  readonly port: number
}

/**
 * Throws KnpError LOCKED_OUT where the policies would cut the connection. What the failsafe passes, and a machine that no
 * policy protects, is safe.
 */
export function requireKept(
  { client, server, port }: KeptConnection,
  compiled: CompiledPolicy,
  failsafe: Failsafe,
): void {
  const [source, destination] = [parseAddress(client), parseAddress(server)]
  if (!source || !destination) throw new KnpError('USAGE', `${client} -> ${server}: no pair of addresses`)
  if (!compiled.host?.ingress && !compiled.host?.egress) return
  const isFailsafe = failsafe.inbound.some((rule) => {
    return (
      rule.protocol === 'tcp' &&
      rule.port === port &&
      (rule.peers.length === 0 || rule.peers.some((block) => blockContains(block, source)))
    )
  })
  const { engine } = compiled
  // With a trace: then an evaluator that throws denies, as it does in the packet thread.
  const verdict = engine.decideFlow(engine.identify(packetOf(source, destination, port), HOOK_INPUT), [])
  if (isFailsafe || verdict === 'accept') return
  throw new KnpError(
    'LOCKED_OUT',
    `${client} -> ${server}:${port}/tcp, your own connection, would be denied by these policies`,
    {
      hint: 'allow it by a policy or the failsafe; --force applies them all the same, and they go back by themselves unless confirmed',
    },
  )
}

function packetOf(source: Address, destination: Address, port: number): Packet {
  return {
    family: isIPv4(destination) ? 4 : 6,
    protocol: TCP,
    source: { ...source, port: 0 },
    destination: { ...destination, port },
    icmpType: 0,
    icmpCode: 0,
    tcpFlags: 2,
  }
}
