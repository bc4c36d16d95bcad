import t from 'tap'
import type { FirewallStatus } from '../../src/firewall-status.ts'
import { enforcingLine, formatStatus, isHealthy, protectionWarning, statusJson } from '../../src/output/status.ts'
import { firewallStatus, healthyStatus } from '../fixtures/firewall-status.ts'

const healthy: FirewallStatus = { ...healthyStatus, pipeline: ['Admin', 'quarantine', 'NetworkPolicy', 'Baseline'] }
const { packetThread } = healthy
const broken: FirewallStatus = {
  ...healthy,
  sources: [{ name: 'files policies/', isCurrent: false, error: 'a.yaml:3: wrong', notes: [] }],
  problems: ['files policies/: a.yaml:3: wrong\nb.yaml:4: wrong too'],
}

t.test('the line of a start', async (t) => {
  t.equal(
    enforcingLine(healthy),
    'enforcing: 2 policies on 1 workload (2 addresses), generation 3, queue 100 by nft queue, without a verdict: drop',
  )
  t.match(
    enforcingLine({ ...healthy, policies: 1, subjects: 1, onFailure: 'open' }),
    /^enforcing: 1 policy on .*\(1 address\).*: accept$/,
  )
})

t.test('why nothing is protected', async (t) => {
  const none = { ...healthy, workloads: { known: 9, selected: 0, protected: 0 } }
  t.equal(protectionWarning(healthy), undefined)
  t.equal(protectionWarning(none), 'nothing is protected here: no policy selects any workload')
  t.equal(
    protectionWarning({ ...none, workloads: { known: 9, selected: 4, protected: 0 } }),
    'nothing is protected here: 4 selected workloads, none of them on node n1',
  )
})

t.test('status as text', async (t) => {
  t.equal(
    formatStatus(healthy),
    `enforcing     yes
health        healthy, runs since 2026-01-02T03:04:00.000Z
mode          enforce
this machine  node n1: decides for the workloads that run here
policies      2, generation 3
pipeline      Admin, quarantine, NetworkPolicy, Baseline
workloads     9 known, 4 selected by policies, 1 protected here (2 addresses)
denied        drop
no verdict    drop (closed)
queue         100, room for 8192
divert rule   nft queue
remembered    5 connections allowed (for 30s), 6 connections denied (for 5s)
packets       10 queued, 7 allowed, 2 denied, 1 without a verdict
unreadable    1 (denied)
repairs       0
source        files policies/: current, read 2026-01-02T03:04:05.000Z
`,
  )
  const text = formatStatus({ ...broken, enforcing: false })
  t.match(text, /^enforcing {5}NO\nhealth {8}UNHEALTHY, /)
  t.match(text, 'source        files policies/: BROKEN, the last good picture stays in force\n')
  t.match(
    text,
    'problem       files policies/: a.yaml:3: wrong\n              b.yaml:4: wrong too\n',
    'lines stand below each other',
  )
  t.match(
    formatStatus({ ...healthy, isGateway: true }),
    'gateway (no source knows a node "n1"): decides for every workload whose traffic passes',
  )
})

t.test('healthy is: it enforces, and what the sources say', async (t) => {
  t.ok(isHealthy(healthy))
  t.notOk(isHealthy(broken))
  t.notOk(isHealthy({ ...healthy, enforcing: false }))
  t.match(statusJson(healthy), {
    schema: 'knp.status/v1',
    health: 'healthy',
    startedAt: '2026-01-02T03:04:00.000Z',
    generation: 3,
    denyWith: 'drop',
  })
  t.match(statusJson(broken), { health: 'unhealthy' })
})

t.test('what becomes of denied packets', async (t) => {
  t.equal(row(healthy, 'denied'), 'drop')
  t.equal(row({ ...healthy, denyWith: 'reject' }, 'denied'), 'reject (TCP reset, ICMP admin-prohibited)')
})

const row = (status: FirewallStatus, name: string) =>
  new RegExp(`^${name} {2,}(.*)$`, 'm').exec(formatStatus(status))?.[1]

