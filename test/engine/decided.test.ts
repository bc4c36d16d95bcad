import t from 'tap'
import { EXEMPT, UNDECIDED } from '../../src/engine/engine.ts'
import { ANY_HOOK } from '../../src/engine/flow.ts'
import { refName } from '../../src/engine/objects.ts'
import { shop } from '../fixtures/shop.ts'
import { packet, policyLine, type World, worldOf } from '../fixtures/world.ts'

const client = '10.0.0.2' // shop/api
const server = '10.0.0.3' // shop/db
const itsNode = '10.9.0.1'
const other = '10.0.0.1' // shop/web
const isolating = (name: string, spec = '') =>
  policyLine(`shop/${name}`, `podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]${spec}`)

/** What a connection, to the server unless another is named, is counted as. */
function decided({ compiled }: World, source = client, destination = server): string {
  compiled.engine.decide(packet({ source, destination, port: 80 }), ANY_HOOK)
  const { tier, isIngress, policy } = compiled.engine.decided
  if (tier === EXEMPT) return 'exempt'
  if (tier === UNDECIDED) return 'undecided'
  const name = compiled.policyNames[tier]![policy]
  return `${isIngress ? 'ingress' : 'egress'} ${name ? refName(name) : 'nobody'}`
}

t.test('a denial for want of a rule counts for the first policy that isolates', async (t) => {
  const names = ['b', 'a', 'c']
  t.equal(decided(worldOf(shop + names.map((name) => isolating(name)).join(''))), 'ingress shop/a')
  t.equal(
    decided(worldOf(shop + isolating('b') + isolating('c', ', ingress: [{ports: [{port: 81}]}]'))),
    'ingress shop/b',
  )
  const audited = isolating('a').replace('name: a', 'name: a, annotations: {knp.dev/mode: audit}')
  t.equal(decided(worldOf(shop + audited + isolating('b'))), 'ingress shop/b', 'an audited policy isolates nobody')
  t.equal(decided(worldOf(shop + audited)), 'undecided')
})

t.test('many rules are counted as few are', async (t) => {
  const ports = Array.from({ length: 40 }, (_, i) => `{port: ${1000 + i}}`).join()
  t.equal(decided(worldOf(shop + isolating('p', `, ingress: [{ports: [${ports}, {port: 80}]}]`))), 'ingress shop/p')
  t.equal(
    decided(worldOf(shop + isolating('a') + isolating('p', `, ingress: [{ports: [${ports}]}]`))),
    'ingress shop/a',
  )
})

t.test('what a rule decides counts for its policy', async (t) => {
  const allowing = (name: string) => isolating(name, ', ingress: [{ports: [{port: 80}]}]')
  t.equal(decided(worldOf(shop + isolating('a') + allowing('b') + isolating('c'))), 'ingress shop/b')
  t.equal(
    decided(worldOf(shop + isolating('a') + allowing('c') + allowing('b'))),
    'ingress shop/b',
    'the first that matches',
  )
})

t.test('each decision stands for itself', async (t) => {
  const world = worldOf(shop + isolating('a'), 'n1')
  t.equal(decided(world), 'ingress shop/a')
  t.equal(decided(world, itsNode), 'exempt', 'the node reaches its own pods')
  t.equal(decided(world), 'ingress shop/a')
  t.equal(decided(world, client, other), 'undecided')
})
