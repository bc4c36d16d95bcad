import t from 'tap'
import { MAX_ROWS } from '../../src/dashboard/flow-list.ts'
import {
  type Action,
  chosenIn,
  type DashboardState,
  heldBack,
  initialState,
  rankedIn,
  reduce,
  shownFlows,
} from '../../src/dashboard/state.ts'
import { MAX_TALLIES, totalOf } from '../../src/dashboard/tally.ts'
import { shownVerdict, sourceText } from '../../src/dashboard/text.ts'
import type { FlowEvent } from '../../src/flows/event.ts'
import { allowed, audited, flow, status, T0 } from './flows.ts'

function after(...actions: readonly Action[]): DashboardState {
  return actions.reduce(reduce, initialState)
}

function told(...items: readonly FlowEvent[]): Action {
  return { type: 'flows', items }
}

/** A client that is told from others by its number. */
function client(n: number): FlowEvent {
  return flow({ source: { address: `198.51.100.${n}` } })
}

function sources(state: DashboardState): string[] {
  return shownFlows(state).map(({ event }) => sourceText(event))
}

t.test('rates', async (t) => {
  const read = (atMs: number, counts: Parameters<typeof status>[0]): Action => ({
    type: 'status',
    status: status(counts),
    atMs,
  })
  t.test('are what the counters moved by, a second', async (t) => {
    const { rates } = after(
      read(0, { allowed: 10, denied: 5, rememberedAllowed: 100, rememberedDenied: 7, unanswered: 1 }),
      read(2000, { allowed: 30, denied: 5, rememberedAllowed: 110, rememberedDenied: 9, unanswered: 4 }),
    )
    t.same(rates?.samples, { allowed: [10], denied: [0], remembered: [6], 'no verdict': [1.5] })
    t.same(rates?.totals, { allowed: 30, denied: 5, remembered: 119, 'no verdict': 4 })
  })
  t.test('the first reading is no rate', async (t) => {
    t.same(after(read(0, { allowed: 10 })).rates?.samples.allowed, [])
  })
  t.test('counters that begin anew are no rate, and what was measured before stays', async (t) => {
    const { rates } = after(
      read(0, { allowed: 10 }),
      read(1000, { allowed: 30 }),
      read(2000, { allowed: 3 }),
      read(3000, { allowed: 4 }),
    )
    t.same(rates?.samples.allowed, [20, 1])
  })
  t.test('are kept for a while only', async (t) => {
    const readings = Array.from({ length: 1000 }, (_, i) => read(i * 1000, { allowed: i * i }))
    const { rates } = after(...readings)
    t.equal(rates?.samples.allowed.length, 240)
    t.equal(rates?.samples.allowed.at(-1), 999 * 999 - 998 * 998)
  })
})

t.test('a firewall that does not answer', async (t) => {
  const known = after({ type: 'status', status: status(), atMs: T0 }, told(flow()))
  const lost = reduce(known, { type: 'lost', reason: 'no firewall runs here', atMs: T0 + 1000 })
  t.same(lost.lost, { reason: 'no firewall runs here', sinceMs: T0 + 1000 })
  t.equal(lost.status, known.status, 'its last word stays')
  t.equal(shownFlows(lost).length, 1)
  const still = reduce(lost, { type: 'lost', reason: 'no answer within 5000 ms', atMs: T0 + 9000 })
  t.same(still.lost, { reason: 'no answer within 5000 ms', sinceMs: T0 + 1000 }, 'since when is kept')
  const found = reduce(still, { type: 'status', status: status({}, { generation: 1 }), atMs: T0 + 10_000 })
  t.equal(found.lost, undefined)
  t.equal(found.status?.generation, 1)
})

t.test('flows stand newest first', async (t) => {
  const state = after(told(client(1), client(2)), told(client(3)))
  t.same(sources(state), ['198.51.100.3', '198.51.100.2', '198.51.100.1'])
  t.same(
    shownFlows(state).map(({ id }) => id),
    [3, 2, 1],
  )
})

t.test('memory is bounded, whatever comes in', async (t) => {
  let state = reduce(initialState, { type: 'filter', filter: 'denied' })
  const port = (n: number) => flow({ destination: { name: 'shop/db', address: '10.0.0.3', port: n } })
  const policy = (n: number) =>
    allowed({ decidedBy: { tier: 'NetworkPolicy', policy: { kind: 'NetworkPolicy', name: `p${n}` }, reason: 'x' } })
  for (let i = 0; i < 50; i++) {
    const items = Array.from({ length: 100 }, (_, j) => [port(i * 100 + j), policy(i * 100 + j)]).flat()
    state = reduce(state, told(...items, port(70_000)))
  }
  t.equal(state.flows.all.length, MAX_ROWS)
  t.equal(state.flows.matching.length, MAX_ROWS)
  t.ok(state.pairs.size <= 2 * MAX_TALLIES, `${state.pairs.size} pairs`)
  t.ok(state.policies.size <= 2 * MAX_TALLIES, `${state.policies.size} policies`)
  const top = rankedIn(state, 'pairs')[0]!
  t.match(top, { name: 'shop/web -> shop/db:70000/tcp', counts: { DENIED: 50 } }, 'what counts most is never left out')
})

