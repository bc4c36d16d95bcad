import { once } from 'node:events'
import { Flags } from '@oclif/core'
import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { follow } from '../control/socket.ts'
import { flowVerdicts, parseFlowQuery } from '../flows/filter.ts'
import { type FlowsItem, type FlowsParams, MAX_PAST } from '../flows/stream.ts'
import { flowJson, formatFlow, formatMissed, missedJson } from '../output/flows.ts'
import { runFlags } from '../run-flags.ts'

/** Of the past, ahead of what comes. */
const LAST_BEFORE_FOLLOWING = 10

export default class Flows extends KnpCommand {
  static override summary = 'What the running firewall decides: one line for each decision'
  static override description =
    'Shows the last decisions that the firewall still holds, and with --follow all that come. Decisions that are alike but for ' +
    'the port of the client are counted together where they follow each other closely. Who reads too slowly is told how many ' +
    'were left out; packets wait for no reader. ' +
    '\n\nExit status: 0 shown, 2 invalid input, 4 no firewall answers, or it has ended.'
  static override examples = [
    '<%= config.bin %> flows --verdict deny --last 20',
    '<%= config.bin %> flows -f --to shop/db --port 5432',
    '<%= config.bin %> flows -f --from 10.0.0.0/8 --json',
  ]
  static override flags = {
    follow: Flags.boolean({ char: 'f', description: 'go on with what is decided from now on' }),
    last: Flags.integer({
      min: 0,
      max: MAX_PAST,
      description: `how many of the past at most; ${MAX_PAST}, with --follow ${LAST_BEFORE_FOLLOWING}`,
      helpValue: 'N',
    }),
    verdict: Flags.option({ options: flowVerdicts })({
      description: 'only these; audit: what would be decided otherwise if audited policies were enforced',
    }),
    from: Flags.string({
      description: 'from this workload (namespace/name; namespace/ for all in it), node:NAME, address or network',
      helpValue: 'WHO',
    }),
    to: Flags.string({ description: 'to it', helpValue: 'WHO' }),
    port: Flags.string({ description: 'to this port: 443, 53/udp', helpValue: 'PORT' }),
    policy: Flags.string({ description: 'decided by this policy: name, or namespace/name', helpValue: 'POLICY' }),
    config: runFlags.config,
    'control-socket': runFlags['control-socket'],
  }

  async run(): Promise<void> {
    const { flags } = await this.parse(Flows)
    const { verdict, from, to, port, policy } = flags
    const query = {
      ...(verdict !== undefined && { verdict }),
      ...(from !== undefined && { from }),
      ...(to !== undefined && { to }),
      ...(port !== undefined && { port }),
      ...(policy !== undefined && { policy }),
    }
    parseFlowQuery(query)
    const last = flags.last ?? (flags.follow ? LAST_BEFORE_FOLLOWING : MAX_PAST)
    const params = { ...query, last, follow: flags.follow } satisfies FlowsParams
    // Whoever reads has enough.
    process.stdout.on('error', () => process.exit(0))
    for await (const item of follow(await findControlSocket(flags), 'flows', params)) {
      if (!process.stdout.write(this.textOf(item as FlowsItem))) await once(process.stdout, 'drain')
    }
    this.exit(0)
  }

  private textOf(item: FlowsItem): string {
    if (!this.jsonEnabled()) return 'missed' in item ? formatMissed(item.missed) : formatFlow(item)
    return `${JSON.stringify('missed' in item ? missedJson(item.missed) : flowJson(item))}\n`
  }
}
