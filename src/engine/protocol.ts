import { ICMP, ICMPV6, SCTP, TCP, UDP } from './packet.ts'

const names = new Map([
  [ICMP, 'icmp'],
  [TCP, 'tcp'],
  [UDP, 'udp'],
  [ICMPV6, 'icmp'],
  [SCTP, 'sctp'],
])

/** The name people use; `protocol N` for those that policies do not name. ICMP is one protocol in both families. */
export function protocolName(protocol: number): string {
  return names.get(protocol) ?? `protocol ${protocol}`
}

/** Whether the protocol has ports that policies can name. */
export function hasPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP
}

/** `port 5432/tcp`, or `icmp` for what has no ports. */
export function formatPort(protocol: number, port: number): string {
  return hasPorts(protocol) ? `port ${port}/${protocolName(protocol)}` : protocolName(protocol)
}
