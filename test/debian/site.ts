import type { Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import type { EchoProtocol } from '../../src/lab/echo.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { type Policies, type Product, pod, policies } from '../kernel/product.ts'
import { slow } from '../slow.ts'

export const client = ['10.77.1.2', 'fd77:1::2'] as const
export const db = ['10.77.2.2', 'fd77:2::2'] as const
export const cache = ['10.77.2.3', 'fd77:2::3'] as const
const ports = [
  { name: 'sql', containerPort: 5432 },
  { name: 'signal', containerPort: 9001, protocol: 'SCTP' },
]
/** Shorter than the time until a SYN is sent again: a probe that is denied is one packet. */
export const DENIED_AFTER_MS = 800

/** Pods behind a router, which is where the firewall runs: web on one side, db and cache on the other. */
export interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly far: Agent
}

export async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpd',
    hosts: [
      { name: 'near', addresses: client },
      { name: 'far', addresses: [...db, ...cache] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('pods.yaml', [
    pod({ name: 'web', addresses: client }),
    pod({ name: 'db', addresses: db, ports }),
    pod({ name: 'cache', addresses: cache, ports }),
  ])
  const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
  return { network, folder, near, far }
}

export async function listen(agent: Agent, addresses: readonly string[], ports: readonly number[]): Promise<void> {
  for (const address of addresses) {
    for (const port of ports) {
      for (const protocol of ['tcp', 'udp'] as const) await agent.listen({ protocol, address, port })
    }
  }
}

/** What becomes of one connection. What is expected to pass may take its time. */
export async function outcome(
  near: Agent,
  protocol: EchoProtocol,
  address: string,
  port: number,
  expected: 'passes' | 'timeout',
): Promise<string> {
  const timeoutMs = expected === 'passes' ? 2000 * slow : DENIED_AFTER_MS
  const { ok, error } = await near.probe({ protocol, address, port, timeoutMs })
  return ok ? 'passes' : `${error}`
}

/** What the firewall and the queue count. */
export async function counts(product: Product) {
  const { counters, queue, packetThread } = await product.status()
  return { ...counters, ids: queue.statistics?.idSequence ?? -1, failed: packetThread.failed }
}

/** The counts after so many more packets were allowed and denied, each of them queued and answered once. */
export function more(before: Awaited<ReturnType<typeof counts>>, allowed: number, denied: number) {
  return {
    ...before,
    queued: before.queued + allowed + denied,
    allowed: before.allowed + allowed,
    denied: before.denied + denied,
    ids: before.ids + allowed + denied,
  }
}
