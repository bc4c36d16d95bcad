import fc from 'fast-check'
import t from 'tap'
import { refName } from '../../src/engine/objects.ts'
import { selects } from '../../src/engine/selector.ts'
import { LintWorld } from '../../src/lint/lint-world.ts'
import { lintInput, networkSet, podsMatch, workload } from '../fixtures/lint-input.ts'

const selector = fc
  .uniqueArray(fc.constantFrom('a=1', 'a in 1 2', 'a in 3 1', 'a notin 1', 'a', '!a', 'b=1', 'b', '!b'), {
    maxLength: 3,
  })
  .map((parts) => parts.join())
const labels = fc
  .uniqueArray(fc.constantFrom('a=1', 'a=2', 'a=3', 'b=1'), { maxLength: 2, selector: (label) => label[0] })
  .map((parts) => parts.join())
const workloads = fc.array(
  fc.record({
    namespace: fc.constantFrom('n1', 'n2', 'n3'),
    labels,
    phase: fc.constantFrom('Running', 'Failed', 'Pending'),
    hostNetwork: fc.nat(4).map((i) => i === 0),
  }),
  { maxLength: 12 },
)

t.test('whom a match selects, as looking at each workload says', async (t) => {
  let selected = 0
  fc.assert(
    fc.property(
      workloads,
      fc.tuple(labels, labels, labels),
      fc.array(fc.tuple(selector, fc.option(selector, { nil: undefined })), { minLength: 1, maxLength: 3 }),
      (given, [n1, n2, n3], matches) => {
        const all = given.map(({ namespace, labels, phase, hostNetwork }, i) =>
          workload(`${namespace}/w${i}`, labels, { phase: phase as 'Running', hostNetwork }),
        )
        const input = lintInput([], { workloads: all }, { n1, n2, n3 })
        const world = new LintWorld(input)
        for (const [podLabels, namespaceLabels] of matches) {
          const match = podsMatch(podLabels, namespaceLabels)
          const meant = all.filter((each) => {
            const isThere = match.namespaceSelector
              ? selects(match.namespaceSelector, input.namespaces.get(each.namespace)!.labels)
              : each.namespace === 'n2'
            return isThere && selects(match.podSelector, each.labels)
          })
          const isSeen = (each: (typeof all)[number]) => !each.hostNetwork && each.phase !== 'Failed'
          const names = (list: typeof all) => list.map(({ ref }) => refName(ref)).sort()
          const groups = world.select(match, 'n2')
          selected += groups.length
          t.strictSame(world.namesOf(groups).sort(), names(meant.filter(isSeen)))
          t.strictSame(names([...world.unseenBy(match, 'n2')]), names(meant.filter((each) => !isSeen(each))))
          const policy = { subject: match, namespace: 'n2' } as Parameters<LintWorld['isSelected']>[0]
          t.strictSame(
            world.everyGroup.filter((group) => world.isSelected(policy, group)),
            [...groups].sort((a, b) => a - b),
          )
        }
      },
    ),
    { numRuns: 400 },
  )
  t.ok(selected > 50, 'some are selected')
})

t.test('workloads that no policy can tell apart are one group', async (t) => {
  const ports = { ports: ['http:80/TCP'] }
  const world = new LintWorld(
    lintInput([], {
      workloads: [
        workload('n/a', 'a=1,b=2', ports),
        workload('n/b', 'b=2,a=1', ports),
        workload('n/other-port', 'a=1,b=2'),
        workload('m/other-namespace', 'a=1,b=2', ports),
        workload('n/other-label', 'a=1', ports),
        workload('n/host', 'a=1,b=2', { ...ports, isHost: true }),
      ],
    }),
  )
  t.strictSame(
    world.groups.map(({ members }) => members.map(({ name }) => name).join()),
    ['a,b', 'other-port', 'other-namespace', 'other-label', 'host'],
  )
})

t.test('NetworkSets that a match names', async (t) => {
  const networkSets = [networkSet('n/a', 'x=1'), networkSet('m/b', 'x=1'), networkSet('n/c', 'x=2')]
  const world = new LintWorld(lintInput([], { networkSets }, { m: 'team=t' }))
  const named = (...match: Parameters<typeof podsMatch>) =>
    world.networkSetsOf(podsMatch(...match), 'n').map(({ ref }) => ref.name)
  t.strictSame(named('x=1'), ['a'])
  t.strictSame(named('x=1', ''), ['a', 'b'])
  t.strictSame(named('x', 'team'), ['b'])
  t.strictSame(named(''), [])
})
