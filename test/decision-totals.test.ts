import t from 'tap'
import { createTally, DecisionTally, type TallyWords } from '../src/datapath/decision-tally.ts'
import { type DecisionCounts, DecisionTotals } from '../src/decision-totals.ts'
import { EXEMPT, UNDECIDED } from '../src/engine/engine.ts'
import { NO_POLICY, type PolicyName, type PolicyNames } from '../src/engine/evaluator.ts'

const tiers = ['Admin', 'Quarantine', 'NetworkPolicy']
const ADMIN = 0
const QUARANTINE = 1
const NETWORK_POLICY = 2
const policy = (name: string): PolicyName => ({ kind: 'NetworkPolicy', namespace: 'shop', name })
const admin: PolicyName = { kind: 'AdminNetworkPolicy', name: 'a' }

const policyCounts = (names: readonly PolicyNames[]) => names.map(({ length }) => length)

/** Counts decisions: tier, ingress or not, policy, allowed or not. */
function tallyOf(
  names: readonly PolicyNames[],
  decisions: readonly (readonly [tier: number, isIngress: boolean, policy: number, isAllowed: boolean])[],
): TallyWords {
  const words = createTally(policyCounts(names))
  const tally = new DecisionTally(words, policyCounts(names))
  for (const [tier, isIngress, policy, isAllowed] of decisions) tally.note({ tier, isIngress, policy }, isAllowed)
  return words
}

/** Only what is above 0. */
function texts({ tiers, policies }: DecisionCounts): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...tiers, ...policies].flatMap((counted) => {
      const name = 'policy' in counted ? ` ${(counted.policy as PolicyName).name}` : ''
      return counted.count > 0
        ? [[`${counted.direction} ${counted.tier}${name} ${counted.verdict}`, counted.count]]
        : []
    }),
  )
}

const names: readonly PolicyNames[] = [[admin], [], [policy('p'), undefined, policy('q')]]

t.test('each decision is counted by whose it was', async (t) => {
  const words = tallyOf(names, [
    [ADMIN, true, 0, false],
    [ADMIN, true, 0, false],
    [ADMIN, false, 0, true],
    [QUARANTINE, true, NO_POLICY, false],
    [NETWORK_POLICY, true, 2, true],
    [NETWORK_POLICY, false, 0, false],
    [NETWORK_POLICY, false, NO_POLICY, true],
    [EXEMPT, true, NO_POLICY, true],
    [EXEMPT, false, NO_POLICY, true],
    [UNDECIDED, true, 2, true],
  ])
  new DecisionTally(words, policyCounts(names)).note(undefined, false)
  const expected = {
    'ingress Admin deny': 2,
    'egress Admin allow': 1,
    'ingress Quarantine deny': 1,
    'ingress NetworkPolicy allow': 1,
    'egress NetworkPolicy deny': 1,
    'egress NetworkPolicy allow': 1,
    'none Exempt allow': 2,
    'none Default allow': 1,
    'none UnknownLocal deny': 1,
    'ingress Admin a deny': 2,
    'egress Admin a allow': 1,
    'ingress NetworkPolicy q allow': 1,
    'egress NetworkPolicy p deny': 1,
  }
  const totals = new DecisionTotals(tiers)
  t.same(texts(totals.read([words], names)), expected)
  t.same(
    texts(totals.read([words, words], names)),
    Object.fromEntries(Object.entries(expected).map(([name, count]) => [name, 2 * count])),
    'threads add up',
  )
})

t.test('tiers are there from the start, policies when they have decided', async (t) => {
  const { tiers: counted, policies } = new DecisionTotals(tiers).read([tallyOf(names, [])], names)
  t.same(
    counted.map(({ direction, tier, verdict }) => `${direction} ${tier} ${verdict}`),
    [
      ...tiers.flatMap((tier) => [
        `egress ${tier} allow`,
        `egress ${tier} deny`,
        `egress ${tier} audit`,
        `ingress ${tier} allow`,
        `ingress ${tier} deny`,
        `ingress ${tier} audit`,
      ]),
      'none Exempt allow',
      'none Default allow',
      'none UnknownLocal allow',
      'none UnknownLocal deny',
    ],
  )
  t.same(policies, [])
})

t.test('totals survive the numbers that they were counted by', async (t) => {
  const totals = new DecisionTotals(tiers)
  const first = tallyOf(names, [
    [NETWORK_POLICY, true, 0, true],
    [NETWORK_POLICY, true, 2, true],
  ])
  // p is gone, and r has its number; q has another one.
  const later: readonly PolicyNames[] = [[admin], [], [policy('r'), policy('q')]]
  totals.retire([first], names, later)
  const second = tallyOf(later, [
    [NETWORK_POLICY, true, 0, true],
    [NETWORK_POLICY, true, 1, true],
  ])
  t.same(texts(totals.read([second], later)), {
    'ingress NetworkPolicy allow': 4,
    'ingress NetworkPolicy q allow': 2,
    'ingress NetworkPolicy r allow': 1,
  })
  totals.retire([second], later, names)
  t.same(
    texts(totals.read([tallyOf(names, [])], names)),
    { 'ingress NetworkPolicy allow': 4, 'ingress NetworkPolicy q allow': 2 },
    'a policy of the same name begins again',
  )
  totals.retire([], names, [[], [], []])
  t.match(texts(totals.read([], names)), { 'ingress NetworkPolicy q allow': 2 }, 'nothing is retired without a tally')
})
