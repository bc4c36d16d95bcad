import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type ControlMethods, ControlServer, type ControlStreams, type StreamReader } from '../../src/control/socket.ts'
import { connectFeed, explainBy } from '../../src/dashboard/feed.ts'
import type { Report } from '../../src/dashboard/state.ts'
import { compile, explain, parseQuestion } from '../../src/engine/index.ts'
import { policyKinds } from '../../src/engine/pipeline.ts'
import { KnpError } from '../../src/errors.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { loadSnapshot } from '../../src/sources/load.ts'
import { until } from '../until.ts'
import { flow, status, T0 } from './flows.ts'

/** Where a firewall may answer. */
async function place(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-feed-'))
  t.after(() => rm(folder, { recursive: true }))
  return join(folder, 'control.sock')
}

/** Waits until it is so. */
function becomes(isSo: () => boolean): Promise<void> {
  return until(async () => {
    await sleep(5)
    return isSo()
  })
}

/** What reads the flows of a firewall, newest last. */
class Readers {
  readonly all: { readonly reader: StreamReader; readonly params: Readonly<Record<string, unknown>> }[] = []
  /** How many have gone. */
  gone = 0
  readonly streams: ControlStreams = {
    flows: (params, reader) => {
      this.all.push({ params, reader })
      return () => {
        this.gone++
      }
    },
  }
}

/** Everything that is reported, until the test ends. */
function follow(t: Test, path: string): Report[] {
  const reports: Report[] = []
  const feed = connectFeed(path)((report) => reports.push(report))
  t.after(() => feed.close())
  return reports
}

function timesOf(reports: readonly Report[]): number[] {
  return reports.flatMap((report) =>
    report.type === 'flows' ? report.items.map((item) => ('missed' in item ? -item.missed : item.timeMs - T0)) : [],
  )
}

const deciders = [{ tier: 'Default', allowed: 4, denied: 0, audit: 0 }]
const methods = (parts: ControlMethods = {}): ControlMethods => ({
  status: () => status({ allowed: 4 }),
  deciders: () => deciders,
  ...parts,
})

t.test('status and flows', async (t) => {
  const path = await place(t)
  const readers = new Readers()
  const server = await ControlServer.listen(path, methods(), undefined, readers.streams)
  t.after(() => server.close())
  const reports = follow(t, path)
  await becomes(() => readers.all.length === 1 && reports.length > 0)
  t.match(reports[0], { type: 'status', status: { generation: 3, counters: { allowed: 4 } } })
  t.same(readers.all[0]!.params, { last: 1000, follow: true }, 'the past too')
  await becomes(() => reports.length > 1)
  t.same(reports[1], { type: 'deciders', deciders })
  for (let i = 0; i < 300; i++) readers.all[0]!.reader.send(flow({ timeMs: T0 + i }))
  readers.all[0]!.reader.send({ missed: 7 })
  await becomes(() => timesOf(reports).length === 301)
  t.same(timesOf(reports), [...Array.from({ length: 300 }, (_, i) => i), -7])
  const batches = reports.filter(({ type }) => type === 'flows').length
  t.ok(batches < 30, `together, in ${batches} reports`)
})

t.test('a firewall that goes and comes back', async (t) => {
  const path = await place(t)
  const [before, after] = [new Readers(), new Readers()]
  const first = await ControlServer.listen(path, methods(), undefined, before.streams)
  const reports = follow(t, path)
  await becomes(() => before.all.length === 1)
  for (const ms of [1, 2, 3]) before.all[0]!.reader.send(flow({ timeMs: T0 + ms }))
  await becomes(() => timesOf(reports).length === 3)
  await first.close()
  await becomes(() => reports.some(({ type }) => type === 'lost'))
  t.match(
    reports.find(({ type }) => type === 'lost'),
    { reason: `${path}: no firewall runs here` },
  )
  const lostAt = reports.length
  const second = await ControlServer.listen(path, methods(), undefined, after.streams)
  t.after(() => second.close())
  await becomes(() => after.all.length === 1)
  for (const ms of [2, 3, 4, 5]) after.all[0]!.reader.send(flow({ timeMs: T0 + ms }))
  await becomes(() => timesOf(reports).length === 5)
  t.same(timesOf(reports), [1, 2, 3, 4, 5], 'what it tells once more of the past is known')
  await becomes(() => reports.slice(lostAt).some(({ type }) => type === 'status'))
})

t.test('a firewall that has no flows to tell', async (t) => {
  const path = await place(t)
  const server = await ControlServer.listen(path, methods())
  t.after(() => server.close())
  const reports = follow(t, path)
  await becomes(() => reports.some(({ type }) => type === 'flows-refused'))
  t.match(
    reports.find(({ type }) => type === 'flows-refused'),
    { reason: 'the running firewall knows no method "flows"' },
  )
  t.notOk(
    reports.some(({ type }) => type === 'lost'),
    'answers all the same',
  )
})

t.test('the end', async (t) => {
  const path = await place(t)
  const readers = new Readers()
  const server = await ControlServer.listen(path, methods(), undefined, readers.streams)
  t.after(() => server.close())
  const reports: Report[] = []
  const feed = connectFeed(path)((report) => reports.push(report))
  await becomes(() => readers.all.length === 1)
  feed.close()
  await becomes(() => readers.gone === 1)
  const count = reports.length
  await server.close()
  t.equal(reports.length, count, 'nothing is said any more')
})

t.test('explanations', async (t) => {
  const path = await place(t)
  const { snapshot } = await loadSnapshot([{ files: { path: 'demo/shop' } }])
  const compiled = compile(snapshot, policyKinds)
  const asked: unknown[] = []
  const server = await ControlServer.listen(path, {
    explain: (params) => {
      asked.push(params)
      if (params.from === '192.0.2.1') throw new KnpError('UNKNOWN_NAME', '192.0.2.1: undecidable')
      return explain(parseQuestion(params.from as string, params.to as string), snapshot, compiled)
    },
  })
  const denied = flow({
    source: { name: 'shop/web', address: '10.88.1.10', port: 40000 },
    destination: { name: 'shop/db', address: '10.88.1.12', port: 5432 },
  })
  t.match(await explainBy(path, denied), /^DENIED {2}shop\/web -> shop\/db:5432\/tcp\n.*db.*isolates/s)
  const ping = flow({
    protocol: 58,
    source: { address: '2001:db8::1' },
    destination: { name: 'shop/web', address: 'fd88:1::10' },
  })
  t.match(await explainBy(path, ping), /^DENIED {2}2001:db8::1 -> shop\/web\/icmp\n/)
  t.same(asked, [
    { from: '10.88.1.10', to: '10.88.1.12:5432/tcp' },
    { from: '2001:db8::1', to: 'fd88:1::10/icmp' },
  ])
  t.equal(await explainBy(path, flow({ source: { address: '192.0.2.1' } })), '192.0.2.1: undecidable')
  t.equal(
    await explainBy(path, flow({ protocol: 47 })),
    'Of protocol 47 nothing can be asked: policies name TCP, UDP, SCTP and ICMP.',
  )
  const { source: _, destination: __, ...unreadable }: FlowEvent = flow()
  t.match(await explainBy(path, unreadable), 'could not be read')
  await server.close()
  t.match(await explainBy(path, denied), 'no firewall runs here')
})
