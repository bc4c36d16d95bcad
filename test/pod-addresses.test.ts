import t from 'tap'
import {
  type CompiledPolicy,
  Compiler,
  formatAddress,
  formatBlock,
  parseAddress,
  parseBlock,
  policyKinds,
  type SubjectChange,
} from '../src/engine/index.ts'
import { joinChanges, PodAddresses } from '../src/pod-addresses.ts'
import { readManifest } from '../src/sources/manifest.ts'
import { podLine, policyLine } from './fixtures/world.ts'

const addressesOf = (...texts: readonly string[]) => texts.map((text) => parseAddress(text)!)
const blocksOf = (...texts: readonly string[]) => texts.map((text) => parseBlock(text)!)
const read = (yaml: string) => readManifest(yaml, 'pods.yaml').objects
const node = `
--- {apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:1::/64']}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
--- {apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.244.2.0/24}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
`
const web = podLine('shop/web', '10.244.1.5', 'app: web', 'nodeName: n1')
const policy = policyLine('shop/p', 'podSelector: {}')

function texts({ added, removed }: SubjectChange): { added: string[]; removed: string[] } {
  return { added: added.map(formatAddress).sort(), removed: removed.map(formatAddress).sort() }
}

function always(): boolean {
  return true
}

t.test('who is known, and who is not', async (t) => {
  const compiler = new Compiler(policyKinds, 'n1')
  const pods = new PodAddresses(blocksOf('172.30.0.0/16'), always)
  pods.setOwn(addressesOf('10.244.1.1', '192.0.2.1'))
  pods.setRouted(addressesOf('10.244.1.5', '10.244.1.6', '203.0.113.7', '10.244.1.1', '192.0.2.2'))
  const first = compiler.update({ upserts: read(node + web + policy), deletes: [] })
  const begun = pods.settle(first, undefined)
  t.ok(begun.hasOtherPlaces)
  t.same(begun.view.places.blocks.map(formatBlock), ['172.30.0.0/16', '10.244.1.0/24', 'fd00:1::/64'])
  t.same(begun.view.unknown.map(formatAddress), ['10.244.1.6', '203.0.113.7'], 'neither its own nor another node’s')
  t.same(begun.view.known.map(formatAddress).sort(), ['10.244.1.1', '10.244.1.5'])

  const step = (yaml: string, ...deletes: readonly string[]) => {
    const compiled = compiler.update({ upserts: read(yaml), deletes })
    const change = pods.settle(compiled, compiled.affected.addresses)
    // What changes bring about is what looking at everything finds.
    const whole = new PodAddresses(blocksOf('172.30.0.0/16'), always)
    whole.setOwn(change.view.places.own)
    whole.setRouted(change.view.places.routed)
    const { view } = whole.settle(compiled, undefined)
    t.same(change.view.known.map(formatAddress).sort(), view.known.map(formatAddress).sort())
    t.same(change.view.unknown.map(formatAddress).sort(), view.unknown.map(formatAddress).sort())
    return { ...change, unknown: texts(change.unknown), known: texts(change.known) }
  }
  const cache = podLine('shop/cache', '10.244.1.6', 'app: cache', 'nodeName: n1')
  t.match(step(cache), {
    hasOtherPlaces: false,
    unknown: { added: [], removed: ['10.244.1.6'] },
    known: { added: ['10.244.1.6'], removed: [] },
  })
  t.match(step('', 'Pod shop/web'), {
    unknown: { added: ['10.244.1.5'], removed: [] },
    known: { added: [], removed: ['10.244.1.5'] },
  })
  const finished = cache.replace('phase: Running', 'phase: Succeeded')
  t.not(finished, cache)
  t.match(
    step(finished),
    { unknown: { added: ['10.244.1.6'] }, known: { removed: ['10.244.1.6'] } },
    'a finished pod has no address, even if its object says one',
  )
  t.match(step(podLine('shop/next', '10.244.1.6', 'app: next', 'nodeName: n1')), {
    unknown: { removed: ['10.244.1.6'] },
    known: { added: ['10.244.1.6'] },
  })
  t.match(step(policyLine('shop/q', 'podSelector: {}')), {
    hasOtherPlaces: false,
    unknown: { added: [], removed: [] },
    known: { added: [], removed: [] },
  })
  t.match(step('', 'Node /n1'), { hasOtherPlaces: true, known: { added: [], removed: ['10.244.1.1', '10.244.1.6'] } })
})

