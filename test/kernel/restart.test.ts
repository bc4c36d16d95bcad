import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { parseQueueStatistics, type QueueStatistics } from '../../src/native/queue-statistics.ts'
import type { OnFailure } from '../../src/ruleset/text.ts'
import { slow } from '../slow.ts'
import { ManagedService } from './managed-service.ts'
import { clockMs, PacedFlows } from './paced-flows.ts'
import { knp, networkPolicy, type Policies, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2', 'fd77:1::2']
const db = ['10.77.2.2', 'fd77:2::2']
const ALLOWED = 80
const DENIED = 81
const INTERVAL_MS = 15 * slow
/** Longer than a restart takes. */
const TIMEOUT_MS = 8000 * slow
/** Shorter than the time until a SYN is sent again. */
const PROBE_TIMEOUT_MS = 700 * slow
const TCP_INTERVAL_MS = 25 * slow
/** New connections of `reach` to each address. */
const PORTS_AND_PROTOCOLS = 4
/** When a SYN that is lost is sent again. */
const RETRANSMISSION_MS = 1000

const picture = [
  pod({ name: 'db', addresses: db }),
  networkPolicy('db', { ingress: [{ ports: [{ port: ALLOWED }, { protocol: 'UDP', port: ALLOWED }] }] }),
]

interface SiteOptions {
  readonly mode: OnFailure
  readonly keeps: boolean
  /** Where the manager listens, in place of a file. */
  readonly socket?: string
}

class Site {
  readonly mode: OnFailure
  readonly network: Network
  readonly folder: Policies
  readonly near: Agent
  readonly service: ManagedService

  static async start(t: Test, { mode, keeps, socket }: SiteOptions): Promise<Site> {
    const network = await createNetwork({
      prefix: 'knpr',
      hosts: [
        { name: 'near', addresses: client },
        { name: 'far', addresses: db },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    await folder.write('all.yaml', picture)
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    for (const address of db) {
      for (const port of [ALLOWED, DENIED]) {
        for (const protocol of ['tcp', 'udp'] as const) await far.listen({ protocol, address, port })
      }
    }
    const command = knp(['run', '--source', folder.path, '--on-failure', mode])
    const control = ['--control-socket', join(folder.path, '.control.sock'), '--state-dir', `${folder.path}.state`]
    await writeFile(join(folder.path, '.arguments'), '')
    const service = await ManagedService.create(network, {
      socket: socket ?? join(folder.path, '.notify.sock'),
      command: ['sh', '-c', 'exec "$@" $(cat "$0")', join(folder.path, '.arguments'), ...command, ...control],
      keeps,
    })
    t.after(() => service.close())
    await service.start()
    t.match(service.lines.at(-1), 'notified READY=1')
    return new Site(mode, network, folder, near, service)
  }

  private constructor(mode: OnFailure, network: Network, folder: Policies, near: Agent, service: ManagedService) {
    this.mode = mode
    this.network = network
    this.folder = folder
    this.near = near
    this.service = service
  }

  /** Further arguments of `knp run`, from the next start on. */
  arguments(args: readonly string[]): Promise<void> {
    return writeFile(join(this.folder.path, '.arguments'), args.join(' '))
  }

  /** Has the kernel forget which tuples were allowed and denied, so that every new connection needs a verdict. */
  async forget(): Promise<void> {
    const sets = ['allowed4', 'allowed6', 'denied4', 'denied6']
    const { stdout } = await this.network.exec('router', ['nft', 'list', 'tables'])
    if (!stdout.includes('inet knp')) return
    const flushes = sets.map((set) => `flush set inet knp ${set}\n`).join('')
    const { code, stderr } = await this.network.exec('router', ['nft', '-f', '-'], { input: flushes })
    if (code !== 0) throw new Error(stderr)
  }

  /** The queues that are bound. */
  async queues(): Promise<readonly QueueStatistics[]> {
    const { stdout } = await this.network.exec('router', ['cat', '/proc/net/netfilter/nfnetlink_queue'])
    return parseQueueStatistics(stdout)
  }

  /** Which new connections pass: a word for each port, for all families and protocols. */
  async reach(): Promise<readonly string[]> {
    return await Promise.all(
      [ALLOWED, DENIED].map(async (port) => {
        const answers = await Promise.all(
          db.flatMap((address) =>
            (['tcp', 'udp'] as const).map((protocol) =>
              this.near.probe({ protocol, address, port, timeoutMs: PROBE_TIMEOUT_MS }),
            ),
          ),
        )
        return [...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : `${error}`)))].join()
      }),
    )
  }
}

/** New TCP connections to the allowed port in a steady pace; answers what became of them. */
function connecting({ near }: Site) {
  const probes: Promise<{ readonly ok: boolean; readonly ms: number }>[] = []
  const timer = setInterval(() => {
    const begunMs = clockMs()
    const address = db[probes.length % db.length]!
    const probe = near.probe({ protocol: 'tcp', address, port: ALLOWED, timeoutMs: TIMEOUT_MS })
    probes.push(probe.then(({ ok }) => ({ ok, ms: clockMs() - begunMs })))
  }, TCP_INTERVAL_MS)
  return async () => {
    clearInterval(timer)
    return await Promise.all(probes)
  }
}

const rows: string[][] = []
const enforced = ['passes', 'timeout']

for (const mode of ['closed', 'open'] as const) {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    for (const keeps of [false, true]) {
      t.test(
        `${signal} and a restart under ${mode}, ${keeps ? 'sockets kept' : 'nothing kept'}`,
        { skip },
        async (t) => {
          const site = await Site.start(t, { mode, keeps })
          const { network, service } = site
          t.same(await site.reach(), enforced)
          const pace = { addresses: db, allowedPort: ALLOWED, deniedPort: DENIED }
          const flows = await PacedFlows.start(network, 'near', {
            ...pace,
            intervalMs: INTERVAL_MS,
            timeoutMs: TIMEOUT_MS,
          })
          await flows.steady(clockMs())
          const [before] = await site.queues()

          const finish = connecting(site)
          const endedMs = clockMs()
          t.equal(await service.end(signal), signal === 'SIGKILL' ? 9 : 0)
          await site.forget()
          // All that is sent from now on meets no process.
          const goneMs = clockMs()
          await service.start()
          const readyMs = clockMs()
          const rightMs = await flows.steady(readyMs)
          const tcp = await finish()
          const span = { fromMs: endedMs - INTERVAL_MS, toMs: Math.max(rightMs, readyMs) + INTERVAL_MS }
          const gap = { fromMs: goneMs, toMs: readyMs }
          const allowed = flows.outcome('allowed', span)
          const denied = flows.outcome('denied', span)
          const established = flows.outcome('established', span)
          const first = flows.waits('allowed', gap).firstAtMs - endedMs
          const longestMs = flows.waits('allowed', span).longestMs
          const passed = denied.sent - denied.lost
          await flows.close()

          t.same(await site.reach(), enforced)
          t.equal(established.lost, 0, 'what was allowed goes on')
          const [after, ...others] = await site.queues()
          t.equal(others.length, 0)
          t.equal(after?.waiting, 0, 'nothing is left in the queue')
          t.equal(after?.portId === before?.portId, keeps, 'the same socket')
          if (keeps || mode === 'closed') t.equal(passed, 0, 'nothing that is denied passes')
          else t.ok(passed > 0, `${passed} denied packets pass while nobody answers`)
          if (keeps) {
            t.equal(allowed.lost, 0, `none of ${allowed.sent} is lost`)
            t.ok(allowed.late > 0, `${allowed.late} waited`)
            t.ok(
              tcp.every(({ ok }) => ok),
              'every TCP connection is made',
            )
          } else if (mode === 'closed') t.ok(allowed.lost > 0, `${allowed.lost} of ${allowed.sent} are lost`)
          const retransmitted = tcp.filter(({ ms }) => ms >= RETRANSMISSION_MS).length
          rows.push([
            mode,
            signal,
            keeps ? 'yes' : 'no',
            (goneMs - endedMs).toFixed(0),
            mode === 'open' && !keeps ? '-' : first.toFixed(0),
            (readyMs - endedMs).toFixed(0),
            `${allowed.sent} / ${allowed.late} / ${allowed.lost}`,
            `${passed} of ${denied.sent}`,
            longestMs.toFixed(0),
            `${tcp.length} / ${retransmitted} / ${Math.max(...tcp.map(({ ms }) => ms)).toFixed(0)}`,
          ])
        },
      )
    }
  }
}

