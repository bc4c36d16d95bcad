import { isIPv4 } from '../engine/address.ts'
import type { Block } from '../engine/index.ts'
import { formatBlock } from '../engine/index.ts'

/** Traffic of this machine that no policy and no fault may stop. */
export interface FailsafeRule {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  /** The server's port: ours for inbound rules, the other end's for outbound ones. */
  readonly port: number
  /** The other end; empty means anyone. */
  readonly peers: readonly Block[]
}

export interface Failsafe {
  readonly inbound: readonly FailsafeRule[]
  readonly outbound: readonly FailsafeRule[]
}

/** How rules tell connections whose direction nobody knows. */
export interface PickedUpRules {
  readonly match: string
  /** The chain that marks one. */
  readonly stampChain: string
}

/** A TCP packet that is no bare SYN. */
export const isNoBeginning = 'tcp flags & (fin | syn | rst | ack) != syn'

const anyone: readonly Block[] = []

/** SSH and DHCP in; DNS, DHCP and NTP out. */
export const defaultFailsafe: Failsafe = {
  inbound: [
    { protocol: 'tcp', port: 22, peers: anyone },
    { protocol: 'udp', port: 68, peers: anyone },
    { protocol: 'udp', port: 546, peers: anyone },
  ],
  outbound: [
    { protocol: 'udp', port: 53, peers: anyone },
    { protocol: 'tcp', port: 53, peers: anyone },
    { protocol: 'udp', port: 67, peers: anyone },
    { protocol: 'udp', port: 547, peers: anyone },
    { protocol: 'udp', port: 123, peers: anyone },
  ],
}

/** The kubelet's API: without it the control plane cannot see what runs on a node, nor reach into it. */
export const kubeletFailsafe: FailsafeRule = { protocol: 'tcp', port: 10_250, peers: anyone }

/** `tcp/22`, `tcp/22@10.0.0.0/8`: as flags, status and documentation write it. */
export function formatFailsafe({ protocol, port, peers }: FailsafeRule): string {
  return `${protocol}/${port}${peers.length === 0 ? '' : `@${peers.map(formatBlock).join(',')}`}`
}

/**
 * The rules of the input or output hook. Each failsafe also passes its replies, which go the other way: a connection that
 * this machine opens from such a port is none of them. Where this machine sends something is told by the address that it
 * sends it to, and by the one that DNAT makes of that.
 */
export function failsafeRules(
  hook: 'input' | 'output',
  { inbound, outbound }: Failsafe,
  pickedUp: PickedUpRules,
): string[] {
  const [asked, answered] = hook === 'input' ? [inbound, outbound] : [outbound, inbound]
  const peerField = hook === 'input' ? 'saddr' : 'daddr'
  return [
    ...asked.flatMap((rule) => rulesOf(rule, peerField, `${rule.protocol} dport ${rule.port} accept`)),
    ...answered.flatMap((rule) =>
      rulesOf(rule, peerField, `ct direction reply ${rule.protocol} sport ${rule.port} accept`),
    ),
    // At both hooks what was sent to a service has its server's address; only its connection tells the service's.
    ...outbound.flatMap((rule) => rulesOf(rule, 'ct original daddr', sentTo(rule, hook))),
    // Older than connection tracking, and the server is the first to speak: the kernel takes it for the one who began. What
    // is no bare SYN opens no connection.
    ...(hook === 'output' ? inbound.filter(({ protocol }) => protocol === 'tcp') : []).flatMap((rule) => [
      ...rulesOf(rule, peerField, `tcp sport ${rule.port} ${isNoBeginning} ct state new goto ${pickedUp.stampChain}`),
      ...rulesOf(rule, peerField, `tcp sport ${rule.port} ${isNoBeginning} ${pickedUp.match} accept`),
    ]),
  ]
}

function sentTo({ protocol, port }: FailsafeRule, hook: 'input' | 'output'): string {
  const direction = hook === 'input' ? 'reply' : 'original'
  return `ct direction ${direction} meta l4proto ${protocol} ct original proto-dst ${port} accept`
}

function rulesOf({ peers }: FailsafeRule, field: 'saddr' | 'daddr' | 'ct original daddr', match: string): string[] {
  if (peers.length === 0) return [match]
  return peers.map((block) => {
    const ip = isIPv4(block.address) ? 'ip' : 'ip6'
    const end = field === 'ct original daddr' ? `ct original ${ip} daddr` : `${ip} ${field}`
    return `${end} ${formatBlock(block)} ${match}`
  })
}
