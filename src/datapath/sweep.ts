import { isIPv4 } from '../engine/address.ts'
import { type Address, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, type Packet } from '../engine/index.ts'
import { type SocketAddress, TCP } from '../engine/packet.ts'
import { hasPorts } from '../engine/protocol.ts'
import { ConnectionReader, connectionsMarked, type MarkFilter } from '../native/connections.ts'
import { changeMarks, hasMark } from '../native/conntrack.ts'
import { listInParts } from '../native/listing.ts'
import type { Netlink, NetlinkMessage } from '../native/netlink.ts'

const SYN = 2
const FORWARD: readonly number[] = [HOOK_FORWARD]
const INPUT: readonly number[] = [HOOK_INPUT]
const INPUT_OR_FORWARD: readonly number[] = [HOOK_INPUT, HOOK_FORWARD]
const OUTPUT_OR_FORWARD: readonly number[] = [HOOK_OUTPUT, HOOK_FORWARD]
const NONE: readonly number[] = []

/** Which connections lose their stamp. */
export interface ConnectionSweep {
  readonly netlink: Netlink
  /** The bits of connection marks that hold the stamp, and what they are where it is valid. */
  readonly stamp: MarkFilter
  /** Whether anything may be decided otherwise about this address. Asked of all ends of each connection. */
  readonly isTouched: (address: Address) => boolean
  /**
   * Whether a connection is allowed as its first packet would be now: from the client as it was before any translation, to
   * the server that replies, behind DNAT. The packet is overwritten by the next one.
   */
  readonly isAllowed: (packet: Packet) => boolean
}

/** How many connections a sweep met. */
export interface Swept {
  /** With a valid stamp. */
  readonly looked: number
  /** Of those, with an end that is touched. */
  readonly touched: number
  /** Of those, not allowed: their stamp was taken. */
  readonly cleared: number
}

/**
 * Takes the stamp from the connections that are no longer allowed, each part of the table as soon as it is listed, giving
 * way between the parts. Connections that end meanwhile are not counted as cleared; those that are stamped after the
 * listing has passed them are not met. Bits of the mark outside the stamp's stay as they are.
 *
 * @throws NetlinkError what the kernel refused.
 */
export async function sweepConnections(sweep: ConnectionSweep): Promise<Swept> {
  const { netlink, stamp, isTouched, isAllowed } = sweep
  const connection = new ConnectionReader()
  const packet = new FirstPacket()
  let looked = 0
  let touched = 0
  let cleared = 0
  await listInParts(netlink, connectionsMarked(stamp, 'both'), {
    begin() {
      looked = 0
      touched = 0
    },
    read(part) {
      const changes: NetlinkMessage[] = []
      connection.open(part)
      while (connection.next()) {
        // Kernels without the filter list all of them.
        if (!hasMark(connection, stamp)) continue
        looked++
        if (!hasTouchedEnd(connection, isTouched)) continue
        touched++
        packet.become(connection)
        if (!isAllowed(packet)) changes.push(connection.changeMark(0, stamp.mask))
      }
      cleared += changeMarks(netlink, changes)
    },
  })
  return { looked, touched, cleared }
}

/**
 * The hooks at which the first packet of a connection may have been judged: one that is kept must be allowed at each. None
 * where both ends are this machine's: such packets are never judged. What has an address of this machine as its source may
 * be forwarded all the same, by a machine that forges it.
 *
 * @param isLocalAddress whether an address is one of this machine's, those of broadcasts included
 */
export function plausibleHooks(packet: Packet, isLocalAddress: (address: Address) => boolean): readonly number[] {
  const isToLocal = isLocalAddress(packet.destination)
  if (isLocalAddress(packet.source)) return isToLocal ? NONE : OUTPUT_OR_FORWARD
  if (isToLocal) return INPUT
  return isMulticast(packet.destination) ? INPUT_OR_FORWARD : FORWARD
}

/** What any number of machines receive: this one may be among them. 255.255.255.255 is so as well. */
function isMulticast(address: Address): boolean {
  return isIPv4(address) ? address.w3 >>> 28 === 0xe || address.w3 === -1 : address.w0 >>> 24 === 0xff
}

function hasTouchedEnd({ original, reply }: ConnectionReader, isTouched: (address: Address) => boolean): boolean {
  return (
    isTouched(original.source) ||
    isTouched(original.destination) ||
    isTouched(reply.source) ||
    isTouched(reply.destination)
  )
}

class MutableEnd implements SocketAddress {
  w0 = 0
  w1 = 0
  w2 = 0
  w3 = 0
  port = 0

  set(end: SocketAddress, port: number): void {
    this.w0 = end.w0
    this.w1 = end.w1
    this.w2 = end.w2
    this.w3 = end.w3
    this.port = port
  }
}

/** The packet that would begin a connection, as it is judged: after DNAT, before masquerade. */
class FirstPacket implements Packet {
  family: 4 | 6 = 4
  protocol = 0
  readonly source = new MutableEnd()
  readonly destination = new MutableEnd()
  icmpType = 0
  icmpCode = 0
  tcpFlags = 0

  become({ family, original, reply }: ConnectionReader): void {
    // What others have in the place of ports (a key of GRE) is none.
    const withPorts = hasPorts(original.protocol)
    this.family = family
    this.protocol = original.protocol
    this.source.set(original.source, withPorts ? original.source.port : 0)
    this.destination.set(reply.source, withPorts ? reply.source.port : 0)
    this.icmpType = original.icmpType
    this.icmpCode = original.icmpCode
    this.tcpFlags = original.protocol === TCP ? SYN : 0
  }
}
