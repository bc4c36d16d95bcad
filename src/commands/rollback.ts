import { KnpCommand, sharedFlags } from '../command.ts'
import { ask } from '../control/socket.ts'

export default class Rollback extends KnpCommand {
  static override summary = 'Goes back to the former policies at once'
  static override description =
    'Ends what `knp apply` has on trial; where nothing is, brings back what the last `knp confirm` replaced.'
  static override flags = { 'control-socket': sharedFlags['control-socket'] }

  async run(): Promise<void> {
    const { flags } = await this.parse(Rollback)
    const { undone } = (await ask(flags['control-socket'], 'rollback')) as { undone: 'trial' | 'confirmed' }
    this.finish(
      { schema: 'knp.rollback/v1', undone },
      undone === 'trial' ? 'the trial is over\n' : 'the former policies are in force again\n',
    )
  }
}
