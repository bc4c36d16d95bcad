import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parse, stringify } from 'yaml'
import { definitions } from '../../src/metrics/definitions.ts'
import { Exporter } from '../../src/metrics/exporter.ts'
import { firewallStatus } from '../fixtures/firewall-status.ts'
import { parsePrometheus } from '../fixtures/prometheus.ts'

const monitoring = new URL('../../packaging/monitoring/', import.meta.url)
const read = (name: string) => readFile(new URL(name, monitoring), 'utf8')

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string }
}

interface Target {
  readonly expr: string
  readonly legendFormat: string
}

interface Panel {
  readonly title: string
  readonly type: string
  readonly description?: string
  readonly targets?: readonly Target[]
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
}

interface Dashboard {
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
}

/** What Prometheus itself adds to each sample, and what buckets have. */
const everywhere = ['instance', 'job', 'le']
const suffixes = ['', '_bucket', '_sum', '_count']

const exporter = await Exporter.create(() => ({
  status: firewallStatus,
  sources: firewallStatus.sources,
  stalledQueues: [],
  version: '1.2.3',
}))
const exported = await exporter.text()
const metrics = parsePrometheus(exported)

/** The metric that a name in a query means; `undefined` where there is none. */
function metricOf(name: string): string | undefined {
  for (const suffix of suffixes) {
    const base = name.slice(0, name.length - suffix.length)
    const metric = name.endsWith(suffix) ? metrics.get(base) : undefined
    // Only histograms have parts, and a histogram has nothing else.
    if (metric && (suffix !== '') === (metric.type === 'histogram')) return base
  }
  return undefined
}

/** Everything in a query that names nothing of ours, one line each. */
function unknownIn(query: string): string[] {
  const bare = query.replaceAll(/"[^"]*"/g, '""')
  const names = [...bare.matchAll(/\b(?:knp|process|nodejs)_\w+/g)].map(([name]) => name)
  if (names.length === 0) return [`no metric in ${query}`]
  const labels = new Set([
    ...everywhere,
    ...definitions.filter(({ name }) => names.map(metricOf).includes(name)).flatMap(({ labels }) => labels),
  ])
  const used = [
    ...[...bare.matchAll(/\{([^}]*)\}/g)].flatMap(([, matchers]) => [...matchers!.matchAll(/(\w+)\s*[=!]/g)]),
    ...[...bare.matchAll(/\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/g)].flatMap(([, list]) => [
      ...list!.matchAll(/(\w+)/g),
    ]),
  ].map(([, label]) => label!)
  return [
    ...names.filter((name) => metricOf(name) === undefined).map((name) => `${name} does not exist: ${query}`),
    ...used.filter((label) => !labels.has(label)).map((label) => `${label} is no label there: ${query}`),
  ]
}

/** Counters are only of use as rates. */
function bareCountersIn(query: string): string[] {
  return [...query.matchAll(/(rate|increase)?\(?(\bknp_\w+_total\b)/g)].flatMap(([, how, name]) => (how ? [] : [name!]))
}

const queriesOf = ({ panels }: Dashboard) => panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

t.test('what is checked is checked', async (t) => {
  t.same(unknownIn('sum by (tier) (rate(knp_decisions_total{verdict="deny"}[5m]))'), [])
  t.same(unknownIn('rate(knp_decision_duration_seconds_bucket[5m])'), [])
  for (const query of [
    'knp_no_such_thing',
    'knp_decision_duration_seconds',
    'knp_generation_bucket',
    'knp_decisions_total{nobody="x"}',
    'sum by (queue) (knp_decisions_total)',
    'up == 0',
  ])
    t.equal(unknownIn(query).length, 1, query)
  t.same(bareCountersIn('knp_repairs_total > 1'), ['knp_repairs_total'])
})

t.test('alerts name metrics and labels that exist, and say what to do', async (t) => {
  const { groups } = parse(await read('alerts.yaml')) as { groups: { name: string; rules: Rule[] }[] }
  const rules = groups.flatMap((group) => group.rules)
  t.ok(rules.length >= 10)
  for (const { alert, expr, labels, annotations } of rules) {
    t.same(unknownIn(expr), [], alert)
    t.same(bareCountersIn(expr), [], `${alert}: counters as rates`)
    t.match(labels.severity, /^(critical|warning)$/, alert)
    t.match(annotations.summary, 'knp', alert)
    t.match(annotations.description, /\.$/, alert)
  }
  const docs = await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
  t.same(
    [...docs.matchAll(/^\| `(Knp\w+)` \|/gm)].map(([, name]) => name),
    rules.map(({ alert }) => alert),
    'docs/metrics.md lists them',
  )
})

t.test("the dashboard's queries name metrics and labels that exist", async (t) => {
  const dashboard = JSON.parse(await read('dashboard.json')) as Dashboard
  const queries = queriesOf(dashboard)
  t.ok(queries.length >= 20)
  for (const query of queries) {
    t.same(unknownIn(query), [])
    t.same(bareCountersIn(query), [])
    t.match(query, 'instance=~"$instance"', 'asks for the machines that are chosen')
  }
  for (const { name, definition } of dashboard.templating.list) {
    if (definition !== undefined) t.same(unknownIn(definition), [], name)
  }
})

t.test('panels have room of their own, and say what they show', async (t) => {
  const { panels } = JSON.parse(await read('dashboard.json')) as Dashboard
  const taken = new Map<string, string>()
  for (const { title, type, description, gridPos } of panels) {
    if (type !== 'row') t.match(description, /\w.*\.$/, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        t.notOk(taken.has(`${x} ${y}`), `${title} lies over ${taken.get(`${x} ${y}`)}`)
        taken.set(`${x} ${y}`, title)
      }
    }
    t.ok(gridPos.x + gridPos.w <= 24, title)
  }
})

// A tool for whoever changes them: what names metrics is checked above.
if (hasPromtool()) {
  t.test('promtool takes them', async (t) => {
    const run = (args: readonly string[], input = '') => execFileSync('promtool', args, { input, encoding: 'utf8' })
    t.match(run(['check', 'rules', fileURLToPath(new URL('alerts.yaml', monitoring))]), 'SUCCESS')
    t.equal(run(['check', 'metrics'], exported), '', 'nothing to say about them')
    const queries = queriesOf(JSON.parse(await read('dashboard.json')) as Dashboard)
    const rules = queries.map((query, i) => ({
      record: `query_${i}`,
      expr: query.replaceAll(/\$__(rate_interval|range)/g, '5m'),
    }))
    const folder = t.testdir({ 'queries.yaml': stringify({ groups: [{ name: 'dashboard', rules }] }) })
    t.match(run(['check', 'rules', `${folder}/queries.yaml`]), `SUCCESS: ${queries.length} rules found`)
  })
}

function hasPromtool(): boolean {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
