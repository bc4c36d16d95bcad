import { setFlagsFromString } from 'node:v8'
import { Flags } from '@oclif/core'
import { KnpCommand } from '../command.ts'
import { findControlSocket } from '../config.ts'
import { ask } from '../control/socket.ts'
import { connectFeed } from '../dashboard/feed.ts'
import { loadScreen } from '../dashboard/load.ts'
import { snapshotJson, takeSnapshot } from '../dashboard/snapshot.ts'
import { runFlags } from '../run-flags.ts'

/** Of a picture that no terminal sets limits to. */
const PICTURE_COLUMNS = 120

export default class Dashboard extends KnpCommand {
  static override summary = 'The running firewall, live: rates, decisions, who is denied what, policies, queues'
  static override description =
    'Shows, and changes nothing. ? lists the keys; Enter on a row says why it was decided so. While no firewall answers, ' +
    'the last picture stays, marked as old. Without a terminal, and with --json, one picture is printed. ' +
    '\n\nExit status: 0 ended by its reader, 4 no firewall answers.'
  static override examples = [
    '<%= config.bin %> dashboard',
    '<%= config.bin %> dashboard | less',
    '<%= config.bin %> dashboard --json',
  ]
  static override flags = {
    config: runFlags.config,
    'control-socket': runFlags['control-socket'],
    owner: Flags.boolean({ hidden: true, description: 'the firewall ends with the dashboard: asks before it ends' }),
  }

  async run(): Promise<void> {
    const { flags } = await this.parse(Dashboard)
    const socket = await findControlSocket(flags)
    if (this.jsonEnabled()) await this.finish(snapshotJson(await takeSnapshot(socket)), '')
    if (!process.stdin.isTTY || !process.stdout.isTTY) {
      const state = await takeSnapshot(socket)
      const { pictureText } = await loadScreen()
      await this.finish({}, pictureText(state, PICTURE_COLUMNS))
    }
    // What comes is forgotten at once: room for more of it would only be kept.
    setFlagsFromString('--semi-space-growth-factor=1')
    // Where nobody answers there is nothing to show.
    await ask(socket, 'status')
    const { showDashboard } = await loadScreen()
    await showDashboard({ connect: connectFeed(socket), isOwner: flags.owner })
    this.exit(0)
  }
}
