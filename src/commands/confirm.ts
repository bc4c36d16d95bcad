import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { ask } from '../control/socket.ts'
import { printable } from '../output/printable.ts'
import { runFlags } from '../run-flags.ts'

export default class Confirm extends KnpCommand {
  static override summary = 'Keeps the policies that `knp apply` put in force'
  static override description =
    'Copies them to where the running firewall reads its own; the former ones are kept for `knp rollback`.'
  static override examples = ['<%= config.bin %> confirm']
  static override flags = { config: runFlags.config, 'control-socket': runFlags['control-socket'] }

  async run(): Promise<void> {
    const { flags } = await this.parse(Confirm)
    const { folder } = (await ask(await findControlSocket(flags), 'confirm')) as { folder: string }
    await this.finish({ schema: 'knp.confirm/v1', folder }, printable(`confirmed: ${folder}\n`))
  }
}
