import { KnpCommand } from '../../command.ts'
import { removeRuleset } from '../../ruleset/ruleset.ts'

export default class RulesetRemove extends KnpCommand {
  static override summary = 'Takes the ruleset down: nothing is queued, nothing is dropped any more'
  static override description = 'A firewall that still runs puts it back: stop it first.'
  static override examples = ['<%= config.bin %> ruleset remove']

  async run(): Promise<void> {
    await this.parse(RulesetRemove)
    await removeRuleset()
    await this.finish({ schema: 'knp.ruleset-remove/v1', removed: 'table inet knp' }, 'removed table inet knp\n')
  }
}
