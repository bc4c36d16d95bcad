import t from 'tap'
import { exemptionOf } from '../../src/engine/engine.ts'
import { ANY_HOOK, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from '../../src/engine/flow.ts'
import type { Trace } from '../../src/engine/index.ts'
import { seededRandom } from '../fixtures/random.ts'
import { objectsOf, randomFlow, randomWorld } from '../fixtures/random-world.ts'
import { packet, type World, worldOfPlain } from '../fixtures/world.ts'
import { type OracleFlow, type OracleVerdict, type OracleWorld, oracle } from './oracle.ts'

const WORLDS = 2000
const FLOWS = 60
const LOCAL_NODE = 'n1'

const hooks = { none: ANY_HOOK, input: HOOK_INPUT, forward: HOOK_FORWARD, output: HOOK_OUTPUT }
const protocolNumbers: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132, ESP: 50 }

function decided({ compiled: { engine } }: World, flow: OracleFlow): OracleVerdict {
  const { source, destination, port, icmpType, icmpCode } = flow
  const protocol = protocolNumbers[flow.protocol] ?? (destination.includes(':') ? 58 : 1)
  const asked = packet({ source, destination, protocol, port, icmpType, icmpCode })
  const plain = engine.decide(asked, hooks[flow.hook])
  const trace: Trace = []
  const identified = engine.identify(asked, hooks[flow.hook])
  const traced = engine.decideFlow(identified, trace)
  if (plain !== traced) throw new Error(`${plain} without a trace, ${traced} with one`)
  if (exemptionOf(identified) !== 'none') return 'exempt'
  if (traced === 'deny') return 'deny'
  return trace.some(({ verdict }) => verdict === 'accept') ? 'allow' : 'default'
}

function describe(world: OracleWorld, flow: OracleFlow): string {
  return JSON.stringify({ flow, world }, undefined, 1)
}

t.test('the engine decides as the text of NetworkPolicy says, in random worlds', async (t) => {
  const random = seededRandom(20260101)
  const counts: Record<OracleVerdict, number> = { exempt: 0, default: 0, allow: 0, deny: 0 }
  for (let number = 0; number < WORLDS; number++) {
    const plain = randomWorld(random)
    const world = worldOfPlain(objectsOf(plain), LOCAL_NODE)
    for (let left = FLOWS; left > 0; left--) {
      const flow = randomFlow(random, plain)
      const expected = oracle(plain, flow, LOCAL_NODE)
      const found = decided(world, flow)
      if (found !== expected) return t.equal(found, expected, describe(plain, flow))
      counts[expected]++
    }
  }
  const total = WORLDS * FLOWS
  t.comment(counts)
  t.ok(total >= 20_000, 'enough decisions')
  t.ok(counts.allow >= total / 10, 'a tenth of them allowed by a policy')
  t.ok(counts.deny >= total / 10, 'a tenth of them denied')
  t.ok(counts.exempt >= total / 50, 'some exempt')
  t.ok(counts.default >= total / 50, 'some decided by nobody')
})
