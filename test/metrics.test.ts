import { readFile } from 'node:fs/promises'
import t from 'tap'
import { changeBounds, createHistogram, observe, packetBounds, readHistograms } from '../src/datapath/histogram.ts'
import type { PolicyCount } from '../src/decision-totals.ts'
import type { FirewallFigures } from '../src/firewall-figures.ts'
import { definitions } from '../src/metrics/definitions.ts'
import { Exporter } from '../src/metrics/exporter.ts'
import type { Reading } from '../src/metrics/reading.ts'
import { firewallStatus } from './fixtures/firewall-status.ts'
import { parsePrometheus, valuesOf } from './fixtures/prometheus.ts'

const units = ['seconds', 'packets', 'info', 'bytes']
const words = createHistogram(packetBounds)
observe(words, packetBounds, 0.00004, 3)
observe(words, packetBounds, 2, 1)
const seconds = readHistograms([words], packetBounds)
const none = readHistograms([createHistogram(changeBounds)], changeBounds)
const ofP = (count: number): PolicyCount => ({
  direction: 'egress',
  tier: 'NetworkPolicy',
  verdict: 'allow',
  count,
  policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'p' },
})
const figures: FirewallFigures = {
  decisions: {
    asked: {
      tiers: [
        { direction: 'ingress', tier: 'Admin', verdict: 'deny', count: 5 },
        { direction: 'none', tier: 'Default', verdict: 'allow', count: 7 },
        { direction: 'egress', tier: 'NetworkPolicy', verdict: 'audit', count: 2 },
      ],
      policies: [
        { ...ofP(2), verdict: 'audit' },
        ofP(9),
        { ...ofP(5), policy: { kind: 'AdminNetworkPolicy', name: 'a"\n\\b' } },
      ],
    },
    remembered: {
      tiers: [{ direction: 'none', tier: 'Default', verdict: 'allow', count: 3 }],
      policies: [ofP(20)],
    },
  },
  log: { isRead: true, noted: 23, lost: 4 },
  decisionSeconds: seconds,
  waitSeconds: seconds,
  compileSeconds: none,
  applySeconds: none,
}
const reading: Reading = {
  status: firewallStatus,
  figures,
  sources: firewallStatus.sources,
  stalledQueues: [],
  version: '1.2.3',
}

async function scrape(each: Reading = reading) {
  const exporter = await Exporter.create(() => each)
  return parsePrometheus(await exporter.text())
}

t.test('of what the kernel answers untold nobody knows who decided', async (t) => {
  const untold = { ...figures, log: { isRead: false, noted: 0, lost: 0 } }
  const metrics = await scrape({ ...reading, figures: untold })
  t.same(valuesOf(metrics.get('knp_remembered_packets_total')), { allow: 5, deny: 6 })
  t.same(valuesOf(metrics.get('knp_remembered_unknown_packets_total')), { '': 11 })
})

t.test('every metric has a name by the conventions, a help, and its labels', async (t) => {
  const metrics = await scrape()
  const seen = new Set<string>()
  for (const { name, type, help, labels } of definitions) {
    t.notOk(seen.has(name), `${name} is there once`)
    seen.add(name)
    t.match(name, /^knp_[a-z]+(_[a-z]+)*$/)
    t.equal(name.endsWith('_total'), type === 'counter', `${name}: counters end in _total, others do not`)
    if (type === 'histogram')
      t.ok(
        units.some((unit) => name.endsWith(`_${unit}`)),
        `${name} names its unit`,
      )
    t.match(help, /^[A-Z].*[.]$/, `${name}: a sentence`)
    const metric = metrics.get(name)!
    t.equal(metric.type, type, name)
    t.ok(metric.samples.length > 0, `${name} has a value`)
    const expected = [...labels].sort().join()
    for (const sample of metric.samples) {
      const found = Object.keys(sample.labels).filter((label) => label !== 'le')
      t.equal(found.sort().join(), expected, `${name}: its labels`)
    }
  }
})

