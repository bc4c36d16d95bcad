import { existsSync, readFileSync, statSync } from 'node:fs'
import t from 'tap'

const root = new URL('..', import.meta.url)
const text = readFileSync(new URL('docs/promises.md', root), 'utf8')
/** Cells of the rows of both tables, without their heads. */
const rows = text
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (#|defect) /.test(line))
  .map((line) => line.slice(2, -2).split(' | '))

t.test('every promise has a row of its own, and says whether it is kept', async (t) => {
  const promises = rows.filter((cells) => cells.length === 5)
  t.same(
    promises.map(([number]) => Number(number)),
    Array.from({ length: 18 }, (_, i) => i + 1),
  )
  for (const [number, , , kept] of promises) t.match(kept, /^(yes|in part|no|for )/, `promise ${number}`)
})

t.test('what shows it is there', async (t) => {
  const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'))
  for (const cells of rows) {
    const [shown] = cells.slice(-1) as [string]
    // `path`: "name of a test"; or `npm run NAME`.
    const references = [...shown.matchAll(/`([^`]+)`(?:: "([^"]+)")?/g)]
    t.ok(references.length > 0, `${cells[0]} is shown by something`)
    for (const [, what, name] of references) {
      const script = /^npm run ([\w:]+)/.exec(what!)?.[1]
      if (script !== undefined) t.type(scripts[script], 'string', `${what}`)
      else if (!existsSync(new URL(what!, root))) t.fail(`${cells[0]}: ${what} is not there`)
      else if (name !== undefined) t.ok(readFileSync(new URL(what!, root), 'utf8').includes(name), `${what}: ${name}`)
      else t.ok(statSync(new URL(what!, root)), `${what}`)
    }
  }
})
