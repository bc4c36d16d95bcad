import type { ChildProcess } from 'node:child_process'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { type Path, PORTS } from '../datapath/measure.ts'
import type { Ends } from '../datapath/world.ts'
import { nativeProgram } from '../native.ts'
import { endProcess, startReady } from '../scenarios.ts'

/** How a node's pods are connected. */
export const placeNames = ['routed', 'bridge'] as const
export type PlaceName = (typeof placeNames)[number]

/** A node with pods, some of which are clients of others, and services that are translated as kube-proxy does. */
export interface Place {
  readonly network: Network
  /** Of pods. */
  readonly ends: Ends
  /** The ways connections take, by what a table calls them. */
  readonly paths: Readonly<Record<PathName, Path>>
  destroy(): Promise<void>
}

export const PROBE = 'probe by the node'
export const pathNames = ['pod to pod', 'pod to service', PROBE] as const
export type PathName = (typeof pathNames)[number]

/** Pods of each kind. */
const PODS = 16
const MASQUERADED = '0x4000'
/** What is translated is, behind that, a connection between pods: each way has ports of its own, so that none meets the other's. */
const MIDDLE = (PORTS[0] + PORTS[1]) >> 1

/** Makes the node. Needs root. */
export async function createPlace(name: PlaceName): Promise<Place> {
  const prefix = name === 'routed' ? '10.77' : '10.88'
  const ends: Ends = { clients: addresses(`${prefix}.1`), servers: addresses(`${prefix}.2`) }
  const network = await createNetwork({
    prefix: 'knpn',
    hosts: [
      { name: 'client', addresses: name === 'routed' ? ends.clients : [] },
      { name: 'server', addresses: name === 'routed' ? ends.servers : [] },
    ],
  })
  try {
    if (name === 'bridge') await bridge(network, `${prefix}.0.1`, ends)
    const services = addresses('10.96.0')
    await translate(network, services, ends.servers)
    for (const host of network.hosts) {
      await run(network, host, ['echo 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range'])
    }
    await run(network, network.router, ['echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close'])
    const server: ChildProcess = await startReady(network, 'server', [await nativeProgram('server'), PORTS.join('-')])
    const node = name === 'routed' ? network.addressesOf(network.router)[0]! : `${prefix}.0.1`
    return {
      network,
      ends,
      paths: {
        'pod to pod': { network, ends, ports: [PORTS[0], MIDDLE] },
        'pod to service': {
          network,
          ends: { clients: ends.clients, servers: services },
          ports: [MIDDLE + 1, PORTS[1]],
        },
        [PROBE]: { network, ends: { clients: [node], servers: ends.servers }, from: network.router },
      },
      async destroy() {
        await endProcess(server)
        await network.destroy()
      },
    }
  } catch (error) {
    await network.destroy()
    throw error
  }
}

function addresses(prefix: string): string[] {
  return Array.from({ length: PODS }, (_, i) => `${prefix}.${i + 2}`)
}

/** Packets between two ports of a bridge pass the firewall, as Kubernetes wants it of a node. */
async function bridge(network: Network, address: string, { clients, servers }: Ends): Promise<void> {
  await run(network, network.router, [
    'ip link add br0 type bridge',
    'ip link set br0 up',
    `ip addr add ${address}/16 dev br0`,
    ...network.hosts.map((host) => `ip link set ${host} master br0`),
    'echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables',
  ])
  for (const [host, own] of [
    ['client', clients],
    ['server', servers],
  ] as const) {
    await run(network, host, [
      ...own.map((each) => `ip addr add ${each}/16 dev eth0`),
      `ip route replace default via ${address} dev eth0`,
    ])
  }
}

/** Each service is one pod's. */
async function translate(network: Network, services: readonly string[], servers: readonly string[]): Promise<void> {
  const script = [
    'table ip services {',
    '  chain services {',
    ...services.flatMap((service, i) => [
      `ip saddr ${servers[i]} ip daddr ${service} meta mark set meta mark | ${MASQUERADED}`,
      `ip daddr ${service} dnat to ${servers[i]}`,
    ]),
    '  }',
    '  chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }',
    '  chain output { type nat hook output priority -100; policy accept; jump services; }',
    '  chain postrouting { type nat hook postrouting priority 100; policy accept;',
    `    meta mark & ${MASQUERADED} == 0 return`,
    `    meta mark set meta mark ^ ${MASQUERADED} masquerade`,
    '  }',
    '}',
  ]
  await run(network, network.router, ['nft -f -'], `${script.join('\n')}\n`)
}

async function run(network: Network, host: string, commands: readonly string[], input = ''): Promise<void> {
  const { code, stderr } = await network.exec(host, ['sh', '-ec', commands.join('\n')], { input })
  if (code !== 0) throw new Error(`${host}: ${stderr.trim()}`)
}