t.test('values', async (t) => {
  const metrics = await scrape()
  const of = (name: string) => valuesOf(metrics.get(name))
  t.same(of('knp_build_info'), { '1.2.3': 1 })
  t.same(of('knp_config_info'), { 'enforce closed drop': 1 })
  t.same(of('knp_enforcing'), { '': 1 })
  t.same(of('knp_decisions_total'), {
    'ingress Admin deny asked': 5,
    'none Default allow asked': 7,
    'none Default allow remembered': 3,
  })
  t.same(of('knp_policy_decisions_total'), {
    'egress NetworkPolicy NetworkPolicy shop p allow': 29,
    'egress NetworkPolicy AdminNetworkPolicy  a\\"\\n\\\\b allow': 5,
  })
  t.same(of('knp_workloads'), { known: 9, selected: 4, protected: 1 })
  t.same(of('knp_remembered_packets_total'), { allow: 5, deny: 6 })
  t.same(of('knp_remembered_unknown_packets_total'), { '': 4 })
  t.same(of('knp_held_packets_total'), { '': 3 })
  t.same(of('knp_unknown_pod_packets_total'), { allow: 0, deny: 1 })
  t.same(of('knp_queue_length_packets'), { 100: 2, 101: 0 })
  t.same(of('knp_queue_capacity_packets'), { 100: 8192, 101: 8192 })
  t.same(of('knp_queue_dropped_packets_total'), { '100 queue': 3, '100 socket': 4, '101 queue': 0, '101 socket': 0 })
  t.same(of('knp_queue_packets_total'), { 100: 9, 101: 8 })
  t.same(of('knp_source_up'), { 'files policies/': 1, kubernetes: 0 })
  t.same(of('knp_source_lag_seconds'), { kubernetes: 1.5 })
  t.same(of('knp_source_watch_restarts_total'), { kubernetes: 2 })
  t.same(of('knp_source_notes'), { 'files policies/': 0, kubernetes: 1 })
  t.same(of('knp_last_good_saved_timestamp_seconds'), { '': firewallStatus.savedAtMs! / 1000 })
  const { samples } = metrics.get('knp_decision_duration_seconds')!
  const bucket = (le: string) => samples.find(({ labels }) => labels.le === le)?.value
  t.same([bucket('0.000025'), bucket('0.00005'), bucket('1'), bucket('+Inf')], [0, 3, 3, 4], 'buckets add up')
  t.same(
    samples.filter(({ name }) => !name.endsWith('_bucket')).map(({ name, value }) => [name, value]),
    [
      ['knp_decision_duration_seconds_sum', 2.00012],
      ['knp_decision_duration_seconds_count', 4],
    ],
  )
})

t.test('what nobody should take for enforcing', async (t) => {
  const enforcing = async (each: Reading) => valuesOf((await scrape(each)).get('knp_enforcing'))['']
  t.equal(await enforcing(reading), 1)
  t.equal(await enforcing({ ...reading, stalledQueues: [100] }), 0)
  t.equal(await enforcing({ ...reading, status: { ...firewallStatus, enforcing: false } }), 0)
  const { status: _status, figures: _figures, ...starting } = reading
  t.equal(await enforcing(starting), 0)
  const metrics = await scrape(starting)
  t.same(metrics.get('knp_decisions_total')?.samples, [])
  t.same(valuesOf(metrics.get('knp_source_up')), { 'files policies/': 1, kubernetes: 0 }, 'sources are known before')
})

t.test('a source that is named twice is one', async (t) => {
  const [source] = firewallStatus.sources
  t.same(valuesOf((await scrape({ ...reading, sources: [source!, source!] })).get('knp_source_up')), {
    'files policies/': 1,
  })
})

t.test('each scrape reads anew', async (t) => {
  let version = '1'
  const exporter = await Exporter.create(() => ({ ...reading, version }))
  t.equal(exporter.type, 'text/plain; version=0.0.4; charset=utf-8')
  version = '2'
  t.same(valuesOf(parsePrometheus(await exporter.text()).get('knp_build_info')), { 2: 1 })
})

t.test('docs/metrics.md lists exactly these', async (t) => {
  const text = await readFile(new URL('../docs/metrics.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `(knp_\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$/gm)].map((row) => row.slice(1))
  t.same(
    rows,
    definitions.map(({ name, type, labels, help }) => [
      name,
      type,
      labels.map((label) => `\`${label}\``).join(', '),
      help,
    ]),
  )
})
