import t from 'tap'
import { meaningOf, type PressedKey } from '../../src/dashboard/keys.ts'
import { type DashboardState, initialState, type Wish } from '../../src/dashboard/state.ts'

interface Case {
  readonly name: string
  readonly state?: Partial<DashboardState>
  readonly input?: string
  readonly key?: PressedKey
  readonly isOwner?: boolean
  readonly means: Wish | 'quit' | undefined
}

const cases: readonly Case[] = [
  { name: 'up', key: { upArrow: true }, means: { type: 'move', by: -1 } },
  { name: 'down', key: { downArrow: true }, means: { type: 'move', by: 1 } },
  { name: 'a letter for down', input: 'j', means: { type: 'move', by: 1 } },
  { name: 'a letter for up', input: 'k', means: { type: 'move', by: -1 } },
  { name: 'a page', key: { pageDown: true }, means: { type: 'move', by: 10 } },
  { name: 'a page back', key: { pageUp: true }, means: { type: 'move', by: -10 } },
  { name: 'the next list', key: { tab: true }, means: { type: 'focus', by: 1 } },
  { name: 'the list before', key: { tab: true, shift: true }, means: { type: 'focus', by: -1 } },
  { name: 'Enter', key: { return: true }, means: { type: 'explain' } },
  { name: 'Enter as a character', input: '\r', means: { type: 'explain' } },
  {
    name: 'Enter as a character of a filter',
    state: { typed: 'x' },
    input: '\r',
    means: { type: 'filter', filter: 'x' },
  },
  { name: 'Esc', key: { escape: true }, means: { type: 'back' } },
  { name: 'pause', input: 'p', means: { type: 'pause' } },
  { name: 'sort', input: 's', means: { type: 'sort' } },
  { name: 'help', input: '?', means: { type: 'help' } },
  { name: 'the end', input: 'q', means: 'quit' },
  { name: 'Ctrl-C', input: 'c', key: { ctrl: true }, means: 'quit' },
  { name: 'Ctrl-C while typing', state: { typed: 'x' }, input: 'c', key: { ctrl: true }, means: 'quit' },
  { name: 'what means nothing', input: 'x', means: undefined },
  { name: 'a filter begins as it is', state: { filter: 'db' }, input: '/', means: { type: 'type', typed: 'db' } },
  { name: 'a letter of a filter', state: { typed: 'd' }, input: 'q', means: { type: 'type', typed: 'dq' } },
  { name: 'pasted into a filter', state: { typed: '' }, input: 'shop/db', means: { type: 'type', typed: 'shop/db' } },
  { name: 'a control character', state: { typed: 'd' }, input: '\u001b[2J', means: undefined },
  { name: 'rubbing out', state: { typed: 'd😀' }, key: { backspace: true }, means: { type: 'type', typed: 'd' } },
  {
    name: 'rubbing out, as terminals say it',
    state: { typed: 'd' },
    key: { delete: true },
    means: { type: 'type', typed: '' },
  },
  {
    name: 'the filter is done',
    state: { typed: ' db ' },
    key: { return: true },
    means: { type: 'filter', filter: 'db' },
  },
  {
    name: 'the filter is given up',
    state: { typed: 'db' },
    key: { escape: true },
    means: { type: 'type', typed: undefined },
  },
  { name: 'the end of a firewall is asked for twice', input: 'q', isOwner: true, means: { type: 'ask-quit' } },
  { name: 'and then it is', state: { isQuitAsked: true }, input: 'q', isOwner: true, means: 'quit' },
  { name: 'or is not', state: { isQuitAsked: true }, input: 'p', isOwner: true, means: { type: 'back' } },
]

for (const { name, state = {}, input = '', key = {}, isOwner = false, means } of cases) {
  t.test(name, async (t) => {
    t.same(meaningOf({ ...initialState, ...state }, input, key, isOwner), means)
  })
}

t.test('a filter has an end', async (t) => {
  const wish = meaningOf({ ...initialState, typed: '' }, 'x'.repeat(10_000), {}, false)
  t.same(wish, { type: 'type', typed: 'x'.repeat(200) })
})