t.test('what was not told of is counted', async (t) => {
  const state = after({ type: 'flows', items: [{ missed: 4 }, flow(), { missed: 3 }] })
  t.equal(state.missed, 7)
  t.equal(shownFlows(state).length, 1)
})

t.test('a firewall without flows says why, until it has some', async (t) => {
  const refused = after({ type: 'flows-refused', reason: 'knows no method "flows"' })
  t.equal(refused.flowsProblem, 'knows no method "flows"')
  t.equal(reduce(refused, told()).flowsProblem, undefined)
})

t.test('filter', async (t) => {
  const events = [
    flow(),
    allowed(),
    audited({ destination: { name: 'shop/api', address: '10.0.0.9', port: 80 } }),
    flow({ isRemembered: true, protocol: 17, destination: { address: 'fd00::53', port: 53 } }),
  ]
  const cases: readonly [filter: string, shown: readonly number[]][] = [
    ['', [3, 2, 1, 0]],
    ['DENIED', [3, 0]],
    ['denied 5432', [0]],
    ['audit', [2]],
    ['198.51', [2, 1]],
    ['10.0.0.3', [0]],
    ['web-open', [1]],
    ['db-only', [3, 2, 0]],
    ['[fd00::53]:53/udp', [3]],
    ['kernel', [3]],
    ['!denied', [2, 1]],
    ['denied !kernel', [0]],
    ['!', [3, 2, 1, 0]],
    ['no such thing', []],
  ]
  for (const [filter, shown] of cases) {
    const names = shown.map((i) => events[i])
    const inPast = after(told(...events), { type: 'filter', filter })
    t.same(
      shownFlows(inPast).map(({ event }) => event),
      names,
      `"${filter}" of what is there`,
    )
    const coming = after({ type: 'filter', filter }, told(...events))
    t.same(
      shownFlows(coming).map(({ event }) => event),
      names,
      `"${filter}" of what comes`,
    )
  }
  t.test('what matches is kept while much comes that does not', async (t) => {
    const noise = Array.from({ length: 2 * MAX_ROWS }, () => allowed())
    const state = after({ type: 'filter', filter: 'denied' }, told(client(1)), told(...noise))
    t.same(sources(state), ['198.51.100.1'])
    t.same(sources(reduce(state, { type: 'filter', filter: '198.51.100.1' })), [], 'but not beyond the next filter')
  })
  t.test('typing changes nothing yet, and can be given up', async (t) => {
    const typing = after(told(flow()), { type: 'type', typed: 'nothing' })
    t.equal(shownFlows(typing).length, 1)
    t.match(reduce(typing, { type: 'type', typed: undefined }), { filter: '', typed: undefined })
    const done = reduce(typing, { type: 'filter', filter: 'nothing' })
    t.match(done, { filter: 'nothing', typed: undefined })
  })
})

t.test('pause', async (t) => {
  const paused = after(told(client(1)), { type: 'pause' }, told(client(2), client(3)))
  t.same(sources(paused), ['198.51.100.1'], 'the list stands still')
  t.equal(heldBack(paused), 2)
  t.equal(totalOf(rankedIn(paused, 'policies')[0]!), 3, 'counting goes on')
  t.same(sources(reduce(paused, { type: 'filter', filter: '100.2' })), [], 'a filter holds for what stands still')
  const going = reduce(paused, { type: 'pause' })
  t.same(sources(going), ['198.51.100.3', '198.51.100.2', '198.51.100.1'])
  t.equal(heldBack(going), 0)
})

t.test('sort', async (t) => {
  const events = [
    flow({ count: 2 }),
    allowed({ count: 9 }),
    audited({ count: 1, source: { name: 'a/a', address: '10.0.0.8' } }),
    flow({ count: 2, source: { name: 'zoo/z', address: '10.0.0.9' } }),
  ]
  let state = after(told(...events))
  const orders: Record<string, number[]> = {}
  for (let i = 0; i < 6; i++) {
    orders[state.sorting] = shownFlows(state).map(({ event }) => events.indexOf(event))
    state = reduce(state, { type: 'sort' })
  }
  t.same(orders, {
    time: [3, 2, 1, 0],
    count: [1, 3, 0, 2],
    verdict: [3, 0, 2, 1],
    source: [1, 2, 0, 3],
    destination: [3, 0, 2, 1],
  })
})

t.test('who was refused what, most first', async (t) => {
  const state = after(told(flow({ count: 3 }), allowed({ count: 50 }), audited({ count: 2 })), told(flow({ count: 4 })))
  t.match(rankedIn(state, 'pairs'), [
    { name: 'shop/web -> shop/db:5432/tcp', counts: { DENIED: 7, AUDIT: 0, ALLOWED: 0 } },
    { name: '198.51.100.7 -> shop/web:8080/tcp', counts: { DENIED: 0, AUDIT: 2, ALLOWED: 0 } },
  ])
  t.equal(rankedIn(state, 'pairs').length, 2)
})

