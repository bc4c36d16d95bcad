import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { ask } from '../control/socket.ts'
import { runFlags } from '../run-flags.ts'

export default class Rollback extends KnpCommand {
  static override summary = 'Goes back to the former policies at once'
  static override description =
    'Ends what `knp apply` has on trial; where nothing is, brings back what the last `knp confirm` replaced.'
  static override examples = ['<%= config.bin %> rollback']
  static override flags = { config: runFlags.config, 'control-socket': runFlags['control-socket'] }

  async run(): Promise<void> {
    const { flags } = await this.parse(Rollback)
    const { undone } = (await ask(await findControlSocket(flags), 'rollback')) as { undone: 'trial' | 'confirmed' }
    await this.finish(
      { schema: 'knp.rollback/v1', undone },
      undone === 'trial' ? 'the trial is over\n' : 'the former policies are in force again\n',
    )
  }
}
