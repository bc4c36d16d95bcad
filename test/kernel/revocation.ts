import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { createNetwork } from '../../src/lab/network.ts'
import { type FlowKind, LastingFlows, serveFlows } from '../tools/flows.ts'
import { addConnections, countConnections } from './live-connections.ts'
import { namespace, networkPolicy, type Policies, Product, pod, policies } from './product.ts'

/** What stays allowed, what is revoked, and where nobody listens. */
const OPEN = 7000
const GRANTED = 7001
const MADE = 7002
const numbers = [1, 2, 3, 4]
const families = [4, 6] as const
const clientAddress = (number: number, family: 4 | 6) => (family === 4 ? `10.77.1.${number}` : `fd77:1::${number}`)
const serverAddress = (number: number, family: 4 | 6) => (family === 4 ? `10.77.2.${number}` : `fd77:2::${number}`)
const both = (addressOf: (number: number, family: 4 | 6) => string, number: number) =>
  families.map((family) => addressOf(number, family))
const every = (addressOf: (number: number, family: 4 | 6) => string) =>
  numbers.flatMap((number) => both(addressOf, number))
/** The client that loses something. It has a quarter of all other connections too, and keeps them. */
const VICTIM = 1
const OTHERS_INTERVAL_MS = 1000
const TOUCHED_INTERVAL_MS = 2
const IDLE_FLOWS = 50
const WAKE_INTERVAL_MS = 2
/** Nothing has come for so long: nothing comes any more. */
const QUIET_MS = 400
const QUIET_TIMEOUT_MS = 6000
const LOOK_MS = 50
/** A message that is not answered after 2 s is lost. */
const GRACE_MS = 2100

/** What makes a connection forbidden. */
export type Trigger = 'policy' | 'pod label' | 'namespace label' | 'address'
export const triggers: readonly Trigger[] = ['policy', 'pod label', 'namespace label', 'address']

/** The connections of each kind that a change touches. */
export const touchedKinds = ['udp', 'tcp', 'push', 'download', 'idle'] as const
export type TouchedKind = (typeof touchedKinds)[number]
/** Idle connections that send nothing before the change is in force. */
const SLEEPING = 'sleeping'
const groups = [...touchedKinds, SLEEPING] as const

export interface RevocationOptions {
  /** Connections with sockets, which send every second. */
  readonly real: number
  /** Entries of the connection table. */
  readonly made: number
  readonly triggers?: readonly Trigger[]
}

/** What one change did. */
export interface Revocation {
  readonly trigger: Trigger
  /** What the connection table held at the change. */
  readonly live: number
  readonly real: number
  /**
   * From the file's change to the last packet that passed on the touched connections, in ms; 0 where none passed after it.
   * Infinity: they still pass.
   */
  readonly cutMs: Readonly<Record<TouchedKind, number>>
  /** From the file's change to the firewall's word that it is in force. */
  readonly inForceMs: number
  /** Idle touched connections whose first message after that word passed all the same. */
  readonly passedLater: number
  /** Of the connections that stay allowed, since the row before: what was lost, and sent again by TCP. */
  readonly lost: number
  readonly retransmitted: number
  /** Messages of those connections that were answered. */
  readonly answered: number
}

type File = 'policy.yaml' | 'victim.yaml' | 'namespace.yaml'

const grant = (team: string) => ({
  from: [{ namespaceSelector: { matchLabels: { team } }, podSelector: { matchLabels: { grant: 'yes' } } }],
  ports: [{ port: GRANTED }, { protocol: 'UDP', port: GRANTED }],
})
const open = {
  from: [{ namespaceSelector: {}, podSelector: { matchLabels: { role: 'client' } } }],
  ports: [OPEN, MADE].flatMap((port) => [{ port }, { protocol: 'UDP', port }]),
}
const policy = (...ingress: readonly object[]) => [
  networkPolicy('servers', { podSelector: { matchLabels: { role: 'server' } }, ingress }),
]
const victim = (name: string, place: string, labels: Readonly<Record<string, string>>) => [
  pod({ namespace: place, name, addresses: both(clientAddress, VICTIM), labels: { role: 'client', ...labels } }),
]
const original: Readonly<Record<File, readonly object[]>> = {
  'policy.yaml': policy(open, grant('a')),
  'victim.yaml': victim('victim', 'team', { grant: 'yes' }),
  'namespace.yaml': [namespace('team', { team: 'a' })],
}
const changes: Readonly<Record<Trigger, { readonly file: File; readonly objects: readonly object[] }>> = {
  policy: { file: 'policy.yaml', objects: policy(open) },
  'pod label': { file: 'victim.yaml', objects: victim('victim', 'team', { grant: 'no' }) },
  'namespace label': { file: 'namespace.yaml', objects: [namespace('team', { team: 'b' })] },
  address: { file: 'victim.yaml', objects: victim('heir', 'others', {}) },
}

const others = [
  ...numbers
    .filter((number) => number !== VICTIM)
    .map((number) =>
      pod({
        namespace: 'others',
        name: `client-${number}`,
        addresses: both(clientAddress, number),
        labels: { role: 'client' },
      }),
    ),
  ...numbers.map((number) =>
    pod({ name: `server-${number}`, addresses: both(serverAddress, number), labels: { role: 'server' } }),
  ),
]

/**
 * Many live connections, of which changes forbid a few, one change after the other: when those were cut, and whether
 * anything else was lost.
 */
