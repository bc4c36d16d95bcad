import t from 'tap'
import { type Address, formatAddress, parseAddress } from '../../src/engine/index.ts'
import { Rechecks } from '../../src/ruleset/rechecks.ts'

const addresses = (...texts: string[]): Address[] => texts.map((text) => parseAddress(text)!)
const [a, b, c] = ['10.0.0.1', '10.0.0.2', 'fd00::3']

/** What the kernel would have by what it is told. */
class Kernel {
  readonly has = new Set<string>()
  families = { v4: false, v6: false }

  /** Answers how many elements it was told of. */
  tell(rechecks: Rechecks): number {
    const { added, removed, families } = rechecks.change()
    for (const address of removed) if (!this.has.delete(formatAddress(address))) throw new Error('it has it not')
    for (const address of added) this.has.add(formatAddress(address))
    if (families) this.families = families
    rechecks.told()
    return added.length + removed.length
  }
}

t.test('the kernel is told what came and went, once', async (t) => {
  const rechecks = new Rechecks()
  const kernel = new Kernel()
  rechecks.add(addresses(a, b), 1)
  t.equal(kernel.tell(rechecks), 2)
  t.same([...kernel.has], [a, b])
  t.same(kernel.families, { v4: true, v6: false })
  t.same(rechecks.change(), { added: [], removed: [] })
  rechecks.add(addresses(b, c), 2)
  t.equal(kernel.tell(rechecks), 1, 'b is there already')
  t.same(kernel.families, { v4: true, v6: true })
  rechecks.end(1)
  t.equal(kernel.tell(rechecks), 1, 'b was named again')
  t.same([...kernel.has], [b, c])
  t.equal(rechecks.size, 2)
  rechecks.end(2)
  t.equal(kernel.tell(rechecks), 2)
  t.same(kernel.families, { v4: false, v6: false })
})

t.test('of many only some end at a time', async (t) => {
  const rechecks = new Rechecks()
  const kernel = new Kernel()
  rechecks.add(addresses(a, b), 1)
  rechecks.add(addresses(c), 2)
  kernel.tell(rechecks)
  t.equal(rechecks.end(1, 1), false)
  t.equal(kernel.tell(rechecks), 1)
  t.same([...kernel.has], [b, c], 'the others are still rechecked')
  t.equal(rechecks.end(1, 1), true, 'c was named later')
  t.equal(kernel.tell(rechecks), 1)
  t.same([...kernel.has], [c])
  t.same(kernel.families, { v4: false, v6: true })
})

t.test('what comes and goes before the kernel is told stays unsaid', async (t) => {
  const rechecks = new Rechecks()
  const kernel = new Kernel()
  rechecks.add(addresses(a), 1)
  rechecks.end(1)
  t.equal(kernel.tell(rechecks), 0)
  rechecks.add(addresses(a), 2)
  kernel.tell(rechecks)
  rechecks.clear()
  rechecks.add(addresses(a), 3)
  t.equal(kernel.tell(rechecks), 0, 'gone, and back')
  t.same([...kernel.has], [a])
})

t.test('what the kernel was not told, because that failed, is still to be told', async (t) => {
  const rechecks = new Rechecks()
  rechecks.add(addresses(a), 1)
  rechecks.change()
  rechecks.add(addresses(b), 2)
  const kernel = new Kernel()
  t.equal(kernel.tell(rechecks), 2)
})

t.test('after a flush it is told all', async (t) => {
  const rechecks = new Rechecks()
  new Kernel().tell(rechecks)
  rechecks.add(addresses(a, c), 1)
  new Kernel().tell(rechecks)
  rechecks.end(0)
  rechecks.flushed()
  const kernel = new Kernel()
  t.equal(kernel.tell(rechecks), 2)
  t.same(kernel.families, { v4: true, v6: true })
  rechecks.clear()
  rechecks.flushed()
  t.same(rechecks.change(), { added: [], removed: [] }, 'nothing is removed that is not there')
})