t.test('a change elsewhere costs what it touches, also where no Node says anything', async (t) => {
  for (const localNode of ['n1', 'n2', undefined]) {
    const compiler = new Compiler(policyKinds, localNode)
    const pods = new PodAddresses(blocksOf('10.244.0.0/16'), always)
    const unsaid = node.replace('podCIDR: 10.244.2.0/24', '')
    pods.settle(compiler.update({ upserts: read((localNode === 'n1' ? '' : unsaid) + web), deletes: [] }), undefined)
    const compiled = compiler.update({ upserts: read(policy), deletes: [] })
    t.equal(pods.settle(compiled, compiled.affected.addresses).hasOtherPlaces, false, localNode ?? 'no node')
  }
})

t.test('routes and own addresses that come and go', async (t) => {
  const compiled = new Compiler(policyKinds, 'n1').update({ upserts: read(node + web + policy), deletes: [] })
  const pods = new PodAddresses([], always)
  pods.settle(compiled, undefined)
  t.equal(pods.settle(compiled, []).hasOtherPlaces, false)
  pods.setRouted(addressesOf('203.0.113.7', 'fd00:1::9'))
  t.match(pods.settle(compiled, []), { hasOtherPlaces: true, unknown: { added: { length: 2 }, removed: [] } })
  pods.setOwn(addressesOf('fd00:1::9'))
  const own = pods.settle(compiled, [])
  t.same(texts(own.unknown), { added: [], removed: ['fd00:1::9'] })
  t.same(texts(own.known), { added: ['fd00:1::9'], removed: [] })
  pods.setRouted([])
  t.same(texts(pods.settle(compiled, []).unknown), { added: [], removed: ['203.0.113.7'] })
})

t.test('an own address that a pod has', async (t) => {
  const compiler = new Compiler(policyKinds, 'n1')
  const pods = new PodAddresses([], () => false)
  const own = addressesOf('192.0.2.1', '10.244.1.5')
  pods.setOwn(own)
  const lone = compiler.update({ upserts: read(node + policy), deletes: [] })
  t.match(pods.settle(lone, undefined), { hasOtherOwn: false, view: { isOwnTaken: false } })
  const taken = compiler.update({ upserts: read(podLine('edge/twin', '10.244.1.5', 'app: twin')), deletes: [] })
  t.match(pods.settle(taken, taken.affected.addresses), { hasOtherOwn: true, view: { isOwnTaken: true } })
  t.match(pods.settle(taken, []), { hasOtherOwn: false, view: { isOwnTaken: true } })
  pods.setOwn(own.slice(0, 1))
  t.match(pods.settle(taken, []), { hasOtherOwn: true, view: { isOwnTaken: false } })
})

t.test('where nothing can select a pod, none is looked for', async (t) => {
  const compiler = new Compiler(policyKinds, 'n1')
  const pods = new PodAddresses([], ({ known }: CompiledPolicy) => known.policies > 0)
  pods.setRouted(addressesOf('203.0.113.7'))
  const before = pods.settle(compiler.update({ upserts: read(node + web), deletes: [] }), undefined)
  t.match(before, { hasOtherPlaces: false, view: { unknown: [], known: [], places: { blocks: [] } } })
  const compiled = compiler.update({ upserts: read(policy), deletes: [] })
  const after = pods.settle(compiled, compiled.affected.addresses)
  t.match(after, { hasOtherPlaces: true, unknown: { added: { length: 1 } }, known: { added: { length: 1 } } })
})

t.test('changes together: what one removes and the other adds stays', async (t) => {
  const [a, b, c] = addressesOf('10.0.0.1', '10.0.0.2', 'fd00::3')
  const joined = joinChanges({ added: [a!, b!], removed: [] }, { added: [], removed: [a!, c!] })
  t.same(texts(joined), { added: ['10.0.0.2'], removed: ['fd00::3'] })
})
