import { stripTypeScriptTypes } from 'node:module'
import t from 'tap'
import { faults } from './fixtures/faults.ts'
import { faultyText, makeFaultyCopy } from './fixtures/faulty-copy.ts'

const LIMIT_MS = 60_000
const WORLDS = 8
const CHAINS = 2

// Node calls it experimental, and says so each time.
process.removeAllListeners('warning')

/*
 * `npm run faults` looks for all of them, which takes minutes. Here: that each can be put in still, and that two of them
 * are found and nothing is where nothing is wrong.
 */

t.test('each fault has its place in the program, and is a program still', async (t) => {
  t.throws(() => stripTypeScriptTypes('const a: = 1'), 'what is none is refused')
  for (const fault of faults) {
    const text = await faultyText(fault)
    t.doesNotThrow(() => stripTypeScriptTypes(text), fault.name)
    t.not(fault.find, fault.replace, `${fault.name}: it changes something`)
  }
  t.equal(new Set(faults.map(({ name }) => name)).size, faults.length, 'each has a name of its own')
  await t.rejects(faultyText({ ...faults[0]!, find: 'not in there' }), { message: /is 0 times/ })
})

t.test('faults are found, each in its way, and none where there is none', async (t) => {
  const copy = await makeFaultyCopy()
  t.after(() => copy.remove())
  const named = (name: string) => faults.find((fault) => fault.name === name)!

  t.match(await copy.find('oracle', WORLDS, LIMIT_MS), { isFound: false, what: '' })
  t.match(await copy.find('incremental', CHAINS, LIMIT_MS), { isFound: false, what: '' })
  await copy.seed(named('priority order reversed'))
  t.match(await copy.find('cases', 0, LIMIT_MS), { isFound: true, what: /./ })
  t.match(await copy.find('oracle', WORLDS, LIMIT_MS), { isFound: true, what: 'another decision' })
  await copy.seed(named('a namespace relabel not followed'))
  t.match(await copy.find('oracle', WORLDS, LIMIT_MS), { isFound: false }, 'the fault before is taken out')
  t.match(await copy.find('incremental', CHAINS * 10, LIMIT_MS), { isFound: true, what: /afresh/ })
  await copy.seed(undefined)
  t.match(await copy.find('incremental', CHAINS, LIMIT_MS), { isFound: false, what: '' })
})
