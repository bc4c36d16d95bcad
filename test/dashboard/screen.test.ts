import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify, stripVTControlCharacters } from 'node:util'
import t from 'tap'
import { loadScreen } from '../../src/dashboard/load.ts'
import { type Action, type DashboardState, initialState, reduce } from '../../src/dashboard/state.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { allowed, audited, flow, status, T0 } from './flows.ts'

process.env.TZ = 'UTC'
process.env.NO_COLOR = '1'
const { frameText, pictureText } = await loadScreen()

const sizes = { narrow: [80, 24], wide: [160, 50] } as const

function after(...actions: readonly Action[]): DashboardState {
  return actions.reduce(reduce, initialState)
}

/** The counters of a minute, read once a second. */
const minute: readonly Action[] = Array.from({ length: 60 }, (_, i) => ({
  type: 'status',
  status: status({ allowed: i * i, denied: 3 * i, rememberedAllowed: i < 30 ? 0 : 40 * i, unanswered: i > 50 ? 1 : 0 }),
  atMs: T0 + i * 1000,
}))
const events: readonly FlowEvent[] = [
  flow({ count: 3 }),
  allowed({ timeMs: T0 + 1000, count: 12_345, isRemembered: true }),
  audited({ timeMs: T0 + 2000 }),
  flow({
    timeMs: T0 + 3000,
    protocol: 17,
    source: { name: 'shop/api-7d9f8b6c5-x2x4z', address: 'fd00::9', port: 5353 },
    destination: { address: '2001:db8::53', port: 53 },
  }),
]
const busy = after(...minute, { type: 'flows', items: events })

/** A frame as it was looked at and found to be right. */
async function drawn(name: string): Promise<string> {
  return readFile(new URL(`./frames/${name}.txt`, import.meta.url), 'utf8')
}

function frame(state: DashboardState, [columns, rows]: readonly [number, number]): string {
  return frameText(state, columns, rows)
}

t.test('80 columns, 24 lines', async (t) => {
  t.equal(frame(busy, sizes.narrow), await drawn('80x24'))
})

t.test('160 columns, 50 lines', async (t) => {
  t.equal(frame(busy, sizes.wide), await drawn('160x50'))
})

const many = Array.from({ length: 300 }, (_, i) =>
  flow({
    source: { address: `2001:db8:1234:5678:9abc:def0:1234:${i.toString(16)}`, port: 1 },
    destination: { name: `a-long-namespace/a-deployment-of-${i}-7d9f8b6c5-x2x4z`, address: '10.0.0.1', port: 65535 },
    decidedBy: {
      tier: 'Admin',
      policy: { kind: 'ClusterNetworkPolicy', name: `a-rather-long-name-${i}` },
      rule: 99,
      ruleName: 'with a name of its own',
      reason: 'because '.repeat(50),
    },
  }),
)

t.test('every state fits, whatever the size', async (t) => {
  const full = after(...minute, { type: 'flows', items: [...many, { missed: 1e9 }] })
  const trouble = status(
    { limited: 5, allowed: 1e12 },
    {
      enforcing: false,
      problems: ['files policies/: a.yaml:3: wrong\nb.yaml:4: wrong too', 'x'.repeat(500)],
      warnings: Array.from({ length: 20 }, (_, i) => `doubtful ${i}`),
      trial: { folder: '/tmp/trial', endsAtMs: T0 },
      queues: Array.from({ length: 16 }, (_, i) => ({ ...status().queues[0]!, number: 100 + i })),
    },
  )
  const troubled = reduce(full, { type: 'status', status: trouble, atMs: T0 + 90_000 })
  const states: Record<string, DashboardState> = {
    'nothing known': initialState,
    busy,
    full,
    trouble: troubled,
    lost: reduce(troubled, { type: 'lost', reason: 'no answer '.repeat(30), atMs: T0 }),
    typing: reduce(full, { type: 'type', typed: 'a filter '.repeat(22) }),
    filtered: reduce(full, { type: 'filter', filter: 'nothing like it '.repeat(12) }),
    'the last row': reduce(full, { type: 'move', by: 1000 }),
    help: reduce(full, { type: 'help' }),
    explanation: after(
      { type: 'flows', items: many },
      { type: 'explain' },
      { type: 'explained', id: 1, text: 'a line that is far too long for any terminal '.repeat(100) },
    ),
    quitting: reduce(full, { type: 'ask-quit' }),
  }
  for (const [name, state] of Object.entries(states)) {
    for (const [columns, rows] of [...Object.values(sizes), [60, 20], [200, 100], [40, 8]] as const) {
      const lines = frame(state, [columns, rows]).split('\n')
      t.equal(lines.length, rows, `${name}: lines of ${columns}x${rows}`)
      t.ok(
        lines.every((line) => line.length <= columns),
        `${name}: columns of ${columns}x${rows}`,
      )
    }
  }
})

