import { KnpCommand } from '../command.ts'
import { examineHost, hasFailed } from '../doctor.ts'
import { formatFindings } from '../output/findings.ts'

export default class Doctor extends KnpCommand {
  static override summary = 'What this machine can do, what is missing, and what collides'
  static override description = 'Changes nothing. Exit status: 0 the firewall can enforce here, 5 it cannot.'

  async run(): Promise<void> {
    await this.parse(Doctor)
    const findings = await examineHost()
    const canEnforce = !hasFailed(findings)
    await this.finish({ schema: 'knp.doctor/v1', canEnforce, findings }, formatFindings(findings), canEnforce ? 0 : 5)
  }
}
