import t from 'tap'
import {
  DEFAULT_CONNECTION_MASK,
  DEFAULT_PACKET_MASK,
  LAST_STAMP,
  layoutMarks,
  PICKED_UP,
} from '../../src/datapath/marks.ts'
import { defaultFailsafe } from '../../src/ruleset/failsafe.ts'
import { counters, divertChains, objectsText, rulesText, sets } from '../../src/ruleset/text.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!

/** The rules of a chain, line by line. */
function chain(name: string, onFailure: 'open' | 'closed' = 'closed', layout = marks): string[] {
  const text = rulesText({ marks: layout, onFailure, failsafe: defaultFailsafe })
  const body = new RegExp(`^  chain ${name} \\{\n((?:    .*\n)*)  \\}$`, 'm').exec(text)?.[1]
  if (body === undefined) throw new Error(`no chain ${name}`)
  return body
    .trimEnd()
    .split('\n')
    .map((line) => line.trim())
}

t.test('objects are made, never unmade: loading them again changes nothing', async (t) => {
  const text = objectsText()
  t.notMatch(text, /delete|flush|destroy/)
  t.match(text, /^table inet knp \{\n[\s\S]*\n\}\n$/)
  for (const name of [...counters, ...Object.values(sets), ...divertChains]) {
    t.match(text, new RegExp(`^  (counter|set|chain) ${name} \\{`, 'm'), name)
  }
})

t.test('a hook has three base chains, behind DNAT and ahead of filter rules', async (t) => {
  const chains = [...objectsText().matchAll(/chain (\w+) \{ type \w+ hook (\w+) priority (-?\d+); policy accept; \}/g)]
  t.same(
    chains.map(([, name, hook, priority]) => [name, hook, Number(priority)]),
    [
      ['before_forward', 'forward', -160],
      ['divert_forward', 'forward', -150],
      ['after_forward', 'forward', -140],
      ['before_input', 'input', 110],
      ['divert_input', 'input', 120],
      ['after_input', 'input', 130],
      ['before_output', 'output', -10],
      ['divert_output', 'output', 0],
      ['after_output', 'output', 10],
    ],
  )
})

t.test('every chain with rules is flushed first, and exists; divert chains are left alone', async (t) => {
  const text = rulesText({ marks, onFailure: 'closed', failsafe: defaultFailsafe })
  const flushed = [...text.matchAll(/^flush chain inet knp (\w+)$/gm)].map(([, name]) => name!)
  const filled = [...text.matchAll(/^ {2}chain (\w+) \{$/gm)].map(([, name]) => name!)
  t.same(flushed, filled)
  t.equal(new Set(filled).size, filled.length)
  for (const name of filled) t.match(objectsText(), new RegExp(`^  chain ${name} \\{`, 'm'), name)
  t.same(
    filled.filter((name) => divertChains.includes(name)),
    [],
  )
  const targets = [...text.matchAll(/(?:goto|jump) (\w+)/g)].map(([, name]) => name!)
  t.same(
    targets.filter((name) => !filled.includes(name)),
    [],
    'and every target is one of them',
  )
})

t.test('our bits are cleared on the way in and on every way out', async (t) => {
  const clear = 'meta mark set meta mark & 0x80ffffff'
  t.equal(chain('prepare')[0], `meta mark & 0x7f000000 != 0 ${clear}`)
  const lastWords = [...chain('after'), ...chain('allowed'), ...chain('unanswered')].filter((rule) =>
    /(accept|drop)$/.test(rule),
  )
  t.equal(lastWords.length, 3)
  for (const rule of lastWords) t.match(rule, clear)
})

t.test('what gets no verdict', async (t) => {
  t.match(chain('unanswered', 'closed').at(-1), / drop$/)
  t.match(chain('unanswered', 'open').at(-1), / accept$/)
  t.equal(chain('unanswered')[0], 'counter name unanswered')
  t.equal(chain('after').at(-1), 'goto unanswered', 'is whatever is neither denied nor allowed')
})

t.test('the modes differ in that alone', async (t) => {
  const lines = (['open', 'closed'] as const).map((onFailure) =>
    rulesText({ marks, onFailure, failsafe: defaultFailsafe }).split('\n'),
  )
  t.equal(lines[0]!.filter((line, i) => line !== lines[1]![i]).length, 1)
})

t.test('nothing is accepted for being a reply, or related, alone', async (t) => {
  const accepting = chain('judge').filter((rule) => rule.endsWith(' accept') && !rule.includes('meta mark set'))
  t.ok(accepting.length > 0)
  for (const rule of accepting) t.match(rule, 'ct mark & 0xf0000000 == @stamped', rule)
})

t.test('never judged: path-MTU, MLD and neighbour discovery, and nothing else', async (t) => {
  const accepting = chain('prepare').filter((rule) => rule.endsWith('accept'))
  t.same(accepting, [
    'icmpv6 type { packet-too-big, 130-132, 143, 133-137 } accept',
    'icmp type destination-unreachable icmp code frag-needed accept',
  ])
})

t.test('each stamp has its chain, and only those of now are learnt', async (t) => {
  const [, learn] = chain('allowed')
  t.match(learn, 'meta mark & 0x0f000000 == @current meta mark & 0x0f000000 vmap {')
  for (const stamp of [...Array.from({ length: LAST_STAMP }, (_, i) => i + 1), PICKED_UP]) {
    t.match(learn, `0x0${stamp.toString(16)}000000 : jump stamp_${stamp}`)
    t.same(chain(`stamp_${stamp}`), [`ct mark set ct mark & 0x0fffffff | 0x${stamp.toString(16)}0000000`])
  }
  t.notMatch(learn, 'stamp_0')
})

t.test('other masks move every bit, and touch no other', async (t) => {
  const moved = layoutMarks(0xfe00, 0xf0)!
  const text = rulesText({ marks: moved, onFailure: 'closed', failsafe: defaultFailsafe })
  t.equal(chain('prepare', 'closed', moved)[0], 'meta mark & 0x0000fe00 != 0 meta mark set meta mark & 0xffff01ff')
  const used = [...text.matchAll(/meta mark (?:& |== |\| )(0x[0-9a-f]{8})/g)].map(([, value]) => Number(value))
  t.ok(used.length > 5)
  t.same(
    used.filter((value) => (value & ~0xfe00) >>> 0 !== 0 && value !== 0xffff01ff),
    [],
  )
  const connection = [...text.matchAll(/ct mark & (0x[0-9a-f]{8})/g)].map(([, value]) => Number(value))
  t.same([...new Set(connection)].sort(), [0xf0, 0xffffff0f])
})

t.test('the text is the same every time', async (t) => {
  t.equal(objectsText(), objectsText())
  t.equal(
    rulesText({ marks, onFailure: 'closed', failsafe: defaultFailsafe }),
    rulesText({ marks, onFailure: 'closed', failsafe: defaultFailsafe }),
  )
})
