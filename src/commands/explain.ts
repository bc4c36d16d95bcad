import { Args, Flags } from '@oclif/core'
import { KnpCommand, sharedFlags } from '../command.ts'
import { findEvaluators } from '../config.ts'
import { compile, explain, parseQuestion, QuestionError } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { loadPipeline } from '../evaluators.ts'
import { decisionJson, formatDecision } from '../output/decision.ts'
import { evaluatorConfigFlag, evaluatorFlag } from '../run-flags.ts'
import { chooseSources, clusterFlags } from '../source-flags.ts'
import { loadSnapshot } from '../sources/load.ts'

export default class Explain extends KnpCommand {
  static override summary = 'Would FROM reach TO, and why?'
  static override description =
    'Decides one flow as the firewall would, and shows every stage, tier and rule that led to it. Needs no privilege. ' +
    '\n\nExit status: 0 allowed, 1 denied, 2 invalid input, 3 undecidable (a name or address that no source knows), 4 no API server.'
  static override examples = [
    '<%= config.bin %> explain shop/web shop/db:5432 --source policies/',
    '<%= config.bin %> explain 203.0.113.9 shop/web:443 --source policies/ --json',
    '<%= config.bin %> explain shop/web [fd00::53]:53/udp --source policies/',
    '<%= config.bin %> explain shop/web shop/db:5432 --source kubernetes --context prod',
    '<%= config.bin %> explain node:web-1 shop/db/icmp --source policies/',
  ]
  static override args = {
    from: Args.string({
      required: true,
      description:
        'namespace/name of a workload (deployment:namespace/name where that is not enough), an IP address, or node:NAME',
    }),
    to: Args.string({
      required: true,
      description: 'the same, with :PORT and /tcp, /udp, /sctp or /icmp (TCP if absent)',
    }),
  }
  static override flags = {
    source: sharedFlags.source,
    ...clusterFlags,
    port: Flags.integer({ description: 'port, where TO does not say it' }),
    protocol: Flags.string({
      options: ['tcp', 'udp', 'sctp', 'icmp'],
      description: 'protocol, where TO does not say it',
    }),
    evaluator: evaluatorFlag,
    config: evaluatorConfigFlag,
    quiet: sharedFlags.quiet,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Explain)
    const { port, protocol } = flags
    try {
      const question = parseQuestion(args.from, args.to, {
        ...(port !== undefined && { port }),
        ...(protocol && { protocol }),
      })
      const kinds = await loadPipeline(await findEvaluators(flags))
      const { snapshot, notes } = await loadSnapshot(chooseSources(flags))
      if (!flags.quiet) for (const note of notes) this.note(`note: ${note}`)
      const decision = explain(question, snapshot, compile(snapshot, kinds))
      const code = decision.verdict === 'allow' ? 0 : 1
      if (flags.quiet) this.exit(code)
      await this.finish(decisionJson(decision), formatDecision(decision), code)
    } catch (error) {
      if (!(error instanceof QuestionError)) throw error
      throw error.kind === 'syntax'
        ? new KnpError('USAGE', error.message, {
            cause: error,
            hint: 'for example: knp explain shop/web shop/db:5432/tcp --source policies/',
          })
        : new KnpError('UNKNOWN_NAME', error.message, { cause: error })
    }
  }
}
