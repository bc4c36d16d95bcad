import { parseEndpointName } from './engine/endpoint.ts'
import {
  type CompiledPolicy,
  type Decision,
  type Direction,
  explain,
  type ObjectReader,
  type ObjectRef,
  type Question,
  QuestionError,
  type Snapshot,
} from './engine/index.ts'
import { readMetadata } from './engine/object-reader.ts'

/** What a check may say of the policy that decides. */
export interface ExpectedDecider {
  readonly kind?: string
  readonly namespace?: string
  readonly name?: string
  readonly rule?: number
  readonly direction?: Direction
  readonly tier?: string
}

/** One connection and what should become of it. */
export interface Check {
  /** As written. */
  readonly from: string
  readonly to: string
  readonly question: Question
  readonly expect: 'allow' | 'deny'
  readonly decidedBy?: ExpectedDecider
  /** Where it was read from a file. */
  readonly line?: number
}

/** A knp.dev/v1alpha1 ConnectivityTest. */
export interface ConnectivityTest {
  readonly ref: ObjectRef
  readonly checks: readonly Check[]
}

/** What became of a check: decided, or not decidable (`unknown`), or not to be asked (`invalid`). */
export type CheckResult =
  | { readonly check: Check; readonly passed: boolean; readonly decision: Decision }
  | { readonly check: Check; readonly passed: false; readonly problem: 'unknown' | 'invalid'; readonly message: string }

export interface TestResult {
  readonly test: ConnectivityTest
  readonly checks: readonly CheckResult[]
}

const protocols = ['TCP', 'UDP', 'SCTP', 'ICMP'] as const
/** What decides where no tier does. */
const noTiers = ['Default', 'Exempt']
const deciderFields = ['kind', 'namespace', 'name', 'rule', 'direction', 'tier'] as const

/** Reads a ConnectivityTest strictly; throws InvalidObject. */
export function readConnectivityTest(object: ObjectReader): ConnectivityTest {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec'])
  const { ref } = readMetadata(object, 'ConnectivityTest', 'Namespaced')
  const spec = top('spec')
  if (!spec.isPresent) object.fail('spec is missing')
  const checks = spec.fields(['checks'])('checks')
  if (!checks.isPresent) spec.fail('checks are missing')
  const items = checks.items()
  if (items.length === 0) checks.fail('no checks: this test would prove nothing')
  return { ref, checks: items.map(readCheck) }
}

function readCheck(item: ObjectReader): Check {
  const field = item.fields(['from', 'to', 'protocol', 'port', 'expect', 'decidedBy'])
  for (const name of ['from', 'to', 'expect']) if (!field(name).isPresent) item.fail(`${name} is missing`)
  const protocol = field('protocol').isPresent ? field('protocol').oneOf(protocols) : 'TCP'
  const port = field('port')
  if (protocol === 'ICMP' && port.isPresent) port.fail('ICMP has no port')
  if (protocol !== 'ICMP' && !port.isPresent) item.fail('port is missing')
  const decidedBy = field('decidedBy')
  return {
    from: field('from').string(),
    to: field('to').string(),
    question: {
      from: readEnd(field('from')),
      to: readEnd(field('to')),
      protocol: protocol.toLowerCase() as Question['protocol'],
      port: protocol === 'ICMP' ? 0 : port.integer(1, 65535),
    },
    expect: field('expect').oneOf(['allow', 'deny']),
    ...(decidedBy.isPresent && { decidedBy: readDecider(decidedBy) }),
  }
}

function readEnd(reader: ObjectReader): Question['from'] {
  try {
    return parseEndpointName(reader.string())
  } catch (error) {
    if (error instanceof QuestionError) reader.fail(error.message)
    throw error
  }
}

function readDecider(reader: ObjectReader): ExpectedDecider {
  const field = reader.fields(deciderFields)
  if (!deciderFields.some((name) => field(name).isPresent)) {
    reader.fail(`decidedBy needs one of ${deciderFields.join(', ')}`)
  }
  return {
    ...(field('kind').isPresent && { kind: field('kind').string() }),
    ...(field('namespace').isPresent && { namespace: field('namespace').string() }),
    ...(field('name').isPresent && { name: field('name').string() }),
    ...(field('rule').isPresent && { rule: field('rule').integer(0, Number.MAX_SAFE_INTEGER) }),
    ...(field('direction').isPresent && { direction: field('direction').oneOf(['egress', 'ingress']) }),
    ...(field('tier').isPresent && { tier: field('tier').string() }),
  }
}

/** Asks every check of the test; a check that cannot be decided is a result too. */
export function runConnectivityTest(test: ConnectivityTest, snapshot: Snapshot, compiled: CompiledPolicy): TestResult {
  return { test, checks: test.checks.map((check) => runCheck(check, snapshot, compiled)) }
}

function runCheck(check: Check, snapshot: Snapshot, compiled: CompiledPolicy): CheckResult {
  const wanted = check.decidedBy?.tier
  const tiers = [...compiled.engine.evaluators.map(({ name }) => name), ...noTiers]
  if (wanted !== undefined && !tiers.includes(wanted)) {
    const message = `decidedBy.tier: "${wanted}" is none of ${tiers.join(', ')}`
    return { check, passed: false, problem: 'invalid', message }
  }
  try {
    const decision = explain(check.question, snapshot, compiled)
    const passed = decision.verdict === check.expect && isDecidedBy(decision, check.decidedBy ?? {})
    return { check, passed, decision }
  } catch (error) {
    if (!(error instanceof QuestionError)) throw error
    const problem = error.kind === 'syntax' ? 'invalid' : 'unknown'
    return { check, passed: false, problem, message: error.message }
  }
}

function isDecidedBy({ decidedBy }: Decision, expected: ExpectedDecider): boolean {
  const { direction, tier, rule, policy } = decidedBy
  const actual: ExpectedDecider = {
    tier,
    ...(direction && { direction }),
    ...(rule !== undefined && { rule }),
    ...(policy && {
      kind: policy.kind,
      name: policy.name,
      ...(policy.namespace !== undefined && { namespace: policy.namespace }),
    }),
  }
  return deciderFields.every((name) => expected[name] === undefined || expected[name] === actual[name])
}

/** The exit status that test results ask for: 0 all passed, 1 failed, 3 undecidable, 2 not to be asked; the worst counts. */
export function exitCodeOf(results: readonly TestResult[]): 0 | 1 | 2 | 3 {
  const failed = results.flatMap(({ checks }) => checks.filter(({ passed }) => !passed))
  if (failed.some((result) => 'problem' in result && result.problem === 'invalid')) return 2
  if (failed.some((result) => 'problem' in result)) return 3
  return failed.length > 0 ? 1 : 0
}