t.test('what is wrong comes first', async (t) => {
  const broken = status(
    {},
    {
      enforcing: false,
      problems: ['files policies/: a.yaml:3: wrong', 'the divert rule is missing'],
      sources: [{ name: 'files policies/', isCurrent: false, error: 'a.yaml:3: wrong', notes: [] }],
    },
  )
  const state = after({ type: 'status', status: broken, atMs: T0 })
  t.match(frame(state, sizes.narrow), /^NOT ENFORCING {2}UNHEALTHY {2}mode enforce {2}/m)
  t.match(frame(state, sizes.narrow), /^sources {2}files policies\/ BROKEN, never read$/m)
  t.match(frame(state, sizes.narrow), /^PROBLEM 1 of 2 {2}files policies\/: a.yaml:3: wrong$/m)
  t.match(frame(state, sizes.wide), /^PROBLEM 2 of 2 {2}the divert rule is missing$/m, 'where there is room, all of it')
})

t.test('an audit is not taken for a firewall', async (t) => {
  const audit = status({}, { mode: 'audit' })
  t.match(
    frame(after({ type: 'status', status: audit, atMs: T0 }), sizes.narrow),
    /^NOT ENFORCING {2}healthy {2}mode AUDIT /,
  )
})

t.test('a queue that drops is seen', async (t) => {
  t.match(frame(busy, sizes.narrow), 'queues  3 waiting, 7 dropped; room for 8192 each  100: 3 / 0  101: 0 / 7')
  const { statistics: _, ...gone } = status().queues[1]!
  const state = after({
    type: 'status',
    status: status({ limited: 12_345 }, { queues: [status().queues[0]!, gone] }),
    atMs: T0,
  })
  t.match(frame(state, sizes.wide), '3 waiting, 0 dropped, 12.3k beyond a source')
  t.match(frame(state, sizes.wide), '101: not there')
})

t.test('a firewall that is lost: the last picture, marked as old', async (t) => {
  const lost = reduce(busy, { type: 'lost', reason: '/run/knp/control.sock: no firewall runs here', atMs: T0 + 60_000 })
  const lines = frame(lost, sizes.wide).split('\n')
  t.equal(
    lines[0],
    'NO ANSWER since 03:05:05: what is shown is old. /run/knp/control.sock: no firewall runs here; connecting again',
  )
  t.match(lines[1], /^ENFORCING {2}healthy {2}mode enforce {2}generation 3/)
  t.match(lines.join('\n'), 'DENIED  shop/web -> shop/db:5432/tcp')
})

t.test('which row is chosen, and in which list, is seen without colour', async (t) => {
  const marked = (state: DashboardState) => frame(state, sizes.wide).match(/^.*(^|[ ─])> .*$/gm) ?? []
  const down = reduce(busy, { type: 'move', by: 2 })
  t.match(marked(down)[0], /^> Flows by time · PAUSED, 0 since ─+$/)
  t.match(marked(down)[1], /^> 03:04:06 ALLOWED 198/)
  const pairs = frame(reduce(busy, { type: 'focus', by: 1 }), sizes.wide)
  t.match(pairs, /^─ Flows/m)
  t.match(pairs, /^> Most denied ─/m)
  t.match(pairs, /^> {6}3 shop\/web -> /m)
  const policies = frame(reduce(busy, { type: 'focus', by: 2 }), sizes.wide)
  t.match(policies, /─> {2}allow {3}deny {2}audit Policies ─/)
  t.match(policies, / > {2}12.3k {6}0 {6}0 shop\/web-open$/m)
})

t.test('the chosen row is always among those shown', async (t) => {
  const full = after({ type: 'flows', items: many }, { type: 'move', by: 150 })
  t.match(frame(full, sizes.narrow), /^> 03:04:05 DENIED {2}2001:/m)
})

