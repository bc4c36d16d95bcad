import { Args, Flags } from '@oclif/core'
import { KnpCommand, sharedFlags } from '../command.ts'
import { KnpError } from '../errors.ts'
import { lint } from '../lint/lint.ts'
import { formatLint, lintJson } from '../output/lint.ts'
import { chooseSources, clusterFlags } from '../source-flags.ts'
import { loadSnapshot } from '../sources/load.ts'

export default class Lint extends KnpCommand {
  static override summary = 'Do the policies do what they were written for?'
  static override description =
    'Looks for what is valid and hardly meant: selectors that select nothing, port names that nobody has, rules that ' +
    'never decide. Give the workloads too: a policy alone says little. Needs no privilege.' +
    '\n\nExit status: 0 clean, 1 findings, 2 invalid input or no policies.'
  static override examples = [
    '<%= config.bin %> lint policies/',
    '<%= config.bin %> lint policies/ --source cluster.yaml --severity warning',
    '<%= config.bin %> lint --source policies/ --json',
  ]
  static override args = {
    path: Args.string({ multiple: true, description: 'the same as --source PATH' }),
  }
  static override flags = {
    source: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      default: [],
      description:
        'YAML or JSON manifests: a file, or a folder with its sub-folders; or kubernetes: a cluster; may be repeated',
      helpValue: 'PATH',
    }),
    ...clusterFlags,
    severity: Flags.string({
      options: ['warning', 'note'],
      default: 'note',
      description: 'the least that is looked for: "warning" leaves notes out',
    }),
    quiet: sharedFlags.quiet,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Lint)
    const paths = [...new Set([...(args.path ?? []), ...flags.source])]
    if (paths.length === 0) {
      throw new KnpError('USAGE', 'nothing to lint', { hint: 'name files or folders: knp lint policies/' })
    }
    const { snapshot, notes } = await loadSnapshot(chooseSources({ ...flags, source: paths }))
    const { policies, workloads } = snapshot
    if (policies.length === 0) {
      throw new KnpError('NO_CHECKS', `${paths.join(', ')}: no policies found`, {
        hint: 'name the files or folders that hold them',
      })
    }
    if (!flags.quiet) for (const note of notes) this.note(`note: ${note}`)
    if (!flags.quiet && workloads.length === 0) {
      this.note('note: the sources hold no workloads, so nothing is said about whom the policies select')
    }
    const findings = lint(snapshot).filter(({ severity }) => severity === 'warning' || flags.severity === 'note')
    const code = findings.length > 0 ? 1 : 0
    if (flags.quiet) this.exit(code)
    await this.finish(lintJson(findings, policies.length), formatLint(findings, policies.length), code)
  }
}
