import { KnpCommand } from '../../command.ts'
import { failsafeOf, loadConfig, marksOf, unknownPodsOf } from '../../config.ts'
import { formatQueues } from '../../queue-range.ts'
import { divertChains, objectsText, rulesText } from '../../ruleset/text.ts'
import { runFlags } from '../../run-flags.ts'

export default class RulesetPrint extends KnpCommand {
  static override summary = 'The nftables text of the ruleset, with its sets empty'
  static override description =
    'What `knp run` with the same flags and configuration installs. The divert rules stand as comments: they are put in over netlink, by the ' +
    'mechanism that the kernel has, and the sets are filled as policies say.'
  static override examples = [
    '<%= config.bin %> ruleset print',
    '<%= config.bin %> ruleset print --on-failure open --queue-first 200',
  ]
  static override flags = {
    config: runFlags.config,
    'on-failure': runFlags['on-failure'],
    'deny-with': runFlags['deny-with'],
    mode: runFlags.mode,
    'queue-first': runFlags['queue-first'],
    'queue-count': runFlags['queue-count'],
    'remember-allowed': runFlags['remember-allowed'],
    'remember-denied': runFlags['remember-denied'],
    'remember-size': runFlags['remember-size'],
    'remember-log': runFlags['remember-log'],
    'marks-packet': runFlags['marks-packet'],
    'marks-conntrack': runFlags['marks-conntrack'],
  }

  async run(): Promise<void> {
    const { flags } = await this.parse(RulesetPrint)
    const config = await loadConfig(flags)
    const marks = marksOf(config)
    const { mode, onFailure, denyWith, remember, queue } = config
    const queued = `0x${marks.queued.toString(16).padStart(8, '0')}`
    const divert = divertChains.map(
      (chain) => `# ${chain}: meta mark & ${queued} == ${queued} queue flags bypass to ${formatQueues(queue)}\n`,
    )
    const pods = unknownPodsOf(config).podBlocks
    const failsafe = failsafeOf(config)
    const logGroup = remember.isLogged ? { logGroup: queue.first } : {}
    const rules = rulesText({
      ...{ marks, mode, ...logGroup, onFailure, denyWith, remember, failsafe, pods },
      // On a gateway they may not be.
      areSubjectsOwn: true,
    })
    const text = objectsText(remember) + rules + divert.join('')
    await this.finish({ schema: 'knp.ruleset/v1', text }, text)
  }
}