t.test('filter, pause, sort and what was too much stand in the title', async (t) => {
  const state = after(
    { type: 'flows', items: events },
    { type: 'filter', filter: 'denied' },
    { type: 'sort' },
    { type: 'pause' },
    { type: 'flows', items: [flow(), { missed: 1234 }] },
  )
  t.match(
    frame(state, sizes.narrow),
    /^> Flows by count · filter "denied" · PAUSED, 1 since · 1234 too many to show ─+$/m,
  )
  t.match(frame(after({ type: 'filter', filter: 'x' }), sizes.narrow), '  nothing that the filter lets through')
  t.match(
    frame(after({ type: 'flows-refused', reason: 'knows no method' }), sizes.narrow),
    '  no flows: knows no method',
  )
})

t.test('an explanation', async (t) => {
  const asked = reduce(reduce(busy, { type: 'move', by: 2 }), { type: 'explain' })
  t.match(frame(asked, sizes.narrow), /^What the firewall says of it now:\nasking$/m)
  const text = 'ALLOWED  198.51.100.7 -> shop/web:8080/tcp\n  ingress  shop/web  NetworkPolicy accept\n'
  const lines = frame(reduce(asked, { type: 'explained', id: 1, text }), sizes.narrow).split('\n')
  t.same(lines.slice(5, 13), [
    '03:04:06  ALLOWED  198.51.100.7 -> shop/web:8080/tcp, 12345 times',
    'from 198.51.100.7 port 50000 to 10.0.0.2',
    'decided by generation 3, by what the kernel remembered: shop/web-open rule 0',
    'because: rule 0 matches',
    '',
    'What the firewall says of it now:',
    'ALLOWED  198.51.100.7 -> shop/web:8080/tcp',
    '  ingress  shop/web  NetworkPolicy accept',
  ])
  t.match(lines.at(-1), /^Esc: back/)
})

t.test('help fits a small terminal', async (t) => {
  const text = frame(reduce(busy, { type: 'help' }), sizes.narrow)
  t.notMatch(text, '…')
  t.match(text, /^ queues .* dropped$/m, 'to its last line')
})

t.test('nothing reaches the terminal that is not printable', async (t) => {
  const nasty = '\u001b[2J\u001b]0;x\u0007\r\n\u202eabc'
  const end = { name: nasty, address: nasty, port: 1 }
  const event = flow({
    source: end,
    destination: end,
    decidedBy: { tier: nasty, policy: { kind: nasty, namespace: nasty, name: nasty }, ruleName: nasty, reason: nasty },
  })
  const said = status(
    {},
    {
      nodeName: nasty,
      problems: [nasty],
      warnings: [nasty],
      sources: [{ name: nasty, isCurrent: false, notes: [] }],
      trial: { folder: nasty, endsAtMs: T0 },
    },
  )
  const state = after(
    { type: 'status', status: said, atMs: T0 },
    { type: 'flows', items: [event] },
    { type: 'lost', reason: nasty, atMs: T0 },
    { type: 'flows-refused', reason: nasty },
  )
  const explained = reduce(reduce(state, { type: 'explain' }), { type: 'explained', id: 1, text: nasty })
  const states = [
    state,
    reduce(state, { type: 'filter', filter: nasty }),
    reduce(state, { type: 'type', typed: nasty }),
  ]
  const texts = [...states, explained].map((one) => frame(one, sizes.wide))
  t.match(texts.at(-1), /^\\u\{202e\}abc$/m, 'of what is explained either')
  for (const text of [...texts, pictureText(state, 120)]) {
    t.notMatch(text, /[^\P{C}\n]/u)
    t.match(text, String.raw`\u{1b}`)
  }
})

t.test('colours add nothing', async (t) => {
  const script = `
    const { loadScreen } = await import(${JSON.stringify(new URL('../../src/dashboard/load.ts', import.meta.url))})
    const { busyFrame } = await import(${JSON.stringify(new URL('./busy-frame.ts', import.meta.url))})
    process.stdout.write(busyFrame(await loadScreen()))`
  const draw = async (env: NodeJS.ProcessEnv) => {
    const { NO_COLOR: _, ...rest } = process.env
    const argv = ['--input-type=module', '-e', script]
    return (await promisify(execFile)(process.execPath, argv, { env: { ...rest, ...env } })).stdout
  }
  const [coloured, plain] = await Promise.all([draw({ FORCE_COLOR: '1' }), draw({ FORCE_COLOR: '1', NO_COLOR: '1' })])
  t.match(coloured, '\u001b[31mDENIED')
  t.notMatch(plain, '\u001b')
  t.equal(stripVTControlCharacters(coloured).replace(/ +$/gm, ''), plain)
})

t.test('one picture, as text', async (t) => {
  t.equal(pictureText(busy, 120), await drawn('picture'))
})