t.test('what each policy decided', async (t) => {
  const byDefault = allowed({ decidedBy: { tier: 'Default', reason: 'no policy decides this flow' } })
  const state = after(told(flow({ count: 3 }), allowed({ count: 50 }), audited({ count: 2 }), byDefault))
  t.match(rankedIn(state, 'policies'), [
    { name: 'shop/web-open', counts: { ALLOWED: 50, DENIED: 0, AUDIT: 0 } },
    { name: 'shop/db-only', counts: { ALLOWED: 0, DENIED: 3, AUDIT: 2 } },
    { name: '(Default)', counts: { ALLOWED: 1, DENIED: 0, AUDIT: 0 } },
  ])
})

t.test('what each policy decided by the count of the firewall', async (t) => {
  const policy = (name: string) => ({ kind: 'NetworkPolicy', namespace: 'shop', name })
  const state = after(told(flow({ count: 3 }), audited({ count: 2 })), {
    type: 'deciders',
    deciders: [
      { tier: 'NetworkPolicy', policy: policy('db-only'), allowed: 4, denied: 30, audit: 2 },
      { tier: 'NetworkPolicy', policy: policy('before-anybody-looked'), allowed: 99, denied: 0, audit: 0 },
      { tier: 'Default', allowed: 1, denied: 0, audit: 0 },
    ],
  })
  t.match(rankedIn(state, 'policies'), [
    { name: 'shop/before-anybody-looked', counts: { ALLOWED: 99, DENIED: 0, AUDIT: 0 } },
    { name: 'shop/db-only', counts: { ALLOWED: 4, DENIED: 30, AUDIT: 2 } },
    { name: '(Default)', counts: { ALLOWED: 1, DENIED: 0, AUDIT: 0 } },
  ])
  const chosen = reduce(state, { type: 'focus', by: 2 })
  t.equal(
    reduce(chosen, { type: 'explain' }).explanation,
    undefined,
    'of what was not seen there is nothing to explain',
  )
  const next = reduce(reduce(chosen, { type: 'move', by: 1 }), { type: 'explain' })
  t.equal(shownVerdict(next.explanation!.event), 'AUDIT')
})

t.test('choosing a row', async (t) => {
  const state = after(told(client(1), client(2), client(3)))
  t.equal(chosenIn(state), 0)
  t.equal(chosenIn(initialState), -1, 'of none')
  const down = reduce(state, { type: 'move', by: 1 })
  t.equal(chosenIn(down), 1)
  t.ok(down.held, 'rows to be pointed at stand still')
  t.equal(chosenIn(reduce(down, { type: 'move', by: 10 })), 2)
  t.equal(chosenIn(reduce(down, { type: 'move', by: -10 })), 0)
  const filtered = reduce(reduce(down, { type: 'move', by: 1 }), { type: 'filter', filter: '100.3' })
  t.equal(chosenIn(filtered), 0)
  const next = reduce(down, { type: 'focus', by: 1 })
  t.match(next, { focus: 'pairs', chosen: 0 })
  t.equal(reduce(next, { type: 'focus', by: -1 }).focus, 'flows')
  t.equal(reduce(state, { type: 'focus', by: -1 }).focus, 'policies')
})

t.test('explaining', async (t) => {
  t.equal(reduce(initialState, { type: 'explain' }).explanation, undefined, 'where there is nothing to explain')
  const state = after(told(client(1), client(2)), { type: 'move', by: 1 }, { type: 'explain' })
  t.match(state.explanation, { id: 1, event: { source: { address: '198.51.100.1' } }, text: undefined })
  const told1 = reduce(state, { type: 'explained', id: 1, text: 'DENIED ...' })
  t.equal(told1.explanation?.text, 'DENIED ...')
  const closed = reduce(told1, { type: 'back' })
  t.equal(closed.explanation, undefined)
  const again = reduce(closed, { type: 'explain' })
  t.equal(again.explanation?.id, 2)
  t.equal(
    reduce(again, { type: 'explained', id: 1, text: 'late' }).explanation?.text,
    undefined,
    'an answer to another',
  )
  t.equal(reduce(closed, { type: 'explained', id: 1, text: 'late' }).explanation, undefined)
  const policy = after(told(flow(), allowed(), allowed()), { type: 'focus', by: 2 }, { type: 'explain' })
  t.equal(shownVerdict(policy.explanation!.event), 'ALLOWED', 'the last thing that the policy decided')
  t.equal(policy.held, undefined)
})

t.test('back closes one thing after the other', async (t) => {
  let state = after(
    told(flow()),
    { type: 'filter', filter: 'denied' },
    { type: 'explain' },
    { type: 'help' },
    { type: 'ask-quit' },
  )
  const open = () => [
    state.isQuitAsked,
    state.isHelpShown,
    state.explanation !== undefined,
    state.filter !== '',
    state.held !== undefined,
  ]
  for (let i = 0; i <= 5; i++) {
    t.same(
      open(),
      [0, 1, 2, 3, 4].map((n) => n >= i),
    )
    state = reduce(state, { type: 'back' })
  }
})
