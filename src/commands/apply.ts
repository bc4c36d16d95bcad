import { resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { ask } from '../control/socket.ts'
import { parseDuration } from '../duration.ts'
import type { Firewall } from '../firewall.ts'
import { runFlags } from '../run-flags.ts'
import { findSshConnection } from '../ssh-connection.ts'

export default class Apply extends KnpCommand {
  static override summary = 'New policies take force, and go back by themselves unless confirmed'
  static override description =
    "Puts the manifests of DIR in the place of the running firewall's own. Within the time given `knp confirm` keeps them; " +
    'otherwise, and when the firewall restarts, the former ones are in force again. Refused where they would cut the SSH ' +
    'connection that this is typed over.' +
    '\n\nExit status: 0 in force, 1 refused because of your own connection, 2 invalid input, 4 no firewall answers.'
  static override examples = [
    '<%= config.bin %> apply new-policies/ --confirm 60s',
    '<%= config.bin %> confirm',
    '<%= config.bin %> rollback',
  ]
  static override args = {
    dir: Args.string({ required: true, description: 'a folder of manifests: all of them, not only what is new' }),
  }
  static override flags = {
    confirm: Flags.string({
      default: '60s',
      description: 'how long they are in force without confirmation',
      helpValue: 'TIME',
    }),
    force: Flags.boolean({ description: 'also where they would cut your own connection' }),
    config: runFlags.config,
    'control-socket': runFlags['control-socket'],
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Apply)
    // Before the configuration is read: that leaves the working directory.
    const folder = resolve(args.dir)
    const confirmMs = parseDuration(flags.confirm)
    const kept = flags.force ? undefined : findSshConnection()
    const trial = (await ask(await findControlSocket(flags), 'apply', {
      folder,
      confirmMs,
      ...(kept && { kept }),
    })) as Awaited<ReturnType<Firewall['apply']>>
    const until = new Date(trial.endsAtMs).toISOString()
    await this.finish(
      { schema: 'knp.apply/v1', ...trial, endsAt: until },
      `generation ${trial.generation} is in force until ${until}; keep it with: knp confirm\n`,
    )
  }
}
