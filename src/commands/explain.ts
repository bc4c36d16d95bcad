import { Args, Flags } from '@oclif/core'
import { KnpCommand, sharedFlags } from '../command.ts'
import { findControlSocket, findEvaluators } from '../config.ts'
import { ask } from '../control/socket.ts'
import { compile, type Decision, explain } from '../engine/index.ts'
import { KnpError } from '../errors.ts'
import { loadPipeline } from '../evaluators.ts'
import { decisionJson, formatDecision } from '../output/decision.ts'
import { type QuestionText, readQuestion, withQuestionErrors } from '../question.ts'
import { evaluatorConfigFlag, evaluatorFlag, runFlags } from '../run-flags.ts'
import { chooseSources, clusterFlags, type SourceFlags } from '../source-flags.ts'
import { loadSnapshot } from '../sources/load.ts'

export default class Explain extends KnpCommand {
  static override summary = 'Would FROM reach TO, and why?'
  static override description =
    'Decides one flow as the firewall would, and shows every stage, tier and rule that led to it. Needs no privilege. ' +
    '\n\nExit status: 0 allowed, 1 denied, 2 invalid input, 3 undecidable (a name or address that no source knows), 4 no API server, or with --live no firewall.'
  static override examples = [
    '<%= config.bin %> explain shop/web shop/db:5432 --source policies/',
    '<%= config.bin %> explain 203.0.113.9 shop/web:443 --source policies/ --json',
    '<%= config.bin %> explain shop/web [fd00::53]:53/udp --source policies/',
    '<%= config.bin %> explain shop/web shop/db:5432 --source kubernetes --context prod',
    '<%= config.bin %> explain node:web-1 shop/db/icmp --source policies/',
    '<%= config.bin %> explain shop/web shop/db:5432 --live',
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
    source: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      description: `${sharedFlags.source.description}; required without --live`,
      helpValue: 'PATH',
    }),
    ...clusterFlags,
    live: Flags.boolean({
      description: 'ask the running firewall: by the policies that are in force',
      exclusive: ['source', 'kubeconfig', 'context', 'evaluator'],
    }),
    'control-socket': runFlags['control-socket'],
    port: Flags.integer({ description: 'port, where TO does not say it' }),
    protocol: Flags.string({
      options: ['tcp', 'udp', 'sctp', 'icmp'],
      description: 'protocol, where TO does not say it',
    }),
    evaluator: evaluatorFlag,
    config: Flags.string({
      description: `${evaluatorConfigFlag.description}; with --live, whose control socket is asked`,
      helpValue: 'PATH',
    }),
    quiet: sharedFlags.quiet,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Explain)
    const { port, protocol } = flags
    const question = {
      from: args.from,
      to: args.to,
      ...(port !== undefined && { port }),
      ...(protocol && { protocol }),
    } satisfies QuestionText
    const decision = flags.live ? await askLive(question, flags) : await this.decide(question, flags)
    const code = decision.verdict === 'allow' ? 0 : 1
    if (flags.quiet) this.exit(code)
    await this.finish(decisionJson(decision), formatDecision(decision), code)
  }

  private async decide(text: QuestionText, flags: ExplainFlags): Promise<Decision> {
    const question = withQuestionErrors(() => readQuestion(text))
    if (!flags.source) {
      throw new KnpError('USAGE', 'nothing is known to decide by', {
        hint: 'name manifests or a cluster with --source, or ask the running firewall with --live',
      })
    }
    const sources = chooseSources(flags)
    const kinds = await loadPipeline(await findEvaluators(flags))
    const { snapshot, notes } = await loadSnapshot(sources)
    if (!flags.quiet) for (const note of notes) this.note(`note: ${note}`)
    return withQuestionErrors(() => explain(question, snapshot, compile(snapshot, kinds)))
  }
}

type ExplainFlags = SourceFlags & Parameters<typeof findEvaluators>[0] & { readonly quiet: boolean }

/** By what the running firewall enforces at this moment. */
async function askLive(
  { from, to, ...rest }: QuestionText,
  flags: Parameters<typeof findControlSocket>[0],
): Promise<Decision> {
  return (await ask(await findControlSocket(flags), 'explain', { from, to, ...rest })) as Decision
}