t.test('this machine, where a HostEndpoint is it', async (t) => {
  const host = { name: 'edge/web1', ingress: true, egress: true, forwards: ['172.17.0.0/16', 'fd00:17::/64'] }
  const cases: readonly [rule: string, host: NonNullable<FirewallStatus['host']>, text: string][] = [
    ['all of it', host, 'edge/web1: input, output, forwards to 172.17.0.0/16, fd00:17::/64 judged'],
    ['what comes in', { ...host, egress: false, forwards: [] }, 'edge/web1: input judged'],
    ['what goes out', { ...host, ingress: false, forwards: [] }, 'edge/web1: output judged'],
    ['nothing', { ...host, ingress: false, egress: false, forwards: [] }, 'edge/web1: no policy selects it'],
  ]
  for (const [rule, each, text] of cases) t.equal(row({ ...healthy, host: each }, 'host'), text, rule)
  t.equal(row({ ...healthy, host }, 'failsafe'), 'in tcp/22; out udp/53')
  t.equal(
    row({ ...healthy, host, failsafe: { inbound: [], outbound: ['udp/53', 'tcp/53@10.0.0.53/32'] } }, 'failsafe'),
    'in nothing; out udp/53 tcp/53@10.0.0.53/32',
  )
  t.equal(row(healthy, 'host'), undefined)
  t.equal(row(healthy, 'failsafe'), undefined, 'without a host there is nothing to pass')
  t.match(statusJson({ ...healthy, host }), { host, failsafe: { inbound: ['tcp/22'] } })
})

t.test('several queues', async (t) => {
  const statistics = (queue: number, waiting: number) => {
    const others = { portId: 1, copyMode: 'packet', copyRange: 512, dropped: 0, userDropped: 0, idSequence: 7 } as const
    return { queue, waiting, ...others }
  }
  const queues = [2, 0, 3].map((waiting, i) => ({
    number: 100 + i,
    statistics: statistics(100 + i, waiting),
    packetThread: { ...packetThread, queued: 9 + i },
  }))
  const several: FirewallStatus = {
    ...healthy,
    queue: { number: 100, count: 3, length: 64, statistics: queues[0]!.statistics },
    queues,
  }
  t.equal(row(several, 'queue'), '100-102, room for 64 each, 5 waiting; packets 9 + 10 + 11')
  t.match(enforcingLine(several), ', queues 100-102 by nft queue, ')
  t.match(statusJson(several), { queue: { number: 100, count: 3 }, queues, packetThread })
  const one = { ...several, queue: { ...several.queue, count: 1 }, queues: queues.slice(0, 1) }
  t.equal(row(one, 'queue'), '100, room for 64, 2 waiting')
})

t.test('policies on trial', async (t) => {
  const trial = { folder: 'new/', endsAtMs: Date.UTC(2026, 0, 2, 3, 5, 0) }
  t.equal(
    row({ ...healthy, trial }, 'on trial'),
    'new/, goes back at 2026-01-02T03:05:00.000Z unless confirmed (knp confirm)',
  )
  t.equal(row(healthy, 'on trial'), undefined)
  t.ok(isHealthy({ ...healthy, trial }), 'is no trouble')
  t.match(statusJson({ ...healthy, trial }), { trial })
})

t.test('what the kernel remembers', async (t) => {
  const remember = { allowedMs: 120_000, deniedMs: 1500, size: 9, isLogged: true }
  t.equal(
    row({ ...healthy, remember }, 'remembered'),
    '5 connections allowed (for 2m), 6 connections denied (for 1500ms)',
  )
  t.equal(
    row({ ...healthy, remember: { ...remember, deniedMs: 0 } }, 'remembered'),
    '5 connections allowed (for 2m), nothing denied',
  )
  t.equal(
    row({ ...healthy, remember: { ...remember, allowedMs: 0 } }, 'remembered'),
    'nothing allowed, 6 connections denied (for 1500ms)',
  )
  t.equal(
    row({ ...healthy, remember: { ...remember, isLogged: false } }, 'remembered'),
    '5 connections allowed (for 2m), 6 connections denied (for 1500ms), not told one by one',
  )
  t.match(statusJson({ ...healthy, remember }), {
    remember,
    counters: { rememberedAllowed: 5, rememberedDenied: 6 },
  })
})

t.test('packets of a source that sends too many', async (t) => {
  t.equal(
    row({ ...healthy, counters: { ...healthy.counters, limited: 3 } }, 'packets'),
    "10 queued, 7 allowed, 2 denied, 1 without a verdict, 3 dropped beyond a source's rate",
  )
})

t.test('a source that could not be read at the start', async (t) => {
  const restoredFromMs = Date.UTC(2026, 0, 1)
  const restored = { ...broken, restoredFromMs }
  t.equal(
    row(restored, 'source'),
    'files policies/: BROKEN, the picture saved 2026-01-01T00:00:00.000Z is in force',
    'says how old the picture is',
  )
  const [source] = healthy.sources
  t.equal(
    row({ ...restored, sources: [{ ...source!, isCurrent: false }] }, 'source'),
    'files policies/: BROKEN, the last good picture stays in force, read 2026-01-02T03:04:05.000Z',
    'one that was read since has a newer one',
  )
  t.equal(row({ ...restored, sources: [source!] }, 'source'), row(healthy, 'source'), 'and one that is well its own')
  t.match(statusJson(restored), { restoredFromMs, health: 'unhealthy' })
})

