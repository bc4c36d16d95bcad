import t from 'tap'
import { readGinkgoReport, readGoTests, renderSection, replaceSection } from '../../scripts/conformance-results.ts'

const spec = (LeafNodeText: string, State: string, more: object = {}) => ({
  LeafNodeType: 'It',
  LeafNodeText,
  ContainerHierarchyTexts: ['[sig-network] Netpol'],
  State,
  RunTime: 2_600_000_000,
  ...more,
})

t.test('a report of ginkgo: the specs that ran, and whatever is not passed has failed', async (t) => {
  const specs = [
    spec('denies', 'passed'),
    spec('allows', 'failed'),
    spec('hangs', 'timedout'),
    spec('of another kind', 'skipped'),
    spec('', 'passed', { LeafNodeType: 'BeforeSuite', ContainerHierarchyTexts: null }),
  ]
  t.strictSame(readGinkgoReport([{ SpecReports: specs }]), [
    { name: '[sig-network] Netpol denies', result: 'passed', seconds: 2.6 },
    { name: '[sig-network] Netpol allows', result: 'failed', seconds: 2.6 },
    { name: '[sig-network] Netpol hangs', result: 'failed', seconds: 2.6 },
  ])
})

t.test('what go test prints: leaves only, and one that did not end has failed', async (t) => {
  const text = `=== RUN   TestAll
=== RUN   TestAll/Egress
    suite.go:1: --- PASS: not a result
=== RUN   TestAll/Egress/denies
=== RUN   TestAll/Egress/allows
=== RUN   TestAll/Ingress
=== RUN   TestAll/Ingress/lost
--- FAIL: TestAll (3.50s)
    --- FAIL: TestAll/Egress (3.50s)
        --- PASS: TestAll/Egress/denies (1.25s)
        --- SKIP: TestAll/Egress/allows (0.00s)
panic: test timed out after 2h0m0s
`
  t.strictSame(readGoTests(text), [
    { name: 'TestAll/Egress/denies', result: 'passed', seconds: 1.25 },
    { name: 'TestAll/Egress/allows', result: 'skipped', seconds: 0 },
    { name: 'TestAll/Ingress/lost', result: 'failed', seconds: 0 },
  ])
})

t.test('a section is told by its key: it takes the place of the former one, and nothing else moves', async (t) => {
  const section = (key: string, result: 'passed' | 'failed') =>
    renderSection({
      key,
      title: 'Suite',
      version: 'suite v1',
      platform: 'kube-proxy with nftables',
      date: '2026-11-23',
      commit: 'abc1234',
      results: [
        { name: 'c', result: 'passed', seconds: 2 },
        { name: 'a | b', result, seconds: 1.4 },
      ],
    })
  t.match(section('x', 'passed'), '**2 passed, 0 failed, 0 skipped.** 2026-11-23, knp abc1234; suite v1')
  t.match(section('x', 'failed'), '| a \\| b | failed | 1 |\n| c | passed | 2 |')
  const first = replaceSection('# Conformance\n', 'x', section('x', 'failed'))
  const second = replaceSection(first, 'y', section('y', 'passed'))
  t.equal(second, `# Conformance\n\n${section('x', 'failed')}\n\n${section('y', 'passed')}\n`)
  const third = replaceSection(second, 'x', section('x', 'passed'))
  t.equal(third, `# Conformance\n\n${section('x', 'passed')}\n\n${section('y', 'passed')}\n`)
})