for (const mode of ['closed', 'open'] as const) {
  t.test(`stopped for good under ${mode}`, { skip }, async (t) => {
    const site = await Site.start(t, { mode, keeps: true, socket: `@knp-test-${process.pid}` })
    const { service } = site
    t.same(service.told(), ['FDSTORE=1|FDNAME=knp-queue-100|FDPOLL=0', 'READY=1'])
    const stopped = service.lines.length
    t.equal(await service.end('SIGTERM'), 0)
    await site.forget()
    t.same(service.told(stopped), ['STOPPING=1'])
    t.match(service.stderr, /stopped; the rules stay .* packets wait for a verdict/)
    t.same(await site.reach(), ['timeout', 'timeout'], 'packets wait')
    t.ok((await site.queues())[0]!.waiting >= PORTS_AND_PROTOCOLS * db.length)
    await service.drop()
    t.same(await site.queues(), [])
    const nobody = mode === 'closed' ? 'timeout' : 'passes'
    t.same(await site.reach(), [nobody, nobody], 'nobody holds the queue')
    await service.start()
    t.same(await site.reach(), enforced)
  })

  t.test(`a start that fails under ${mode}`, { skip }, async (t) => {
    const site = await Site.start(t, { mode, keeps: true })
    const { service, folder } = site
    await service.end('SIGKILL')
    await rm(`${folder.path}.state`, { recursive: true, force: true })
    await folder.write('broken.yaml', 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  nam: x\n')
    const restarted = service.lines.length
    await service.start()
    t.match(service.lines.at(-1), `ended ${2 << 8}`)
    t.same(service.told(restarted), ['FDSTOREREMOVE=1|FDNAME=knp-queue-100'])
    t.same(await site.queues(), [], 'who may never come back keeps nothing')
    const nobody = mode === 'closed' ? 'timeout' : 'passes'
    t.same(await site.reach(), [nobody, nobody])
  })
}

t.test('other queues than before', { skip }, async (t) => {
  const site = await Site.start(t, { mode: 'closed', keeps: true })
  const { service } = site
  const bound = async () => (await site.queues()).map(({ queue, portId }) => `${queue} ${portId}`)
  const restart = async (...args: readonly string[]) => {
    await service.end('SIGKILL')
    await site.arguments(args)
    await service.start()
    t.same(await site.reach(), enforced, args.join(' '))
    return bound()
  }
  const [one, ...others] = await bound()
  t.same(others, [])
  const [first, second, third, ...more] = await restart('--queue-count', '3')
  t.same([first, more], [one, []])
  t.same(await restart('--queue-first', '101', '--queue-count', '2'), [second, third], 'the rest is given back')
  const told = service.lines.length
  t.same(await restart('--queue-first', '101', '--queue-count', '2'), [second, third])
  t.same(service.told(told), [
    'FDSTOREREMOVE=1|FDNAME=knp-queue-101',
    'FDSTOREREMOVE=1|FDNAME=knp-queue-102',
    'FDSTORE=1|FDNAME=knp-queue-101|FDPOLL=0',
    'FDSTORE=1|FDNAME=knp-queue-102|FDPOLL=0',
    'READY=1',
  ])
})

t.test('the table of restarts', { skip }, async (t) => {
  t.equal(rows.length, 8)
  const heads = [
    'mode',
    'signal',
    'kept',
    'until gone (ms)',
    'first answer (ms)',
    'ready (ms)',
    'allowed UDP: sent / late / lost',
    'denied UDP passed',
    'longest wait (ms)',
    'TCP: made / over 1 s / longest (ms)',
  ]
  for (const cells of [heads, heads.map(() => '---'), ...rows]) t.comment(`| ${cells.join(' | ')} |`)
})
