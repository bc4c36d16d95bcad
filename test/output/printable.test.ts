import t from 'tap'
import { printable } from '../../src/output/printable.ts'

const cases: readonly [rule: string, text: string, shown: string][] = [
  ['ordinary text is left alone', 'ALLOWED  shop/web -> é 日本 ·', 'ALLOWED  shop/web -> é 日本 ·'],
  ['lines stay lines', 'a\nb\n', 'a\nb\n'],
  ['escape sequences of terminals', '\u001b[31mred\u001b]0;title\u0007', '\\u{1b}[31mred\\u{1b}]0;title\\u{7}'],
  ['the one-byte form of them', 'a\u009bb', 'a\\u{9b}b'],
  ['carriage returns overwrite lines', 'DENIED\rALLOWED', 'DENIED\\u{d}ALLOWED'],
  ['backspace and delete', 'a\bb\u007f', 'a\\u{8}b\\u{7f}'],
  ['tabs', 'a\tb', 'a\\u{9}b'],
  ['zero', 'a\0b', 'a\\u{0}b'],
  ['text that turns round', 'a\u202eb\u2066c', 'a\\u{202e}b\\u{2066}c'],
  ['characters without width', 'a\u200bb\ufeffc\u00ad', 'a\\u{200b}b\\u{feff}c\\u{ad}'],
  ['other line ends', 'a\u2028b\u2029c\u0085', 'a\\u{2028}b\\u{2029}c\\u{85}'],
  ['tags beyond the first plane', 'a\u{e0041}b', 'a\\u{e0041}b'],
]

t.test('text that a terminal may show', async (t) => {
  for (const [rule, text, shown] of cases) t.equal(printable(text), shown, rule)
})
