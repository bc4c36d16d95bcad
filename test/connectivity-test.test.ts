import t from 'tap'
import { exitCodeOf, readConnectivityTest, runConnectivityTest } from '../src/connectivity-test.ts'
import { ObjectReader } from '../src/engine/index.ts'
import { formatTestResults, problemsOf, testResultsJson } from '../src/output/test-results.ts'
import { shop } from './fixtures/shop.ts'
import { policyLine, worldOf } from './fixtures/world.ts'

function read(spec: object | undefined, metadata: object = { name: 'checks' }) {
  const test = readConnectivityTest(new ObjectReader({ apiVersion: 'knp.dev/v1alpha1', metadata, spec }))
  return {
    ref: { ...test.ref, file: 'test.yaml', line: 1 },
    checks: test.checks.map((check, i) => ({ ...check, line: i + 2 })),
  }
}

const check = { from: 'shop/web', to: 'shop/db', port: 5432, expect: 'allow' }

t.test('checks', async (t) => {
  const [first, second] = read({
    checks: [check, { from: '10.0.0.1', to: 'fd00::1', protocol: 'ICMP', expect: 'deny', decidedBy: { rule: 0 } }],
  }).checks
  t.match(first, {
    from: 'shop/web',
    to: 'shop/db',
    question: { from: { type: 'workload' }, protocol: 'tcp', port: 5432 },
    expect: 'allow',
  })
  t.notOk('decidedBy' in first!)
  t.match(second, { question: { to: { type: 'address' }, protocol: 'icmp', port: 0 }, decidedBy: { rule: 0 } })
})

t.test('what is refused', async (t) => {
  const { port, ...portless } = check
  const { expect, ...open } = check
  const refused: readonly [spec: object | undefined, message: string | RegExp][] = [
    [undefined, 'spec is missing'],
    [{}, 'spec: checks are missing'],
    [{ check }, /^spec\.check: unknown field/],
    [{ checks: [] }, 'spec.checks: no checks: this test would prove nothing'],
    [{ checks: check }, 'spec.checks: expected a list, found a mapping'],
    [{ checks: [portless] }, 'spec.checks[0]: port is missing'],
    [{ checks: [open] }, 'spec.checks[0]: expect is missing'],
    [{ checks: [{ ...check, protocol: 'ICMP' }] }, 'spec.checks[0].port: ICMP has no port'],
    [{ checks: [{ ...check, protocol: 'tcp' }] }, /^spec\.checks\[0\]\.protocol: "tcp" is none of TCP/],
    [{ checks: [{ ...check, port: 0 }] }, 'spec.checks[0].port: 0 is outside 1-65535'],
    [{ checks: [{ ...check, port: 'sql' }] }, 'spec.checks[0].port: expected an integer, found "sql"'],
    [{ checks: [{ ...check, expect: 'allowed' }] }, /^spec\.checks\[0\]\.expect: "allowed" is none of allow, deny$/],
    [{ checks: [check, { ...check, to: 'shop/db:5432' }] }, /^spec\.checks\[1\]\.to: "shop\/db:5432" is neither/],
    [{ checks: [{ ...check, from: 'svc:shop/db' }] }, /^spec\.checks\[0\]\.from: svc:shop\/db: "svc" is no kind/],
    [{ checks: [{ ...check, decidedBy: {} }] }, /^spec\.checks\[0\]\.decidedBy: decidedBy needs one of kind/],
    [{ checks: [{ ...check, decidedBy: { policy: 'p' } }] }, /decidedBy\.policy: unknown field/],
    [{ checks: [{ ...check, decidedBy: { direction: 'in' } }] }, /decidedBy\.direction: "in" is none of/],
    [{ checks: [{ ...check, decidedBy: { rule: -1 } }] }, /decidedBy\.rule: -1 is outside/],
  ]
  for (const [spec, message] of refused) t.throws(() => read(spec), { name: 'InvalidObject', message })
})

const world = worldOf(
  shop + policyLine('shop/p', 'podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}]}]'),
)
const twins = worldOf(
  ['Deployment', 'StatefulSet']
    .map(
      (kind) =>
        `--- {apiVersion: apps/v1, kind: ${kind}, metadata: {name: web, namespace: shop}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}}}}\n`,
    )
    .join(''),
)

function run(checks: readonly object[], { snapshot, compiled } = world) {
  return runConnectivityTest(read({ checks }), snapshot, compiled)
}

