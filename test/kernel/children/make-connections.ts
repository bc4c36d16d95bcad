import { type Address, parseAddress } from '../../../src/engine/address.ts'
import { openNetlink } from '../../../src/native/netlink.ts'
import { listElements } from '../../../src/native/nftables.ts'
import { sets, TABLE } from '../../../src/ruleset/text.ts'
import { type ConnectionSpec, makeConnections } from '../connections.ts'
import type { MadeConnections } from '../live-connections.ts'

// Entries of the kernel's connection table, made without a packet, with the stamp that is valid now.

const TIMEOUT_S = 3600

const { count, clients, servers, port } = JSON.parse(process.argv[2]!) as MadeConnections
const isIPv6 = (text: string) => text.includes(':')
const addressOf = (text: string): Address => parseAddress(text)!
const pairs = clients.flatMap((client) => {
  const reached = servers.filter((server) => isIPv6(server) === isIPv6(client))
  return reached.map((server) => ({ source: addressOf(client), destination: addressOf(server) }))
})

function* connections(mark: number): Generator<ConnectionSpec> {
  for (let number = 0; number < count; number++) {
    const sourcePort = 1 + Math.floor(number / pairs.length)
    // In turns, so that every pair has both.
    const protocol = sourcePort % 2 === 0 ? 'tcp' : 'udp'
    yield { ...pairs[number % pairs.length]!, protocol, sourcePort, port, mark, timeoutSeconds: TIMEOUT_S }
  }
}

const netlink = openNetlink()
const [stamped] = listElements(netlink, TABLE, sets.stamped)
makeConnections(netlink, connections(new Uint32Array(stamped!.slice().buffer)[0]!))
netlink.close()
