import t from 'tap'
import { Compiler, formatAddress, parseAddress, policyKinds, type SubjectChange } from '../src/engine/index.ts'
import type { PodChange } from '../src/pod-addresses.ts'
import { readManifest } from '../src/sources/manifest.ts'
import { changeOf, isNoChange } from '../src/wanted-rules.ts'
import { podLine, policyLine } from './fixtures/world.ts'

const none: SubjectChange = { added: [], removed: [] }
const noPods = { unknown: none, known: none } as unknown as PodChange
const web = podLine('shop/web', '10.0.0.1', 'app: web', 'nodeName: n1')
const db = podLine('shop/db', '10.0.0.2', 'app: db', 'nodeName: n1')

/** A compiler that knows two pods, and what a change of the objects in this text makes of it. */
function changed(yaml: string) {
  const read = (text: string) => readManifest(text, 'pods.yaml').objects
  const compiler = new Compiler(policyKinds, 'n1')
  compiler.update({
    upserts: read(`${web}${db}${policyLine('shop/web', 'podSelector: {matchLabels: {app: web}}')}`),
    deletes: [],
  })
  return compiler.update({ upserts: read(yaml), deletes: [] })
}

const texts = ({ recheck }: ReturnType<typeof changeOf>) =>
  recheck === 'everything' ? recheck : recheck.map(formatAddress).sort()

t.test('connections of what a change concerns are judged anew, and no others', async (t) => {
  const compiled = changed(policyLine('shop/db', 'podSelector: {matchLabels: {app: db}}'))
  const change = changeOf(compiled, noPods)
  t.same(texts(change), ['10.0.0.2'])
  t.same(change.subjects?.added.map(formatAddress), ['10.0.0.2'])
  t.notOk(isNoChange(change))
})

t.test('so are those of pods that nobody knows, from the moment that they are judged', async (t) => {
  const compiled = changed(db)
  const unknown = { added: [parseAddress('10.0.0.9')!], removed: [] }
  const change = changeOf(compiled, { ...noPods, unknown })
  t.same(texts(change), ['10.0.0.9'])
  t.same(change.subjects?.added.map(formatAddress), ['10.0.0.9'])
  t.notOk(isNoChange(change))
})

t.test('where nothing has changed all that was decided counts', async (t) => {
  const change = changeOf(changed(db), noPods)
  t.same(texts(change), [])
  t.ok(isNoChange(change))
  const known = { added: [parseAddress('10.0.0.9')!], removed: [] }
  t.notOk(isNoChange({ ...change, known }))
  t.notOk(isNoChange({ ...change, recheck: 'everything' }))
})