t.test('what decides is checked, field by field', async (t) => {
  const actual = {
    kind: 'NetworkPolicy',
    namespace: 'shop',
    name: 'p',
    rule: 0,
    direction: 'ingress',
    tier: 'NetworkPolicy',
  }
  const isPassed = (decidedBy: object) => run([{ ...check, decidedBy }]).checks[0]!.passed
  t.ok(isPassed(actual))
  const other = { kind: 'Pod', namespace: 'lab', name: 'q', rule: 1, direction: 'egress', tier: 'Admin' }
  for (const [field, value] of Object.entries(other)) {
    t.ok(isPassed({ [field]: actual[field as keyof typeof actual] }), `${field} alone`)
    t.notOk(isPassed({ [field]: value }), `another ${field}`)
  }
  const isDefault = (decidedBy: object) => run([{ ...check, to: 'shop/api', decidedBy }]).checks[0]!.passed
  t.ok(isDefault({ tier: 'Default' }))
  t.notOk(isDefault({ tier: 'Default', name: 'p' }), 'where no policy decides, none is named')
})

t.test('exit status', async (t) => {
  const [passing, failing, unknown] = [check, { ...check, expect: 'deny' }, { ...check, from: 'shop/nobody' }]
  const ambiguous = run([{ ...check, from: 'shop/web', to: '10.0.0.1' }], twins)
  t.equal(exitCodeOf([run([passing])]), 0)
  t.equal(exitCodeOf([run([passing]), run([passing, failing])]), 1)
  t.equal(exitCodeOf([run([unknown]), run([failing])]), 3, 'undecidable is worse than failed')
  t.equal(exitCodeOf([run([unknown]), ambiguous, run([failing])]), 2, 'and a check that cannot be asked is the worst')
})

t.test('as text', async (t) => {
  const results = [
    run([
      check,
      { ...check, from: '203.0.113.9', decidedBy: { name: 'p', rule: 0 } },
      { ...check, to: 'fd00::3', protocol: 'ICMP', port: undefined, expect: 'deny' },
      { ...check, from: 'shop/nobody', expect: 'deny' },
    ]),
    run([check], twins),
  ]
  t.equal(
    formatTestResults(results, 1),
    `FAILED  test.yaml:3: default/checks: 203.0.113.9 -> shop/db:5432/tcp
  expected  allow, decided by name p, rule 0
  but       deny, decided by NetworkPolicy, namespace shop, name p, ingress, tier NetworkPolicy
  DENIED  203.0.113.9 -> shop/db:5432/tcp
    ingress  shop/db  Admin next · NetworkPolicy deny
                      shop/p isolates the destination for ingress and no rule allows this flow (world.yaml:33)
                      nearest: shop/p rule 0 allows port 5432/tcp, peer 203.0.113.9 is no pod

UNDECIDABLE  test.yaml:4: default/checks: shop/web -> fd00::3/icmp
  expected  deny
  but       shop/web and shop/db have no address family in common

UNDECIDABLE  test.yaml:5: default/checks: shop/nobody -> shop/db:5432/tcp
  expected  deny
  but       no source knows a workload "shop/nobody"; known there: web, api, db, agent

INVALID  test.yaml:2: default/checks: shop/web -> shop/db:5432/tcp
  expected  allow
  but       shop/web is ambiguous: it is a Deployment and a StatefulSet; write deployment:shop/web or statefulset:shop/web

1 of 5 checks passed, 1 failed, 3 undecidable, 1 world could not be read
`,
  )
  t.equal(formatTestResults([run([check])], 0), '1 of 1 checks passed\n')
  t.equal(formatTestResults([run([{ ...check, from: 'shop/\u001b[2Jx' }])], 2).includes('\u001b'), false)
})

t.test('as JSON', async (t) => {
  const results = [run([check, { ...check, protocol: 'ICMP', port: undefined, from: 'shop/nobody' }])]
  t.same(JSON.parse(JSON.stringify(testResultsJson(results))), {
    schema: 'knp.test/v1',
    passed: 1,
    failed: 1,
    tests: [
      {
        name: 'checks',
        file: 'test.yaml',
        checks: [
          {
            from: 'shop/web',
            to: 'shop/db',
            protocol: 'TCP',
            port: 5432,
            expect: 'allow',
            verdict: 'allow',
            passed: true,
            decidedBy: {
              direction: 'ingress',
              tier: 'NetworkPolicy',
              policy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'p', file: 'world.yaml', line: 33 },
              rule: 0,
              reason: 'ingress rule 0 allows it',
            },
          },
          {
            from: 'shop/nobody',
            to: 'shop/db',
            protocol: 'ICMP',
            port: null,
            expect: 'allow',
            verdict: null,
            passed: false,
            decidedBy: null,
          },
        ],
      },
    ],
  })
  t.same(problemsOf(results), [
    'test.yaml:3: no source knows a workload "shop/nobody"; known there: web, api, db, agent',
  ])
})