export async function revoke(options: RevocationOptions): Promise<readonly Revocation[]> {
  const network = await createNetwork({
    prefix: 'knpk',
    hosts: [
      { name: 'near', addresses: every(clientAddress) },
      { name: 'far', addresses: every(serverAddress) },
    ],
  })
  const folder = await policies()
  try {
    await folder.write('others.yaml', others)
    for (const [name, objects] of Object.entries(original)) await folder.write(name, objects)
    await serveFlows(network, 'far', every(serverAddress), [OPEN, GRANTED])
    const flows = await LastingFlows.start(network, 'near')
    const product = await Product.start(network, folder)
    await openOthers(flows, options.real)
    const { made } = options
    if (made > 0) {
      const ends = { clients: every(clientAddress), servers: every(serverAddress) }
      await addConnections(network, { count: made, ...ends, port: MADE })
    }
    await flows.settled('others')
    const rows: Revocation[] = []
    let before = await flows.report('others')
    for (const trigger of options.triggers ?? triggers) {
      await openTouched(flows)
      const live = await countConnections(network)
      const outcome = await cut(flows, product, folder, trigger)
      await setTimeout(GRACE_MS)
      const after = await flows.report('others')
      rows.push({
        trigger,
        live,
        real: after.flows,
        ...outcome,
        lost: after.lost - before.lost,
        retransmitted: after.retransmitted - before.retransmitted,
        answered: after.answered - before.answered,
      })
      before = after
      for (const group of groups) await flows.close(group)
      const { file } = changes[trigger]
      await product.changeInStatus(() => folder.write(file, original[file]))
    }
    flows.end()
    const { counters, problems, repairs } = await product.status()
    if (counters.unanswered > 0 || problems.length > 0 || repairs > 0) {
      throw new Error(`${counters.unanswered} packets without an answer, ${repairs} repairs: ${product.stderr}`)
    }
    await product.stop()
    return rows
  } finally {
    await network.destroy()
    await folder.close()
  }
}

/** Between all clients and all servers, one TCP connection in five. */
async function openOthers(flows: LastingFlows, count: number): Promise<void> {
  const pairs = families.flatMap((family) =>
    numbers.flatMap((from) =>
      numbers.map((to) => ({ source: clientAddress(from, family), destination: serverAddress(to, family) })),
    ),
  )
  const shareOf = (i: number, of: number, total: number) =>
    Math.floor((total * (i + 1)) / of) - Math.floor((total * i) / of)
  const ends = pairs.flatMap((pair, i) => {
    const share = shareOf(i, pairs.length, count)
    const tcp = Math.floor(share / 5)
    return [
      { ...pair, protocol: 'udp', count: share - tcp } as const,
      { ...pair, protocol: 'tcp', count: tcp } as const,
    ]
  })
  for (const end of ends) {
    await flows.open({ group: 'others', kind: 'echo', port: OPEN, intervalMs: OTHERS_INTERVAL_MS, ...end })
  }
}

async function openTouched(flows: LastingFlows): Promise<void> {
  const kinds: readonly (readonly [(typeof groups)[number], FlowKind, 'udp' | 'tcp', count: number])[] = [
    ['udp', 'echo', 'udp', 1],
    ['tcp', 'echo', 'tcp', 1],
    ['push', 'push', 'udp', 1],
    ['download', 'download', 'tcp', 1],
    ['idle', 'idle', 'udp', IDLE_FLOWS / 2],
    ['idle', 'idle', 'tcp', IDLE_FLOWS / 2],
    [SLEEPING, 'idle', 'udp', 1],
    [SLEEPING, 'idle', 'tcp', 1],
  ]
  for (const family of families) {
    const ends = { source: clientAddress(VICTIM, family), destination: serverAddress(VICTIM, family), port: GRANTED }
    for (const [group, kind, protocol, count] of kinds) {
      await flows.open({ group, kind, protocol, ...ends, count, intervalMs: TOUCHED_INTERVAL_MS })
    }
  }
  for (const group of groups) await flows.settled(group)
}

/** Makes the change; the idle connections send their first messages from then on, one after the other. */
async function cut(
  flows: LastingFlows,
  product: Product,
  folder: Policies,
  trigger: Trigger,
): Promise<Pick<Revocation, 'cutMs' | 'inForceMs' | 'passedLater'>> {
  const { file, objects } = changes[trigger]
  const next = join(folder.path, `.${file}`)
  writeFileSync(next, objects.map((object) => `${JSON.stringify(object)}\n`).join('---\n'))
  let changedAtMs = 0
  const inForceMs = await product.changeInStatus(async () => {
    const waking = flows.wake('idle', WAKE_INTERVAL_MS)
    changedAtMs = Date.now()
    renameSync(next, join(folder.path, file))
    await waking
  })
  await flows.wake(SLEEPING, 0)
  const cutMs: Partial<Record<TouchedKind, number>> = {}
  const endMs = Date.now() + QUIET_TIMEOUT_MS
  for (const kind of touchedKinds) {
    let report = await flows.report(kind)
    while (Date.now() - report.lastAtMs < QUIET_MS && Date.now() < endMs) {
      await setTimeout(LOOK_MS)
      report = await flows.report(kind)
    }
    const isQuiet = Date.now() - report.lastAtMs >= QUIET_MS
    const lastMs = kind === 'idle' ? report.lastWokenMs : report.lastAtMs
    cutMs[kind] = isQuiet ? Math.max(0, lastMs - changedAtMs) : Infinity
  }
  const { woken: passedLater } = await flows.report(SLEEPING)
  return { cutMs: cutMs as Record<TouchedKind, number>, inForceMs, passedLater }
}
