/**
 * The bits of packet and connection marks that knp uses, as masks for nft and for the packet thread.
 *
 * A question (kernel to userspace) is QUEUED with how the packet lies in its connection; an answer (userspace to kernel)
 * is ALLOWED or DENIED with the stamp of the generation that decided: the kernel learns from that of the one in force. Both
 * bits together, DROPPED, say that nobody could decide.
 * Connections carry a stamp of their own: all valid ones the same, until everything has to be judged again. Everything outside
 * the masks is others', and kept.
 */
export interface MarkLayout {
  /** All bits of packet marks that are ours. */
  readonly packetMask: number
  readonly queued: number
  /** The packet goes against its connection's first one. */
  readonly reply: number
  /** Nobody knows which end began: judged in both orientations. */
  readonly either: number
  /** An ICMP error about a connection: judged by the packet that it quotes. */
  readonly related: number
  /** The packet passes output and comes from elsewhere: IPVS sends it on, from a client to a server. */
  readonly forwarded: number
  /** In a question: the connection carries the valid stamp, and is being rechecked. The bit of ALLOWED, which is an answer's. */
  readonly stamped: number
  readonly allowed: number
  readonly denied: number
  /** Denied without a word, whatever `denyWith` says: who tries again is to be heard. */
  readonly dropped: number
  /** Passes, and would not if what is audited were enforced. QUEUED and DENIED: no question has the bit of DENIED. */
  readonly audited: number
  /** The bits of an answer that hold its stamp. */
  readonly stampMask: number
  /** How far a stamp is shifted in packet marks. */
  readonly stampShift: number
  /** The bits of connection marks that hold the stamp. */
  readonly connectionMask: number
  readonly connectionShift: number
}

/** Connections judged by no generation carry no stamp. */
export const NO_STAMP = 0
/** Connections picked up midway, allowed in either orientation: every packet is judged. */
export const PICKED_UP = 15
/** Stamps, of answers and of connections, are 1 to LAST_STAMP, used in turn. */
export const LAST_STAMP = 14

/**
 * Free of what is known to be in use: kube-proxy 0x4000/0x8000, portmap 0x2000, Cilium 0xf00, AWS VPC CNI 0x80,
 * Tailscale 0xff0000, wg-quick 0xca6c. Calico uses all of 0xffff0000: another mask is needed beside it.
 */
export const DEFAULT_PACKET_MASK = 0x7f000000
export const DEFAULT_CONNECTION_MASK = 0xf0000000

const PACKET_BITS = 7
const CONNECTION_BITS = 4

/**
 * Lays the marks out in the lowest bits of the masks; `undefined` where a mask has too few bits, or gaps.
 * @param packetMask at least 7 contiguous bits
 * @param connectionMask at least 4 contiguous bits
 */
export function layoutMarks(packetMask: number, connectionMask: number): MarkLayout | undefined {
  const packet = lowestBits(packetMask, PACKET_BITS)
  const connection = lowestBits(connectionMask, CONNECTION_BITS)
  if (packet === undefined || connection === undefined) return undefined
  const bit = (value: number) => (value << packet) >>> 0
  return {
    packetMask: bit(0x7f),
    queued: bit(0x40),
    reply: bit(1),
    either: bit(2),
    related: bit(4),
    forwarded: bit(8),
    stamped: bit(0x10),
    allowed: bit(0x10),
    denied: bit(0x20),
    audited: bit(0x60),
    dropped: bit(0x30),
    stampMask: bit(0x0f),
    stampShift: packet,
    connectionMask: (0x0f << connection) >>> 0,
    connectionShift: connection,
  }
}

/** The stamp that comes after this one. */
export function nextStamp(stamp: number): number {
  return stamp >= LAST_STAMP ? 1 : stamp + 1
}

/** Where the lowest `count` contiguous bits of a mask begin. */
function lowestBits(mask: number, count: number): number | undefined {
  if (!Number.isInteger(mask) || mask <= 0 || mask > 0xffffffff) return undefined
  let shift = 0
  while (((mask >>> shift) & 1) === 0) shift++
  for (let bit = 0; bit < count; bit++) if (((mask >>> (shift + bit)) & 1) === 0 || shift + bit > 31) return undefined
  return shift
}
