import { readdirSync, readFileSync } from 'node:fs'

const CALLS = ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables'] as const

/** What makes packets between two ports of a bridge pass the firewall. */
export const bridgeRemedy = `modprobe br_netfilter; sysctl ${CALLS.map((name) => `net.bridge.${name}=1`).join(' ')}`

/** Whether packets between two ports of one bridge pass the firewall: they do by br_netfilter alone, for IPv4 and IPv6 each. */
export function areBridgesHeard(): boolean {
  return CALLS.every((name) => readText(`/proc/sys/net/bridge/${name}`)?.trim() === '1')
}

/** Names of the bridges of this machine. */
export function bridges(): readonly string[] {
  return readdirSync('/sys/class/net').filter(
    (name) => readText(`/sys/class/net/${name}/bridge/bridge_id`) !== undefined,
  )
}

/** What is missing, for people; `undefined` where nothing is. */
export function unheardBridges(): string | undefined {
  if (areBridgesHeard()) return undefined
  const names = bridges()
  return names.length === 0
    ? undefined
    : `traffic between two ports of a bridge (${names.join(', ')}) does not pass the firewall`
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
