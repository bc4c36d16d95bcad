import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { ask } from '../control/socket.ts'
import type { FirewallStatus } from '../firewall-status.ts'
import { formatStatus, isHealthy, statusJson } from '../output/status.ts'
import { runFlags } from '../run-flags.ts'

export default class Status extends KnpCommand {
  static override summary = 'What the running firewall does: mode, generation, sources, queue, counters, health'
  static override description = 'Exit status: 0 healthy, 1 unhealthy, 4 no firewall answers.'
  static override examples = ['<%= config.bin %> status', '<%= config.bin %> status --json']
  static override flags = { config: runFlags.config, 'control-socket': runFlags['control-socket'] }

  async run(): Promise<void> {
    const { flags } = await this.parse(Status)
    const status = (await ask(await findControlSocket(flags), 'status')) as FirewallStatus
    await this.finish(statusJson(status), formatStatus(status), isHealthy(status) ? 0 : 1)
  }
}
