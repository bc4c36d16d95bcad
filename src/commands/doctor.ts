import { KnpCommand } from '../command.ts'
import { loadConfig, marksOf } from '../config.ts'
import { examineHost, hasFailed } from '../doctor.ts'
import { formatFindings } from '../output/findings.ts'
import { runFlags } from '../run-flags.ts'

export default class Doctor extends KnpCommand {
  static override summary = 'What this machine can do, what is missing, and what collides'
  static override description =
    'Changes nothing. Queues and marks are those that `knp run` with the same flags and configuration uses. ' +
    'Exit status: 0 the firewall can enforce here, 5 it cannot.'
  static override examples = ['<%= config.bin %> doctor', '<%= config.bin %> doctor --config /etc/knp/knp.yaml --json']
  static override flags = {
    config: runFlags.config,
    'queue-first': runFlags['queue-first'],
    'queue-count': runFlags['queue-count'],
    'marks-packet': runFlags['marks-packet'],
    'marks-conntrack': runFlags['marks-conntrack'],
  }

  async run(): Promise<void> {
    const { flags } = await this.parse(Doctor)
    const config = await loadConfig(flags)
    const findings = await examineHost(marksOf(config), config.queue)
    const canEnforce = !hasFailed(findings)
    await this.finish({ schema: 'knp.doctor/v1', canEnforce, findings }, formatFindings(findings), canEnforce ? 0 : 5)
  }
}