t.test('a source that is told of changes', async (t) => {
  const cluster = {
    name: 'kubernetes',
    isCurrent: true,
    syncedAtMs: Date.UTC(2026, 0, 2),
    lagMs: 12,
    lastEventAtMs: Date.UTC(2026, 0, 1),
    restarts: 2,
    notes: ['NetworkPolicy shop/np: spec: odd; its last good version stays in force'],
  }
  const status = { ...healthy, sources: [cluster] }
  t.equal(
    row(status, 'source'),
    'kubernetes: current, read 2026-01-02T00:00:00.000Z, last change 2026-01-01T00:00:00.000Z, 2 watches begun again',
  )
  t.match(formatStatus(status), /^note +NetworkPolicy shop\/np: spec: odd; its last good version stays in force$/m)
  const broken = { ...cluster, isCurrent: false, error: 'pods: forbidden', brokenSinceMs: 5 }
  t.match(statusJson({ ...status, sources: [broken] }), { sources: [{ restarts: 2, lagMs: 12, brokenSinceMs: 5 }] })
})

t.test('doubtful objects are told, and are in force all the same', async (t) => {
  const warned = { ...healthy, warnings: ['HostEndpoint edge/b: node n1 is edge/a already', 'and\u001b[31mred'] }
  t.match(formatStatus(warned), /^warning +HostEndpoint edge\/b: node n1 is edge\/a already$/m)
  t.notMatch(formatStatus(warned), '\u001b', 'made printable')
  t.ok(isHealthy(warned))
})

t.test('pods that nobody knows', async (t) => {
  const unknownPods = {
    unknownLocal: 'deny',
    holdMs: 500,
    addresses: 1,
    blocks: ['10.244.1.0/24'],
    holding: 2,
    held: 57,
    allowed: 0,
    denied: 4,
  } as const
  t.notMatch(formatStatus(healthy), 'unknown pods')
  t.match(
    formatStatus({ ...healthy, unknownPods }),
    /^unknown pods +1 address, and in 10\.244\.1\.0\/24; 2 packets held, 57 so far; after 500ms deny: 4 denied and 0 allowed without being known$/m,
  )
  t.match(
    formatStatus({ ...healthy, unknownPods: { ...unknownPods, addresses: 2, blocks: [] } }),
    /^unknown pods +2 addresses; 2 packets/m,
  )
  t.match(statusJson({ ...healthy, unknownPods }), { unknownPods })
})

t.test('what a source could not understand, by name', async (t) => {
  const [source] = healthy.sources
  const notes = Array.from({ length: 23 }, (_, i) => `a.yaml:${i}: Pod shop/p${i}: left out`)
  const text = (count: number) => formatStatus({ ...healthy, sources: [{ ...source!, notes: notes.slice(0, count) }] })
  t.match(text(1), /^note +a\.yaml:0: Pod shop\/p0: left out$/m)
  t.match(text(20), /^note +a\.yaml:19: /m)
  t.notMatch(text(20), ' more')
  t.match(text(23), /^note +and 3 more, which knp status --json lists$/m)
  t.notMatch(text(23), 'a.yaml:20:')
})

t.test('losses, only where there are any', async (t) => {
  t.equal(row(healthy, 'losses'), undefined)
  const { queues } = firewallStatus
  const lossy = { ...packetThread, overflows: 2, answerErrors: 5, failed: 6 }
  t.equal(
    row({ ...healthy, queues, packetThread: lossy }, 'losses'),
    '3 dropped by a full queue, 4 dropped by a full socket, 2 times a socket was full, 5 answers refused by the kernel, 6 denied because an evaluator failed',
  )
})

t.test('since when, where, and what for', async (t) => {
  const [source] = healthy.sources
  const brokenSinceMs = Date.UTC(2026, 0, 3)
  t.equal(
    row({ ...healthy, sources: [{ ...source!, isCurrent: false, brokenSinceMs }] }, 'source'),
    'files policies/: BROKEN since 2026-01-03T00:00:00.000Z, the last good picture stays in force, read 2026-01-02T03:04:05.000Z',
  )
  t.equal(row({ ...healthy, metricsAddress: '[::1]:9080' }, 'metrics'), 'http://[::1]:9080/metrics')
  t.equal(row({ ...healthy, savedAtMs: brokenSinceMs }, 'last good'), 'saved 2026-01-03T00:00:00.000Z')
  for (const name of ['metrics', 'last good']) t.equal(row(healthy, name), undefined)
})
