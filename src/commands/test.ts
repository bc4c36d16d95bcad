import { Args, Flags } from '@oclif/core'
import { KnpCommand, sharedFlags } from '../command.ts'
import { findEvaluators } from '../config.ts'
import { exitCodeOf, runConnectivityTest, type TestResult } from '../connectivity-test.ts'
import { compile, type Problem } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { loadPipeline } from '../evaluators.ts'
import { formatTestResults, problemsOf, testResultsJson } from '../output/test-results.ts'
import { Progress } from '../progress.ts'
import { evaluatorConfigFlag, evaluatorFlag } from '../run-flags.ts'
import { chooseSources, clusterFlags } from '../source-flags.ts'
import { findWorlds, loadShared, loadWorld } from '../sources/worlds.ts'

export default class Test extends KnpCommand {
  static override summary = 'Do the policies allow and deny what the ConnectivityTests say?'
  static override description =
    'Decides every check of every world as the firewall would. A file is a world of its own; in a folder, each folder ' +
    'that directly holds YAML or JSON is one. Needs no privilege.' +
    '\n\nExit status: 0 all passed, 1 a check failed, 2 invalid input or no checks, 3 undecidable (a name or address that nothing knows).'
  static override examples = [
    '<%= config.bin %> test policies/',
    '<%= config.bin %> test tests/ --source policies/ --json',
  ]
  static override args = {
    path: Args.string({ required: true, multiple: true, description: 'files or folders that hold ConnectivityTests' }),
  }
  static override flags = {
    source: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      default: [],
      description:
        'manifests that are part of every world: a file, or a folder with its sub-folders; or kubernetes: a cluster; may be repeated',
      helpValue: 'PATH',
    }),
    ...clusterFlags,
    evaluator: evaluatorFlag,
    config: evaluatorConfigFlag,
    quiet: sharedFlags.quiet,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Test)
    const kinds = await loadPipeline(await findEvaluators(flags))
    const worlds = await findWorlds(args.path)
    const shared = await loadShared(chooseSources(flags))
    const notes = [...shared.notes]
    const problems: Problem[] = []
    const results: TestResult[] = []
    const broken: KnpError[] = []
    const progress = new Progress(process.stderr)
    for (const [i, world] of worlds.entries()) {
      progress.show(`${i} of ${worlds.length} worlds tested`)
      try {
        const { snapshot, tests, notes: left } = await loadWorld(world, shared.deltas)
        notes.push(...left)
        if (tests.length === 0) continue
        const compiled = compile(snapshot, kinds)
        problems.push(...compiled.problems)
        results.push(...tests.map((test) => runConnectivityTest(test, snapshot, compiled)))
      } catch (error) {
        if (!(error instanceof KnpError)) throw error
        broken.push(error)
      }
    }
    progress.clear()
    if (results.length === 0) throw nothingTested(broken, args.path)
    if (!flags.quiet) for (const note of notes) this.note(`note: ${note}`)
    if (!flags.quiet) this.noteProblems(problems)
    for (const { message } of broken) this.note(`knp: ${message}`)
    const code = broken.length > 0 ? 2 : exitCodeOf(results)
    if (flags.quiet) this.exit(code)
    if (this.jsonEnabled()) for (const problem of problemsOf(results)) this.note(`knp: ${problem}`)
    await this.finish(testResultsJson(results), formatTestResults(results, broken.length), code)
  }
}

function nothingTested([first, ...others]: readonly KnpError[], paths: readonly string[]): KnpError {
  if (!first) {
    return new KnpError('NO_CHECKS', `${paths.join(', ')}: no checks found`, {
      hint: 'write a ConnectivityTest beside the manifests; docs/testing-policies.md shows one',
    })
  }
  if (others.length === 0) return first
  return new KnpError('INVALID_MANIFEST', [first, ...others].map(({ message }) => message).join('\n'), {
    hint: 'correct the lines named; no test was run',
  })
}
