import t from 'tap'
import { plausibleHooks, sweepConnections } from '../../src/datapath/sweep.ts'
import {
  formatAddress,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  type Packet,
  parseAddress,
} from '../../src/engine/index.ts'
import { Attributes, type Netlink, type NetlinkMessage } from '../../src/native/netlink.ts'
import { listingOf } from '../fixtures/listing.ts'
import { connectionAttributes, ipv4 } from '../kernel/connections.ts'

const local = ['10.0.0.1', 'fd00::1', '10.0.0.255']
const either = [HOOK_INPUT, HOOK_FORWARD]

const cases: [string, string, string, readonly number[]][] = [
  ['from here, or forged', '10.0.0.1', '10.9.9.9', [HOOK_OUTPUT, HOOK_FORWARD]],
  ['to here', '10.9.9.9', '10.0.0.1', [HOOK_INPUT]],
  ['to here, IPv6', 'fd00::9', 'fd00::1', [HOOK_INPUT]],
  ['to itself', '10.0.0.1', '10.0.0.1', []],
  ['to another address of its own', '10.0.0.1', '10.0.0.255', []],
  ['neither', '10.9.9.9', '10.9.9.8', [HOOK_FORWARD]],
  ['neither, IPv6', 'fd00::9', 'fd00::8', [HOOK_FORWARD]],
  ["to the subnet's broadcast", '10.9.9.9', '10.0.0.255', [HOOK_INPUT]],
  ['to the lowest group', '10.9.9.9', '224.0.0.0', either],
  ['to the highest group', '10.9.9.9', '239.255.255.255', either],
  ['below the groups', '10.9.9.9', '223.255.255.255', [HOOK_FORWARD]],
  ['above the groups', '10.9.9.9', '240.0.0.0', [HOOK_FORWARD]],
  ['to everyone', '0.0.0.0', '255.255.255.255', either],
  ['to a group, IPv6', 'fe80::9', 'ff02::fb', either],
  ['to a group from here', 'fd00::1', 'ff02::fb', [HOOK_OUTPUT, HOOK_FORWARD]],
]

for (const [name, source, destination, hooks] of cases) {
  t.test(`where a connection may have passed: ${name}`, async (t) => {
    const end = (text: string) => ({ ...parseAddress(text)!, port: 0 })
    const ends = { source: end(source), destination: end(destination) }
    const packet: Packet = { family: 4, protocol: 17, ...ends, icmpType: 0, icmpCode: 0, tcpFlags: 0 }
    t.same(
      plausibleHooks(packet, (address) => local.includes(formatAddress(address))),
      hooks,
    )
  })
}

t.test('each part is cleared before the next one is listed, and other marks are left alone', async (t) => {
  const entry = (port: number, mark: number): NetlinkMessage => {
    const ends = { source: ipv4(1), sourcePort: 5, destination: ipv4(2), port }
    return { type: 0x100, flags: 0, family: 2, attributes: connectionAttributes({ protocol: 'udp', ...ends, mark }) }
  }
  const listing = listingOf([
    [entry(1, 0x3f), entry(2, 0x2f)],
    [entry(3, 0x30), entry(4, 0x3a)],
  ])
  const seen: string[] = []
  const refuse = (): never => {
    throw new Error('not asked for')
  }
  const netlink: Netlink = {
    portId: 0,
    transact: refuse,
    check: refuse,
    get: refuse,
    dump: refuse,
    startDump() {
      const nextPart = () => {
        seen.push('part')
        return listing.nextPart()
      }
      return { isInterrupted: false, nextPart, close() {} }
    },
    submit(messages) {
      for (const { attributes } of messages) {
        const change = new Attributes(attributes)
        seen.push(`mark ${change.u32(8)} mask ${change.u32(21)}`)
      }
      return []
    },
    close() {},
  }
  const stamp = { mask: 0xf0, value: 0x30 }
  const isAllowed = ({ destination }: Packet) => {
    seen.push(`port ${destination.port}`)
    return destination.port === 3
  }
  const swept = await sweepConnections({ netlink, stamp, isTouched: () => true, isAllowed })
  t.same(swept, { looked: 3, touched: 3, cleared: 2 })
  const cleared = 'mark 0 mask 240'
  t.same(seen, ['part', 'port 1', cleared, 'part', 'port 3', 'port 4', cleared, 'part'])
})
